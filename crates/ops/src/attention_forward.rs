//! The forward pass of one head of one example, and the probabilities that the backward pass needs too.

use candle_core::Result;

use super::attention::{Geometry, Operands};
use super::buffer::{CHUNK, build, for_each_task};
use super::dropout::Mask;
use super::gemm::{Matrix, Product, Threads};
use super::vector_math::{Element, exponentiate, maximum};
use base::simd::{Kernel, vectorized};

/// The rows of one head of one example inside a tensor where heads lie side by side.
pub(crate) type HeadRows<'a, T> = Vec<&'a mut [T]>;

/// Splits a tensor (B, rows, parts * H * K) into the rows of each head: the index of a head is
/// `(example * parts + part) * heads + head`.
pub(crate) fn split_heads<T>(
    values: &mut [T],
    rows: usize,
    heads_in_row: usize,
    head_size: usize,
) -> Vec<HeadRows<'_, T>> {
    let width = heads_in_row * head_size;
    let mut split = Vec::new();
    for example in values.chunks_exact_mut((rows * width).max(1)) {
        let first = split.len();
        split.resize_with(first + heads_in_row, || Vec::with_capacity(rows));
        for row in example.chunks_exact_mut(width) {
            for (head, piece) in row.chunks_exact_mut(head_size).enumerate() {
                split[first + head].push(piece);
            }
        }
    }
    split
}

/// The queries of one product.
#[derive(Clone, Copy)]
pub(crate) struct Block {
    /// The first one.
    pub(crate) first: usize,
    /// How many.
    pub(crate) count: usize,
    /// How many keys the last of them sees.
    pub(crate) keys: usize,
}

/// The blocks of queries, in order.
pub(crate) fn blocks(geometry: &Geometry) -> impl Iterator<Item = Block> {
    let geometry = *geometry;
    (0..geometry.queries).step_by(geometry.block()).map(move |first| {
        let count = geometry.block().min(geometry.queries - first);
        Block { first, count, keys: geometry.visible(first + count - 1) }
    })
}

/// `softmax` of a block of scores in place, without the division: `inverse_sums` gets 1 / sum of each row. What a query
/// does not see becomes 0.
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
pub(crate) fn drop_block<T: Element>(geometry: &Geometry, head: (usize, usize), block: Block, values: &mut [T]) {
    if let Some(site) = &geometry.dropout {
        vectorized(Drop { mask: site.head_mask(head.0, head.1), kept: site.kept(), block, values });
    }
}

/// Scores of a block and then their exponentials, with the reciprocals of the rows' sums.
pub(crate) fn exponentials<T: Element>(
    geometry: &Geometry,
    operands: &Operands<'_, T>,
    (example, head): (usize, usize),
    block: Block,
    scores: &mut [T],
    inverse_sums: &mut [T],
) -> Result<()> {
    let size = geometry.head_size;
    let q = &operands.q.head(example, head, size)[block.first * operands.q.stride..];
    let k = operands.k.head(example, head, size);
    let product = Product { m: block.count, n: block.keys, k: size, scale: geometry.scale(), threads: Threads::One };
    let keys = Matrix::rows(k, operands.k.stride).transposed();
    product.write(scores, block.keys, Matrix::rows(q, operands.q.stride), keys)?;
    vectorized(Exponentials { geometry, block, scores, inverse_sums: &mut *inverse_sums });
    Ok(())
}

/// The attention of all heads: (B, L, D).
pub(crate) fn forward<T: Element>(geometry: &Geometry, operands: &Operands<'_, T>) -> Result<Vec<T>> {
    let (heads, size) = (geometry.heads, geometry.head_size);
    let mut values: Vec<T> = build(geometry.batch * geometry.queries * geometry.hidden(), CHUNK, |_, _| ());
    let tasks: Vec<_> = split_heads(&mut values, geometry.queries, heads, size).into_iter().enumerate().collect();
    for_each_task(
        tasks,
        geometry.work(),
        || Scratch::new(geometry),
        |scratch, (index, rows)| forward_head(geometry, operands, (index / heads, index % heads), rows, scratch),
    )?;
    Ok(values)
}

/// Memory of one block.
struct Scratch<T> {
    scores: Vec<T>,
    inverse_sums: Vec<T>,
    sums: Vec<T>,
}

impl<T: Element> Scratch<T> {
    fn new(geometry: &Geometry) -> Self {
        let most = geometry.block().min(geometry.queries);
        let zeros = |len: usize| vec![T::zero(); len];
        Self { scores: zeros(most * geometry.keys), inverse_sums: zeros(most), sums: zeros(most * geometry.head_size) }
    }
}

fn forward_head<T: Element>(
    geometry: &Geometry,
    operands: &Operands<'_, T>,
    head: (usize, usize),
    mut rows: HeadRows<'_, T>,
    scratch: &mut Scratch<T>,
) -> Result<()> {
    let size = geometry.head_size;
    let v = Matrix::rows(operands.v.head(head.0, head.1, size), operands.v.stride);
    for block in blocks(geometry) {
        let scores = &mut scratch.scores[..block.count * block.keys];
        let inverse_sums = &mut scratch.inverse_sums[..block.count];
        exponentials(geometry, operands, head, block, scores, inverse_sums)?;
        drop_block(geometry, head, block, scores);
        let product = Product { m: block.count, n: size, k: block.keys, scale: T::one(), threads: Threads::One };
        let sums = &mut scratch.sums[..block.count * size];
        product.write(sums, size, Matrix::rows(scores, block.keys), v)?;
        let out = rows[block.first..].iter_mut().zip(sums.chunks_exact(size)).zip(inverse_sums);
        for ((out, sums), inverse) in out {
            for (out, &sum) in out.iter_mut().zip(sums) {
                *out = sum * *inverse;
            }
        }
    }
    Ok(())
}
