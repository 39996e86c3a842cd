//! The sizes of an attention.

use super::dropout::DropoutSite;

/// The sizes of one call and what else kernels need to know.
#[derive(Clone, Copy)]
pub(crate) struct Geometry {
    pub(crate) batch: usize,
    pub(crate) heads: usize,
    pub(crate) queries: usize,
    pub(crate) keys: usize,
    pub(crate) head_size: usize,
    pub(crate) causal: bool,
    /// `None` where nothing is dropped.
    pub(crate) dropout: Option<DropoutSite>,
}

impl Geometry {
    /// The width of all heads together.
    pub(crate) fn hidden(&self) -> usize {
        self.heads * self.head_size
    }

    /// How many keys `query` sees.
    pub(crate) fn visible(&self, query: usize) -> usize {
        if self.causal { self.keys - self.queries + query + 1 } else { self.keys }
    }

    /// The factor of the scores.
    pub(crate) fn scale(&self) -> f64 {
        1.0 / (self.head_size as f64).sqrt()
    }
}
