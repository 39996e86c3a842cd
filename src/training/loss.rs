//! The loss that an update minimises. A new one is a type here that implements [`Loss`] and an arm of [`of`].

use std::fmt;

use candle_core::Tensor;

use crate::config::TrainingConfig;
use crate::data::batch::Batch;
use crate::evaluation::teacher_forcing::target_logits;
use crate::model::captioner::Captioner;
use crate::model::decoders::Mode;
use crate::model::stages::Stages;

/// A loss as a sum and a count. An update adds up the sums and the counts of all its batches, on all processes, and
/// divides once, so that batch size, padding and accumulation do not change it.
pub trait Loss: fmt::Debug + Send + Sync {
    /// The terms of the batch's sum, each as often as it is weighed. Known before the sum is computed, since the backward
    /// pass needs the divisor.
    fn count(&self, batch: &Batch) -> f64;

    /// The sum over the batch's terms, a scalar with its graph, computed in `stages`.
    ///
    /// # Errors
    /// A batch that does not fit the model.
    fn sum(&self, model: &Captioner, batch: &Batch, mode: Mode, stages: &mut dyn Stages)
    -> candle_core::Result<Tensor>;
}

/// The loss that a config asks for.
pub fn of(config: &TrainingConfig) -> Box<dyn Loss> {
    Box::new(TokenCrossEntropy { label_smoothing: config.label_smoothing })
}

/// The negative log-probability of each target, in nats, times the target's weight.
#[derive(Clone, Copy, Debug)]
pub struct TokenCrossEntropy {
    /// Share of the probability, from 0 to 1, that is spread over the whole vocabulary.
    pub label_smoothing: f64,
}

impl Loss for TokenCrossEntropy {
    fn count(&self, batch: &Batch) -> f64 {
        batch.weight()
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
