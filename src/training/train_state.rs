//! The progress of a run: all that a resume needs besides parameters and optimizer moments.
//!
//! The order of the examples and every dropout mask are functions of the seed and these counters, so no generator
//! state is kept.

use serde::{Deserialize, Serialize, Serializer};

use crate::config::BestMetric;
use crate::training::loss_watch::LossWatch;
use crate::training::reward_watch::RewardWatch;

/// Progress of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainState {
    /// Completed epochs.
    pub epoch: u64,
    /// Updates done in the current epoch.
    pub updates_in_epoch: u64,
    /// Updates done in all, skipped ones included: the schedule's clock.
    pub global_step: u64,
    /// Sum of token losses in the current epoch.
    pub epoch_loss_sum: f64,
    /// Tokens in that sum, each as often as it is weighed.
    #[serde(serialize_with = "as_whole")]
    pub epoch_loss_count: f64,
    /// Seconds spent on the updates of the current epoch.
    pub epoch_seconds: f64,
    /// Mean training loss of the last completed epoch; absent before it.
    pub train_loss: Option<f64>,
    /// Seconds that the updates of the last completed epoch took.
    pub train_seconds: f64,
    /// Completed epochs at the last validation.
    pub validated_epoch: u64,
    /// Validation loss after that epoch.
    pub val_loss: Option<f64>,
    /// Validation loss of the best epoch so far.
    pub best_val_loss: Option<f64>,
    /// CIDEr-D of the best epoch's captions, when they were scored.
    #[serde(default)]
    pub best_cider: Option<f64>,
    pub best_epoch: u64,
    /// Validations since then that could have been better.
    #[serde(default)]
    pub validations_since_best: u64,
    /// Updates skipped because the loss or a gradient was not finite.
    pub skipped_updates: u64,
    /// Those skipped in a row up to now.
    pub skipped_in_a_row: u64,
    /// Training losses that jumped.
    #[serde(default)]
    pub loss_watch: LossWatch,
    /// Rewards of self-critical training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward_watch: Option<RewardWatch>,
    /// Updates done at the last validation, in a run that counts its validations by updates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validated_update: Option<u64>,
    /// Updates done by the best model, in such a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best_update: Option<u64>,
}

/// Without weights this is a number of tokens, and is written as one.
fn as_whole<S: Serializer>(count: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    const EXACT: f64 = (1_u64 << f64::MANTISSA_DIGITS) as f64;
    if count.fract() == 0.0 && (0.0..EXACT).contains(count) {
        serializer.serialize_u64(*count as u64)
    } else {
        serializer.serialize_f64(*count)
    }
}

impl TrainState {
    /// Whether the epoch just completed is due for validation and has not had it.
    pub fn needs_validation(&self, interval: u64, num_epochs: u64) -> bool {
        let due = self.epoch.is_multiple_of(interval) || self.epoch == num_epochs;
        self.epoch > 0 && self.updates_in_epoch == 0 && self.validated_epoch < self.epoch && due
    }

    /// Whether a validation is due after each `interval` updates, and before the first, and the update just done has not had it.
    pub fn needs_validation_of_update(&self, interval: Option<u64>) -> bool {
        let is_due = interval.is_some_and(|interval| self.global_step.is_multiple_of(interval));
        is_due && self.validated_update != Some(self.global_step)
    }

    /// Whether the state lies within an epoch, or before the first.
    pub fn is_within_epoch(&self) -> bool {
        self.epoch == 0 || self.updates_in_epoch > 0
    }

    /// Whether `patience` validations in a row brought no new lowest loss.
    pub fn is_out_of_patience(&self, patience: Option<usize>) -> bool {
        patience.is_some_and(|patience| self.validations_since_best >= patience as u64)
    }

    /// Takes note of the validation that follows, in a run that counts them by updates.
    pub fn count_validation_by_update(&mut self) {
        self.validated_update = Some(self.global_step);
    }

    /// Takes a validation loss, and the CIDEr-D of the captions where they were scored; says whether the model is the
    /// best so far by `metric`. One whose loss is not finite never is.
    pub fn record_validation(&mut self, val_loss: f64, cider: Option<f64>, metric: BestMetric) -> bool {
        self.validated_epoch = self.epoch;
        self.val_loss = Some(val_loss);
        if metric == BestMetric::Cider && cider.is_none() && val_loss.is_finite() {
            return false;
        }
        let is_better = match metric {
            BestMetric::ValLoss => self.best_val_loss.is_none_or(|best| val_loss < best),
            BestMetric::Cider => cider > self.best_cider,
        };
        let is_best = val_loss.is_finite() && is_better;
        if is_best {
            self.best_val_loss = Some(val_loss);
            self.best_cider = cider;
            self.best_epoch = self.epoch;
            self.best_update = self.validated_update;
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
        state.record_validation(1.0, None, BestMetric::ValLoss);
        assert!(!state.needs_validation(2, 5));
        state.epoch = 5;
        assert!(state.needs_validation(2, 5));
        state.updates_in_epoch = 1;
        assert!(!state.needs_validation(2, 5));
    }

    #[test]
    fn a_validation_by_updates_is_due_before_the_first_and_at_the_interval_and_only_once() {
        let mut state = TrainState::default();
        assert!(!state.needs_validation_of_update(None) && state.needs_validation_of_update(Some(5)));
        state.count_validation_by_update();
        assert!(state.record_validation(1.0, Some(0.5), BestMetric::Cider));
        assert!(!state.needs_validation_of_update(Some(5)));
        (state.global_step, state.updates_in_epoch) = (4, 4);
        assert!(!state.needs_validation_of_update(Some(5)));
        (state.global_step, state.updates_in_epoch) = (5, 5);
        assert!(state.needs_validation_of_update(Some(5)));
        state.count_validation_by_update();
        assert!(!state.record_validation(1.0, Some(0.4), BestMetric::Cider));
        assert!(!state.needs_validation_of_update(Some(5)));
        assert_eq!((state.best_update, state.best_epoch), (Some(0), 0));
    }

    #[test]
    fn a_count_without_weights_is_written_as_a_whole_number() {
        for (count, expected) in [(0.0, "\"epoch_loss_count\":0,"), (12.0, "count\":12,"), (0.75, "count\":0.75,")] {
            let state = TrainState { epoch_loss_count: count, ..TrainState::default() };
            let text = serde_json::to_string(&state).unwrap();
            assert!(text.contains(expected), "{text}");
            assert_eq!(serde_json::from_str::<TrainState>(&text).unwrap(), state);
        }
    }

    #[test]
    fn the_best_is_the_lowest_and_always_finite() {
        let mut state = TrainState { epoch: 1, ..TrainState::default() };
        let mut record = |val_loss| state.record_validation(val_loss, None, BestMetric::ValLoss);
        assert_eq!([f64::NAN, f64::INFINITY, 2.0, 2.0, 1.5].map(&mut record), [false, false, true, false, true]);
        assert_eq!(state.best_val_loss, Some(1.5));
    }

    #[test]
    fn by_cider_the_best_is_the_highest_among_the_validations_that_score() {
        let mut state = TrainState { epoch: 1, ..TrainState::default() };
        let mut record = |val_loss, cider| state.record_validation(val_loss, cider, BestMetric::Cider);
        assert!(!record(3.0, None) && record(2.0, Some(0.5)) && !record(1.0, Some(0.4)) && record(2.5, Some(0.6)));
        assert!(!record(f64::NAN, None) && !record(1.0, None));
        assert_eq!((state.best_val_loss, state.best_cider), (Some(2.5), Some(0.6)));
        assert_eq!(
            state.validations_since_best, 1,
            "one whose loss is not finite counts, one that was not scored does not"
        );
    }
}
