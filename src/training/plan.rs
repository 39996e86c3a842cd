//! What a run will do, decided before it does anything: after this no decision depends on a default, the environment or
//! the clock.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::config::{Precision, RunConfig};
use crate::data::image_source::Views;
use crate::data::sampler;
use crate::model::captioner::CaptionerShape;
use crate::model::parameters::Parameters;
use crate::training::collective::Collective;
use crate::training::loss::Loss;
use crate::training::train_step::StepSettings;
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
    /// Parts of each batch that are computed side by side.
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
    ) -> Self {
        let gpu = parameters.gpu().map(|number| format!("cuda:{number}"));
        // A GPU takes whole batches and leaves the threads of the CPU to the loading of images.
        let (num_pools, max_workers) = match gpu {
            Some(_) => (1, MAX_WORKERS_WITH_GPU),
            None => (num_pools_for(config.training.batch_size.min(counts.train_examples), num_threads), MAX_WORKERS),
        };
        let num_workers = config.data.workers.unwrap_or(num_threads.min(max_workers));
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
            num_adapted_layers: parameters.adapters().count(),
            config,
            shape,
            counts,
            gpu,
            num_pools,
            threads_each: num_threads / num_pools,
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

    pub fn cache_folder(&self) -> PathBuf {
        let data = &self.config.data;
        let default = || data.directory.as_deref().unwrap_or(Path::new(".")).join("cache");
        data.cache_directory.clone().unwrap_or_else(default)
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

    /// The settings that all updates share.
    pub fn step_settings<'a>(&self, loss: &'a dyn Loss, collective: &'a dyn Collective) -> StepSettings<'a> {
        StepSettings {
            loss,
            precision: self.precision(),
            seed: self.config.seed,
            dropout: self.shape.decoder.dropout(),
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

/// Into how many parts a batch is split: as many as there are threads, if each part has enough pairs for its products
/// to stay efficient, and so that no thread is left over.
fn num_pools_for(batch_size: usize, num_threads: usize) -> usize {
    const MIN_PAIRS: usize = 4;
    let max = (batch_size / MIN_PAIRS).min(num_threads).max(1);
    (1..=max).rev().find(|&members| num_threads.is_multiple_of(members)).unwrap_or(1)
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
    fn a_batch_is_split_among_threads_that_each_get_enough_and_none_is_left_over() {
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
            assert_eq!(num_pools_for(batch_size, num_threads), expected, "{batch_size} pairs on {num_threads} threads");
        }
    }
}
