//! The weights of a model's folder: safetensors in one piece or in shards. No other format is opened.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use candle_core::{DType, Device, Tensor};
use serde_json::Value;

use crate::hf::folder::{read_config, read_json_of};
use base::bounded_file::{self, MAX_TABLE_BYTES};
use base::error::{WithHint as _, failure};
use base::memory;

/// Every tensor of the folder's `model.safetensors`, or of the shards that its index names, as f32.
///
/// # Errors
/// A folder without safetensors weights, a pickle in their place; a file that is missing, truncated or damaged.
pub fn read_tensors(folder: &Path) -> anyhow::Result<BTreeMap<String, Tensor>> {
    for name in ["model.safetensors", "open_clip_model.safetensors"] {
        let single = folder.join(name);
        if single.exists() {
            return read_file(&single);
        }
    }
    let index = folder.join("model.safetensors.index.json");
    if index.exists() {
        return read_shards(folder, &index);
    }
    let pickles = ["pytorch_model.bin", "pytorch_model.bin.index.json"];
    let hint = match pickles.iter().find(|name| folder.join(name).is_file()) {
        Some(name) => format!(
            "{name} is a pickle, which can run code and is not read. Convert it once in Python: \
             {}.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER), and copy the files of the tokenizer and the \
             image processor to the new folder",
            class_name(folder)
        ),
        None => {
            "a model folder contains config.json and model.safetensors, or shards with model.safetensors.index.json"
                .to_owned()
        }
    };
    Err(failure(format!("{} contains no model.safetensors", folder.display()), hint))
}

/// The class of transformers that the folder's `config.json` names.
fn class_name(folder: &Path) -> String {
    let config = read_config(folder).ok();
    let named = config.as_ref().and_then(|config| config.pointer("/architectures/0")).and_then(Value::as_str);
    named.unwrap_or("AutoModel").to_owned()
}

fn read_shards(folder: &Path, index: &Path) -> anyhow::Result<BTreeMap<String, Tensor>> {
    let parsed = read_json_of(index, MAX_TABLE_BYTES)?;
    let map = parsed.get("weight_map").and_then(Value::as_object);
    let map = map.with_context(|| format!("{} has no weight_map", index.display()))?;
    let mut tensors = BTreeMap::new();
    for shard in map.values().filter_map(Value::as_str).collect::<BTreeSet<_>>() {
        if Path::new(shard).file_name().is_none_or(|name| name != shard) {
            bail!("{} names the shard {shard:?}, which is not a plain file name", index.display());
        }
        let path = folder.join(shard);
        tensors.extend(read_file(&path).hint(|| format!("{} lists it: download the missing shard", index.display()))?);
    }
    Ok(tensors)
}

/// All tensors of a safetensors file as f32 (integers, such as position ids, are left out).
fn read_file(path: &Path) -> anyhow::Result<BTreeMap<String, Tensor>> {
    let bytes = read_weights(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = safetensors::SafeTensors::deserialize(&bytes)
        .with_context(|| format!("{} is not a valid safetensors file", path.display()))
        .hint(|| unusable(path))?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.tensors() {
        let dtype = match view.dtype() {
            safetensors::Dtype::F32 => DType::F32,
            safetensors::Dtype::F16 => DType::F16,
            safetensors::Dtype::BF16 => DType::BF16,
            safetensors::Dtype::F64 => DType::F64,
            _ => continue,
        };
        let tensor = Tensor::from_raw_buffer(view.data(), dtype, view.shape(), &Device::Cpu)
            .with_context(|| format!("{}: cannot read the tensor {name}", path.display()))?;
        tensors.insert(name.to_owned(), tensor.to_dtype(DType::F32)?);
    }
    Ok(tensors)
}

/// The content of a safetensors file that fits into memory. What cannot be one is refused by its first bytes: a page,
/// or gigabytes of nothing.
fn read_weights(path: &Path) -> anyhow::Result<Vec<u8>> {
    const LENGTH_BYTES: u64 = 8;
    let mut file = bounded_file::open(path)?;
    let (found, mut length) = (file.metadata()?.len(), [0; LENGTH_BYTES as usize]);
    let header = file.read_exact(&mut length).map(|()| u64::from_le_bytes(length));
    let fits = |header: u64| (2..=found.saturating_sub(LENGTH_BYTES)).contains(&header);
    if !header.is_ok_and(fits) {
        return Err(failure("it is truncated or not a safetensors file", unusable(path)));
    }
    let most = memory::available_bytes().unwrap_or(u64::MAX);
    bounded_file::read(path, most).hint(|| "weights must fit into memory: choose a smaller model")
}

/// What to do about weights that cannot be used: in the Hub's cache the file to remove is the one that is linked to.
fn unusable(path: &Path) -> String {
    let file = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    format!("it may be truncated, a web page or a Git LFS pointer: remove {} and download it again", file.display())
}
