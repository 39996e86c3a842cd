//! The validation loss: token cross-entropies as a sum and a count, divided once.

use candle_core::Tensor;

use crate::data::batch::Batch;
use crate::evaluation::teacher_forcing::target_logits;
use crate::model::captioner::Captioner;
use crate::model::decoders::Mode;
use crate::model::stages::Uncut;

/// A sum of losses (of tokens: in nats) and the number of its terms, each as often as it is weighed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossSum {
    pub sum: f64,
    pub count: f64,
}

impl LossSum {
    pub fn add(&mut self, other: Self) {
        self.sum += other.sum;
        self.count += other.count;
    }

    /// NaN when there is no term.
    pub fn mean(self) -> f64 {
        self.sum / self.count
    }
}

/// The batch's cross-entropy without dropout, smoothing or weights.
///
/// # Errors
/// A batch that does not fit the model.
pub fn evaluate_batch(model: &Captioner, batch: &Batch) -> candle_core::Result<LossSum> {
    let logits = target_logits(model, batch, Mode::Eval, &mut Uncut)?;
    let sum = scalar(&ops::cross_entropy(&logits, &batch.targets, 0.0)?)?;
    Ok(LossSum { sum, count: batch.targets.len() as f64 })
}

/// A scalar tensor as f64.
///
/// # Errors
/// A tensor that is not a scalar.
pub fn scalar(tensor: &Tensor) -> candle_core::Result<f64> {
    tensor.to_dtype(candle_core::DType::F64)?.to_scalar()
}
