//! The options and sizes of an affine map.

use super::precision::Precision;

/// The three GELU activations of the supported models (Hendrycks, Gimpel 2016).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gelu {
    /// `x Φ(x)`, exact: ViT (`gelu`).
    Erf,
    /// `x / 2 (1 + tanh(sqrt(2 / π) (x + 0.044715 x³)))`: GPT-2 (`gelu_new`).
    Tanh,
    /// `x sigmoid(1.702 x)`: CLIP (`quick_gelu`).
    Quick,
}

/// The order of a weight's dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightLayout {
    /// (out, in): `torch.nn.Linear`.
    OutIn,
    /// (in, out): GPT-2's `Conv1D`.
    InOut,
}

#[derive(Clone, Copy, Debug)]
pub struct LinearOptions {
    pub layout: WeightLayout,
    /// Precision of the matrix products of both passes. The bias and its gradient are f32, and so are all results; on a
    /// GPU, with [`Precision::Bf16`], some of them hold values of 8 bits.
    pub precision: Precision,
    /// Applied to the input first. The backward pass computes it again, so that only the input is kept.
    pub activation: Option<Gelu>,
}

/// The sizes of one call.
#[derive(Clone, Copy)]
pub(crate) struct LinearSizes {
    pub(crate) rows: usize,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
}
