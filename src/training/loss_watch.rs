//! Detects training losses that jump: a sign of a learning rate that is too high, or of broken data.
//!
//! Its numbers are part of a run's state, so that a resumed run warns as an uninterrupted one would. It does not affect
//! training.

use serde::{Deserialize, Serialize};

/// Weight of the newest loss in the running means, which span about fifty updates.
const NEWEST: f64 = 0.02;
/// Losses to see before anything counts as a jump.
const MIN_SEEN: u64 = 50;
/// A jump is this many running mean deviations above the running mean,
const MIN_DEVIATIONS: f64 = 8.0;
/// and this factor above it.
const MIN_FACTOR: f64 = 1.3;

/// Running means, and the jumps since the last report.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossWatch {
    mean: f64,
    deviation: f64,
    num_seen: u64,
    jumps: Option<Jumps>,
}

/// Losses that jumped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jumps {
    pub count: u64,
    pub highest: f64,
    /// The update that had it.
    pub step: u64,
    /// The running mean before that update.
    pub mean: f64,
}

impl LossWatch {
    /// Takes the mean token loss of the update numbered `step`.
    pub fn observe(&mut self, step: u64, loss: f64) {
        let limit = (self.mean + MIN_DEVIATIONS * self.deviation).max(MIN_FACTOR * self.mean);
        let is_jump = self.num_seen >= MIN_SEEN && loss > limit;
        if is_jump {
            let jumps = self.jumps.get_or_insert(Jumps { count: 0, highest: f64::MIN, step, mean: self.mean });
            jumps.count += 1;
            if loss > jumps.highest {
                (jumps.highest, jumps.step, jumps.mean) = (loss, step, self.mean);
            }
        }
        // A jump counts as the limit: one of them does not hide the next, and a new level becomes the usual one.
        let loss = if is_jump { limit } else { loss };
        self.num_seen += 1;
        let weight = NEWEST.max(1.0 / self.num_seen as f64);
        self.deviation += weight * ((loss - self.mean).abs() - self.deviation);
        self.mean += weight * (loss - self.mean);
    }

    /// The jumps since the last call.
    pub fn take_jumps(&mut self) -> Option<Jumps> {
        self.jumps.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::random::Stream;

    fn falling_losses() -> impl Iterator<Item = (u64, f64)> {
        let mut noise = Stream::new(3, "losses", "");
        (1..500).map(move |step| (step, 2.0 + 4.0 * (-(step as f64) / 100.0).exp() + 0.15 * noise.normal()))
    }

    #[test]
    fn a_noisy_falling_loss_is_not_a_jump() {
        let mut watch = LossWatch::default();
        falling_losses().for_each(|(step, loss)| watch.observe(step, loss));
        assert_eq!(watch.take_jumps(), None);
    }

    #[test]
    fn jumps_are_counted_once_and_the_highest_is_named() {
        let mut watch = LossWatch::default();
        for (step, loss) in falling_losses() {
            let spike = match step {
                300 => 3.0,
                301 => 9.0,
                302 => 4.0,
                _ => 0.0,
            };
            watch.observe(step, loss + spike);
        }
        let jumps = watch.take_jumps().unwrap();
        assert_eq!((jumps.count, jumps.step), (3, 301));
        assert!((1.9..2.6).contains(&jumps.mean) && jumps.highest > 10.0, "{jumps:?}");
        assert_eq!(watch.take_jumps(), None);
    }

    #[test]
    fn a_new_level_becomes_the_usual_one() {
        let mut watch = LossWatch::default();
        (1..=100).for_each(|step| watch.observe(step, 2.0));
        (101..=400).for_each(|step| watch.observe(step, 6.0));
        assert!(watch.take_jumps().unwrap().count < 100);
        (401..=450).for_each(|step| watch.observe(step, 6.0));
        assert_eq!(watch.take_jumps(), None);
    }
}
