//! The sections `[training]`, `[optimizer]`, `[schedule]`, `[evaluation]` and `[checkpoint]`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::scst::ScstConfig;

/// Section `[training]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainingConfig {
    /// `auto`, `cpu`, `cuda` or `cuda:N`.
    pub device: String,
    /// Precision of the products with weights, in training, validation and the cached features. Captions are written in
    /// f32.
    pub precision: Precision,
    /// Image-caption pairs in a batch.
    pub batch_size: usize,
    /// How pairs come together in a batch. Absent: by image where the encoder is trained, since the captions of an image
    /// share its pass through the encoder; else by pair.
    pub batch_by: Option<BatchBy>,
    /// Batches in an update.
    pub gradient_accumulation_steps: usize,
    /// Parts of each batch whose gradients an update adds up, a power of two. They belong to the run: any number of
    /// threads, and of processes that divides it, computes the same bits. Absent: as fits the machine that begins it.
    pub parts: Option<usize>,
    /// How processes add up gradients.
    pub reduction: Reduction,
    /// Compute the blocks of encoder and decoder again in the backward pass instead of keeping what it needs of them: the
    /// same gradients with less memory, in more time.
    pub recompute: bool,
    /// Passes over the training captions.
    pub num_epochs: usize,
    /// Validate when the number of completed epochs is a multiple of this, and after the last.
    pub validation_interval: usize,
    /// Gradients are scaled down to this 2-norm. Absent: no clipping.
    pub max_grad_norm: Option<f64>,
    /// Share of the target's probability spread over the vocabulary: 0 to below 1.
    pub label_smoothing: f64,
    /// Updates between two lines of `metrics.jsonl`.
    pub log_interval: usize,
    /// How often `last.safetensors` is written within an epoch. Absent: only at the end of each epoch.
    pub save_interval: Option<SaveInterval>,
    /// What makes a checkpoint the best.
    pub best_metric: BestMetric,
    /// Validations in a row that brought no new best after which the run ends. Absent: it goes through all epochs.
    pub patience: Option<usize>,
    /// A checkpoint to resume from. Absent or "": from scratch; a missing file: a warning, then from scratch.
    pub resume_from: Option<PathBuf>,
    /// Rewards in the place of the cross-entropy. Absent: cross-entropy.
    pub scst: Option<ScstConfig>,
}

impl Default for TrainingConfig {
    fn default() -> Self {
        Self {
            device: "auto".to_owned(),
            precision: Precision::F32,
            batch_size: 64,
            batch_by: None,
            gradient_accumulation_steps: 1,
            parts: None,
            reduction: Reduction::Exact,
            recompute: false,
            num_epochs: 10,
            validation_interval: 1,
            max_grad_norm: None,
            label_smoothing: 0.0,
            log_interval: 10,
            save_interval: None,
            best_metric: BestMetric::ValLoss,
            patience: None,
            resume_from: None,
            scst: None,
        }
    }
}

/// What lies between two writes of `last.safetensors` within an epoch: written as a whole number of updates, or as
/// `"N minutes"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaveInterval {
    Updates(u64),
    Minutes(u64),
}

impl Serialize for SaveInterval {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Updates(updates) => serializer.serialize_u64(*updates),
            Self::Minutes(1) => serializer.serialize_str("1 minute"),
            Self::Minutes(minutes) => serializer.serialize_str(&format!("{minutes} minutes")),
        }
    }
}

impl<'de> Deserialize<'de> for SaveInterval {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = SaveInterval;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("a whole number of updates, or \"N minutes\"")
            }

            fn visit_u64<E: serde::de::Error>(self, updates: u64) -> Result<SaveInterval, E> {
                Ok(SaveInterval::Updates(updates))
            }

            fn visit_i64<E: serde::de::Error>(self, updates: i64) -> Result<SaveInterval, E> {
                let refuse = |_| E::invalid_value(serde::de::Unexpected::Signed(updates), &self);
                u64::try_from(updates).map(SaveInterval::Updates).map_err(refuse)
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<SaveInterval, E> {
                let minutes = text.strip_suffix("minutes").or_else(|| text.strip_suffix("minute"));
                let minutes = minutes.and_then(|number| number.trim().parse().ok());
                let refuse = || E::invalid_value(serde::de::Unexpected::Str(text), &self);
                minutes.map(SaveInterval::Minutes).ok_or_else(refuse)
            }
        }
        deserializer.deserialize_any(Text)
    }
}

/// Precision of matrix products: those with weights and, on a GPU, those of attention. Weights, optimizer, sums and all
/// other operations are f32 in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 24 bits of mantissa.
    F32,
    /// 8 bits of mantissa, in half the time on a machine made for it: operands of these products are rounded to them;
    /// on a CPU results too, gradients of weights among them, and on a GPU those that a bias is added to.
    Bf16,
    /// 10 bits of mantissa in the operands; GPU only.
    Tf32,
}

/// How processes that train together add up gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reduction {
    /// In the order in which one process adds up the parts: the number of processes changes no bit.
    Exact,
    /// As the library that connects the processes or their GPUs does it: another number of processes gives other last
    /// digits.
    Fast,
}

/// What makes a checkpoint the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BestMetric {
    /// The lowest validation loss.
    ValLoss,
    /// The highest CIDEr-D of the validation split, among the validations that score it.
    Cider,
}

/// How pairs come together in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchBy {
    /// All pairs shuffled.
    Pair,
    /// Images shuffled, all captions of an image one after the other: they share its encoder pass and its keys and
    /// values in the decoder.
    Image,
}

/// Which parameters weight decay acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecayScope {
    /// Matrices and tables: neither biases nor LayerNorm parameters.
    Weights,
    All,
}

/// Section `[optimizer]`: AdamW.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerConfig {
    /// Highest learning rate, reached at the end of the warm-up.
    pub learning_rate: f64,
    /// Decay rates of the two moments, each 0 to below 1.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// What it acts on.
    pub decay: DecayScope,
    /// Highest learning rate of the encoder. Absent: `learning_rate`.
    pub encoder_learning_rate: Option<f64>,
    /// Factor on the learning rate for each block further from the encoder's output: above 0, at most 1.
    pub layer_decay: f64,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            learning_rate: 5e-4,
            betas: [0.9, 0.999],
            eps: 1e-8,
            weight_decay: 0.01,
            decay: DecayScope::Weights,
            encoder_learning_rate: None,
            layer_decay: 1.0,
        }
    }
}

/// Shape of the learning rate after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleKind {
    /// Straight down to 0 at the last update.
    Linear,
    /// Half a cosine down to 0 at the last update.
    Cosine,
    /// Flat.
    Constant,
}

/// Section `[schedule]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScheduleConfig {
    /// Shape after the warm-up.
    pub kind: ScheduleKind,
    /// Updates over which the rate rises from 0; 0 means no warm-up.
    pub warmup_steps: usize,
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self { kind: ScheduleKind::Linear, warmup_steps: 500 }
    }
}

/// Section `[evaluation]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluationConfig {
    /// Pairs in a batch of the validation, images in a batch of captioning.
    pub batch_size: usize,
    /// Split (`train`, `val`, `test`) whose images are captioned with the best checkpoint at the end. Absent: none.
    pub caption_split: Option<String>,
    /// Images of the validation split that are captioned at each validation, to warn of captions that degenerate; 0 for
    /// none.
    pub num_samples: usize,
    /// Epochs between two validations that caption and score the whole validation split; the last epoch's does too.
    /// Absent: none does.
    pub metrics_interval: Option<usize>,
    /// Folder with the resources of METEOR. Absent: it counts only exact and stem matches.
    pub meteor_resources: Option<PathBuf>,
}

impl Default for EvaluationConfig {
    fn default() -> Self {
        Self { batch_size: 64, caption_split: None, num_samples: 16, metrics_interval: None, meteor_resources: None }
    }
}

/// Section `[checkpoint]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointConfig {
    /// Best checkpoints kept, the newest ones: at least 1.
    pub keep_best: usize,
    /// Checkpoints of save points kept, the newest ones, `last.safetensors` among them: at least 1.
    pub keep_last: usize,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self { keep_best: 1, keep_last: 1 }
    }
}
