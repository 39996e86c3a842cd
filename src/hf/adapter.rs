//! An adapter as a folder of PEFT: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! PEFT finds layers by their names in the memory of transformers, which are not always those of its files.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use candle_core::Tensor;
use serde_json::{Value, json};

use crate::hf::export::{make_empty, pretty};
use crate::hf::layouts;
use crate::model::captioner::CaptionerShape;
use crate::model::lora::{DOWN, LoraConfig, UP};
use crate::model::parameters::{Parameter, Parameters};
use crate::model::tensor_file::write_tensors;
use base::atomic_file;
use base::error::WithHint as _;

/// What stands before the names of layers in the file.
const PREFIX: &str = "base_model.model";

/// The parts of an adapter's folder.
#[derive(Clone, Copy)]
pub struct Adapter<'a> {
    /// The model's shape.
    pub shape: &'a CaptionerShape,
    /// The model's parameters, with those of the adapter.
    pub parameters: &'a Parameters,
    /// How it was made.
    pub lora: &'a LoraConfig,
    /// Folder or id of the model that it belongs to, where that is one.
    pub base: Option<&'a str>,
}

/// Writes the folder. It is complete when `adapter_config.json` is there, which is written last.
///
/// # Errors
/// A folder that is not empty; a disk that cannot be written.
pub fn write(adapter: Adapter<'_>, folder: &Path) -> Result<()> {
    make_empty(folder)?;
    let hint = || "free some disk space or choose another folder; remove the unfinished one first";
    let weights = folder.join("adapter_model.safetensors");
    write_tensors(&weights, &tensors(adapter)?, HashMap::from([("format".to_owned(), "pt".to_owned())]))
        .with_context(|| format!("cannot write {}", weights.display()))
        .hint(hint)?;
    let path = folder.join("adapter_config.json");
    let written = atomic_file::write(&path, pretty(&config(adapter)?)?.as_bytes());
    written.with_context(|| format!("cannot write {}", path.display())).hint(hint)
}

fn tensors(adapter: Adapter<'_>) -> Result<Vec<(String, Tensor)>> {
    let layout = layouts::of_shape(adapter.shape)?;
    let mut tensors = Vec::new();
    for (layer, [down, up]) in adapter.parameters.adapters() {
        let modules = layout.module_paths(adapter.shape, layer)?;
        // What makes query, key and value at once has one A and the rows of B one below the other.
        let parts = up.as_detached_tensor().chunk(modules.len(), 0)?;
        for (module, up) in modules.iter().zip(parts) {
            for (end, tensor) in [(DOWN, down.as_detached_tensor()), (UP, up.contiguous()?)] {
                tensors.push((format!("{PREFIX}.{module}{end}"), tensor));
            }
        }
    }
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(tensors)
}

fn config(adapter: Adapter<'_>) -> Result<Value> {
    let Adapter { shape, parameters, lora, base } = adapter;
    let layout = layouts::of_shape(shape)?;
    let modules = parameters.adapters().map(|(layer, _)| layout.module_paths(shape, layer));
    let mut modules = modules.collect::<Result<Vec<_>>>()?.concat();
    modules.sort();
    let is_in_out = |(layer, _): (&str, _)| {
        let weight = parameters.get(&format!("{layer}.weight"));
        weight.is_some_and(Parameter::is_in_out)
    };
    Ok(json!({
        "peft_type": "LORA",
        "auto_mapping": null,
        "base_model_name_or_path": base,
        "bias": "none",
        // PEFT looks at each layer itself, and warns where this is not what it finds.
        "fan_in_fan_out": parameters.adapters().any(is_in_out),
        "inference_mode": true,
        "init_lora_weights": true,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "modules_to_save": null,
        "r": lora.rank,
        "target_modules": modules,
        "task_type": null,
        "use_dora": false,
        "use_rslora": lora.use_rslora,
    }))
}
