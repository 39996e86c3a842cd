//! One update: forward and backward over its pieces, clipping, AdamW. A straight line; the loop decides.

use anyhow::bail;
use candle_core::{DType, Tensor};

use crate::data::pieces::Piece;
use crate::evaluation::token_loss::{LossSum, scalar};
use crate::model::captioner::{Captioner, CaptionerShape};
use crate::model::decoders::Mode;
use crate::model::parameters::Parameters;
use crate::training::collective::Collective;
use crate::training::gradients::{GradientSums, Gradients};
use crate::training::loss::{Loss, Prepared};
use crate::training::optimizer::Optimizer;
use crate::training::reward_sums::{RewardMeans, RewardSums};
use crate::training::segments::Segments;
use crate::training::tree_sum::{TreeSum, sum_at_leaves};
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
    /// Whether the blocks are computed again in the backward pass instead of kept.
    pub recompute: bool,
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
    /// Of the captions that it sampled; `None` where it sampled none.
    pub rewards: Option<RewardMeans>,
}

/// An update that a GPU may not have finished.
#[derive(Debug)]
#[must_use]
pub struct PendingStep {
    update: PendingUpdate,
    count: f64,
    num_examples: u64,
    rewards: RewardSums,
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
        let rewards = self.rewards.means();
        Ok(StepOutcome { loss, num_examples: self.num_examples, grad_norm, skipped, rewards })
    }
}

/// The loss of an update, over all processes.
#[derive(Debug)]
pub struct UpdateLoss {
    /// Its sum, a scalar on the device that computed it.
    pub sum: Tensor,
    /// The terms of the sum, each as often as it is weighed.
    pub count: f64,
    /// Pairs in the update.
    pub num_examples: u64,
    /// Of the captions that it sampled.
    pub rewards: RewardSums,
}

impl UpdateLoss {
    /// Waits for it.
    ///
    /// # Errors
    /// A failure of the device.
    pub fn read(&self) -> anyhow::Result<LossSum> {
        Ok(LossSum { sum: scalar(&self.sum)?, count: self.count })
    }
}

/// Loss and gradients of an update: the gradient of (sum of the losses / their count), over all processes. The pools take
/// this process's pieces one after the other; neither their number nor that of the processes changes a bit, if the
/// processes add up in the order of `TreeSum`.
///
/// # Errors
/// A trainable parameter without a gradient; a batch that does not fit the model; a process that is gone.
pub fn compute_gradients(
    shape: &CaptionerShape,
    parameters: &Parameters,
    pieces: &[Piece],
    global_step: u64,
    settings: &StepSettings<'_>,
    pools: &WorkerPools,
) -> anyhow::Result<(UpdateLoss, Gradients)> {
    let &StepSettings { loss, precision, seed, dropout: probability, recompute, collective, .. } = settings;
    let num_examples: usize = pieces.iter().map(|piece| piece.batch.num_examples()).sum();
    let build = || Captioner::build(shape, &parameters.detached().in_precision(precision));
    let prepare = |piece: &Piece| loss.prepare(&build, &piece.batch, global_step);
    let prepared = pools.map(pieces, prepare).into_iter().collect::<anyhow::Result<Vec<Prepared>>>()?;
    let prepared: Vec<(&Piece, Prepared)> = pieces.iter().zip(prepared).collect();
    let count = sum_at_leaves(prepared.iter().map(|(piece, prepared)| (piece.leaf, prepared.count)))?;
    let rewards = TreeSum::default();
    for (piece, prepared) in &prepared {
        rewards.add(piece.leaf, prepared.rewards, |left, right| Ok(left + right))?;
    }
    let rewards: RewardSums = rewards.finish(|left, right| Ok(left + right))?.unwrap_or_default();
    let mut totals = [&[count, num_examples as f64][..], &rewards.to_numbers()].concat();
    collective.sum(&mut totals)?;
    let [count, num_examples, ref rewards @ ..] = totals[..] else { bail!("a sum of another length") };
    let rewards = RewardSums::of_numbers(rewards.try_into()?);
    let (sums, losses) = (GradientSums::new(parameters, pieces.len()), TreeSum::default());
    let work = |(piece, prepared): &(&Piece, Prepared)| -> anyhow::Result<()> {
        let (leaf, batch) = (piece.leaf, &prepared.batch);
        let first_example = piece.first_example * prepared.pairs_each;
        let sinks = |name: &str| sums.sink(leaf, name);
        let dropout = Dropout { probability, seed, update: global_step, first_example };
        let packings: Vec<_> = batch.packing.iter().chain(&batch.target_packing).cloned().collect();
        let view = parameters.tracked().in_precision(precision).with_sinks(&sinks).with_masks(dropout, &packings);
        let model = Captioner::build(shape, &view)?;
        let mut segments = Segments::new(recompute);
        let sum = loss.sum(&model, batch, Mode::Train(dropout), &mut segments)?;
        losses.add(leaf, as_total(&sum.detach())?, |left: Tensor, right: Tensor| left + right)?;
        let mean = sum.affine(1.0 / count, 0.0)?;
        drop(sum);
        segments.backward(mean, |store| sums.add(leaf, parameters, store))
    };
    pools.map(&prepared, work).into_iter().collect::<anyhow::Result<()>>()?;
    let mut gradients = sums.finish(parameters)?;
    let mut sum = match losses.finish(|left, right| left + right)? {
        Some(sum) => sum,
        None => as_total(&Tensor::zeros((), DType::F32, &parameters.device())?)?,
    };
    // The loss is summed beside the gradients, so that all processes skip an update that is not finite, or none does.
    if collective.size() > 1 {
        collective.sum_tensors(&mut std::iter::once(&mut sum).chain(gradients.tensors_mut()).collect::<Vec<_>>())?;
    }
    Ok((UpdateLoss { sum, count, num_examples: num_examples as u64, rewards }, gradients))
}

/// A loss as it is added to others: in f64, but for a GPU, whose kernels take f32.
fn as_total(sum: &Tensor) -> candle_core::Result<Tensor> {
    if sum.device().is_cpu() { sum.to_dtype(DType::F64) } else { Ok(sum.clone()) }
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
    pieces: &[Piece],
    global_step: u64,
    learning_rate: f64,
    settings: &StepSettings<'_>,
    pools: &WorkerPools,
) -> anyhow::Result<PendingStep> {
    let (loss, gradients) = compute_gradients(shape, parameters, pieces, global_step, settings, pools)?;
    let UpdateLoss { sum, count, num_examples, rewards } = loss;
    let update = optimizer.update(parameters, &gradients, &[sum], learning_rate, settings.max_grad_norm)?;
    Ok(PendingStep { update, count, num_examples, rewards })
}
