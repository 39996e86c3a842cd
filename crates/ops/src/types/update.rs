//! The parts of an update of all parameters.

use candle_core::{Result, Tensor, bail};

/// One parameter and its optimizer state. All four tensors have the same shape and type.
#[derive(Clone, Copy, Debug)]
pub struct UpdatedParameter<'a> {
    /// Written.
    pub parameter: &'a Tensor,
    pub grad: &'a Tensor,
    /// Running mean of the gradient; written.
    pub exp_avg: &'a Tensor,
    /// Running mean of its square; written.
    pub exp_avg_sq: &'a Tensor,
    pub learning_rate: f64,
    /// Decoupled weight decay; multiplied by the learning rate.
    pub weight_decay: f64,
}

/// What all parameters have in common.
#[derive(Clone, Copy, Debug)]
pub struct UpdateRule {
    /// Decay rates of the moments.
    pub betas: [f64; 2],
    /// Added to the denominator.
    pub eps: f64,
    /// Gradients are scaled down to this 2-norm, taken over all of them.
    pub max_grad_norm: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UpdateReport {
    /// Sum of the losses.
    pub loss: f64,
    /// 2-norm of the gradients before clipping.
    pub grad_norm: f64,
    /// Loss or norm was not finite, and nothing was changed.
    pub skipped: bool,
    /// Updates made so far; skipped ones do not count.
    pub steps: u64,
}

/// Refuses tensors whose shape or type is not that of the parameter.
pub(crate) fn check_alike(parameter: &Tensor, others: [(&str, &Tensor); 3]) -> Result<()> {
    for (name, tensor) in others {
        if tensor.shape() != parameter.shape() || tensor.dtype() != parameter.dtype() {
            bail!(
                "adamw: the parameter is {:?} of {:?}, its {name} {:?} of {:?}",
                parameter.dtype(),
                parameter.shape(),
                tensor.dtype(),
                tensor.shape()
            );
        }
    }
    Ok(())
}
