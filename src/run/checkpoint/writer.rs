//! Writes a checkpoint through the atomic writer, tensor by tensor.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use candle_core::{DType, Tensor};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use crate::base::atomic_file;
use crate::base::digest::Hasher;
use crate::base::fault::WithHint as _;
use crate::model::parameters::Parameters;
use crate::run::checkpoint::layout::{
    CheckpointMetadata, EXP_AVG_PREFIX, EXP_AVG_SQ_PREFIX, FORMAT_VERSION, METADATA_KEY, MODEL_PREFIX, Provenance,
};
use crate::training::optimizer::Optimizer;
use crate::training::train_state::TrainState;

/// Writes the whole state of a run to `path`.
///
/// # Errors
/// A disk that is full or cannot be written; the file that was there before is then untouched.
pub fn write_checkpoint(
    path: &Path,
    provenance: &Provenance,
    state: &TrainState,
    parameters: &Parameters,
    optimizer: &Optimizer,
) -> Result<()> {
    let mut tensors: Vec<(String, Tensor)> = Vec::new();
    for (name, parameter) in parameters.iter() {
        tensors.push((format!("{MODEL_PREFIX}{name}"), parameter.var.as_detached_tensor()));
    }
    for (name, moments) in optimizer.moments() {
        tensors.push((format!("{EXP_AVG_PREFIX}{name}"), moments.exp_avg.clone()));
        tensors.push((format!("{EXP_AVG_SQ_PREFIX}{name}"), moments.exp_avg_sq.clone()));
    }
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let metadata = CheckpointMetadata {
        format_version: FORMAT_VERSION,
        written_by: provenance.written_by.clone(),
        state: state.clone(),
        optimizer_step: optimizer.step(),
        total_updates: provenance.total_updates,
        config: provenance.config.clone(),
        shape: provenance.shape.clone(),
        image_processor: provenance.image_processor.clone(),
        tokenizer: provenance.tokenizer.clone(),
        dataset_digest: provenance.dataset_digest.clone(),
        tensors_digest: digest_tensors(&tensors)?,
    };
    let header = header(&tensors, &metadata)?;
    atomic_file::write_with(path, |file| -> Result<()> {
        file.write_all(&header)?;
        for (_, tensor) in &tensors {
            for_each_block(tensor, |bytes| file.write_all(bytes))?;
        }
        Ok(())
    })
    .with_context(|| format!("cannot write the checkpoint {}", path.display()))
    .hint(|| "free some disk space or set output_dir elsewhere; checkpoints written before are untouched")
}

/// SHA-256 over name, shape and values of every tensor, in the order of the names.
fn digest_tensors(tensors: &[(String, Tensor)]) -> Result<String> {
    let mut hasher = Hasher::new();
    for (name, tensor) in tensors {
        digest_head(&mut hasher, name, tensor.dims());
        for_each_block(tensor, |bytes| {
            hasher.update(bytes);
            Ok(())
        })?;
    }
    Ok(hasher.finish())
}

/// Adds what of a tensor is not its values.
pub(super) fn digest_head(hasher: &mut Hasher, name: &str, shape: &[usize]) {
    hasher.update(name.as_bytes());
    hasher.update(format!("{shape:?}").as_bytes());
}

/// The little-endian f32 values of a tensor, a block at a time.
fn for_each_block(tensor: &Tensor, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> Result<()> {
    const BLOCK: usize = 1 << 16;
    if tensor.dtype() != DType::F32 {
        bail!("a checkpoint holds f32 values, not {:?}", tensor.dtype());
    }
    let values: Vec<f32> = tensor.flatten_all()?.to_vec1()?;
    let mut bytes = Vec::with_capacity(4 * BLOCK);
    for block in values.chunks(BLOCK) {
        bytes.clear();
        bytes.extend(block.iter().flat_map(|value| value.to_le_bytes()));
        take(&bytes)?;
    }
    Ok(())
}

/// Length and header of the safetensors format, padded so that the values begin at a multiple of 8.
fn header(tensors: &[(String, Tensor)], metadata: &CheckpointMetadata) -> Result<Vec<u8>> {
    let mut offset = 0;
    let infos = tensors.iter().map(|(name, tensor)| {
        let begin = offset;
        offset += tensor.elem_count() * size_of::<f32>();
        let info = TensorInfo { dtype: Dtype::F32, shape: tensor.dims().to_vec(), data_offsets: (begin, offset) };
        (name.clone(), info)
    });
    let text = serde_json::to_string(metadata).context("cannot write the metadata as JSON")?;
    let metadata = Metadata::new(Some(HashMap::from([(METADATA_KEY.to_owned(), text)])), infos.collect())?;
    let mut json = serde_json::to_vec(&metadata).context("cannot write the header as JSON")?;
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut header = (json.len() as u64).to_le_bytes().to_vec();
    header.extend(json);
    Ok(header)
}
