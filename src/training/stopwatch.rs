//! Predicts the duration of a run from a few trial updates, which are discarded.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use candle_core::Tensor;

use crate::data::image_source::{ImageInput, ImageSource, Purpose};
use crate::data::pieces::{self, Piece};
use crate::data::sampler;
use crate::model::captioner::Captioner;
use crate::training::plan::{ImagePath, RunPlan};
use crate::training::train_step::train_step;
use crate::training::trainer::Trainer;

/// Trial updates, at least; the first warms up, and the median of the later half counts.
const MIN_TRIALS: usize = 4;
/// Seconds for trial updates, unless [`MIN_TRIALS`] take longer: the first ones of a process are slow.
const TRIAL_SECONDS: f64 = 4.0;
/// An update longer than this is not repeated.
const LONG_SECONDS: f64 = 10.0;
/// Images encoded to time the encoder.
const TRIAL_IMAGES: usize = 16;

/// Durations in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TimeForecast {
    /// One update, reading its images included.
    pub step: f64,
    /// The part of it in which several processes add up their gradients.
    pub reduction: Option<f64>,
    /// Encoding all images once; 0 when that is not done.
    pub encoding: f64,
}

/// Runs trial updates with the captions and images of the first epoch. The trainer cannot be used afterwards.
///
/// # Errors
/// An image that cannot be read.
pub fn time(mut trainer: Trainer, files: &ImageSource) -> anyhow::Result<TimeForecast> {
    let plan = trainer.plan.clone();
    let training = &plan.config.training;
    let order = sampler::epoch_order(plan.config.seed, 1, &trainer.data.train, plan.batch_by);
    let (size, steps) = (training.batch_size, training.gradient_accumulation_steps);
    let num_updates = sampler::num_updates(order.len(), size, steps);
    let encoding = encoding_seconds(&trainer, files, &order)?;
    let loss = Arc::clone(&trainer.loss);
    let collective = Rc::clone(&trainer.collective);
    let settings = plan.step_settings(&*loss, &*collective);
    let mut seconds: Vec<f64> = Vec::new();
    let began = Instant::now();
    for (number, of_epoch) in (0..num_updates).cycle().enumerate() {
        // Several processes stop together.
        if collective.any(number >= MIN_TRIALS && began.elapsed().as_secs_f64() > TRIAL_SECONDS)? {
            break;
        }
        let (pieces, loading) = load_trial(&trainer, files, &sampler::update(&order, of_epoch, size, steps))?;
        let started = Instant::now();
        let step = number as u64;
        let Trainer { parameters, optimizer, pools, .. } = &mut trainer;
        train_step(&plan.shape, parameters, optimizer, &pieces, step, 0.0, &settings, pools)?.read(optimizer)?;
        let computing = started.elapsed().as_secs_f64();
        // Reading continues during the arithmetic and takes its share of the same cores.
        seconds.push(with_loading(computing, loading, &plan));
        // The first on a GPU compiles kernels.
        if collective.any(computing > LONG_SECONDS && (number > 0 || plan.gpu.is_none()))? {
            break;
        }
    }
    let reduction = reduction_seconds(&trainer)?;
    seconds.drain(..seconds.len() / 2);
    seconds.sort_by(f64::total_cmp);
    let step = *seconds.get(seconds.len() / 2).context("there are no training pairs")?;
    Ok(TimeForecast { step, reduction, encoding })
}

/// Seconds in which all processes add up tensors like the gradients.
fn reduction_seconds(trainer: &Trainer) -> anyhow::Result<Option<f64>> {
    if trainer.collective.size() == 1 {
        return Ok(None);
    }
    let mut seconds = Vec::new();
    for _ in 0..MIN_TRIALS {
        let zeros = trainer.parameters.trainable().map(|(_, var)| var.zeros_like());
        let mut gradients = zeros.collect::<candle_core::Result<Vec<Tensor>>>()?;
        trainer.device.synchronize()?;
        trainer.collective.barrier()?;
        let started = Instant::now();
        trainer.collective.sum_tensors(&mut gradients.iter_mut().collect::<Vec<_>>())?;
        trainer.device.synchronize()?;
        seconds.push(started.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok(Some(seconds[seconds.len() / 2]))
}

/// Seconds of a job whose images are read during the arithmetic: on the same cores, unless a GPU computes, and by at
/// most the threads that load.
fn with_loading(computing: f64, loading: f64, plan: &RunPlan) -> f64 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = plan.num_workers.min(cores);
    if plan.gpu.is_some() {
        return computing.max(loading / threads as f64);
    }
    (computing + loading / cores as f64).max(loading / threads as f64)
}

/// The pieces of an update and the seconds that reading their images took. Constants stand in for features that a run
/// would have on disk.
fn load_trial(trainer: &Trainer, files: &ImageSource, update: &[Vec<u32>]) -> anyhow::Result<(Vec<Piece>, f64)> {
    let Trainer { data, plan, device, .. } = trainer;
    let encoder = &plan.shape.encoder;
    let started = Instant::now();
    let share = trainer.collective.share().parts(plan.num_parts);
    let cuts = pieces::cut(update, plan.num_parts, share);
    let pieces = data.pieces(&cuts, device, |images| match plan.image_path {
        ImagePath::EncodedOnce => {
            let shape = (images.len(), encoder.sequence_length(), encoder.hidden_size());
            Ok(ImageInput::Features(Tensor::from_vec(vec![0.5_f32; shape.0 * shape.1 * shape.2], shape, device)?))
        }
        _ => files.load(images, Purpose::Training { epoch: 1 }, device),
    })?;
    Ok((pieces, started.elapsed().as_secs_f64()))
}

/// Seconds to read and encode all images once, from a few of them.
fn encoding_seconds(trainer: &Trainer, files: &ImageSource, order: &[u32]) -> anyhow::Result<f64> {
    let plan = &trainer.plan;
    if plan.image_path != ImagePath::EncodedOnce {
        return Ok(0.0);
    }
    let indices = order.iter().take(TRIAL_IMAGES);
    let images: Vec<usize> = indices.map(|&index| trainer.data.train.image(index as usize)).collect();
    let model = Captioner::build(&plan.shape, &trainer.parameters.detached().in_precision(plan.precision()))?;
    let (mut best, members) = (f64::INFINITY, trainer.pools.size());
    for _ in 0..2 {
        let started = Instant::now();
        let input = files.load(&images, Purpose::Training { epoch: 1 }, &trainer.device)?;
        let loading = started.elapsed().as_secs_f64();
        let started = Instant::now();
        if let ImageInput::Pixels(pixel_values) = &input {
            trainer.pools.each(|_| model.encode(pixel_values)).into_iter().collect::<candle_core::Result<Vec<_>>>()?;
        }
        trainer.device.synchronize()?;
        best = best.min(with_loading(started.elapsed().as_secs_f64(), loading * members as f64, plan));
    }
    let views = plan.training_views().count();
    let all = plan.counts.train_images * views + plan.counts.val_images + plan.counts.extra_images;
    Ok(best / (images.len() * members) as f64 * all as f64)
}
