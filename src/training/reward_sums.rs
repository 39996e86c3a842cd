//! What the captions were worth that an update of self-critical training sampled: sums over pieces and processes, and
//! means.

use std::ops::Add;

use records::record::RewardsRecord;

/// Numbers in [`RewardSums`].
const NUM_SUMS: usize = 8;

/// Sums over sampled captions; all 0 where none was sampled.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RewardSums {
    pub images: f64,
    pub samples: f64,
    pub rewards: f64,
    /// What the rewards are compared with, once for each caption.
    pub baselines: f64,
    /// Squares of the differences of the two.
    pub squares: f64,
    pub words: f64,
    /// Captions that end as no sentence does.
    pub bad_endings: f64,
    /// Images from whose captions nothing can be learned, since no reward differs from its baseline.
    pub flat_images: f64,
}

/// Means over the sampled captions of an update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RewardMeans {
    pub reward: f64,
    pub baseline: f64,
    /// Root of the mean square of the differences of the two.
    pub advantage: f64,
    /// Words in a caption.
    pub length: f64,
    /// Share of the captions.
    pub bad_endings: f64,
    /// Share of the images.
    pub flat_images: f64,
}

impl RewardSums {
    /// The sums as numbers, which processes add up.
    pub fn to_numbers(self) -> [f64; NUM_SUMS] {
        let Self { images, samples, rewards, baselines, squares, words, bad_endings, flat_images } = self;
        [images, samples, rewards, baselines, squares, words, bad_endings, flat_images]
    }

    pub fn of_numbers(numbers: [f64; NUM_SUMS]) -> Self {
        let [images, samples, rewards, baselines, squares, words, bad_endings, flat_images] = numbers;
        Self { images, samples, rewards, baselines, squares, words, bad_endings, flat_images }
    }

    /// `None` where nothing was sampled.
    pub fn means(self) -> Option<RewardMeans> {
        let mean = |sum: f64| sum / self.samples;
        (self.samples > 0.0).then(|| RewardMeans {
            reward: mean(self.rewards),
            baseline: mean(self.baselines),
            advantage: mean(self.squares).sqrt(),
            length: mean(self.words),
            bad_endings: mean(self.bad_endings),
            flat_images: self.flat_images / self.images,
        })
    }
}

impl Add for RewardSums {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let (left, right) = (self.to_numbers(), other.to_numbers());
        Self::of_numbers(std::array::from_fn(|index| left[index] + right[index]))
    }
}

impl From<RewardMeans> for RewardsRecord {
    fn from(means: RewardMeans) -> Self {
        Self {
            reward: Some(means.reward),
            baseline: Some(means.baseline),
            advantage: Some(means.advantage),
            length: Some(means.length),
            bad_endings: Some(means.bad_endings),
        }
    }
}
