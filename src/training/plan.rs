//! What a run will do, decided before it does anything: after this no decision depends on a default, the environment or
//! the clock.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use anyhow::Result;
use candle_core::Device;
use serde::Serialize;

use crate::config::{BatchBy, Precision, Reduction, RunConfig, ScstConfig};
use crate::data::image_source::Views;
use crate::data::pieces::Share;
use crate::data::sampler;
use crate::evaluation::captioning::CaptioningSettings;
use crate::model::captioner::CaptionerShape;
use crate::model::parameters::Parameters;
use crate::training::collective::Collective;
use crate::training::loss::Loss;
use crate::training::train_step::StepSettings;
use base::error::usage_error;
use records::caption_fit::CaptionFit;

/// What happens to the images.
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

/// The size of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DataCounts {
    pub train_images: usize,
    pub train_examples: usize,
    /// Training captions of weight 0, which are no examples.
    #[serde(skip_serializing_if = "is_zero")]
    pub train_weightless: usize,
    pub val_images: usize,
    pub val_examples: usize,
    /// Distinct references of validation images: images with the same references count once.
    pub val_references: usize,
    /// Images that are captioned at the end and used in this view by neither training nor validation.
    pub extra_images: usize,
    /// How the captions fit into the decoder.
    pub captions: CaptionFit,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Threads that read and decode images, unless the config asks for more: each may keep an update in memory.
const MAX_WORKERS: usize = 8;
/// The same with a GPU, which waits for them and does not share their cores.
const MAX_WORKERS_WITH_GPU: usize = 16;

/// Everything that is decided about a run.
#[derive(Clone, Debug, Serialize)]
pub struct RunPlan {
    /// The config with every default written out.
    pub config: RunConfig,
    pub shape: CaptionerShape,
    pub counts: DataCounts,
    pub image_path: ImagePath,
    /// Values in all parameters.
    pub num_parameters: usize,
    /// Values in trained parameters.
    pub num_trainable_parameters: usize,
    /// Layers with an adapter.
    pub num_adapted_layers: usize,
    /// The GPU that computes, as `cuda:N`.
    pub gpu: Option<String>,
    /// `training.batch_by`.
    pub batch_by: BatchBy,
    /// Parts of each batch whose gradients are added up: `training.parts`.
    pub num_parts: usize,
    /// Processes that train together.
    pub num_processes: usize,
    /// Parts that a process computes side by side.
    pub num_pools: usize,
    /// Threads for each of them.
    pub threads_each: usize,
    /// Threads that read and decode images.
    pub num_workers: usize,
    pub updates_per_epoch: u64,
    pub total_updates: u64,
}

impl RunPlan {
    pub fn new(
        config: RunConfig,
        shape: CaptionerShape,
        parameters: &Parameters,
        counts: DataCounts,
        num_threads: usize,
        num_processes: usize,
    ) -> Result<Self> {
        let mut config = config;
        let gpu = parameters.gpu().map(|number| format!("cuda:{number}"));
        // A GPU takes what it gets of a batch whole, and leaves the threads of the CPU to the loading of images.
        let max_workers = if gpu.is_some() { MAX_WORKERS_WITH_GPU } else { MAX_WORKERS };
        let num_parts = config.training.parts.unwrap_or_else(|| match gpu {
            Some(_) => num_processes.next_power_of_two(),
            None => {
                let batch_size = config.training.batch_size.min(counts.train_examples);
                num_parts_for(batch_size, num_threads, num_processes)
            }
        });
        check_processes(num_parts, num_processes, config.training.reduction)?;
        config.training.parts = Some(num_parts);
        let image_path = image_path(&config);
        let is_by_image = image_path == ImagePath::Trained || config.training.scst.is_some();
        let by_default = if is_by_image { BatchBy::Image } else { BatchBy::Pair };
        let batch_by = *config.training.batch_by.get_or_insert(by_default);
        let num_pools = if gpu.is_some() { 1 } else { num_parts.div_ceil(num_processes).min(num_threads).max(1) };
        let num_workers = config.data.workers.unwrap_or(num_threads.min(max_workers));
        let updates_per_epoch = sampler::num_updates(
            counts.train_examples,
            config.training.batch_size,
            config.training.gradient_accumulation_steps,
        ) as u64;
        let total_updates = updates_per_epoch * config.training.num_epochs as u64;
        Ok(Self {
            image_path,
            num_parameters: parameters.num_values(),
            num_trainable_parameters: parameters.num_trainable_values(),
            num_adapted_layers: parameters.adapters().count(),
            config,
            shape,
            counts,
            gpu,
            batch_by,
            num_parts,
            num_processes,
            num_pools,
            threads_each: (num_threads / num_pools).max(1),
            num_workers,
            updates_per_epoch,
            total_updates,
        })
    }

    /// The plan of the same run, begun by this many processes on machines like this one; `parts` is `training.parts` of
    /// the config, which may leave them to the plan.
    ///
    /// # Errors
    /// Processes that cannot share the parts.
    pub fn begun_by(&self, num_processes: usize, parts: Option<usize>, parameters: &Parameters) -> Result<Self> {
        let mut config = self.config.clone();
        config.training.parts = parts;
        let num_threads = rayon::current_num_threads();
        Self::new(config, self.shape.clone(), parameters, self.counts, num_threads, num_processes)
    }

    /// Bytes that a process sends in an update, and receives: its part of the sum of the gradients, and then of the sums
    /// of the others' parts.
    pub fn bytes_sent(&self) -> usize {
        2 * (self.num_processes - 1) * size_of::<f32>() * self.num_trainable_parameters / self.num_processes
    }

    /// The fewest and the most pairs of a batch that a process computes.
    pub(super) fn pairs_of_each(&self) -> (usize, usize) {
        let bound = |part: usize| part * self.config.training.batch_size / self.num_parts;
        let shares = (0..self.num_processes).map(|rank| Share { rank, size: self.num_processes }.parts(self.num_parts));
        let pairs = shares.map(|parts| bound(parts.end) - bound(parts.start));
        (pairs.clone().min().unwrap_or(0), pairs.max().unwrap_or(0))
    }

    /// Captions that an update has at most for each of its pairs: more than one where they are sampled.
    pub fn captions_each(&self) -> usize {
        let of_scst = |scst: &ScstConfig| if scst.cross_entropy > 0.0 { 2 * scst.samples } else { scst.samples };
        self.config.training.scst.as_ref().map_or(1, of_scst)
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

    pub fn cache_folder(&self) -> PathBuf {
        self.config.data.cache_folder()
    }

    /// Bytes of all that the run looks for in the cache; 0 when it has none.
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

    /// Parts of a batch of a validation or of captions.
    pub fn parts_of_evaluation(&self) -> usize {
        // A GPU takes batches whole.
        if self.gpu.is_some() { 1 } else { self.num_parts }
    }

    /// How the images of a split are captioned.
    pub fn captioning_settings(&self, device: &Device) -> CaptioningSettings {
        CaptioningSettings {
            batch_size: self.config.evaluation.batch_size,
            num_parts: self.parts_of_evaluation(),
            workers: self.num_workers,
            device: device.clone(),
        }
    }

    /// The settings that all updates share.
    pub fn step_settings<'a>(&self, loss: &'a dyn Loss, collective: &'a dyn Collective) -> StepSettings<'a> {
        StepSettings {
            loss,
            precision: self.precision(),
            seed: self.config.seed,
            dropout: self.shape.decoder.dropout(),
            recompute: self.config.training.recompute,
            max_grad_norm: self.config.training.max_grad_norm,
            collective,
        }
    }

    /// The precision of matrix products.
    pub fn precision(&self) -> ops::Precision {
        match self.config.training.precision {
            Precision::F32 => ops::Precision::Full,
            Precision::Bf16 => ops::Precision::Bf16,
            Precision::Tf32 => ops::Precision::Tf32,
        }
    }
}

/// Whether the processes can share the parts out as `reduction` needs it.
fn check_processes(num_parts: usize, num_processes: usize, reduction: Reduction) -> Result<()> {
    if num_processes > num_parts {
        return Err(usage_error(
            format!("{num_processes} processes cannot share the {num_parts} parts of a batch (training.parts)"),
            "start fewer processes; a new run may have more parts, a run that exists keeps its own",
        ));
    }
    if reduction == Reduction::Exact && !num_processes.is_power_of_two() {
        return Err(usage_error(
            format!("training.reduction = \"exact\" needs 1, 2, 4, 8, ... processes, found {num_processes}"),
            "start another number of them, or set training.reduction = \"fast\" for a new run",
        ));
    }
    Ok(())
}

/// Into how many parts a batch is cut: a power of two that keeps the threads of all processes busy, each part with enough
/// pairs for its products to stay efficient.
fn num_parts_for(batch_size: usize, num_threads: usize, num_processes: usize) -> usize {
    const MIN_PAIRS: usize = 4;
    /// What two threads on one part are worth, as a power of their number: they wait for each other.
    const SHARING: f64 = 0.8;
    let speed = |num_parts: usize| {
        let each = num_parts.div_ceil(num_processes);
        let num_pools = each.min(num_threads);
        let threads_each = (num_threads / num_pools) as f64;
        num_parts as f64 / each.div_ceil(num_pools) as f64 * threads_each.powf(SHARING)
    };
    let most = (batch_size / MIN_PAIRS).max(num_processes).max(1);
    let choices = (0..usize::BITS).map(|power| 1 << power).take_while(|&parts| parts <= most.next_power_of_two());
    let choices = choices.filter(|&parts| parts >= num_processes && (parts <= most || parts < 2 * num_processes));
    // The fewest of those that are as fast.
    let better = |best: usize, parts: usize| if speed(parts) > 1.05 * speed(best) { parts } else { best };
    choices.reduce(better).unwrap_or(1)
}

fn image_path(config: &RunConfig) -> ImagePath {
    match config.model.has_frozen_encoder() {
        true if config.keeps_features() => ImagePath::EncodedOnce,
        true => ImagePath::EncodedEachTime,
        false => ImagePath::Trained,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_cut_into_a_power_of_two_of_parts_that_keep_all_threads_busy() {
        for ((batch_size, num_threads, num_processes), expected) in [
            ((64, 2, 1), 2),
            ((64, 16, 1), 16),
            ((32, 16, 1), 8),
            ((12, 8, 1), 2),
            ((7, 2, 1), 1),
            ((64, 1, 1), 1),
            ((64, 1, 2), 2),
            ((64, 2, 4), 8),
            ((2, 1, 4), 4),
            ((64, 1, 3), 8),
            ((64, 7, 1), 16),
            ((64, 12, 1), 4),
        ] {
            let found = num_parts_for(batch_size, num_threads, num_processes);
            assert_eq!(found, expected, "{batch_size} pairs on {num_processes} x {num_threads} threads");
        }
    }
}
