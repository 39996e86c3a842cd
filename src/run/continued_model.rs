//! The model of a new run that begins from a checkpoint of another one, and the config with what the checkpoint settles.

use std::path::Path;

use anyhow::Result;
use candle_core::Device;

use crate::config::{self, RunConfig, TokenizerConfig};
use crate::run::checkpoint::reader::Checkpoint;
use crate::run::initial_model::{InitialModel, check_shape};
use crate::tokenizer::CaptionTokenizer;
use base::error::{failure, usage_error};

impl InitialModel {
    /// The model of `checkpoint`, which was read from `path` with its base, without the optimizer's moments. Which part of
    /// the encoder is trained, dropout and the length of captions may be written in `config`; all else that is must agree
    /// with the checkpoint.
    ///
    /// # Errors
    /// A config that contradicts the checkpoint; a folder with another tokenizer.
    pub fn of_checkpoint(config: RunConfig, checkpoint: &Checkpoint, path: &Path, device: &Device) -> Result<Self> {
        let metadata = &checkpoint.metadata;
        let brought = &metadata.config;
        let is_written = |key: &str| config.written.contains(key);
        let mut settled = config.clone();
        settled.model = brought.model.clone();
        settled.tokenizer = TokenizerConfig {
            directory: config.tokenizer.directory.clone().or_else(|| brought.tokenizer.directory.clone()),
            ..brought.tokenizer.clone()
        };
        if is_written("model.encoder.train") || is_written("model.encoder.train.last_blocks") {
            settled.model.encoder.train = config.model.encoder.train;
        }
        if is_written("model.decoder.dropout") {
            settled.model.decoder.dropout = config.model.decoder.dropout;
        }
        if is_written("model.decoder.max_seq_len") {
            settled.model.decoder.max_seq_len = config.model.decoder.max_seq_len;
        }
        if let Some(found) = config::first_written_difference(&config, &settled) {
            return Err(usage_error(
                format!("{} is {} in the config, but {} in {}", found.key, found.written, found.other, path.display()),
                "remove it: the checkpoint comes with its model and its tokenizer",
            ));
        }
        let mut shape = metadata.shape.clone();
        let num_positions = shape.decoder.num_positions();
        if settled.model.decoder.max_seq_len > num_positions {
            return Err(usage_error(
                format!(
                    "model.decoder.max_seq_len is {}, but the model in {} has {num_positions} positions",
                    settled.model.decoder.max_seq_len,
                    path.display()
                ),
                "lower or remove it",
            ));
        }
        shape
            .decoder
            .set_training_options(is_written("model.decoder.dropout").then_some(settled.model.decoder.dropout), None);
        check_shape(&shape, &settled)?;
        config::check(&settled)?;
        let tokenizer = metadata.read_tokenizer(&settled.tokenizer)?;
        check_tokenizer(&settled.tokenizer, config.tokenizer.directory.as_deref(), &tokenizer, path)?;
        let mut parameters = checkpoint.parameters(device)?;
        shape.freeze(&mut parameters, settled.model.trained());
        let state = &metadata.state;
        let notes = vec![format!("begin as in {}, after {} updates", path.display(), state.global_step)];
        let processor = metadata.image_processor.clone();
        Ok(Self { config: settled, shape, parameters, tokenizer, processor, notes })
    }
}

/// The folder that the config names has the tokenizer of the checkpoint, or none.
fn check_tokenizer(
    config: &TokenizerConfig,
    directory: Option<&Path>,
    tokenizer: &CaptionTokenizer,
    path: &Path,
) -> Result<()> {
    let Some(directory) = directory else { return Ok(()) };
    match CaptionTokenizer::from_directory(directory, config)? {
        Some(other) if other.digest() != tokenizer.digest() => Err(failure(
            format!(
                "the tokenizer in {} (tokenizer.directory) is not that of the checkpoint {}: expected SHA-256 {}, found {}",
                directory.display(),
                path.display(),
                tokenizer.digest(),
                other.digest()
            ),
            "remove tokenizer.directory: the checkpoint comes with its tokenizer",
        )),
        _ => Ok(()),
    }
}
