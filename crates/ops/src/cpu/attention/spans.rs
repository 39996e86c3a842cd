//! Which queries look at which keys: examples of equal size, or packed sequences.

use std::ops::Range;

use crate::types::attention::Geometry;
use crate::types::packing::Packing;

/// The queries of one example, and its keys.
#[derive(Clone, Copy)]
pub(super) struct Span {
    /// Its position in the batch, which decides its dropout.
    pub(super) example: usize,
    /// Its first row in the tensor of queries, and in that of keys and values.
    pub(super) first_query: usize,
    pub(super) first_key: usize,
    /// The sizes of this example alone.
    pub(super) geometry: Geometry,
}

/// The spans of a call, in the order of the queries.
pub(super) struct Spans {
    spans: Vec<Span>,
    /// The group of each span: spans of one group look at the same keys.
    groups: Vec<usize>,
    /// Rows of keys of each group.
    keys: Vec<usize>,
}

impl Spans {
    /// `keys_are_packed`: the keys are rows of the sequences too, not of their images.
    pub(super) fn new(geometry: &Geometry, packing: Option<&Packing>, keys_are_packed: bool) -> Self {
        let one = Geometry { batch: 1, ..*geometry };
        let Some(packing) = packing else {
            let span = |example: usize| Span {
                example,
                first_query: example * geometry.queries,
                first_key: example * geometry.keys,
                geometry: one,
            };
            let batch = geometry.batch;
            return Self {
                spans: (0..batch).map(span).collect(),
                groups: (0..batch).collect(),
                keys: vec![geometry.keys; batch],
            };
        };
        let span = |(example, rows): (usize, Range<usize>)| {
            let queries = rows.len();
            let (first_key, keys) = if keys_are_packed {
                (rows.start, queries)
            } else {
                (packing.images()[example] * geometry.keys, geometry.keys)
            };
            Span { example, first_query: rows.start, first_key, geometry: Geometry { queries, keys, ..one } }
        };
        let spans: Vec<Span> = packing.sequences().enumerate().map(span).collect();
        if keys_are_packed {
            let keys = spans.iter().map(|span| span.geometry.keys).collect();
            Self { groups: (0..spans.len()).collect(), keys, spans }
        } else {
            Self { spans, groups: packing.images().to_vec(), keys: vec![geometry.keys; geometry.batch] }
        }
    }

    pub(super) fn all(&self) -> &[Span] {
        &self.spans
    }

    /// Rows of queries of each span.
    pub(super) fn query_rows(&self) -> impl Iterator<Item = usize> {
        self.spans.iter().map(|span| span.geometry.queries)
    }

    /// Rows of keys of each group.
    pub(super) fn key_rows(&self) -> impl Iterator<Item = usize> {
        self.keys.iter().copied()
    }

    /// The group of a span.
    pub(super) fn group(&self, span: usize) -> usize {
        self.groups[span]
    }

    /// The spans of each group, in order.
    pub(super) fn by_group(&self) -> Vec<Vec<Span>> {
        let mut by_group = vec![Vec::new(); self.keys.len()];
        for (span, &group) in self.spans.iter().zip(&self.groups) {
            by_group[group].push(*span);
        }
        by_group
    }
}
