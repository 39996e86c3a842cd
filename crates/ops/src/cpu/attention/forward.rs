//! The forward pass, one head of one example at a time.

use candle_core::Result;

use super::heads::{HeadRows, Operands, split_heads};
use super::softmax::{block_size, blocks, drop_block, exponentials, work};
use super::spans::{Span, Spans};
use crate::cpu::buffer::{CHUNK, build, for_each_task};
use crate::cpu::gemm::{Factors, Matrix, Product, Threads};
use crate::cpu::vector_math::Element;
use crate::types::attention::Geometry;

/// The attention of all heads: (B, L, D).
pub(super) fn attend<T: Element>(geometry: &Geometry, spans: &Spans, operands: &Operands<'_, T>) -> Result<Vec<T>> {
    let (heads, size) = (geometry.heads, geometry.head_size);
    let rows: usize = spans.query_rows().sum();
    let mut values: Vec<T> = build(rows * geometry.hidden(), CHUNK, |_, _| ());
    let tasks: Vec<_> = split_heads(&mut values, spans.query_rows(), heads, size).into_iter().enumerate().collect();
    let most = block_size(geometry);
    for_each_task(
        tasks,
        work(geometry),
        || Scratch::new(geometry),
        |scratch, (index, rows)| attend_head(&spans.all()[index / heads], index % heads, operands, most, rows, scratch),
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
        let most = block_size(geometry).min(geometry.queries);
        let zeros = |len: usize| vec![T::zero(); len];
        Self { scores: zeros(most * geometry.keys), inverse_sums: zeros(most), sums: zeros(most * geometry.head_size) }
    }
}

fn attend_head<T: Element>(
    span: &Span,
    head: usize,
    operands: &Operands<'_, T>,
    block_size: usize,
    mut rows: HeadRows<'_, T>,
    scratch: &mut Scratch<T>,
) -> Result<()> {
    let size = span.geometry.head_size;
    let v = Matrix::rows(operands.values(span, head), operands.v.stride);
    for block in blocks(&span.geometry, block_size) {
        let scores = &mut scratch.scores[..block.count * block.keys];
        let inverse_sums = &mut scratch.inverse_sums[..block.count];
        exponentials(operands, span, head, block, scores, inverse_sums)?;
        drop_block(span, head, block, scores);
        let product = Product {
            m: block.count,
            n: size,
            k: block.keys,
            scale: T::one(),
            factors: Factors::Exact,
            threads: Threads::One,
        };
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
