//! The weights of a model's folder: safetensors or pickles of torch, in one piece or in shards. No file is executed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use candle_core::{DType, Device, Tensor};
use serde_json::Value;

use crate::hf::folder::{read_config, read_json_of};
use crate::model::hf_fields;
use base::bounded_file::{self, MAX_TABLE_BYTES};
use base::error::{WithHint as _, failure};
use base::memory;
use base::weight_forms::{WEIGHT_FORMS, WeightForm, WeightFormat};
use torch_pickle::WeightFile;

fn form_of(folder: &Path) -> Option<&'static WeightForm> {
    WEIGHT_FORMS.iter().find(|form| folder.join(form.name).exists())
}

/// The file that [`read_tensors`] begins with, if it is one of pickles.
pub fn pickled(folder: &Path) -> Option<&'static str> {
    form_of(folder).filter(|form| form.format == WeightFormat::Pickle).map(|form| form.name)
}

/// Every tensor of real numbers in the folder's weights, as f32: of `model.safetensors`, or of the shards that its
/// index names; without them, of `pytorch_model.bin` or its shards. Names of one tensor in a pickle share its memory.
///
/// # Errors
/// A folder without weights; a file that is missing, truncated or damaged; a pickle that asks for more than tensors.
pub fn read_tensors(folder: &Path) -> anyhow::Result<BTreeMap<String, Tensor>> {
    let Some(form) = form_of(folder) else {
        return Err(failure(
            format!("{} contains no model.safetensors", folder.display()),
            "a model folder contains config.json and its weights: model.safetensors, or shards with \
             model.safetensors.index.json, or the same of pytorch_model.bin",
        ));
    };
    let path = folder.join(form.name);
    if form.is_index { read_shards(folder, &path, form.format) } else { read_file(folder, &path, form.format) }
}

/// The class of transformers that the folder's `config.json` names.
fn class_name(folder: &Path) -> String {
    let config = read_config(folder).ok();
    config.as_ref().and_then(hf_fields::class_name).unwrap_or("AutoModel").to_owned()
}

fn read_shards(folder: &Path, index: &Path, format: WeightFormat) -> anyhow::Result<BTreeMap<String, Tensor>> {
    let parsed = read_json_of(index, MAX_TABLE_BYTES)?;
    let map = parsed.get("weight_map").and_then(Value::as_object);
    let map = map.with_context(|| format!("{} has no weight_map", index.display()))?;
    let mut tensors = BTreeMap::new();
    for shard in map.values().filter_map(Value::as_str).collect::<BTreeSet<_>>() {
        if Path::new(shard).file_name().is_none_or(|name| name != shard) {
            bail!("{} names the shard {shard:?}, which is not a plain file name", index.display());
        }
        let path = folder.join(shard);
        let found = read_file(folder, &path, format);
        for (name, tensor) in found.hint(|| format!("{} lists it: download the missing shard", index.display()))? {
            ensure!(!tensors.contains_key(&name), "{} has {name}, as another shard has", path.display());
            tensors.insert(name, tensor);
        }
    }
    Ok(tensors)
}

fn read_file(folder: &Path, path: &Path, format: WeightFormat) -> anyhow::Result<BTreeMap<String, Tensor>> {
    match format {
        WeightFormat::Safetensors => read_safetensors(path),
        WeightFormat::Pickle => read_pickle(path)
            .with_context(|| format!("cannot use the pickle {}", path.display()))
            .hint(|| way_out(folder)),
    }
}

/// What to do about a pickle that is not read.
fn way_out(folder: &Path) -> String {
    format!(
        "convert it once in Python, if you trust who made it: {}.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER), \
         and copy the files of the tokenizer and the image processor to the new folder; or name a revision with \
         safetensors, such as the pull request that converts a repository (owner/name@refs/pr/1)",
        class_name(folder)
    )
}

/// All tensors of a pickle of torch as f32 (integers are left out).
fn read_pickle(path: &Path) -> anyhow::Result<BTreeMap<String, Tensor>> {
    let mut file = WeightFile::open(path)?;
    let wanted: BTreeMap<_, _> = file
        .tensors()
        .iter()
        .filter(|(_, view)| view.element().is_real())
        .map(|(a, b)| (a.clone(), b.clone()))
        .collect();
    let distinct: BTreeSet<_> = wanted.values().collect();
    let values = distinct.iter().map(|view| view.num_values()).fold(0, u64::saturating_add);
    let needed = values.saturating_mul(size_of::<f32>() as u64);
    if let Some(available) = memory::available_bytes().filter(|&available| needed > available) {
        bail!("its tensors take {needed} bytes of memory, but only {available} are available");
    }
    let mut made: HashMap<_, Tensor> = HashMap::new();
    let mut tensors = BTreeMap::new();
    for (name, view) in &wanted {
        let tensor = match made.get(view) {
            Some(tensor) => tensor.clone(),
            None => {
                let values = file.read(view).with_context(|| format!("cannot read the tensor {name}"))?;
                Tensor::from_vec(values, view.shape(), &Device::Cpu)?
            }
        };
        made.insert(view, tensor.clone());
        tensors.insert(name.clone(), tensor);
    }
    Ok(tensors)
}

/// All tensors of a safetensors file as f32 (integers, such as position ids, are left out).
fn read_safetensors(path: &Path) -> anyhow::Result<BTreeMap<String, Tensor>> {
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
