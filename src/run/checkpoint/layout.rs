//! What a checkpoint holds and how its parts are called.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::config::{RunConfig, TokenizerConfig};
use crate::model::captioner::CaptionerShape;
use crate::tokenizer::CaptionTokenizer;
use crate::training::train_state::TrainState;
use base::fault::fault;
use pixels::image_processor::ImageProcessor;

/// Version of the format that is written.
pub const FORMAT_VERSION: u32 = 3;
/// The oldest version that is read: it has no digest of the metadata.
pub const OLDEST_FORMAT_VERSION: u32 = 2;
/// Key of the safetensors header under which the metadata stands, as JSON.
pub const METADATA_KEY: &str = "caption_train";
/// Key of the safetensors header under which the SHA-256 of that JSON text stands.
pub const METADATA_DIGEST_KEY: &str = "caption_train_sha256";
/// Before the name of a parameter.
pub const MODEL_PREFIX: &str = "model.";
/// Before the name of a parameter: the running mean of its gradient.
pub const EXP_AVG_PREFIX: &str = "optimizer.exp_avg.";
/// Before the name of a parameter: the running mean of its squared gradient.
pub const EXP_AVG_SQ_PREFIX: &str = "optimizer.exp_avg_sq.";

/// All of a checkpoint that is no tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckpointMetadata {
    /// Version of the format.
    pub format_version: u32,
    /// Program that wrote it.
    pub written_by: String,
    /// Progress: epoch, step, best validation loss and the rest.
    pub state: TrainState,
    /// Updates that the optimizer made.
    pub optimizer_step: u64,
    /// Updates that the schedule was laid out for.
    pub total_updates: u64,
    /// The resolved config, the seed included.
    pub config: RunConfig,
    /// Shape of the model.
    pub shape: CaptionerShape,
    /// How pixels become the encoder's input.
    pub image_processor: ImageProcessor,
    /// `tokenizer.json`.
    pub tokenizer: String,
    /// SHA-256 of the data set's `dataset.json`.
    pub dataset_digest: String,
    /// SHA-256 over names, shapes and values of all tensors.
    pub tensors_digest: String,
}

impl CheckpointMetadata {
    /// The tokenizer, which must be what `config` says.
    ///
    /// # Errors
    /// A damaged tokenizer, one that does not fit `config`, or one with more tokens than the model.
    pub fn read_tokenizer(&self, config: &TokenizerConfig) -> Result<CaptionTokenizer> {
        let tokenizer = CaptionTokenizer::from_json(&self.tokenizer, config)?;
        let (found, most) = (tokenizer.vocab_size(), self.shape.decoder.vocab_size());
        if found > most {
            let message = format!("the tokenizer of the checkpoint has {found} tokens and its model {most}");
            return Err(fault(message, "use another checkpoint of the same run"));
        }
        Ok(tokenizer)
    }
}

/// What of the metadata is the same for all checkpoints of a run.
#[derive(Clone, Debug)]
pub struct Provenance {
    /// Program that writes.
    pub written_by: String,
    /// Updates that the schedule was laid out for.
    pub total_updates: u64,
    /// The resolved config.
    pub config: RunConfig,
    /// Shape of the model.
    pub shape: CaptionerShape,
    /// How pixels become the encoder's input.
    pub image_processor: ImageProcessor,
    /// `tokenizer.json`.
    pub tokenizer: String,
    /// SHA-256 of the data set's `dataset.json`.
    pub dataset_digest: String,
}

/// File name of the checkpoint of a new best.
pub fn best_file_name(epoch: u64, val_loss: f64) -> String {
    format!("checkpoint_epoch_{epoch}_val_loss_{val_loss:.4}.safetensors")
}

/// File name of the newest save point.
pub const LAST: &str = "last.safetensors";

/// File name under which the checkpoint of a save point stays when a newer one has taken the name `last.safetensors`.
pub fn step_file_name(global_step: u64) -> String {
    format!("last_step_{global_step}.safetensors")
}

/// Update in such a file name; nothing for other names.
pub fn step_of_file_name(name: &str) -> Option<u64> {
    let step = name.strip_prefix("last_step_")?.strip_suffix(".safetensors")?.parse().ok()?;
    (step_file_name(step) == name).then_some(step)
}

/// Epoch in the file name of a best checkpoint; nothing for other names.
pub fn epoch_of_file_name(name: &str) -> Option<u64> {
    let rest = name.strip_prefix("checkpoint_epoch_")?.strip_suffix(".safetensors")?;
    let (epoch, loss) = rest.split_once("_val_loss_")?;
    let (epoch, loss) = (epoch.parse().ok()?, loss.parse().ok()?);
    // A copy that somebody keeps is called otherwise.
    (best_file_name(epoch, loss) == name).then_some(epoch)
}
