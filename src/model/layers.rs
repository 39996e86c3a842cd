//! Layers that encoders and decoders share.

use anyhow::Result;
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::model::builder::Builder;
use crate::model::initialization::Initializer;
use crate::model::role::Kind;
use ops::{Gelu, LinearOptions, Precision, Weight, WeightLayout};

/// A dense layer with the weight `[out, in]` of `torch.nn.Linear`.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Weight,
    bias: Option<Tensor>,
    precision: Precision,
}

impl Linear {
    /// A layer with `weight` and, where it has first values, `bias`.
    ///
    /// # Errors
    /// As [`Builder::tensor`].
    pub fn new(
        builder: &Builder<'_>,
        input: usize,
        output: usize,
        weight: Initializer,
        bias: Option<Initializer>,
    ) -> Result<Self> {
        Ok(Self {
            weight: builder.weight("weight", &[output, input], weight)?,
            bias: bias.map(|bias| builder.bias("bias", output, bias)).transpose()?,
            precision: builder.precision(),
        })
    }

    /// (.., in) to (.., out).
    ///
    /// # Errors
    /// An input of another width.
    pub fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.forward_activated(x, None)
    }

    /// [`Self::forward`] of the activation of the input.
    ///
    /// # Errors
    /// An input of another width.
    pub fn forward_activated(&self, x: &Tensor, activation: Option<Gelu>) -> candle_core::Result<Tensor> {
        let options = LinearOptions { layout: WeightLayout::OutIn, precision: self.precision, activation };
        ops::linear(x, &self.weight, self.bias.as_ref(), &options)
    }
}

/// LayerNorm over the last dimension.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// A layer with `weight` (1) and `bias` (0).
    ///
    /// # Errors
    /// As [`Builder::tensor`].
    pub fn new(builder: &Builder<'_>, size: usize, eps: f64) -> Result<Self> {
        Ok(Self {
            weight: builder.tensor("weight", &[size], Initializer::Ones, Kind::Norm)?,
            bias: builder.tensor("bias", &[size], Initializer::Zeros, Kind::Norm)?,
            eps,
        })
    }

    /// (.., D) to (.., D).
    ///
    /// # Errors
    /// An input of another width.
    pub fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        ops::layer_norm(x, &self.weight, &self.bias, self.eps)
    }
}

/// Activation of the MLP, under the names that transformers uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HiddenActivation {
    /// `x * Phi(x)`.
    #[serde(rename = "gelu")]
    Gelu,
    /// The tanh approximation.
    #[serde(rename = "gelu_new", alias = "gelu_pytorch_tanh")]
    GeluNew,
    /// `x * sigmoid(1.702 x)`.
    #[serde(rename = "quick_gelu")]
    QuickGelu,
}

impl HiddenActivation {
    /// The operation that computes it.
    pub fn gelu(self) -> Gelu {
        match self {
            Self::Gelu => Gelu::Erf,
            Self::GeluNew => Gelu::Tanh,
            Self::QuickGelu => Gelu::Quick,
        }
    }
}
