//! Turns `model.encoder.name` into a folder: a local one as it is, a Hub id through the Hub's cache.

use std::path::{Path, PathBuf};

use crate::base::fault::usage;
use crate::config::EncoderConfig;
use crate::hub;

/// The encoder's folder; nothing when the encoder is made from its config alone.
///
/// # Errors
/// A local path that is not there; what the download gives.
pub fn encoder_folder(encoder: &EncoderConfig) -> anyhow::Result<Option<PathBuf>> {
    let Some(name) = &encoder.name else { return Ok(None) };
    let path = Path::new(name);
    if path.is_dir() {
        return Ok(Some(path.to_path_buf()));
    }
    // A Hub id is `name` or `owner/name`; whatever looks like a path was meant as one.
    let looks_local = path.is_absolute() || name.starts_with('.') || name.matches('/').count() > 1;
    if looks_local {
        return Err(usage(
            format!("the encoder folder {name} (model.encoder.name) does not exist"),
            "name a folder in the Hub's format or the id of a Hub repository, such as google/vit-base-patch16-224-in21k",
        ));
    }
    hub::encoder_folder(name).map(Some)
}
