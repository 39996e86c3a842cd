//! Where the rows of each head are in tensors whose heads lie side by side.

use super::spans::Span;
use crate::types::attention::Geometry;

/// One of q, k and v inside a tensor (rows, stride): columns `offset..offset + D`.
#[derive(Clone, Copy)]
pub(super) struct View<'a, T> {
    values: &'a [T],
    pub(super) stride: usize,
    offset: usize,
}

impl<'a, T> View<'a, T> {
    /// The elements of a head from a row on; rows are `stride` apart.
    fn head(&self, row: usize, head: usize, head_size: usize) -> &'a [T] {
        &self.values[row * self.stride + self.offset + head * head_size..]
    }
}

#[derive(Clone, Copy)]
pub(super) struct Operands<'a, T> {
    pub(super) q: View<'a, T>,
    pub(super) k: View<'a, T>,
    pub(super) v: View<'a, T>,
}

impl<'a, T> Operands<'a, T> {
    /// From one (qkv), two (q, kv) or three (q, k, v) tensors.
    pub(super) fn new(geometry: &Geometry, tensors: &[&'a [T]]) -> Self {
        let hidden = geometry.hidden();
        let view = |values, parts: usize, part: usize| View { values, stride: parts * hidden, offset: part * hidden };
        match *tensors {
            [qkv] => Self { q: view(qkv, 3, 0), k: view(qkv, 3, 1), v: view(qkv, 3, 2) },
            [q, kv] => Self { q: view(q, 1, 0), k: view(kv, 2, 0), v: view(kv, 2, 1) },
            [q, k, v] => Self { q: view(q, 1, 0), k: view(k, 1, 0), v: view(v, 1, 0) },
            _ => unreachable!("an attention has one, two or three tensors"),
        }
    }

    /// The queries of a head of a span, from one of them on.
    pub(super) fn queries(&self, span: &Span, head: usize, first: usize) -> &'a [T] {
        self.q.head(span.first_query + first, head, span.geometry.head_size)
    }

    /// The keys that a head of a span looks at.
    pub(super) fn keys(&self, span: &Span, head: usize) -> &'a [T] {
        self.k.head(span.first_key, head, span.geometry.head_size)
    }

    /// The values of these keys.
    pub(super) fn values(&self, span: &Span, head: usize) -> &'a [T] {
        self.v.head(span.first_key, head, span.geometry.head_size)
    }
}

/// Rows of one head.
pub(super) type HeadRows<'a, T> = Vec<&'a mut [T]>;

/// Splits a tensor (rows, parts * H * K), whose rows belong to examples, into the rows of each head: the index of a head
/// is `(example * parts + part) * heads + head`. `rows` gives the rows of each example.
pub(super) fn split_heads<T>(
    values: &mut [T],
    rows: impl Iterator<Item = usize>,
    heads_in_row: usize,
    head_size: usize,
) -> Vec<HeadRows<'_, T>> {
    let width = heads_in_row * head_size;
    let (mut split, mut rest) = (Vec::new(), values);
    for rows in rows {
        let first = split.len();
        split.resize_with(first + heads_in_row, || Vec::with_capacity(rows));
        let example = rest.split_off_mut(..rows * width).expect("the tensor has the rows of all examples");
        for row in example.chunks_exact_mut(width) {
            for (head, piece) in row.chunks_exact_mut(head_size).enumerate() {
                split[first + head].push(piece);
            }
        }
    }
    split
}
