//! Resolves the name of a model to a local path: a folder or file as it is, a Hub id through the Hub's cache.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::config::ModelConfig;
use crate::run::initial_model::ModelFolders;
use base::error::usage_error;
use base::{threads, visible};
use hub::{self, ModelKind};

/// The folders of the models that the config names, downloaded if needed.
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

/// Resolves `--checkpoint`: a checkpoint file, the folder of a captioner, or the id of one on the Hub.
pub fn checkpoint_path(name: &Path) -> Result<PathBuf> {
    match name.to_str() {
        // The extension distinguishes a file from an id, so that a mistyped path is not looked up on the Hub.
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
    // A Hub id is `name` or `owner/name`; anything that looks like a path is one.
    let looks_local = path.is_absolute() || name.starts_with('.') || name.matches('/').count() > 1;
    if looks_local {
        return Err(usage_error(
            format!("{what} does not exist"),
            "give a folder in the Hub's format or the id of a Hub repository, such as google/vit-base-patch16-224-in21k",
        ));
    }
    threads::check_network()?;
    hub::model_folder(name, kind)
}
