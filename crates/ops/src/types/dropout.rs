//! Where a dropout is, which decides what it drops.

use candle_core::{Result, bail};

/// The dropout of one forward pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Probability that a value is set to 0: at least 0 and below 1.
    pub probability: f64,
    /// Seed of the run.
    pub seed: u64,
    /// Number of the update.
    pub update: u64,
    /// Position in the update of the first example of this batch.
    pub first_example: u64,
}

impl Dropout {
    /// The dropout of one place in the model; every place has its own number.
    pub fn site(&self, site: u64) -> DropoutSite {
        DropoutSite { dropout: *self, site }
    }
}

/// The dropout of one place in the model in one forward pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DropoutSite {
    dropout: Dropout,
    site: u64,
}

impl DropoutSite {
    /// Whether nothing is dropped.
    pub(crate) fn is_off(&self) -> bool {
        self.dropout.probability == 0.0
    }

    /// The factor of values that are kept.
    pub(crate) fn kept(&self) -> f64 {
        1.0 / (1.0 - self.dropout.probability)
    }

    /// An element is dropped if its random bits are below this.
    pub(crate) fn threshold(&self) -> u32 {
        (self.dropout.probability * 4_294_967_296.0).round() as u32
    }

    /// Seed, update, place in the model, position of the first example: the start of the key of every mask.
    pub(crate) fn key_words(&self) -> [u64; 4] {
        let Dropout { seed, update, first_example, .. } = self.dropout;
        [seed, update, self.site, first_example]
    }

    pub(crate) fn check(&self) -> Result<()> {
        if !(0.0..1.0).contains(&self.dropout.probability) {
            bail!("dropout: expected a probability from 0 to below 1, found {}", self.dropout.probability);
        }
        Ok(())
    }
}
