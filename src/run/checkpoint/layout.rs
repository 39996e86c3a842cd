//! The contents of a checkpoint and the names of its parts.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::config::{RunConfig, TokenizerConfig};
use crate::model::captioner::CaptionerShape;
use crate::model::role::ParameterSpec;
use crate::run::checkpoint::adapter_base::Base;
use crate::tokenizer::CaptionTokenizer;
use crate::training::train_state::TrainState;
use base::error::failure;
use pixels::image_processor::ImageProcessor;

/// Version of the format that is written.
pub const FORMAT_VERSION: u32 = 3;
/// The oldest version that is read: it has no digest of the metadata.
pub const OLDEST_FORMAT_VERSION: u32 = 2;
/// Key of the safetensors header for the metadata, as JSON.
pub const METADATA_KEY: &str = "caption_train";
/// Key of the safetensors header for the SHA-256 of that JSON text.
pub const METADATA_DIGEST_KEY: &str = "caption_train_sha256";
/// Prefix of the name of a parameter.
pub const MODEL_PREFIX: &str = "model.";
/// Prefix of the name of a parameter: the running mean of its gradient.
pub const EXP_AVG_PREFIX: &str = "optimizer.exp_avg.";
/// Prefix of the name of a parameter: the running mean of its squared gradient.
pub const EXP_AVG_SQ_PREFIX: &str = "optimizer.exp_avg_sq.";

/// Everything in a checkpoint that is not a tensor. Between two checkpoints of a run only `state`, `optimizer_step` and
/// `tensors_digest` differ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckpointMetadata {
    pub format_version: u32,
    /// Program that wrote it.
    pub written_by: String,
    /// Progress: epoch, step, best validation loss and the rest.
    pub state: TrainState,
    /// Updates done by the optimizer.
    pub optimizer_step: u64,
    /// Updates that the schedule was planned for.
    pub total_updates: u64,
    /// The resolved config, the seed included.
    pub config: RunConfig,
    pub shape: CaptionerShape,
    /// How pixels become the encoder's input.
    pub image_processor: ImageProcessor,
    /// `tokenizer.json`.
    pub tokenizer: String,
    /// SHA-256 of the data set's `dataset.json`.
    pub dataset_digest: String,
    /// SHA-256 over names, shapes and values of all tensors.
    pub tensors_digest: String,
    /// The weights that its adapter was trained for and that it lacks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
    /// What self-critical training began from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Source>,
    /// The checkpoints that it is the mean of; empty in one that a run wrote.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub average_of: Vec<Source>,
}

/// A checkpoint that this one was made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    pub checkpoint: PathBuf,
    /// Its `tensors_digest`.
    pub tensors_digest: String,
}

impl CheckpointMetadata {
    /// Refuses a mean of checkpoints, in `path`, as a state from which a run is resumed.
    ///
    /// # Errors
    /// For a mean: how many checkpoints it was made of, and the last of them.
    pub fn check_resumable(&self, path: &Path) -> Result<()> {
        let Some(Source { checkpoint, .. }) = self.average_of.last() else { return Ok(()) };
        Err(failure(
            format!(
                "{} is the mean of {} checkpoints and has no optimizer state: no run can be resumed from it",
                path.display(),
                self.average_of.len()
            ),
            format!(
                "resume from one of them, such as {}, or begin self-critical training with it (training.scst.checkpoint)",
                checkpoint.display()
            ),
        ))
    }

    /// The parameters of the model with its adapter.
    ///
    /// # Errors
    /// A config that its family cannot build, or whose adapter does not fit it.
    pub fn parameter_specs(&self) -> Result<Vec<ParameterSpec>> {
        self.config.model.parameter_specs(&self.shape)
    }

    /// The tokenizer, which must be what `config` says.
    ///
    /// # Errors
    /// A damaged tokenizer, one that does not fit `config`, or one with more tokens than the model.
    pub fn read_tokenizer(&self, config: &TokenizerConfig) -> Result<CaptionTokenizer> {
        let tokenizer = CaptionTokenizer::from_json(&self.tokenizer, config)?;
        let (found, most) = (tokenizer.vocab_size(), self.shape.decoder.vocab_size());
        if found > most {
            let message = format!("the tokenizer of the checkpoint has {found} tokens, but its model has {most}");
            return Err(failure(message, "use another checkpoint of the same run"));
        }
        Ok(tokenizer)
    }
}
