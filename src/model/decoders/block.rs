//! What the blocks of all families have in common: heads, the places of their dropout masks, and attention.

use candle_core::{D, Tensor};

use crate::model::decoders::family::Mode;
use ops::{AttentionOptions, DropoutSite, Precision};

/// Where a mask acts; each place in the model has a number of its own, so that no two masks are alike.
const SITES_PER_BLOCK: u64 = 5;
const EMBEDDING_SITE: u64 = 0;

/// Drops values of the embedded tokens (B, L, D).
pub(super) fn drop_embedded(x: Tensor, mode: Mode) -> candle_core::Result<Tensor> {
    match mode {
        Mode::Train(dropout) => ops::dropout(&x, &dropout.site(EMBEDDING_SITE)),
        Mode::Eval => Ok(x),
    }
}

/// The attention of a block, and its place in the model.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockAttention {
    num_heads: usize,
    precision: Precision,
    first_site: u64,
}

impl BlockAttention {
    /// That of the block `index`, counted from 0.
    pub(super) fn new(index: usize, num_heads: usize, precision: Precision) -> Self {
        Self { num_heads, precision, first_site: EMBEDDING_SITE + 1 + SITES_PER_BLOCK * index as u64 }
    }

    fn site(&self, offset: u64, mode: Mode) -> Option<DropoutSite> {
        debug_assert!(offset < SITES_PER_BLOCK);
        match mode {
            Mode::Train(dropout) => Some(dropout.site(self.first_site + offset)),
            Mode::Eval => None,
        }
    }

    /// Drops values (B, L, D) at one of the block's places.
    pub(super) fn drop(&self, x: Tensor, offset: u64, mode: Mode) -> candle_core::Result<Tensor> {
        match self.site(offset, mode) {
            Some(site) => ops::dropout(&x, &site),
            None => Ok(x),
        }
    }

    /// An attention whose probabilities are dropped at one of the block's places.
    pub(super) fn options(&self, causal: bool, offset: u64, mode: Mode) -> AttentionOptions {
        let (num_heads, precision) = (self.num_heads, self.precision);
        AttentionOptions { num_heads, causal, dropout: self.site(offset, mode), precision }
    }

    /// How much each query looks at each key, as a mean over the heads: query (B, L, D) and keys (B, N, D) to
    /// (B, L, N), of sum 1 over N.
    pub(super) fn mean_weights(&self, query: &Tensor, keys: &Tensor) -> candle_core::Result<Tensor> {
        let (batch, length, hidden) = query.dims3()?;
        let patches = keys.dim(1)?;
        let size = hidden / self.num_heads;
        let heads = |x: &Tensor, rows| x.reshape((batch, rows, self.num_heads, size))?.transpose(1, 2)?.contiguous();
        let query = heads(query, length)?; // (B, H, L, K)
        let keys = heads(&keys.contiguous()?, patches)?; // (B, H, N, K)
        let scores = (query.matmul(&keys.t()?)? / (size as f64).sqrt())?; // (B, H, L, N)
        candle_nn::ops::softmax(&scores, D::Minus1)?.mean(1)
    }
}
