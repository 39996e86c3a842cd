//! The data of a report, which the caller gathers from a run directory.

use serde::Serialize;

use metrics::comparison::Comparison;
use metrics::statistics::CaptionStatistics;
use records::metrics_log::MetricsLog;

/// Everything that the page shows. `ReportData::default()` is the report of an unknown run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ReportData {
    pub run_name: String,
    pub status: Status,
    pub written_by: String,
    /// Planned epochs.
    pub num_epochs: Option<u64>,
    pub num_parameters: Option<u64>,
    /// Image-caption pairs in a full update, to compute fractions of time from the logged waiting seconds.
    pub images_per_update: Option<u64>,
    /// Maximum 2-norm of gradients.
    pub max_grad_norm: Option<f64>,
    pub metrics: MetricsLog,
    /// Scores of splits from separate evaluations.
    pub scores: Vec<SplitScores>,
    /// Captions of a split with their references, for lengths and words.
    pub captions: Option<CaptionedSplit>,
    pub gallery: Vec<GalleryImage>,
    /// The resolved config, as TOML.
    pub config_toml: Option<String>,
    pub environment: Vec<(String, String)>,
    /// Files of the run to link to.
    pub files: Vec<FileLink>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// After its last epoch.
    Finished,
    /// Before its last epoch, because validations brought no better model.
    EndedEarly,
    /// It was stopped and saved.
    Interrupted {
        /// Updates done.
        global_step: u64,
    },
    /// With an error.
    Failed {
        /// Its text.
        message: String,
    },
    /// No end was recorded: it is running, or was killed.
    #[default]
    Unfinished,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SplitScores {
    pub split: String,
    /// The model: a checkpoint's name, an epoch.
    pub model: String,
    /// Only the checkpoint's name.
    pub checkpoint: String,
    /// The scores, in the order shown.
    pub rows: Vec<ScoreRow>,
    /// Fraction of resamples inside an interval, from 0 to 1.
    pub confidence: f64,
    /// What a reader must know to interpret the scores.
    pub notes: Vec<String>,
    /// What was computed, how, and on how much data.
    pub signature: String,
    /// Statistics of the captions.
    pub figures: Option<CaptionStatistics>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ScoreRow {
    /// The name in COCO's results.
    pub name: String,
    /// Not multiplied by 100.
    pub value: f64,
    /// Low and high.
    pub interval: Option<(f64, f64)>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CaptionedSplit {
    pub split: String,
    pub images: Vec<CaptionedImage>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CaptionedImage {
    /// Written by the model.
    pub caption: String,
    /// Written by humans.
    pub references: Vec<String>,
}

/// A picture with its captions.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct GalleryImage {
    /// The file name.
    pub name: String,
    /// JPEG, PNG or WebP, cropped as the model sees it: the attention covers all of it.
    pub picture: Vec<u8>,
    /// Tokens of the encoder before the patches: a class token, registers.
    pub num_prefix_tokens: usize,
    /// Patches along a side.
    pub grid: usize,
    pub caption: String,
    /// The caption, split into words.
    pub words: Vec<Word>,
    /// Captions written by humans.
    pub references: Vec<String>,
    /// Natural logarithm of the caption's probability, including its end.
    pub log_probability: Option<f64>,
    /// Tokens of the caption, including its end.
    pub num_tokens: Option<usize>,
    /// CIDEr of this caption, from 0 to 10.
    pub cider: Option<f64>,
}

/// A word of a caption: the tokens from one space to the next.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Word {
    /// The word without surrounding spaces; empty for the end of the caption.
    pub text: String,
    /// Attention to the prefix tokens and then to each patch, row by row, as a mean over its tokens; empty if unknown.
    pub attention: Vec<f32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FileLink {
    /// The path relative to the page's folder.
    pub path: String,
    /// Description of the content.
    pub what: String,
}

/// Everything that the page of several runs shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ComparisonData {
    /// Their names, statuses, key figures and logs; the rest of a run's report is not shown.
    pub runs: Vec<ReportData>,
    /// The keys whose values differ, and the value of each run as TOML.
    pub configs: Vec<(String, Vec<Option<String>>)>,
    /// The captions of one split that are compared.
    pub captions: Option<ComparedCaptions>,
    /// What a reader must know to interpret the comparison, or why there is none.
    pub notes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ComparedCaptions {
    pub split: String,
    /// The model of each run that wrote its captions, and how it searched for them.
    pub writers: Vec<String>,
    pub comparison: Comparison,
    /// Of each run, one for each image.
    pub captions: Vec<Vec<String>>,
    /// The images shown.
    pub pictures: Vec<ComparedPicture>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ComparedPicture {
    /// Its place among the captions.
    pub image: usize,
    /// The file name.
    pub name: String,
    /// JPEG, PNG or WebP.
    pub picture: Vec<u8>,
    /// Captions written by humans.
    pub references: Vec<String>,
}
