//! The backward pass, one head of the examples with the same keys at a time.

use candle_core::Result;

use super::heads::{HeadRows, Operands, split_heads};
use super::softmax::{Block, block_size, blocks, drop_block, exponentials, work};
use super::spans::{Span, Spans};
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

    /// The rows of q, k and v of each head of each group of spans; `None` where there is no gradient.
    fn heads(&mut self, geometry: &Geometry, spans: &Spans) -> Vec<[Option<HeadRows<'_, T>>; 3]> {
        let (heads, size) = (geometry.heads, geometry.head_size);
        let parts_of: &[&[usize]] = match self.values.len() {
            1 => &[&[0, 1, 2]],
            2 => &[&[0], &[1, 2]],
            _ => &[&[0], &[1], &[2]],
        };
        let mut split: Vec<[Option<HeadRows<'_, T>>; 3]> = Vec::new();
        split.resize_with(spans.key_rows().count() * heads, || [None, None, None]);
        for (values, parts) in self.values.iter_mut().zip(parts_of) {
            let Some(values) = values else { continue };
            let heads_in_row = parts.len() * heads;
            let is_of_spans = parts[0] == 0;
            let head_rows = if is_of_spans {
                split_heads(values, spans.query_rows(), heads_in_row, size)
            } else {
                split_heads(values, spans.key_rows(), heads_in_row, size)
            };
            for (index, head_rows) in head_rows.into_iter().enumerate() {
                let (place, rest) = (index / heads_in_row, index % heads_in_row);
                let group = if is_of_spans { spans.group(place) } else { place };
                split[group * heads + rest % heads][parts[rest / heads]].get_or_insert_default().extend(head_rows);
            }
        }
        // A group that nothing looks at has no queries, and its keys get the gradient 0.
        split
    }
}

/// Fills `gradients` from the gradient of the result (B, L, D).
pub(super) fn fill_gradients<T: Element>(
    geometry: &Geometry,
    spans: &Spans,
    operands: &Operands<'_, T>,
    grad: &[T],
    gradients: &mut Gradients<T>,
) -> Result<()> {
    let groups = spans.by_group();
    let tasks: Vec<_> = gradients.heads(geometry, spans).into_iter().enumerate().collect();
    for_each_task(
        tasks,
        work(geometry),
        || Scratch::new(geometry),
        |scratch, (index, rows)| {
            let head = Head {
                operands,
                grad,
                head: index % geometry.heads,
                block_size: block_size(geometry),
                wanted: rows.each_ref().map(Option::is_some),
            };
            head.backward(&groups[index / geometry.heads], rows, scratch)
        },
    )
}

/// One head of the examples with the same keys.
struct Head<'a, T> {
    operands: &'a Operands<'a, T>,
    grad: &'a [T],
    head: usize,
    block_size: usize,
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
    fn backward(
        &self,
        spans: &[Span],
        [queries, keys, values]: [Option<HeadRows<'_, T>>; 3],
        scratch: &mut Scratch<T>,
    ) -> Result<()> {
        let Some(Span { geometry: Geometry { head_size, .. }, .. }) = spans.first() else { return Ok(()) };
        scratch.dk.fill(T::zero());
        scratch.dv.fill(T::zero());
        let mut queries = queries.map(Vec::into_iter);
        for span in spans {
            for block in blocks(&span.geometry, self.block_size) {
                self.backward_block(span, block, scratch)?;
            }
            let rows = queries.iter_mut().flatten().take(span.geometry.queries);
            write_rows(rows, &scratch.dq, *head_size);
        }
        write_rows(keys.into_iter().flatten(), &scratch.dk, *head_size);
        write_rows(values.into_iter().flatten(), &scratch.dv, *head_size);
        Ok(())
    }

    fn backward_block(&self, span: &Span, block: Block, scratch: &mut Scratch<T>) -> Result<()> {
        let Self { operands, head, .. } = *self;
        let geometry = &span.geometry;
        let (size, hidden) = (geometry.head_size, geometry.hidden());
        let Block { first, count, keys } = block;
        let probabilities = &mut scratch.probabilities[..count * keys];
        let inverse_sums = &mut scratch.inverse_sums[..count];
        exponentials(operands, span, head, block, probabilities, inverse_sums)?;
        vectorized(Normalise { values: &mut *probabilities, keys, inverse_sums });

        let start = (span.first_query + first) * hidden + head * size;
        let grad = Matrix::rows(&self.grad[start..], hidden);
        let product = |m, n, k, scale| Product { m, n, k, scale, factors: Factors::Exact, threads: Threads::One };
        if self.wanted[2] {
            let mut weights: &[T] = probabilities;
            if geometry.dropout.is_some() {
                let dropped = &mut scratch.dropped[..count * keys];
                dropped.copy_from_slice(probabilities);
                drop_block(span, head, block, dropped);
                weights = dropped;
            }
            let weights = Matrix::rows(weights, keys).transposed();
            product(keys, size, count, T::one()).add_to(&mut scratch.dv, size, weights, grad)?;
        }
        if !self.wanted[0] && !self.wanted[1] {
            return Ok(());
        }

        let slopes = &mut scratch.slopes[..count * keys];
        let v = Matrix::rows(operands.values(span, head), operands.v.stride).transposed();
        product(count, keys, size, T::one()).write(slopes, keys, grad, v)?;
        drop_block(span, head, block, slopes);
        vectorized(ScoreSlopes { slopes: &mut *slopes, probabilities, keys });
        let slopes = Matrix::rows(slopes, keys);
        if self.wanted[0] {
            let k = Matrix::rows(operands.keys(span, head), operands.k.stride);
            let dq = &mut scratch.dq[first * size..(first + count) * size];
            product(count, size, keys, T::of(geometry.scale())).write(dq, size, slopes, k)?;
        }
        if self.wanted[1] {
            let q = Matrix::rows(operands.queries(span, head, first), operands.q.stride);
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

fn write_rows<'a, T: Element>(rows: impl Iterator<Item = &'a mut [T]>, values: &[T], head_size: usize) {
    for (row, values) in rows.zip(values.chunks_exact(head_size)) {
        row.copy_from_slice(values);
    }
}
