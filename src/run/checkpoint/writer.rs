//! Writes a checkpoint through the atomic writer, tensor by tensor.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use candle_core::Tensor;

use crate::model::parameters::Parameters;
use crate::model::tensor_file::write_tensors;
use crate::run::checkpoint::digests::digest_tensors;
use crate::run::checkpoint::layout::{
    CheckpointMetadata, EXP_AVG_PREFIX, EXP_AVG_SQ_PREFIX, METADATA_DIGEST_KEY, METADATA_KEY, MODEL_PREFIX,
};
use crate::training::optimizer::Optimizer;
use crate::training::train_state::TrainState;
use base::digest;
use base::error::WithHint as _;

/// Writes the whole state of a run to `path`, without the weights that an adapter was trained for. Of `run`, a description of the run at any time, all is taken but what the
/// other arguments say.
///
/// # Errors
/// A disk that is full or cannot be written; the file that was there before is then untouched.
pub fn write_checkpoint(
    path: &Path,
    run: &CheckpointMetadata,
    state: &TrainState,
    parameters: &Parameters,
    optimizer: &Optimizer,
) -> Result<()> {
    let mut tensors: Vec<(String, Tensor)> = Vec::new();
    for (name, parameter) in parameters.iter().filter(|(_, parameter)| !parameter.in_base) {
        tensors.push((format!("{MODEL_PREFIX}{name}"), parameter.var.as_detached_tensor()));
    }
    for (name, moments) in optimizer.moments() {
        tensors.push((format!("{EXP_AVG_PREFIX}{name}"), moments.exp_avg.clone()));
        tensors.push((format!("{EXP_AVG_SQ_PREFIX}{name}"), moments.exp_avg_sq.clone()));
    }
    let metadata = CheckpointMetadata { state: state.clone(), optimizer_step: optimizer.step(), ..run.clone() };
    write_file(path, metadata, tensors)
}

/// Writes these tensors, named with their prefixes, and these metadata with their digest.
pub(super) fn write_file(
    path: &Path,
    mut metadata: CheckpointMetadata,
    mut tensors: Vec<(String, Tensor)>,
) -> Result<()> {
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    metadata.tensors_digest = digest_tensors(&tensors)?;
    let text = serde_json::to_string(&metadata).context("cannot write the metadata as JSON")?;
    let metadata = [(METADATA_DIGEST_KEY.to_owned(), digest::sha256(text.as_bytes())), (METADATA_KEY.to_owned(), text)];
    write_tensors(path, &tensors, HashMap::from(metadata))
        .with_context(|| format!("cannot write the checkpoint {}", path.display()))
        .hint(
            || "free some disk space and make the folder writable; a checkpoint that was there before was not replaced",
        )
}
