//! The mean of the weights of several checkpoints, as one that captions, is exported and is trained on from, and from
//! which no run is resumed (Polyak and Juditsky 1992; model soups: Wortsman et al. 2022, arXiv:2203.05482).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use candle_core::{Device, Shape, Tensor};
use serde_json::Value;

use crate::config::{LoraConfig, SplitSource};
use crate::model::captioner::CaptionerShape;
use crate::run::checkpoint::layout::{CheckpointMetadata, FORMAT_VERSION, MODEL_PREFIX, Source};
use crate::run::checkpoint::reader::{TensorShapes, read_metadata, read_model};
use crate::run::checkpoint::writer::write_file;
use crate::training::train_state::TrainState;
use base::atomic_file::folder_of;
use base::error::{failure, usage_error};
use base::terminal;

/// A checkpoint without its tensors.
struct Part {
    path: PathBuf,
    metadata: CheckpointMetadata,
    shapes: TensorShapes,
}

/// Writes the mean of all parameters of the checkpoints `paths`, each counted alike, to `output`. Sums are f64 and
/// rounded once. Counters, config and whatever else is not a tensor are those of the checkpoint with the most updates;
/// where some were trained on rewards, which scores must say, of one of these.
///
/// # Errors
/// An output that is there already, or whose folder is not; fewer than two checkpoints, one of them twice, or checkpoints of different models;
/// what [`read_model`] refuses.
pub fn average(paths: &[PathBuf], output: &Path, written_by: String) -> Result<()> {
    if fs::symlink_metadata(output).is_ok() {
        return Err(usage_error(format!("{} exists", output.display()), "choose another file with --output"));
    }
    let folder = folder_of(output);
    if !folder.is_dir() {
        return Err(usage_error(
            format!("the folder {} does not exist", folder.display()),
            "create it, or choose another file with --output",
        ));
    }
    let parts = read_parts(paths)?;
    let progress = |part: &&Part| (part.metadata.config.training.scst.is_some(), part.metadata.state.global_step);
    let Some(newest) = parts.iter().max_by_key(progress).filter(|_| parts.len() > 1) else {
        return Err(usage_error("one checkpoint is its own mean", "give two or more"));
    };
    let mut sums: BTreeMap<String, (Shape, Vec<f64>)> = BTreeMap::new();
    for Part { path, metadata, .. } in &parts {
        let read = read_model(path)?;
        ensure!(read.metadata.tensors_digest == metadata.tensors_digest, "{} changed meanwhile", path.display());
        for (name, tensor) in read.model {
            let values: Vec<f32> = tensor.flatten_all()?.to_vec1()?;
            let (_, sums) = sums.entry(name).or_insert_with(|| (tensor.shape().clone(), vec![0.0; values.len()]));
            sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += f64::from(value));
        }
    }
    let mean = |(name, (shape, sums)): (String, (Shape, Vec<f64>))| {
        let values: Vec<f32> = sums.into_iter().map(|sum| (sum / parts.len() as f64) as f32).collect();
        Ok((format!("{MODEL_PREFIX}{name}"), Tensor::from_vec(values, shape, &Device::Cpu)?))
    };
    let tensors = sums.into_iter().map(mean).collect::<Result<Vec<_>>>()?;
    let TrainState { epoch, updates_in_epoch, global_step, .. } = newest.metadata.state;
    let source = |Part { path, metadata, .. }: &Part| Source {
        checkpoint: path.canonicalize().unwrap_or_else(|_| path.clone()),
        tensors_digest: metadata.tensors_digest.clone(),
    };
    let mut metadata = CheckpointMetadata {
        format_version: FORMAT_VERSION,
        written_by,
        state: TrainState { epoch, updates_in_epoch, global_step, ..TrainState::default() },
        optimizer_step: 0,
        average_of: parts.iter().map(source).collect(),
        ..newest.metadata.clone()
    };
    if parts.iter().any(|part| data_of(&part.metadata) != data_of(&newest.metadata)) {
        metadata.dataset_digest = String::new();
        terminal::warning(
            "the checkpoints were trained on different data sets, or split one at random differently: their mean belongs \
             to none of them, and evaluate needs --data",
        );
    }
    write_file(output, metadata, tensors)
}

/// Reads all but the tensors, and checks that these can be averaged.
fn read_parts(paths: &[PathBuf]) -> Result<Vec<Part>> {
    let mut parts: Vec<Part> = Vec::new();
    for path in paths {
        let (metadata, mut shapes) = read_metadata(path)?;
        shapes.retain(|(name, _)| name.starts_with(MODEL_PREFIX));
        let part = Part { path: path.clone(), metadata, shapes };
        let is_same = |other: &&Part| other.metadata.tensors_digest == part.metadata.tensors_digest;
        if let Some(other) = parts.iter().find(is_same) {
            return Err(usage_error(
                format!("{} and {} are the same checkpoint", other.path.display(), path.display()),
                "give each once; the last.safetensors of a run is also its newest last_step_N.safetensors",
            ));
        }
        if let Some(first) = parts.first()
            && let Some(difference) = difference(first, &part)?
        {
            return Err(failure(
                format!("{} and {} cannot be averaged: {difference}", first.path.display(), path.display()),
                "average checkpoints of one run, or of runs that began with the same model and tokenizer",
            ));
        }
        parts.push(part);
    }
    Ok(parts)
}

/// In words, why the mean of the two would mean nothing.
fn difference(one: &Part, another: &Part) -> Result<Option<String>> {
    let (ours, theirs) = (&one.metadata, &another.metadata);
    if let Some((key, ours, theirs)) = differing_value(&arithmetic(&ours.shape)?, &arithmetic(&theirs.shape)?) {
        return Ok(Some(format!("{key} is {ours} and {theirs} in their models")));
    }
    let base = |metadata: &CheckpointMetadata| metadata.base.as_ref().map(|base| base.digest.clone());
    let scaling = |metadata: &CheckpointMetadata| metadata.config.model.lora.as_ref().map(LoraConfig::scaling);
    if base(ours) != base(theirs) {
        return Ok(Some("they hold adapters of different models, or only one does".to_owned()));
    }
    if scaling(ours) != scaling(theirs) {
        return Ok(Some("what their adapters add is scaled differently".to_owned()));
    }
    if let Some((name, shape)) = one.shapes.iter().find(|tensor| !another.shapes.contains(tensor)) {
        return Ok(Some(format!("the second has no tensor {name} of the shape {shape:?}")));
    }
    if let Some((name, shape)) = another.shapes.iter().find(|tensor| !one.shapes.contains(tensor)) {
        return Ok(Some(format!("the first has no tensor {name} of the shape {shape:?}")));
    }
    if ours.image_processor != theirs.image_processor {
        return Ok(Some("they process images differently".to_owned()));
    }
    let tokenizer = |part: &Part| {
        let read = part.metadata.read_tokenizer(&part.metadata.config.tokenizer);
        read.with_context(|| format!("cannot use the tokenizer of {}", part.path.display()))
    };
    Ok(tokenizer(one)?.difference(&tokenizer(another)?))
}

/// What decides a model's numbers when it captions.
fn arithmetic(shape: &CaptionerShape) -> Result<Value> {
    let mut shape = shape.clone();
    shape.decoder.set_training_options(Some(0.0), Some(1.0));
    Ok(serde_json::to_value(shape)?)
}

/// The first value that differs, by its dotted key.
fn differing_value(ours: &Value, theirs: &Value) -> Option<(String, Value, Value)> {
    let (Value::Object(one), Value::Object(another)) = (ours, theirs) else {
        return (ours != theirs).then(|| (String::new(), ours.clone(), theirs.clone()));
    };
    one.keys().chain(another.keys()).find_map(|key| {
        let value = |of: &serde_json::Map<String, Value>| of.get(key).cloned().unwrap_or(Value::Null);
        let (inner, ours, theirs) = differing_value(&value(one), &value(another))?;
        Some((if inner.is_empty() { key.clone() } else { format!("{key}.{inner}") }, ours, theirs))
    })
}

/// The images that a model was trained on, as far as a checkpoint says it.
fn data_of(metadata: &CheckpointMetadata) -> (&str, Option<(u64, u64)>) {
    let data = &metadata.config.data;
    let draw = (data.split == SplitSource::Random).then(|| (data.validation_fraction.to_bits(), metadata.config.seed));
    (&metadata.dataset_digest, draw)
}
