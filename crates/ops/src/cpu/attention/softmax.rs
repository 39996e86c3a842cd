//! Blocks of queries, and the softmax of their scores.

use candle_core::Result;

use super::heads::Operands;
use super::spans::Span;
use crate::cpu::dropout::Mask;
use crate::cpu::gemm::{Factors, Matrix, Product, Threads};
use crate::cpu::vector_math::{Element, exponentiate, maximum};
use crate::types::attention::Geometry;
use base::simd::{Kernel, vectorized};

/// The queries of one product.
#[derive(Clone, Copy)]
pub(super) struct Block {
    pub(super) first: usize,
    pub(super) count: usize,
    /// How many keys the last query of the block sees.
    pub(super) keys: usize,
}

/// How many queries a block has at most: scores of 256 KiB of f32, and little of what a causal mask hides.
pub(super) fn block_size(geometry: &Geometry) -> usize {
    let fits = ((1 << 16) / geometry.keys).max(16);
    if geometry.causal { fits.min(64) } else { fits }
}

/// Multiplications of one product of queries and keys.
pub(super) fn work(geometry: &Geometry) -> usize {
    geometry.batch * geometry.queries * geometry.keys * geometry.hidden()
}

/// The blocks of at most `size` queries, in order.
pub(super) fn blocks(geometry: &Geometry, size: usize) -> impl Iterator<Item = Block> {
    let geometry = *geometry;
    (0..geometry.queries).step_by(size).map(move |first| {
        let count = size.min(geometry.queries - first);
        Block { first, count, keys: geometry.visible(first + count - 1) }
    })
}

/// `softmax` of a block of scores in place, without the division: `inverse_sums` gets 1 / sum of each row. Keys that a
/// query does not see get 0.
struct Exponentials<'a, T> {
    geometry: &'a Geometry,
    block: Block,
    scores: &'a mut [T],
    inverse_sums: &'a mut [T],
}

impl<T: Element> Kernel for Exponentials<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let rows = self.scores.chunks_exact_mut(self.block.keys).zip(self.inverse_sums).enumerate();
        for (index, (row, inverse_sum)) in rows {
            let (seen, hidden) = row.split_at_mut(self.geometry.visible(self.block.first + index));
            let largest = maximum(seen);
            *inverse_sum = T::one() / exponentiate(seen, largest);
            hidden.fill(T::zero());
        }
    }
}

/// Multiplies a block by its dropout factors.
struct Drop<'a, T> {
    mask: Mask,
    kept: T,
    block: Block,
    values: &'a mut [T],
}

impl<T: Element> Kernel for Drop<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (index, row) in self.values.chunks_exact_mut(self.block.keys).enumerate() {
            let first = ((self.block.first + index) as u32) << 16;
            for (key, value) in row.iter_mut().enumerate() {
                *value *= self.mask.factor(first | key as u32, self.kept);
            }
        }
    }
}

/// Applies the dropout of a head to a block of probabilities, or of their gradients.
pub(super) fn drop_block<T: Element>(span: &Span, head: usize, block: Block, values: &mut [T]) {
    if let Some(site) = &span.geometry.dropout {
        vectorized(Drop { mask: Mask::of_head(site, span.example, head), kept: T::of(site.kept()), block, values });
    }
}

/// The exponentials of the scores of a block, and the reciprocal of the sum of each row.
pub(super) fn exponentials<T: Element>(
    operands: &Operands<'_, T>,
    span: &Span,
    head: usize,
    block: Block,
    scores: &mut [T],
    inverse_sums: &mut [T],
) -> Result<()> {
    let geometry = &span.geometry;
    let (q, k) = (operands.queries(span, head, block.first), operands.keys(span, head));
    let size = geometry.head_size;
    let product = Product {
        m: block.count,
        n: block.keys,
        k: size,
        scale: T::of(geometry.scale()),
        factors: Factors::Exact,
        threads: Threads::One,
    };
    let keys = Matrix::rows(k, operands.k.stride).transposed();
    product.write(scores, block.keys, Matrix::rows(q, operands.q.stride), keys)?;
    vectorized(Exponentials { geometry, block, scores, inverse_sums: &mut *inverse_sums });
    Ok(())
}
