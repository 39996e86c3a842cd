//! Counts what filters leave out, and names it.

use std::collections::BTreeMap;

use crate::annotations::{RawDataset, RawImage, Reject};
use crate::output::FilterCount;
use base::error::failure;

/// Images and captions of a filter that are named; more are counted.
const MAX_NAMED: usize = 10_000;

/// The filters in the order in which they work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Filter {
    DropIds,
    MinScore,
    Script,
    MinWords,
    MaxWords,
    MinSide,
    MaxAspect,
    DropDuplicates,
}

impl Filter {
    pub(super) fn option(self) -> &'static str {
        match self {
            Self::DropIds => "--drop-ids",
            Self::MinScore => "--min-score",
            Self::Script => "--script",
            Self::MinWords => "--min-words",
            Self::MaxWords => "--max-words",
            Self::MinSide => "--min-side",
            Self::MaxAspect => "--max-aspect",
            Self::DropDuplicates => "--drop-duplicates",
        }
    }
}

/// What one filter left out.
#[derive(Debug, Default)]
struct Left {
    images: usize,
    captions: usize,
    named: Vec<Reject>,
    num_unnamed: usize,
}

impl Left {
    fn name(&mut self, what: impl Into<String>, reason: impl Into<String>) {
        if self.named.len() < MAX_NAMED {
            self.named.push(Reject::new(what, reason));
        } else {
            self.num_unnamed += 1;
        }
    }
}

/// What filters left out so far.
#[derive(Debug)]
pub(crate) struct Tally {
    /// What there was before.
    num_images: usize,
    num_captions: usize,
    left: BTreeMap<Filter, Left>,
}

impl Tally {
    /// `filters`: those that were asked for; each is counted, also where it leaves out nothing.
    pub(super) fn new(images: &[RawImage], filters: impl Iterator<Item = Filter>) -> Self {
        let num_captions = images.iter().map(|image| image.captions.len()).sum();
        let left = filters.map(|filter| (filter, Left::default())).collect();
        Self { num_images: images.len(), num_captions, left }
    }

    /// Whether nothing was asked for.
    pub(crate) fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// Whether any filter left out something.
    pub(crate) fn has_taken(&self) -> bool {
        self.left.values().any(|left| left.images + left.captions > 0)
    }

    pub(super) fn leave_out_caption(&mut self, filter: Filter, what: String, reason: String) {
        let left = self.left.entry(filter).or_default();
        left.captions += 1;
        left.name(what, reason);
    }

    /// An image with the captions that it has left.
    pub(crate) fn leave_out_image(&mut self, filter: Filter, what: &str, num_captions: usize, reason: String) {
        let left = self.left.entry(filter).or_default();
        left.images += 1;
        left.captions += num_captions;
        left.name(what, reason);
    }

    /// The counts of each filter; what was left out becomes rejects of `raw`. `described`: each filter as the user gave
    /// it.
    pub(super) fn finish(self, raw: &mut RawDataset, described: impl Fn(Filter) -> String) -> Vec<FilterCount> {
        let mut counts = Vec::new();
        for (filter, Left { images, captions, named, num_unnamed }) in self.left {
            raw.rejects.extend(named);
            if num_unnamed > 0 {
                let reason = format!("were left out by {}, and are not listed one by one", described(filter));
                raw.rejects.push(Reject::new(format!("{num_unnamed} more captions or images"), reason));
            }
            counts.push(FilterCount { filter: described(filter), images, captions });
        }
        counts
    }

    /// Why no image is left: which filter took what.
    pub(super) fn nothing_left(&self, num_unreadable: usize, described: impl Fn(Filter) -> String) -> anyhow::Error {
        let took = |(&filter, &Left { images, captions, .. }): (&Filter, &Left)| {
            let count = FilterCount { filter: described(filter), images, captions };
            format!("{} took {}", count.filter, count.amount())
        };
        let mut parts: Vec<String> =
            self.left.iter().filter(|(_, left)| left.images + left.captions > 0).map(took).collect();
        if num_unreadable > 0 {
            parts.push(format!("{num_unreadable} images cannot be read"));
        }
        let message = format!(
            "no image is left of {} with {} captions: {}",
            self.num_images,
            self.num_captions,
            parts.join(", ")
        );
        failure(message, "relax the filter that took most, or leave it out")
    }
}
