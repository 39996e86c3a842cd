//! What the blocks of all families have in common: heads, the places of their dropout masks, and attention.

use std::sync::Arc;

use candle_core::{D, DType, Tensor};

use crate::model::decoders::family::{Captions, Mode};
use ops::{AttentionOptions, DropoutSite, Packing, Precision};

/// Where a mask acts; each place in the model has a number of its own, so that no two masks are alike.
const SITES_PER_BLOCK: u64 = 5;
const EMBEDDING_SITE: u64 = 0;

/// What one forward pass does, and how its captions lie in a tensor.
#[derive(Clone, Debug)]
pub(super) struct Pass {
    mode: Mode,
    packing: Option<Arc<Packing>>,
}

impl Pass {
    pub(super) fn new(captions: &Captions, mode: Mode) -> Self {
        Self { mode, packing: captions.packing.clone() }
    }

    /// One that drops nothing, of padded captions.
    pub(super) fn eval() -> Self {
        Self { mode: Mode::Eval, packing: None }
    }

    /// Drops values of the embedded tokens.
    pub(super) fn drop_embedded(&self, x: Tensor) -> candle_core::Result<Tensor> {
        self.drop_at(x, EMBEDDING_SITE)
    }

    fn drop_at(&self, x: Tensor, site: u64) -> candle_core::Result<Tensor> {
        match (self.mode, &self.packing) {
            (Mode::Train(dropout), Some(packing)) => ops::packed_dropout(&x, &dropout.site(site), packing),
            (Mode::Train(dropout), None) => ops::dropout(&x, &dropout.site(site)),
            (Mode::Eval, _) => Ok(x),
        }
    }
}

/// The position of each token: (L, D) of padded captions, (T, D) of packed ones.
pub(super) fn positions(table: &Tensor, captions: &Captions) -> candle_core::Result<Tensor> {
    match &captions.packing {
        None => table.narrow(0, 0, captions.ids.dim(1)?),
        Some(packing) => {
            let ids: Vec<u32> = packing.sequences().flat_map(|rows| (0..).take(rows.len())).collect();
            ops::embedding(&Tensor::new(ids, table.device())?, table)
        }
    }
}

/// Embedded tokens, without positions: (B, L, D) or (T, D).
pub(super) fn embed(table: &Tensor, captions: &Captions) -> candle_core::Result<Tensor> {
    ops::embedding(&captions.ids.to_dtype(DType::U32)?, table)
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

    fn site(&self, offset: u64) -> u64 {
        debug_assert!(offset < SITES_PER_BLOCK);
        self.first_site + offset
    }

    /// Drops values at one of the block's places.
    pub(super) fn drop(&self, x: Tensor, offset: u64, pass: &Pass) -> candle_core::Result<Tensor> {
        pass.drop_at(x, self.site(offset))
    }

    /// An attention whose probabilities are dropped at one of the block's places.
    pub(super) fn options(&self, causal: bool, offset: u64, pass: &Pass) -> AttentionOptions {
        let (num_heads, precision) = (self.num_heads, self.precision);
        let dropout: Option<DropoutSite> = match pass.mode {
            Mode::Train(dropout) => Some(dropout.site(self.site(offset))),
            Mode::Eval => None,
        };
        AttentionOptions { num_heads, causal, dropout, precision, packing: pass.packing.clone() }
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
