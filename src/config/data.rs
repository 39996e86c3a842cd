//! The sections `[data]` and `[tokenizer]`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Who decides which image is for training and which for validation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SplitSource {
    /// The `split` field of `dataset.json`.
    File,
    /// A seeded draw by image: `validation_fraction` of all images that are not for testing.
    Random,
}

/// Section `[data]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// Name of a known data set. Prepared into `data/NAME` when absent there, if that needs nothing from a person.
    pub dataset: Option<String>,
    /// Folder of a prepared data set (`images/` and `dataset.json`). With `dataset`: where it is or will be.
    pub directory: Option<PathBuf>,
    /// Folder with the archives of `dataset`, used when it has to be prepared first.
    pub source: Option<PathBuf>,
    /// Who decides the split.
    pub split: SplitSource,
    /// Share of the images held out by a random split: above 0, below 1.
    pub validation_fraction: f64,
    /// Threads that read and decode images: 1 to 256.
    pub workers: usize,
    /// Features of a frozen encoder are held in memory up to this many gigabytes (10^9 bytes), at least 0; beyond it
    /// the encoder runs in every update.
    pub feature_memory_gb: f64,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            dataset: None,
            directory: None,
            source: None,
            split: SplitSource::File,
            validation_fraction: 0.1,
            workers: 2,
            feature_memory_gb: 8.0,
        }
    }
}

/// Section `[tokenizer]`: byte-level BPE.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenizerConfig {
    /// Folder with `tokenizer.json` or `vocab.json` and `merges.txt`, used when they are there, written when not.
    /// Absent: trained for each run and kept in the run's folder.
    pub directory: Option<PathBuf>,
    /// Number of tokens at most, special ones included: 260 to 1,000,000.
    pub vocab_size: usize,
    /// A pair is merged when it is seen this often at least.
    pub min_frequency: u64,
    /// Captions are lower-cased first.
    pub lowercase: bool,
    /// Fills up a batch; known by position, never by id.
    pub pad_token: String,
    /// Stands before every caption.
    pub start_token: String,
    /// Stands behind every caption.
    pub end_token: String,
    /// Stands for what cannot be encoded (a byte-level vocabulary never needs it).
    pub unk_token: String,
}

impl Default for TokenizerConfig {
    fn default() -> Self {
        Self {
            directory: None,
            vocab_size: 10_000,
            min_frequency: 2,
            lowercase: true,
            pad_token: "<pad>".to_owned(),
            start_token: "<start>".to_owned(),
            end_token: "<end>".to_owned(),
            unk_token: "<unk>".to_owned(),
        }
    }
}
