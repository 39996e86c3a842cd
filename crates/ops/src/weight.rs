//! The weight of a matrix product, with what belongs to it.

use std::fmt;

use candle_core::{Result, Tensor};

use crate::linear::{GradientSink, affine};
use crate::low_rank::{LowRank, adapted_linear};
use crate::types::linear::LinearOptions;

/// `activation(x) @ W + bias`: x (.., in), weight (out, in) or (in, out), bias (out) -> (.., out).
///
/// # Errors
/// Shapes that do not fit, types other than f32 and f64, f64 in bf16.
pub fn linear(x: &Tensor, weight: &Weight, bias: Option<&Tensor>, options: &LinearOptions) -> Result<Tensor> {
    let x = x.contiguous()?;
    if let Some(beside) = &weight.low_rank {
        return adapted_linear(&x, &weight.values, bias, beside, options);
    }
    affine(&x, &weight.values, weight.sink.as_ref(), bias, options)
}

/// A weight, and optionally a sink for its gradient or a product of low rank beside it.
#[derive(Clone)]
pub struct Weight {
    values: Tensor,
    sink: Option<GradientSink>,
    low_rank: Option<LowRank>,
}

impl Weight {
    pub fn new(values: Tensor) -> Self {
        Self { values, sink: None, low_rank: None }
    }

    /// A weight whose gradient goes to `sink`. candle adds every gradient to a new tensor of zeros, which takes a
    /// twentieth of a step for the weights of a large model. If neither input nor bias has a gradient, candle keeps the
    /// gradient anyway: without it there would be no backward pass.
    pub fn with_sink(values: Tensor, sink: GradientSink) -> Self {
        Self { values, sink: Some(sink), low_rank: None }
    }

    /// The same with a product of low rank beside it; it must then be frozen.
    #[must_use]
    pub fn with_low_rank(self, beside: LowRank) -> Self {
        Self { low_rank: Some(beside), ..self }
    }

    /// The same with all dimensions but the first flattened.
    ///
    /// # Errors
    /// A weight without dimensions.
    pub fn flattened(&self) -> Result<Self> {
        Ok(Self { values: self.values.flatten_from(1)?, ..self.clone() })
    }
}

impl fmt::Debug for Weight {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Weight").field("values", &self.values).finish_non_exhaustive()
    }
}
