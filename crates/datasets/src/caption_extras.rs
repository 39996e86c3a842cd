//! What a caption may have beside its text: a prompt before it, and a weight in the loss.

/// The share of a caption in the loss, usually 1: 0, or a number from 1e-6 to 1e6, which f32 holds and sums of which
/// stay numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weight(f64);

// It is never NaN.
impl Eq for Weight {}

impl Weight {
    /// What it may be, for messages.
    pub const EXPECTED: &str = "0 or a number from 1e-6 to 1e6";

    /// `None` where `value` is not [`Self::EXPECTED`].
    pub fn new(value: f64) -> Option<Self> {
        // Adding 0 makes 0 of -0.
        (value == 0.0 || (1e-6..=1e6).contains(&value)).then_some(Self(value + 0.0))
    }

    pub fn value(self) -> f64 {
        self.0
    }

    pub fn is_one(self) -> bool {
        self == Self::default()
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self(1.0)
    }
}

/// What a caption has beside its text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaptionExtras {
    /// Text before the caption that the model is given and does not learn to say; not blank.
    pub prompt: Option<String>,
    pub weight: Weight,
}

impl CaptionExtras {
    pub fn is_usual(&self) -> bool {
        self.prompt.is_none() && self.weight.is_one()
    }
}

/// The extras of each caption of an image, or none where all are as usual.
pub(crate) fn unless_usual(extras: Vec<CaptionExtras>) -> Vec<CaptionExtras> {
    if extras.iter().all(CaptionExtras::is_usual) { Vec::new() } else { extras }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_is_0_or_a_number_that_f32_holds() {
        for odd in [-1.0, -1e-300, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e39, 1e308, 1e7, 1e-7, 1e-50] {
            assert_eq!(Weight::new(odd), None, "{odd}");
        }
        assert!(Weight::new(-0.0).unwrap().value().is_sign_positive());
        assert!(Weight::new(1e-6).is_some() && Weight::new(1e6).is_some());
        assert!(Weight::new(1.0).unwrap().is_one() && !Weight::new(0.0).unwrap().is_one());
    }
}
