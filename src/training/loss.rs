//! The loss that an update minimises. A new one is a type that implements [`Loss`]; what it needs beside a batch, it is
//! given where a run is put together (`src/run/setup.rs`).

use std::fmt;

use candle_core::Tensor;

use crate::data::batch::Batch;
use crate::evaluation::teacher_forcing::target_logits;
use crate::model::captioner::Captioner;
use crate::model::decoders::Mode;
use crate::model::stages::Stages;
use crate::training::reward_sums::RewardSums;

/// A loss as a sum and a count. An update adds up the sums and the counts of all its batches, on all processes, and
/// divides once, so that batch size, padding and accumulation do not change it.
pub trait Loss: fmt::Debug + Send + Sync {
    /// What is trained on for `batch` in the update with this number, and how many terms it counts for: they are known
    /// before the sum is computed, since the backward pass needs the divisor. A loss that samples its captions does it
    /// here, with the model that `build` makes of the current weights, without a graph.
    ///
    /// # Errors
    /// A batch that does not fit the model.
    fn prepare(
        &self,
        build: &dyn Fn() -> anyhow::Result<Captioner>,
        batch: &Batch,
        update: u64,
    ) -> anyhow::Result<Prepared>;

    /// The sum over the terms of a prepared batch, a scalar with its graph, computed in `stages`.
    ///
    /// # Errors
    /// A batch that does not fit the model.
    fn sum(&self, model: &Captioner, batch: &Batch, mode: Mode, stages: &mut dyn Stages)
    -> candle_core::Result<Tensor>;
}

/// A batch as a loss is computed on it.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub batch: Batch,
    /// The terms of its sum, each as often as it is weighed.
    pub count: f64,
    /// Pairs that one of the batch before may have become: dropout numbers the pairs of an update.
    pub pairs_each: u64,
    /// Of the captions that were sampled.
    pub rewards: RewardSums,
}

/// The negative log-probability of each target, in nats, times the target's weight.
#[derive(Clone, Copy, Debug)]
pub struct TokenCrossEntropy {
    /// Share of the probability, from 0 to 1, that is spread over the whole vocabulary.
    pub label_smoothing: f64,
}

impl Loss for TokenCrossEntropy {
    fn prepare(&self, _: &dyn Fn() -> anyhow::Result<Captioner>, batch: &Batch, _: u64) -> anyhow::Result<Prepared> {
        Ok(Prepared { batch: batch.clone(), count: batch.weight(), pairs_each: 1, rewards: RewardSums::default() })
    }

    fn sum(
        &self,
        model: &Captioner,
        batch: &Batch,
        mode: Mode,
        stages: &mut dyn Stages,
    ) -> candle_core::Result<Tensor> {
        let logits = target_logits(model, batch, mode, stages)?;
        ops::weighted_cross_entropy(&logits, &batch.targets, batch.weights.as_deref(), self.label_smoothing)
    }
}
