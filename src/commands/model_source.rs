//! Turns what a person calls a model into a local path: a folder or file as it is, a Hub id through the Hub's cache.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::config::ModelConfig;
use crate::run::initial_model::ModelFolders;
use base::fault::usage;
use base::{threads, visible};
use hub::{self, ModelKind};

/// The folders of the models that the config names.
///
/// # Errors
/// A local path that is not there; what the download gives.
pub fn model_folders(model: &ModelConfig) -> Result<ModelFolders> {
    let folder = |name: &Option<String>, key: &str, kind: ModelKind| -> Result<Option<PathBuf>> {
        name.as_ref()
            .map(|name| folder_of(name, &format!("the folder {} ({key})", visible::line(name)), kind))
            .transpose()
    };
    Ok(ModelFolders {
        captioner: folder(&model.init_from, "model.init_from", ModelKind::WithTokenizer)?,
        encoder: folder(&model.encoder.name, "model.encoder.name", ModelKind::Encoder)?,
        decoder: folder(&model.decoder.name, "model.decoder.name", ModelKind::WithTokenizer)?,
    })
}

/// What `--checkpoint` stands for: a checkpoint file, the folder of a captioner, or the id of one on the Hub.
///
/// # Errors
/// A local path that is not there; what the download gives.
pub fn checkpoint_path(name: &Path) -> Result<PathBuf> {
    match name.to_str() {
        // A file is told from an id by its ending, so that a mistyped path is not looked for on the Hub.
        Some(id) if !name.exists() && name.extension().is_none_or(|extension| extension != "safetensors") => {
            folder_of(id, &format!("the checkpoint {}", visible::line(id)), ModelKind::WithTokenizer)
        }
        _ => Ok(name.to_path_buf()),
    }
}

fn folder_of(name: &str, what: &str, kind: ModelKind) -> Result<PathBuf> {
    let path = Path::new(name);
    if path.is_dir() {
        return Ok(path.to_path_buf());
    }
    // A Hub id is `name` or `owner/name`; whatever looks like a path was meant as one.
    let looks_local = path.is_absolute() || name.starts_with('.') || name.matches('/').count() > 1;
    if looks_local {
        return Err(usage(
            format!("{what} does not exist"),
            "name a folder in the Hub's format or the id of a Hub repository, such as google/vit-base-patch16-224-in21k",
        ));
    }
    threads::check_network()?;
    hub::model_folder(name, kind)
}
