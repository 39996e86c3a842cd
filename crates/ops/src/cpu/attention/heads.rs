//! Where the rows of each head are in tensors whose heads lie side by side.

use crate::types::attention::Geometry;

/// One of q, k and v inside a tensor (B, rows, stride): columns `offset..offset + D`.
#[derive(Clone, Copy)]
pub(super) struct View<'a, T> {
    values: &'a [T],
    rows: usize,
    pub(super) stride: usize,
    offset: usize,
}

impl<'a, T> View<'a, T> {
    /// The elements from the first row of a head of an example on; rows are `stride` apart.
    pub(super) fn head(&self, example: usize, head: usize, head_size: usize) -> &'a [T] {
        &self.values[example * self.rows * self.stride + self.offset + head * head_size..]
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
        let view = |values, rows, parts: usize, part: usize| View {
            values,
            rows,
            stride: parts * hidden,
            offset: part * hidden,
        };
        let (queries, keys) = (geometry.queries, geometry.keys);
        match *tensors {
            [qkv] => Self { q: view(qkv, keys, 3, 0), k: view(qkv, keys, 3, 1), v: view(qkv, keys, 3, 2) },
            [q, kv] => Self { q: view(q, queries, 1, 0), k: view(kv, keys, 2, 0), v: view(kv, keys, 2, 1) },
            [q, k, v] => Self { q: view(q, queries, 1, 0), k: view(k, keys, 1, 0), v: view(v, keys, 1, 0) },
            _ => unreachable!("an attention has one, two or three tensors"),
        }
    }
}

/// The rows of one head of one example.
pub(super) type HeadRows<'a, T> = Vec<&'a mut [T]>;

/// Splits a tensor (B, rows, parts * H * K) into the rows of each head: the index of a head is
/// `(example * parts + part) * heads + head`.
pub(super) fn split_heads<T>(
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
