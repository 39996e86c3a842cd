//! The JSON files of a model's folder.

use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;

use base::bounded_file::{self, MAX_DESCRIPTION_BYTES};
use base::error::{WithHint as _, failure};

/// The description of a model of open_clip.
const OPEN_CLIP_CONFIG: &str = "open_clip_config.json";

/// The folder's `config.json`, or the `open_clip_config.json` of one that has none.
///
/// # Errors
/// A folder or file that is not there, or no JSON.
pub fn read_config(folder: &Path) -> anyhow::Result<Value> {
    if !folder.is_dir() {
        return Err(failure(
            format!("the model folder {} does not exist", folder.display()),
            "give a folder in the Hub's format or the id of a Hub repository",
        ));
    }
    let (path, open_clip) = (folder.join("config.json"), folder.join(OPEN_CLIP_CONFIG));
    if !path.exists() && open_clip.exists() {
        return read_json(&open_clip);
    }
    read_json(&path).hint(|| {
        "a model folder contains config.json, model.safetensors, and processor_config.json or \
            preprocessor_config.json"
    })
}

/// A JSON file of a model's folder.
///
/// # Errors
/// A file that cannot be read, or no JSON.
pub(super) fn read_json(path: &Path) -> anyhow::Result<Value> {
    read_json_of(path, MAX_DESCRIPTION_BYTES)
}

pub(super) fn read_json_of(path: &Path, max_bytes: u64) -> anyhow::Result<Value> {
    let text = bounded_file::read_text(path, max_bytes).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not valid JSON", path.display()))
}
