//! One update: forward and backward over its micro-batches, clipping, AdamW. A straight line; the loop decides.

use candle_core::Tensor;

use crate::data::batch::Batch;
use crate::evaluation::token_loss::{LossSum, scalar};
use crate::model::captioner::{Captioner, CaptionerShape};
use crate::model::decoders::Mode;
use crate::model::parameters::Parameters;
use crate::training::collective::Collective;
use crate::training::gradients::{GradientSums, Gradients};
use crate::training::loss::Loss;
use crate::training::optimizer::Optimizer;
use crate::training::segments::Segments;
use base::worker_pools::WorkerPools;
use ops::{Dropout, PendingUpdate, Precision, UpdateReport};

/// The settings that stay the same throughout a run.
#[derive(Clone, Copy, Debug)]
pub struct StepSettings<'a> {
    pub loss: &'a dyn Loss,
    /// Of matrix products.
    pub precision: Precision,
    /// Of the dropout masks.
    pub seed: u64,
    /// Dropout of the decoder.
    pub dropout: f64,
    /// Gradients with a higher 2-norm are scaled down to it.
    pub max_grad_norm: Option<f64>,
    /// The processes that compute the update together.
    pub collective: &'a dyn Collective,
}

/// The result of an update, over all processes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOutcome {
    pub loss: LossSum,
    pub num_examples: u64,
    /// 2-norm of the gradients before clipping.
    pub grad_norm: f64,
    /// Loss or gradient was not finite, and nothing was changed.
    pub skipped: bool,
}

/// An update that a GPU may not have finished.
#[derive(Debug)]
#[must_use]
pub struct PendingStep {
    update: PendingUpdate,
    count: f64,
    num_examples: u64,
}

impl PendingStep {
    /// Waits for it. To be read in the order of the updates.
    ///
    /// # Errors
    /// A failure of the device.
    pub fn read(self, optimizer: &mut Optimizer) -> anyhow::Result<StepOutcome> {
        let UpdateReport { loss, grad_norm, skipped, steps } = self.update.read()?;
        optimizer.note_steps(steps);
        let loss = LossSum { sum: loss, count: self.count };
        Ok(StepOutcome { loss, num_examples: self.num_examples, grad_norm, skipped })
    }
}

/// The losses of an update, on the device that computed them.
#[derive(Debug)]
pub struct Losses {
    /// Sums of parts, scalars; with several processes one sum over all of them.
    pub parts: Vec<Tensor>,
    /// The terms of all these sums, each as often as it is weighed.
    pub count: f64,
    /// Pairs in the update.
    pub num_examples: u64,
}

impl Losses {
    /// Waits for them and adds them up.
    ///
    /// # Errors
    /// A failure of the device.
    pub fn read(&self) -> anyhow::Result<LossSum> {
        let mut sum = 0.0;
        for part in &self.parts {
            sum += scalar(part)?;
        }
        Ok(LossSum { sum, count: self.count })
    }
}

/// Loss and gradients of an update's batches: the gradient of (sum of the losses / their count), over all processes.
/// Each pool takes its share of this process's batches, one after the other.
///
/// # Errors
/// A trainable parameter without a gradient; a batch that does not fit the model; a process that is gone.
pub fn compute_gradients(
    shape: &CaptionerShape,
    parameters: &Parameters,
    batches: &[Batch],
    global_step: u64,
    settings: &StepSettings<'_>,
    pools: &WorkerPools,
) -> anyhow::Result<(Losses, Gradients)> {
    let &StepSettings { loss, precision, seed, dropout: probability, collective, .. } = settings;
    let mut firsts = Vec::with_capacity(batches.len());
    let (mut count, mut num_examples) = (0.0, 0);
    for batch in batches {
        firsts.push(num_examples);
        count += loss.count(batch);
        num_examples += batch.num_examples() as u64;
    }
    let mut totals = [count, num_examples as f64];
    collective.sum(&mut totals)?;
    let [count, num_examples] = totals;
    let sums = GradientSums::new(parameters, batches.len());
    let work = |member: usize| -> anyhow::Result<Vec<Tensor>> {
        let mut losses = Vec::new();
        for (part, batch) in batches.iter().enumerate().skip(member).step_by(pools.size()) {
            let sinks = |name: &str| sums.sink(part, name);
            let dropout = Dropout { probability, seed, update: global_step, first_example: firsts[part] };
            let view = parameters.tracked().in_precision(precision).with_sinks(&sinks).with_masks(dropout);
            let model = Captioner::build(shape, &view)?;
            let mut segments = Segments::default();
            let sum = loss.sum(&model, batch, Mode::Train(dropout), &mut |states| segments.cut(states))?;
            losses.push(sum.detach());
            let mean = sum.affine(1.0 / count, 0.0)?;
            drop(sum);
            segments.backward(mean, |store| sums.add(part, parameters, store))?;
        }
        Ok(losses)
    };
    let mut parts = Vec::with_capacity(batches.len());
    for of_member in pools.each(work) {
        parts.extend(of_member?);
    }
    let mut gradients = sums.finish(parameters)?;
    // The loss is summed beside the gradients, so that all processes skip an update that is not finite, or none does.
    if collective.size() > 1 {
        let mut of_update = vec![Tensor::stack(&parts, 0)?.sum_all()?];
        collective.sum_tensors(&mut of_update.iter_mut().chain(gradients.tensors_mut()).collect::<Vec<_>>())?;
        parts = of_update;
    }
    Ok((Losses { parts, count, num_examples: num_examples as u64 }, gradients))
}

/// Performs one update, or none if the loss or a gradient is not finite. On a GPU nothing here waits for it.
///
/// # Errors
/// As [`compute_gradients`].
#[expect(clippy::too_many_arguments, reason = "all that an update depends on, and nothing else")]
pub fn train_step(
    shape: &CaptionerShape,
    parameters: &Parameters,
    optimizer: &mut Optimizer,
    batches: &[Batch],
    global_step: u64,
    learning_rate: f64,
    settings: &StepSettings<'_>,
    pools: &WorkerPools,
) -> anyhow::Result<PendingStep> {
    let (losses, gradients) = compute_gradients(shape, parameters, batches, global_step, settings, pools)?;
    let update = optimizer.update(parameters, &gradients, &losses.parts, learning_rate, settings.max_grad_norm)?;
    Ok(PendingStep { update, count: losses.count, num_examples: losses.num_examples })
}
