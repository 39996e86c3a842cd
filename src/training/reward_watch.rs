//! Detects self-critical training that goes wrong although its numbers are finite: rewards that collapse, captions that
//! end badly, rewards from which nothing can be learned.
//!
//! Its numbers are part of a run's state, as those of [`super::loss_watch`].

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::training::reward_sums::RewardMeans;

/// Updates at the beginning of a run whose means are what it is compared with.
const FIRST: u64 = 50;
/// Updates since the last validation below which nothing is said.
const FEWEST: u64 = 20;
/// A mean reward below this share of the first has collapsed.
const COLLAPSED: f64 = 0.5;
/// Bad endings have spread when their share is this much above the first.
const SPREAD: f64 = 0.05;
/// Nothing can be learned from more than this share of the images.
const FLAT: f64 = 0.5;

/// Means at the beginning, and since the last validation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardWatch {
    first: Sums,
    recent: Sums,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sums {
    updates: u64,
    reward: f64,
    bad_endings: f64,
    flat_images: f64,
}

/// What went wrong since the last validation. Shares are of all captions, or of all images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RewardAlarm {
    Collapsed { from: f64, to: f64 },
    BadEndings { from: f64, to: f64 },
    WithoutVariance { share: f64 },
}

impl Sums {
    fn add(&mut self, means: &RewardMeans) {
        self.updates += 1;
        self.reward += means.reward;
        self.bad_endings += means.bad_endings;
        self.flat_images += means.flat_images;
    }

    fn mean(&self, sum: f64) -> f64 {
        sum / self.updates as f64
    }
}

impl RewardWatch {
    /// Takes the means of an update.
    pub fn observe(&mut self, means: &RewardMeans) {
        if self.first.updates < FIRST {
            self.first.add(means);
        }
        self.recent.add(means);
    }

    /// What went wrong since the last call.
    pub fn take_alarms(&mut self) -> Vec<RewardAlarm> {
        let (first, recent) = (self.first, std::mem::take(&mut self.recent));
        if recent.updates < FEWEST {
            return Vec::new();
        }
        let mut alarms = Vec::new();
        let (from, to) = (first.mean(first.reward), recent.mean(recent.reward));
        if to < COLLAPSED * from {
            alarms.push(RewardAlarm::Collapsed { from, to });
        }
        let (from, to) = (first.mean(first.bad_endings), recent.mean(recent.bad_endings));
        if to > from + SPREAD {
            alarms.push(RewardAlarm::BadEndings { from, to });
        }
        let share = recent.mean(recent.flat_images);
        if share > FLAT {
            alarms.push(RewardAlarm::WithoutVariance { share });
        }
        alarms
    }
}

impl fmt::Display for RewardAlarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Collapsed { from, to } => write!(
                f,
                "the mean reward fell from {from:.3} to {to:.3}: start a new run with a lower optimizer.learning_rate, or \
                 with training.scst.cross_entropy = 0.2"
            ),
            Self::BadEndings { from, to } => write!(
                f,
                "{:.1} % of the sampled captions end with a word such as \"a\" or \"with\", at the beginning {:.1} % did: \
                 read some captions before you trust the scores",
                100.0 * to,
                100.0 * from
            ),
            Self::WithoutVariance { share } => write!(
                f,
                "all samples of an image have the same reward for {:.0} % of the images, which teach nothing: raise \
                 training.scst.temperature or training.scst.samples",
                100.0 * share
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: RewardMeans =
        RewardMeans { reward: 0.6, baseline: 0.6, advantage: 0.3, length: 9.0, bad_endings: 0.01, flat_images: 0.1 };

    fn alarms(then: RewardMeans) -> Vec<RewardAlarm> {
        let mut watch = RewardWatch::default();
        (0..FIRST).for_each(|_| watch.observe(&GOOD));
        assert_eq!(watch.take_alarms(), []);
        (0..FEWEST).for_each(|_| watch.observe(&then));
        watch.take_alarms()
    }

    #[test]
    fn what_goes_wrong_is_told_and_what_goes_well_is_not() {
        assert_eq!(alarms(RewardMeans { reward: 0.5, bad_endings: 0.04, flat_images: 0.4, ..GOOD }), []);
        let told = |then| alarms(then).iter().map(RewardAlarm::to_string).collect::<Vec<_>>().join("\n");
        let text = told(RewardMeans { reward: 0.2, ..GOOD });
        assert!(text.starts_with("the mean reward fell from 0.600 to 0.200: ") && text.lines().count() == 1, "{text}");
        let text = told(RewardMeans { bad_endings: 0.07, ..GOOD });
        assert!(
            text.starts_with("7.0 % of the sampled captions end with") && text.contains("beginning 1.0 %"),
            "{text}"
        );
        let text = told(RewardMeans { flat_images: 0.75, ..GOOD });
        assert!(text.contains("for 75 % of the images") && text.lines().count() == 1, "{text}");
    }

    #[test]
    fn each_validation_looks_at_the_updates_before_it_and_a_few_say_nothing() {
        let mut watch = RewardWatch::default();
        (0..FIRST).for_each(|_| watch.observe(&GOOD));
        let bad = RewardMeans { reward: 0.02, ..GOOD };
        (0..FIRST).for_each(|_| watch.observe(&bad));
        // The mean since the last validation is half of the first.
        assert_eq!(watch.take_alarms(), []);
        (0..FEWEST - 1).for_each(|_| watch.observe(&bad));
        assert_eq!(watch.take_alarms(), []);
        (0..FEWEST).for_each(|_| watch.observe(&bad));
        assert!(matches!(watch.take_alarms()[..], [RewardAlarm::Collapsed { .. }]));
    }
}
