//! Warnings after a validation: signs that a run is going wrong although every number is finite.

use std::fmt;

use crate::evaluation::captioning::WrittenCaption;
use crate::evaluation::degeneration::{self, Degeneration};
use crate::training::loss_watch::Jumps;
use crate::training::reward_watch::RewardAlarm;

/// A validation loss this much above the one before has jumped.
const VALIDATION_JUMP: f64 = 1.2;

/// A sign that something is wrong.
#[derive(Clone, Debug, PartialEq)]
pub enum Alarm {
    /// The validation loss is not finite.
    ValidationNotFinite(f64),
    /// The validation loss rose by more than a fifth at once.
    ValidationJumped { from: f64, to: f64 },
    /// Training losses jumped since the last validation.
    TrainingJumped(Jumps),
    /// Self-critical training goes wrong.
    Rewards(RewardAlarm),
    /// The captions have degenerated.
    Captions(Degeneration),
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ADVICE: &str = "try a lower optimizer.learning_rate, a longer warm-up or training.max_grad_norm";
        match self {
            Self::ValidationNotFinite(loss) => write!(f, "the validation loss is {loss}: {ADVICE}"),
            Self::ValidationJumped { from, to } => {
                write!(f, "the validation loss jumped from {from:.4} to {to:.4}: {ADVICE}")
            }
            Self::TrainingJumped(Jumps { count, highest, step, mean }) => write!(
                f,
                "the training loss jumped in {count} updates, the highest to {highest:.4} in update {step} (about \
                 {mean:.4} before it): {ADVICE}"
            ),
            Self::Rewards(alarm) => write!(f, "{alarm}"),
            Self::Captions(degeneration) => {
                write!(f, "{degeneration}; usual at the start of training, a problem if it lasts")
            }
        }
    }
}

/// What a validation warns of: a loss that is not finite or has jumped since the last validation, jumps of training
/// losses and bad rewards in between, and degenerate captions.
pub fn alarms(
    val_loss: f64,
    previous: Option<f64>,
    jumps: Option<Jumps>,
    rewards: Vec<RewardAlarm>,
    captions: &[WrittenCaption],
) -> Vec<Alarm> {
    let mut alarms = Vec::new();
    if !val_loss.is_finite() {
        alarms.push(Alarm::ValidationNotFinite(val_loss));
    } else if let Some(from) = previous.filter(|previous| val_loss > VALIDATION_JUMP * previous) {
        alarms.push(Alarm::ValidationJumped { from, to: val_loss });
    }
    alarms.extend(jumps.map(Alarm::TrainingJumped));
    alarms.extend(rewards.into_iter().map(Alarm::Rewards));
    alarms.extend(degeneration::find(captions).into_iter().map(Alarm::Captions));
    alarms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_validation_loss_that_jumps_or_is_not_finite_is_an_alarm_and_one_that_creeps_up_is_not() {
        assert_eq!(alarms(3.0, None, None, Vec::new(), &[]), []);
        assert_eq!(alarms(3.0, Some(2.6), None, Vec::new(), &[]), []);
        assert_eq!(alarms(3.0, Some(2.4), None, Vec::new(), &[]), [Alarm::ValidationJumped { from: 2.4, to: 3.0 }]);
        assert_eq!(
            alarms(f64::INFINITY, Some(2.4), None, Vec::new(), &[]),
            [Alarm::ValidationNotFinite(f64::INFINITY)]
        );
        assert_eq!(alarms(3.0, Some(f64::NAN), None, Vec::new(), &[]), []);
    }

    #[test]
    fn every_alarm_says_what_happened_and_what_helps() {
        let jumps = Jumps { count: 2, highest: 9.0, step: 30, mean: 2.5 };
        let text: Vec<String> =
            alarms(3.0, Some(2.0), Some(jumps), vec![RewardAlarm::WithoutVariance { share: 0.6 }], &[])
                .iter()
                .map(Alarm::to_string)
                .collect();
        assert!(text[0].contains("jumped from 2.0000 to 3.0000") && text[0].contains("optimizer.learning_rate"));
        assert!(text[1].contains("in 2 updates, the highest to 9.0000 in update 30") && text[1].contains("2.5000"));
        assert!(text[2].contains("60 % of the images") && text[2].contains("training.scst.temperature"), "{text:?}");
    }
}
