//! One update: forward and backward over its micro-batches, clipping, AdamW. A straight line; the loop decides.

use candle_core::Tensor;

use crate::data::batch::Batch;
use crate::evaluation::token_loss::{LossSum, batch_loss, scalar};
use crate::model::captioner::{Captioner, CaptionerShape};
use crate::model::decoders::Mode;
use crate::model::parameters::Parameters;
use crate::training::gradients::{GradientSums, Gradients};
use crate::training::optimizer::Optimizer;
use crate::training::segments::Segments;
use base::team::Team;
use ops::{Dropout, PendingUpdate, Precision, UpdateReport};

/// What stays the same over a run.
#[derive(Clone, Copy, Debug)]
pub struct StepSettings {
    /// What matrix products are made in.
    pub precision: Precision,
    /// Seed of the dropout masks.
    pub seed: u64,
    /// Dropout of the decoder.
    pub dropout: f64,
    /// Label smoothing.
    pub label_smoothing: f64,
    /// Highest 2-norm of the gradients.
    pub max_grad_norm: Option<f64>,
}

/// What an update gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOutcome {
    /// Its token losses.
    pub loss: LossSum,
    /// 2-norm of the gradients before clipping.
    pub grad_norm: f64,
    /// Loss or gradient was not finite, and nothing was changed.
    pub skipped: bool,
}

/// An update that a GPU may still be about to make.
#[derive(Debug)]
#[must_use]
pub struct PendingStep {
    update: PendingUpdate,
    count: u64,
}

impl PendingStep {
    /// Waits for it. To be read in the order of the updates.
    ///
    /// # Errors
    /// What the device says.
    pub fn read(self, optimizer: &mut Optimizer) -> anyhow::Result<StepOutcome> {
        let UpdateReport { loss, grad_norm, skipped, steps } = self.update.read()?;
        optimizer.note_steps(steps);
        Ok(StepOutcome { loss: LossSum { sum: loss, count: self.count }, grad_norm, skipped })
    }
}

/// The losses of an update, where they were computed.
#[derive(Debug)]
pub struct Losses {
    /// The sum of each part, a scalar.
    pub parts: Vec<Tensor>,
    /// Tokens of all parts.
    pub count: u64,
}

impl Losses {
    /// Waits for them and adds them up.
    ///
    /// # Errors
    /// What the device says.
    pub fn read(&self) -> anyhow::Result<LossSum> {
        let mut sum = 0.0;
        for part in &self.parts {
            sum += scalar(part)?;
        }
        Ok(LossSum { sum, count: self.count })
    }
}

/// Loss and gradients of an update's batches: the gradient of (sum of token losses / number of targets). Each member
/// of the team takes its share of the batches, one after the other.
///
/// # Errors
/// A trainable parameter without a gradient; what the model gives.
pub fn compute_gradients(
    shape: &CaptionerShape,
    parameters: &Parameters,
    batches: &[Batch],
    global_step: u64,
    settings: &StepSettings,
    team: &Team,
) -> anyhow::Result<(Losses, Gradients)> {
    let num_targets: usize = batches.iter().map(|batch| batch.num_targets).sum();
    let mut firsts = Vec::with_capacity(batches.len());
    let mut num_examples = 0;
    for batch in batches {
        firsts.push(num_examples);
        num_examples += batch.num_examples()? as u64;
    }
    let sums = GradientSums::new(parameters, batches.len());
    let work = |member: usize| -> anyhow::Result<Vec<Tensor>> {
        let mut losses = Vec::new();
        for (part, batch) in batches.iter().enumerate().skip(member).step_by(team.size()) {
            let sinks = |name: &str| sums.sink(part, name);
            let view = parameters.tracked().in_precision(settings.precision).with_sinks(&sinks);
            let model = Captioner::build(shape, &view)?;
            let first_example = firsts[part];
            let dropout =
                Dropout { probability: settings.dropout, seed: settings.seed, update: global_step, first_example };
            let mut segments = Segments::default();
            let mode = Mode::Train(dropout);
            let mut cut = |states| segments.cut(states);
            let sum = batch_loss(&model, batch, mode, settings.label_smoothing, &mut cut)?;
            losses.push(sum.detach());
            let mean = sum.affine(1.0 / num_targets as f64, 0.0)?;
            drop(sum);
            segments.backward(mean, |store| sums.add(part, parameters, store))?;
        }
        Ok(losses)
    };
    let mut losses = Losses { parts: Vec::with_capacity(batches.len()), count: num_targets as u64 };
    for parts in team.each(work) {
        losses.parts.extend(parts?);
    }
    Ok((losses, sums.finish(parameters)?))
}

/// Makes one update, or none when loss or gradient is not finite. On a GPU nothing here waits for it.
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
    settings: &StepSettings,
    team: &Team,
) -> anyhow::Result<PendingStep> {
    let (losses, gradients) = compute_gradients(shape, parameters, batches, global_step, settings, team)?;
    let update = optimizer.update(parameters, &gradients, &losses.parts, learning_rate, settings.max_grad_norm)?;
    Ok(PendingStep { update, count: losses.count })
}
