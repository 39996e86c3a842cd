//! The sections `[data]` and `[tokenizer]`.

use std::path::{Path, PathBuf};

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

/// How the numbers of cached features are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeatureType {
    /// 16 bits, 11 of them mantissa: at most 65504.
    F16,
    /// 32 bits.
    F32,
}

impl FeatureType {
    /// Bytes of a number.
    pub fn num_bytes(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::F32 => 4,
        }
    }
}

/// Random views of an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AugmentationConfig {
    /// Smallest share of the image's area that a view shows: above 0, at most 1. An image too long and narrow for that
    /// shows its middle.
    pub min_area: f64,
    /// Half of the views are mirrored. Captions speak of left and right.
    pub flip: bool,
}

impl Default for AugmentationConfig {
    fn default() -> Self {
        Self { min_area: 0.5, flip: false }
    }
}

/// Section `[data]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// Name of a known data set. Prepared into `data/NAME` when absent there, if that needs nothing from the user.
    pub dataset: Option<String>,
    /// Folder of a prepared data set (`images/` and `dataset.json`). With `dataset`: where it is or will be.
    pub directory: Option<PathBuf>,
    /// Folder or archive with images and captions of `dataset`, used when it has to be prepared first. If it has
    /// changed since, a new run does not begin and a resumed one warns.
    pub source: Option<PathBuf>,
    /// Tar files and Parquet files whose images stay where they are: paths, patterns such as `train/*.tar` or
    /// `{00000..01242}.tar`, folders. An index of them is built in `directory` once. If they have changed since, a new run
    /// does not begin and a resumed one warns.
    pub shards: Vec<PathBuf>,
    /// Who decides the split.
    pub split: SplitSource,
    /// Share of the images held out by a random split: above 0, below 1.
    pub validation_fraction: f64,
    /// Text before captions without a prompt of their own, which the model is given and not trained to say; not empty.
    pub prompt: Option<String>,
    /// Threads that read and decode images: 1 to 256. Absent: one for each compute thread, at most 8, beside a GPU 16.
    pub workers: Option<usize>,
    /// A frozen encoder sees each image once, and its output is kept on disk; else it runs in every update.
    pub cache_features: bool,
    /// How the numbers of these outputs are kept.
    pub cache_number: FeatureType,
    /// Images that go through the encoder in every update are decoded and resized once, and kept on disk like that.
    pub cache_images: bool,
    /// Folder of the cache. Absent: the folder `cache` in that of the data set.
    pub cache_directory: Option<PathBuf>,
    /// Random views in training. Absent: whole images.
    pub augmentation: Option<AugmentationConfig>,
    /// Views of each training image that are kept on disk, 1 to 1000: training goes from one to the next.
    pub views: usize,
}

impl DataConfig {
    /// Where what is made of images and captions is kept.
    pub fn cache_folder(&self) -> PathBuf {
        let default = || self.directory.as_deref().unwrap_or(Path::new(".")).join("cache");
        self.cache_directory.clone().unwrap_or_else(default)
    }
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            dataset: None,
            directory: None,
            source: None,
            shards: Vec::new(),
            split: SplitSource::File,
            validation_fraction: 0.1,
            prompt: None,
            workers: None,
            cache_features: true,
            cache_number: FeatureType::F16,
            cache_images: false,
            cache_directory: None,
            augmentation: None,
            views: 1,
        }
    }
}

/// The kinds of tokenizers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenizerKind {
    /// Byte-level BPE, as GPT-2 has it.
    #[default]
    ByteLevelBpe,
    /// WordPiece, as BERT has it: it is read, not trained.
    WordPiece,
}

impl TokenizerKind {
    /// Its name in the config.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ByteLevelBpe => "byte_level_bpe",
            Self::WordPiece => "word_piece",
        }
    }
}

/// Section `[tokenizer]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenizerConfig {
    /// What it is. A byte-level BPE is trained where none is found; a WordPiece comes from `directory` or with a
    /// pretrained model.
    pub kind: TokenizerKind,
    /// Folder with `tokenizer.json`, or `vocab.json` and `merges.txt`, or the `vocab.txt` of a WordPiece, used when they
    /// are there; a byte-level BPE is written there when not. Absent: trained for each run and kept in the run's folder.
    pub directory: Option<PathBuf>,
    /// Number of tokens at most, special ones included: 260 to 1,000,000, of a WordPiece 2 or more.
    pub vocab_size: usize,
    /// A pair is merged when it is seen this often at least.
    pub min_frequency: u64,
    /// Captions are lower-cased first.
    pub lowercase: bool,
    /// Fills up a batch; known by position, never by id.
    pub pad_token: String,
    /// Precedes every caption.
    pub start_token: String,
    /// Ends every caption.
    pub end_token: String,
    /// Replaces what cannot be encoded (a byte-level vocabulary never needs it).
    pub unk_token: String,
}

impl Default for TokenizerConfig {
    fn default() -> Self {
        Self {
            kind: TokenizerKind::default(),
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
