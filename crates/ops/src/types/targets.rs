//! What a cross-entropy compares rows of logits with.

/// A class for each row, and what the row counts.
#[derive(Clone, Debug)]
pub(crate) struct Targets {
    pub(crate) classes: Vec<u32>,
    /// The factor of each row's loss; all of them are 1 where absent.
    pub(crate) weights: Option<Vec<f64>>,
    /// Share of the probability that is spread over all classes.
    pub(crate) label_smoothing: f64,
}
