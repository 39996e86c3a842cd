//! The backward pass, one head of one example at a time.

use candle_core::Result;

use super::heads::{HeadRows, Operands, split_heads};
use super::softmax::{Block, block_size, blocks, drop_block, exponentials, work};
use crate::cpu::buffer::{CHUNK, build, for_each_task};
use crate::cpu::gemm::{Factors, Matrix, Product, Threads};
use crate::cpu::vector_math::{Element, sum_map_2};
use crate::types::attention::Geometry;
use base::simd::{Kernel, vectorized};

/// The gradients of one (qkv), two (q, kv) or three (q, k, v) tensors; `None` for a tensor without gradient.
pub(super) struct Gradients<T> {
    values: Vec<Option<Vec<T>>>,
}

impl<T: Element> Gradients<T> {
    /// Zeros, given the number of elements of each tensor and whether it has a gradient.
    pub(super) fn new(tensors: impl Iterator<Item = (usize, bool)>) -> Self {
        Self { values: tensors.map(|(len, tracked)| tracked.then(|| build(len, CHUNK, |_, _| ()))).collect() }
    }

    pub(super) fn into_values(self) -> Vec<Option<Vec<T>>> {
        self.values
    }

    /// The rows of q, k and v of each head; `None` where there is no gradient.
    fn heads(&mut self, geometry: &Geometry) -> Vec<[Option<HeadRows<'_, T>>; 3]> {
        let (heads, size) = (geometry.heads, geometry.head_size);
        let parts_of: &[&[usize]] = match self.values.len() {
            1 => &[&[0, 1, 2]],
            2 => &[&[0], &[1, 2]],
            _ => &[&[0], &[1], &[2]],
        };
        let mut split: Vec<[Option<HeadRows<'_, T>>; 3]> = Vec::new();
        split.resize_with(geometry.batch * heads, || [None, None, None]);
        for (values, parts) in self.values.iter_mut().zip(parts_of) {
            let Some(values) = values else { continue };
            let rows = if parts[0] == 0 { geometry.queries } else { geometry.keys };
            for (index, head_rows) in split_heads(values, rows, parts.len() * heads, size).into_iter().enumerate() {
                let (example, rest) = (index / (parts.len() * heads), index % (parts.len() * heads));
                split[example * heads + rest % heads][parts[rest / heads]] = Some(head_rows);
            }
        }
        split
    }
}

/// Fills `gradients` from the gradient of the result (B, L, D).
pub(super) fn fill_gradients<T: Element>(
    geometry: &Geometry,
    operands: &Operands<'_, T>,
    grad: &[T],
    gradients: &mut Gradients<T>,
) -> Result<()> {
    let tasks: Vec<_> = gradients.heads(geometry).into_iter().enumerate().collect();
    for_each_task(
        tasks,
        work(geometry),
        || Scratch::new(geometry),
        |scratch, (index, rows)| {
            let head = Head {
                geometry,
                operands,
                grad,
                head: (index / geometry.heads, index % geometry.heads),
                wanted: rows.each_ref().map(Option::is_some),
            };
            head.backward(rows, scratch)
        },
    )
}

/// One head of one example.
struct Head<'a, T> {
    geometry: &'a Geometry,
    operands: &'a Operands<'a, T>,
    grad: &'a [T],
    head: (usize, usize),
    wanted: [bool; 3],
}

/// Memory of one head.
struct Scratch<T> {
    probabilities: Vec<T>,
    dropped: Vec<T>,
    slopes: Vec<T>,
    inverse_sums: Vec<T>,
    dq: Vec<T>,
    dk: Vec<T>,
    dv: Vec<T>,
}

impl<T: Element> Scratch<T> {
    fn new(geometry: &Geometry) -> Self {
        let Geometry { keys, head_size, queries, .. } = *geometry;
        let most = block_size(geometry).min(queries);
        let zeros = |len: usize| vec![T::zero(); len];
        Self {
            probabilities: zeros(most * keys),
            dropped: zeros(if geometry.dropout.is_some() { most * keys } else { 0 }),
            slopes: zeros(most * keys),
            inverse_sums: zeros(most),
            dq: zeros(queries * head_size),
            dk: zeros(keys * head_size),
            dv: zeros(keys * head_size),
        }
    }
}

/// Divides the exponentials of a block by their sums.
struct Normalise<'a, T> {
    values: &'a mut [T],
    keys: usize,
    inverse_sums: &'a [T],
}

impl<T: Element> Kernel for Normalise<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (row, &inverse) in self.values.chunks_exact_mut(self.keys).zip(self.inverse_sums) {
            for value in row {
                *value *= inverse;
            }
        }
    }
}

/// Gradient of the scores from the probabilities and their gradient, in place.
struct ScoreSlopes<'a, T> {
    slopes: &'a mut [T],
    probabilities: &'a [T],
    keys: usize,
}

impl<T: Element> Kernel for ScoreSlopes<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let rows = self.slopes.chunks_exact_mut(self.keys).zip(self.probabilities.chunks_exact(self.keys));
        for (slopes, probabilities) in rows {
            let mean = sum_map_2(slopes, probabilities, |slope, p| slope * p);
            for (slope, &p) in slopes.iter_mut().zip(probabilities) {
                *slope = (*slope - mean) * p;
            }
        }
    }
}

impl<T: Element> Head<'_, T> {
    fn backward(&self, rows: [Option<HeadRows<'_, T>>; 3], scratch: &mut Scratch<T>) -> Result<()> {
        scratch.dk.fill(T::zero());
        scratch.dv.fill(T::zero());
        for block in blocks(self.geometry) {
            self.backward_block(block, scratch)?;
        }
        let head_size = self.geometry.head_size;
        for (rows, values) in rows.into_iter().zip([&scratch.dq, &scratch.dk, &scratch.dv]) {
            for (row, values) in rows.into_iter().flatten().zip(values.chunks_exact(head_size)) {
                row.copy_from_slice(values);
            }
        }
        Ok(())
    }

    fn backward_block(&self, block: Block, scratch: &mut Scratch<T>) -> Result<()> {
        let Self { geometry, operands, head, .. } = *self;
        let (size, hidden) = (geometry.head_size, geometry.hidden());
        let Block { first, count, keys } = block;
        let probabilities = &mut scratch.probabilities[..count * keys];
        let inverse_sums = &mut scratch.inverse_sums[..count];
        exponentials(geometry, operands, head, block, probabilities, inverse_sums)?;
        vectorized(Normalise { values: &mut *probabilities, keys, inverse_sums });

        let start = (head.0 * geometry.queries + first) * hidden + head.1 * size;
        let grad = Matrix::rows(&self.grad[start..], hidden);
        let product = |m, n, k, scale| Product { m, n, k, scale, factors: Factors::Exact, threads: Threads::One };
        if self.wanted[2] {
            let mut weights: &[T] = probabilities;
            if geometry.dropout.is_some() {
                let dropped = &mut scratch.dropped[..count * keys];
                dropped.copy_from_slice(probabilities);
                drop_block(geometry, head, block, dropped);
                weights = dropped;
            }
            let weights = Matrix::rows(weights, keys).transposed();
            product(keys, size, count, T::one()).add_to(&mut scratch.dv, size, weights, grad)?;
        }
        if !self.wanted[0] && !self.wanted[1] {
            return Ok(());
        }

        let slopes = &mut scratch.slopes[..count * keys];
        let v = Matrix::rows(operands.v.head(head.0, head.1, size), operands.v.stride).transposed();
        product(count, keys, size, T::one()).write(slopes, keys, grad, v)?;
        drop_block(geometry, head, block, slopes);
        vectorized(ScoreSlopes { slopes: &mut *slopes, probabilities, keys });
        let slopes = Matrix::rows(slopes, keys);
        if self.wanted[0] {
            let k = Matrix::rows(operands.k.head(head.0, head.1, size), operands.k.stride);
            let dq = &mut scratch.dq[first * size..(first + count) * size];
            product(count, size, keys, T::of(geometry.scale())).write(dq, size, slopes, k)?;
        }
        if self.wanted[1] {
            let q = &operands.q.head(head.0, head.1, size)[first * operands.q.stride..];
            let q = Matrix::rows(q, operands.q.stride);
            product(keys, size, count, T::of(geometry.scale())).add_to(
                &mut scratch.dk,
                size,
                slopes.transposed(),
                q,
            )?;
        }
        Ok(())
    }
}
