//! What a run will do, settled before it does anything: after this nothing consults a default, the environment or the
//! clock to decide.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::config::{BestMetric, EncoderTraining, Precision, RunConfig};
use crate::data::image_source::Views;
use crate::data::sampler;
use crate::model::captioner::CaptionerShape;
use crate::model::parameters::Parameters;
use metrics::cider::FEW_IMAGES;
use records::caption_fit::CaptionFit;

/// What becomes of the images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ImagePath {
    /// Encoded once by a frozen encoder, whose output is kept on disk.
    EncodedOnce,
    /// Encoded in every update by a frozen encoder.
    EncodedEachTime,
    /// Encoded in every update by an encoder that is trained.
    Trained,
}

/// How much there is of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DataCounts {
    /// Training images.
    pub train_images: usize,
    /// Training pairs.
    pub train_examples: usize,
    /// Validation images.
    pub val_images: usize,
    /// Validation pairs.
    pub val_examples: usize,
    /// Validation images that have references of their own: images with the same references count once.
    pub val_references: usize,
    /// Images that are captioned at the end and that neither has in this view.
    pub extra_images: usize,
    /// How the captions fit into the decoder.
    pub captions: CaptionFit,
}

/// Threads that read and decode images, unless more are asked for: each may hold an update in memory.
const MOST_WORKERS: usize = 8;
/// The same beside a GPU, which waits for them and does not share their cores.
const MOST_WORKERS_BESIDE_A_GPU: usize = 16;

/// What will happen.
#[derive(Clone, Debug, Serialize)]
pub struct RunPlan {
    /// The config with every default written out.
    pub config: RunConfig,
    /// The model.
    pub shape: CaptionerShape,
    /// The data.
    pub counts: DataCounts,
    /// What becomes of the images.
    pub image_path: ImagePath,
    /// Values in all parameters.
    pub num_parameters: usize,
    /// Values in trained parameters.
    pub num_trainable_parameters: usize,
    /// The GPU that computes, as `cuda:N`.
    pub gpu: Option<String>,
    /// Parts of each batch that are computed side by side.
    pub num_members: usize,
    /// Threads for each of them.
    pub threads_each: usize,
    /// Threads that read and decode images.
    pub num_workers: usize,
    /// Updates in an epoch.
    pub updates_per_epoch: u64,
    /// Updates in all.
    pub total_updates: u64,
}

impl RunPlan {
    /// Settles a run.
    pub fn new(
        config: RunConfig,
        shape: CaptionerShape,
        parameters: &Parameters,
        counts: DataCounts,
        num_threads: usize,
    ) -> Self {
        let gpu = parameters.gpu().map(|number| format!("cuda:{number}"));
        // A GPU takes whole batches, and leaves the threads of the CPU to those who load images.
        let (num_members, most_workers) = match gpu {
            Some(_) => (1, MOST_WORKERS_BESIDE_A_GPU),
            None => (team_size(config.training.batch_size.min(counts.train_examples), num_threads), MOST_WORKERS),
        };
        let num_workers = config.data.workers.unwrap_or(num_threads.min(most_workers));
        let updates_per_epoch = sampler::num_updates(
            counts.train_examples,
            config.training.batch_size,
            config.training.gradient_accumulation_steps,
        ) as u64;
        let total_updates = updates_per_epoch * config.training.num_epochs as u64;
        Self {
            image_path: image_path(&config),
            num_parameters: parameters.num_values(),
            num_trainable_parameters: parameters.num_trainable_values(),
            config,
            shape,
            counts,
            gpu,
            num_members,
            threads_each: num_threads / num_members,
            num_workers,
            updates_per_epoch,
            total_updates,
        }
    }

    /// Which views training looks at.
    pub fn views(&self) -> Views {
        match (&self.config.data.augmentation, self.config.keeps_views()) {
            (None, _) => Views::Whole,
            (Some(_), true) => Views::Cycle(u32::try_from(self.config.data.views).unwrap_or(u32::MAX)),
            (Some(_), false) => Views::Fresh,
        }
    }

    /// Views of each training image that are kept on disk.
    pub fn training_views(&self) -> RangeInclusive<u32> {
        match self.views() {
            Views::Cycle(count) => 1..=count,
            Views::Whole | Views::Fresh => 0..=0,
        }
    }

    /// The folder of the cache.
    pub fn cache_folder(&self) -> PathBuf {
        let data = &self.config.data;
        let beside = || data.directory.as_deref().unwrap_or(Path::new(".")).join("cache");
        data.cache_directory.clone().unwrap_or_else(beside)
    }

    /// Bytes of all that the run looks for in the cache; 0 when there is none.
    pub fn cache_bytes(&self) -> usize {
        let (encoder, counts) = (&self.shape.encoder, self.counts);
        let images = counts.train_images * self.training_views().count() + counts.val_images + counts.extra_images;
        let number = self.config.data.cache_number.num_bytes();
        match self.image_path {
            ImagePath::EncodedOnce => images * encoder.sequence_length() * encoder.hidden_size() * number,
            _ if self.config.data.cache_images => images * 3 * encoder.image_size() * encoder.image_size(),
            _ => 0,
        }
    }

    /// What matrix products are made in.
    pub fn precision(&self) -> ops::Precision {
        match self.config.training.precision {
            Precision::F32 => ops::Precision::Full,
            Precision::Bf16 => ops::Precision::Bf16,
            Precision::Tf32 => ops::Precision::Tf32,
        }
    }

    /// What a person should know about the plan before it begins.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let warmup = self.config.schedule.warmup_steps as u64;
        if warmup >= self.total_updates {
            warnings.push(format!(
                "schedule.warmup_steps is {warmup} and the run has {} updates: the learning rate never reaches its top",
                self.total_updates
            ));
        }
        if self.config.training.batch_size > self.counts.train_examples {
            warnings.push(format!(
                "training.batch_size is {} and there are {} training pairs: every batch is the whole data set",
                self.config.training.batch_size, self.counts.train_examples
            ));
        }
        warnings.extend(self.counts.captions.warning());
        warnings.extend(self.cider_complaint());
        let encoder = &self.config.model.encoder;
        if !encoder.pretrained && encoder.train == EncoderTraining::Frozen {
            warnings.push(
                "the encoder is random and is not trained: set model.encoder.train = \"full\" to train it".to_owned(),
            );
        }
        warnings
    }

    /// Why the CIDEr-D of this run's validations says nothing or little.
    fn cider_complaint(&self) -> Option<String> {
        self.config.evaluation.metrics_interval?;
        let decides = self.config.training.best_metric == BestMetric::Cider;
        let key = if decides { "training.best_metric is \"cider\", and" } else { "in validations" };
        let way_out = if decides { "set it to \"val_loss\", or validate" } else { "validate" };
        let images = self.counts.val_images;
        if self.counts.val_references <= 1 {
            let of = if images == 1 { "one validation image" } else { "validation images that share their references" };
            let never = if decides { ", so that no epoch is better than the first" } else { "" };
            return Some(format!("{key} CIDEr-D of {of} is 0 by definition{never}: {way_out} on more images"));
        }
        (images < FEW_IMAGES).then(|| {
            format!(
                "{key} CIDEr-D of {images} validation images says little, since their references weigh its n-grams: \
                 {way_out} on more images"
            )
        })
    }

    /// The plan as lines for a person.
    pub fn describe(&self) -> String {
        let (encoder, decoder) = (&self.shape.encoder, &self.shape.decoder);
        let training = &self.config.training;
        let images = match self.image_path {
            ImagePath::EncodedOnce => "frozen, each image encoded once",
            ImagePath::EncodedEachTime => "frozen, run in every update",
            ImagePath::Trained => "trained",
        };
        let cached = self.cache_bytes();
        let cache = if cached == 0 {
            "none".to_owned()
        } else {
            format!("{:.2} GB on disk in {}", cached as f64 / 1e9, self.cache_folder().display())
        };
        let mut lines = vec![
            format!(
                "data        {} images with {} captions for training, {} with {} for validation",
                self.counts.train_images, self.counts.train_examples, self.counts.val_images, self.counts.val_examples
            ),
            format!(
                "encoder     {}, {} px, {} patches of {} px, {} wide, {} layers; {images}",
                encoder.family(),
                encoder.image_size(),
                encoder.grid() * encoder.grid(),
                encoder.patch_size(),
                encoder.hidden_size(),
                encoder.num_layers()
            ),
            format!("cache       {cache}"),
            format!(
                "decoder     {} wide, {} layers, {} heads, {} tokens, captions of at most {} tokens, dropout {}",
                decoder.hidden_size(),
                decoder.num_layers(),
                decoder.num_heads(),
                decoder.vocab_size(),
                self.config.model.decoder.max_seq_len,
                decoder.dropout()
            ),
        ];
        lines.extend(self.counts.captions.note().map(|text| format!("captions    {text}")));
        lines.extend([
            format!(
                "parameters  {}, of which {} are trained; matrix products in {}{}",
                self.num_parameters,
                self.num_trainable_parameters,
                match training.precision {
                    Precision::F32 => "f32",
                    Precision::Bf16 => "bf16",
                    Precision::Tf32 => "tf32",
                },
                self.gpu.as_ref().map_or(String::new(), |gpu| format!(" on {gpu}"))
            ),
            format!(
                "updates     {} x {} epochs of {} pairs ({} x {})",
                self.updates_per_epoch,
                training.num_epochs,
                training.batch_size * training.gradient_accumulation_steps,
                training.batch_size,
                training.gradient_accumulation_steps
            ),
        ]);
        lines.join("\n")
    }
}

/// Parts of a batch that are worth a thread or more of their own: as many as there are threads, if each gets enough
/// pairs that its products stay efficient, and so that no thread is left over.
fn team_size(batch_size: usize, num_threads: usize) -> usize {
    const WORTH_A_MEMBER: usize = 4;
    let most = (batch_size / WORTH_A_MEMBER).min(num_threads).max(1);
    (1..=most).rev().find(|&members| num_threads.is_multiple_of(members)).unwrap_or(1)
}

fn image_path(config: &RunConfig) -> ImagePath {
    match config.model.encoder.train {
        EncoderTraining::Frozen if config.keeps_features() => ImagePath::EncodedOnce,
        EncoderTraining::Frozen => ImagePath::EncodedEachTime,
        _ => ImagePath::Trained,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_divided_among_threads_that_each_get_enough_and_none_is_left_over() {
        for ((batch_size, num_threads), expected) in [
            ((64, 2), 2),
            ((64, 16), 16),
            ((32, 16), 8),
            ((12, 8), 2),
            ((7, 2), 1),
            ((64, 1), 1),
            ((64, 7), 7),
            ((24, 7), 1),
        ] {
            assert_eq!(team_size(batch_size, num_threads), expected, "{batch_size} pairs on {num_threads} threads");
        }
    }
}
