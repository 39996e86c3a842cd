//! The contents of a run's TOML file, as data: no tensors, no command line, no environment.
//!
//! Every section refuses unknown keys. [`RunConfig`] is what was written; what will happen is the plan that
//! `training::plan` makes of it.

mod data;
mod decoding;
mod difference;
mod load;
mod model;
mod paths;
mod scst;
mod source_text;
mod tracking;
mod training;
mod validate;

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use crate::model::lora::{LoraConfig, Targets};
pub use crate::model::role::EncoderTraining;
pub use data::{AugmentationConfig, DataConfig, FeatureType, SplitSource, TokenizerConfig, TokenizerKind};
pub use decoding::{DecodingConfig, EarlyStopping, WithPrompt};
pub use difference::{WrittenDifference, differences, first_unsafe_difference, first_written_difference};
pub use load::{apply_safe_overrides, check, load, overridden_text, parse, to_toml};
pub use model::{DecoderSection, EncoderSection, ModelConfig, ModelName};
pub use paths::PathKey;
pub use scst::{Baseline, ScstConfig};
pub use source_text::read_text;
pub use tracking::{HubConfig, HubUpload, TrackingConfig, WandbConfig, WandbMode};
pub use training::{
    BatchBy, BestMetric, CheckpointConfig, DecayScope, EvaluationConfig, OptimizerConfig, Precision, Reduction,
    SaveInterval, ScheduleConfig, ScheduleKind, TrainingConfig,
};
pub use validate::{ConfigError, check_decoding};

/// Everything a run needs to know, as the user wrote it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunConfig {
    /// Name of the run's folder inside `output_dir`; a number is added when the name is taken. Absent: the name of the
    /// config file.
    pub name: Option<String>,
    /// Seed of every random choice of the run: 0 to 2^63 - 1.
    pub seed: u64,
    /// Folder in which the run's folder is created.
    pub output_dir: PathBuf,
    /// Where images and captions come from.
    pub data: DataConfig,
    /// The caption tokenizer.
    pub tokenizer: TokenizerConfig,
    /// Encoder and decoder.
    pub model: ModelConfig,
    /// The loop.
    pub training: TrainingConfig,
    /// AdamW.
    pub optimizer: OptimizerConfig,
    /// The learning rate over the steps.
    pub schedule: ScheduleConfig,
    /// Captions that the run writes and scores.
    pub evaluation: EvaluationConfig,
    /// How they are written.
    pub decoding: DecodingConfig,
    /// Which checkpoints are kept.
    pub checkpoint: CheckpointConfig,
    /// Where the run is logged.
    pub tracking: TrackingConfig,
    /// Where its model goes.
    pub hub: HubConfig,
    /// The keys that the file and the command line gave.
    #[serde(skip)]
    pub written: WrittenKeys,
}

impl RunConfig {
    /// How captions are written: `decoding`, with the longest length that the decoder was trained with where none is
    /// given.
    pub fn decoding_of_captions(&self) -> DecodingConfig {
        let longest = self.decoding.max_new_tokens.unwrap_or(self.model.decoder.max_seq_len);
        DecodingConfig { max_new_tokens: Some(longest), ..self.decoding.clone() }
    }

    /// Whether a frozen encoder's outputs are kept on disk.
    pub fn keeps_features(&self) -> bool {
        self.model.has_frozen_encoder() && self.data.cache_features
    }

    /// Whether something is kept on disk of each image that training looks at.
    pub fn keeps_views(&self) -> bool {
        self.keeps_features() || self.data.cache_images
    }
}

/// Dotted keys that the user wrote, to distinguish defaults from choices. Two configs that say the same are equal,
/// however much of it was written out.
#[derive(Clone, Debug, Default)]
pub struct WrittenKeys(BTreeSet<String>);

impl WrittenKeys {
    /// Whether the key was written.
    pub fn contains(&self, key: &str) -> bool {
        self.0.contains(key)
    }

    /// Notes a key that was written in another way, such as a revision in a name.
    pub fn add(&mut self, key: &str) {
        self.0.insert(key.to_owned());
    }
}

impl FromIterator<String> for WrittenKeys {
    fn from_iter<T: IntoIterator<Item = String>>(keys: T) -> Self {
        Self(keys.into_iter().collect())
    }
}

impl PartialEq for WrittenKeys {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Default for RunConfig {
    fn default() -> Self {
        Self {
            name: None,
            seed: 0,
            output_dir: PathBuf::from("runs"),
            data: DataConfig::default(),
            tokenizer: TokenizerConfig::default(),
            model: ModelConfig::default(),
            training: TrainingConfig::default(),
            optimizer: OptimizerConfig::default(),
            schedule: ScheduleConfig::default(),
            evaluation: EvaluationConfig::default(),
            decoding: DecodingConfig::default(),
            checkpoint: CheckpointConfig::default(),
            tracking: TrackingConfig::default(),
            hub: HubConfig::default(),
            written: WrittenKeys::default(),
        }
    }
}
