//! Everything about the progress of a run that a resume needs, beside parameters and optimizer moments.
//!
//! The order of the examples and every dropout mask are functions of the seed and these counters, so no generator
//! state is kept.

use serde::{Deserialize, Serialize};

use crate::training::loss_watch::LossWatch;

/// Progress of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainState {
    /// Completed epochs.
    pub epoch: u64,
    /// Updates done in the epoch after those.
    pub updates_in_epoch: u64,
    /// Updates done in all, skipped ones included: the schedule's clock.
    pub global_step: u64,
    /// Sum of token losses in the running epoch.
    pub epoch_loss_sum: f64,
    /// Tokens in that sum.
    pub epoch_loss_count: u64,
    /// Seconds spent on the updates of the running epoch.
    pub epoch_seconds: f64,
    /// Mean training loss of the last completed epoch; absent before it.
    pub train_loss: Option<f64>,
    /// Seconds that the updates of the last completed epoch took.
    pub train_seconds: f64,
    /// Completed epochs at the last validation.
    pub validated_epoch: u64,
    /// Validation loss after that epoch.
    pub val_loss: Option<f64>,
    /// Lowest validation loss so far.
    pub best_val_loss: Option<f64>,
    /// Epoch that gave it.
    pub best_epoch: u64,
    /// Validations since then.
    #[serde(default)]
    pub validations_since_best: u64,
    /// Updates skipped because the loss or a gradient was not finite.
    pub skipped_updates: u64,
    /// Those skipped one after the other up to now.
    pub skipped_in_a_row: u64,
    /// Training losses that jumped.
    #[serde(default)]
    pub loss_watch: LossWatch,
}

impl TrainState {
    /// Whether the epoch just completed is due for validation and has not had it.
    pub fn needs_validation(&self, interval: u64, num_epochs: u64) -> bool {
        let due = self.epoch.is_multiple_of(interval) || self.epoch == num_epochs;
        self.epoch > 0 && self.updates_in_epoch == 0 && self.validated_epoch < self.epoch && due
    }

    /// Whether `patience` validations in a row brought no new lowest loss.
    pub fn is_out_of_patience(&self, patience: Option<usize>) -> bool {
        patience.is_some_and(|patience| self.validations_since_best >= patience as u64)
    }

    /// Takes a validation loss; says whether it is the lowest so far. A loss that is no number is never the best.
    pub fn record_validation(&mut self, val_loss: f64) -> bool {
        self.validated_epoch = self.epoch;
        self.val_loss = Some(val_loss);
        let is_best = !val_loss.is_nan() && self.best_val_loss.is_none_or(|best| val_loss < best);
        if is_best {
            self.best_val_loss = Some(val_loss);
            self.best_epoch = self.epoch;
        }
        self.validations_since_best = if is_best { 0 } else { self.validations_since_best + 1 };
        is_best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validation_is_due_at_the_interval_and_after_the_last_epoch_and_only_once() {
        let mut state = TrainState { epoch: 1, ..TrainState::default() };
        assert!(!state.needs_validation(2, 5));
        state.epoch = 2;
        assert!(state.needs_validation(2, 5));
        state.record_validation(1.0);
        assert!(!state.needs_validation(2, 5));
        state.epoch = 5;
        assert!(state.needs_validation(2, 5));
        state.updates_in_epoch = 1;
        assert!(!state.needs_validation(2, 5));
    }

    #[test]
    fn the_best_is_the_lowest_and_never_nan() {
        let mut state = TrainState { epoch: 1, ..TrainState::default() };
        assert!(!state.record_validation(f64::NAN));
        assert!(state.record_validation(2.0));
        assert!(!state.record_validation(2.0));
        assert!(state.record_validation(1.5));
        assert_eq!(state.best_val_loss, Some(1.5));
    }
}
