//! What a report is made of: plain data, that a caller gathers from a run's folder.

use serde::Serialize;

use metrics::statistics::CaptionStatistics;
use records::metrics_log::MetricsLog;

/// Everything that the page shows. `ReportData::default()` is the report of a run of which nothing is known.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ReportData {
    /// Name of the run.
    pub run_name: String,
    /// How it ended.
    pub status: Status,
    /// Program and version.
    pub written_by: String,
    /// Epochs that were planned.
    pub num_epochs: Option<u64>,
    /// Parameters of the model.
    pub num_parameters: Option<u64>,
    /// Pairs of image and caption in a full update; with it the log's waiting seconds become shares of the time.
    pub images_per_update: Option<u64>,
    /// 2-norm to which gradients are clipped.
    pub max_grad_norm: Option<f64>,
    /// What was logged.
    pub metrics: MetricsLog,
    /// Scores of splits, as they were measured by themselves.
    pub scores: Vec<SplitScores>,
    /// Captions of a split beside their references, for lengths and words.
    pub captions: Option<CaptionedSplit>,
    /// Pictures with their captions.
    pub gallery: Vec<GalleryImage>,
    /// The resolved config, as TOML.
    pub config_toml: Option<String>,
    /// Names and values: device, threads, versions.
    pub environment: Vec<(String, String)>,
    /// Files of the run to link to.
    pub files: Vec<FileLink>,
}

/// How a run ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// After its last epoch.
    Finished,
    /// Before its last epoch, since validations brought no better model any more.
    EndedEarly,
    /// It was asked to stop, and saved.
    Interrupted {
        /// Updates done.
        global_step: u64,
    },
    /// With an error.
    Failed {
        /// Its text.
        message: String,
    },
    /// Nothing says that it ended: it goes on, or was killed.
    #[default]
    Unfinished,
}

/// Scores of the captions of a split.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SplitScores {
    /// The split.
    pub split: String,
    /// What captioned it: a checkpoint's name, an epoch.
    pub model: String,
    /// The checkpoint's name alone.
    pub checkpoint: String,
    /// The scores, in the order in which they are shown.
    pub rows: Vec<ScoreRow>,
    /// Share of the resamples that lie inside of an interval, from 0 to 1.
    pub confidence: f64,
    /// What a reader must know to take a score for what it is.
    pub notes: Vec<String>,
    /// What was computed, how, on how much.
    pub signature: String,
    /// What the captions are like.
    pub figures: Option<CaptionStatistics>,
}

/// A score.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ScoreRow {
    /// Its name, as COCO's results have it.
    pub name: String,
    /// Its value, not times 100.
    pub value: f64,
    /// Its interval, low and high.
    pub interval: Option<(f64, f64)>,
}

/// Captions of a split.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CaptionedSplit {
    /// The split.
    pub split: String,
    /// Its images.
    pub images: Vec<CaptionedImage>,
}

/// What the model and what people wrote about an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CaptionedImage {
    /// By the model.
    pub caption: String,
    /// By people.
    pub references: Vec<String>,
}

/// A picture with what the model writes about it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct GalleryImage {
    /// Its file name.
    pub name: String,
    /// JPEG, PNG or WebP, cut as the model sees it: the attention lies over the whole of it.
    pub picture: Vec<u8>,
    /// Patches along a side.
    pub grid: usize,
    /// The caption.
    pub caption: String,
    /// The caption again, by words.
    pub words: Vec<Word>,
    /// What people wrote.
    pub references: Vec<String>,
    /// Natural logarithm of the caption's probability, its end included.
    pub log_probability: Option<f64>,
    /// Tokens of the caption, its end included.
    pub num_tokens: Option<usize>,
    /// CIDEr of this caption alone, from 0 to 10.
    pub cider: Option<f64>,
}

/// A word of a caption: the tokens from one space to the next.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Word {
    /// The word without spaces around it; empty for the end of the caption.
    pub text: String,
    /// How much it looks at the class token and then at each patch, row by row, as a mean over its tokens; empty where
    /// that is not known.
    pub attention: Vec<f32>,
}

/// A file of the run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FileLink {
    /// Its path below the folder in which the page lies.
    pub path: String,
    /// What it holds.
    pub what: String,
}
