//! One update: forward and backward over its micro-batches, clipping, AdamW. A straight line; the loop decides.

use crate::base::team::Team;
use crate::data::batch::Batch;
use crate::evaluation::token_loss::{LossSum, batch_loss, scalar};
use crate::model::caption_decoder::Mode;
use crate::model::captioner::{Captioner, CaptionerShape};
use crate::model::parameters::Parameters;
use crate::ops::{Dropout, Precision};
use crate::training::gradients::{GradientSums, Gradients, clip_factor};
use crate::training::optimizer::Optimizer;
use crate::training::segments::Segments;

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
) -> anyhow::Result<(LossSum, Gradients)> {
    let num_targets: usize = batches.iter().map(|batch| batch.num_targets).sum();
    let mut firsts = Vec::with_capacity(batches.len());
    let mut num_examples = 0;
    for batch in batches {
        firsts.push(num_examples);
        num_examples += batch.num_examples()? as u64;
    }
    let sums = GradientSums::new(parameters, batches.len());
    let work = |member: usize| -> anyhow::Result<LossSum> {
        let mut loss = LossSum::default();
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
            loss.add(LossSum { sum: scalar(&sum)?, count: batch.num_targets as u64 });
            let mean = sum.affine(1.0 / num_targets as f64, 0.0)?;
            drop(sum);
            segments.backward(mean, |store| sums.add(part, parameters, store))?;
        }
        Ok(loss)
    };
    let mut loss = LossSum::default();
    for part in team.each(work) {
        loss.add(part?);
    }
    Ok((loss, sums.finish(parameters)?))
}

/// Makes one update, or none when loss or gradient is not finite.
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
) -> anyhow::Result<StepOutcome> {
    let (loss, gradients) = compute_gradients(shape, parameters, batches, global_step, settings, team)?;
    let grad_norm = gradients.norm()?;
    let skipped = !(loss.sum.is_finite() && grad_norm.is_finite());
    if !skipped {
        let scale = clip_factor(grad_norm, settings.max_grad_norm);
        optimizer.update(parameters, &gradients, learning_rate, scale)?;
    }
    Ok(StepOutcome { loss, grad_norm, skipped })
}
