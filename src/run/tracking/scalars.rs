//! What happens as named numbers, as the curves of TensorBoard and W&B have them.

use crate::training::events::{Event, StepReport};

/// Numbers of one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Scalars {
    /// Updates done.
    pub step: u64,
    /// Names and values; a value need not be finite.
    pub values: Vec<(String, f64)>,
}

/// The numbers of an event; `None` for those that have none.
pub fn of_event(event: &Event<'_>) -> Option<Scalars> {
    match event {
        Event::Step(report) => Some(of_step(report)),
        Event::EpochTrained { state } => {
            let loss = state.train_loss.map(|loss| ("train/epoch_loss".to_owned(), loss));
            let rest = [
                ("train/epoch_seconds".to_owned(), state.train_seconds),
                ("train/skipped_updates".to_owned(), state.skipped_updates as f64),
            ];
            Some(Scalars { step: state.global_step, values: loss.into_iter().chain(rest).collect() })
        }
        Event::Validated { state, val_loss, scores, seconds, .. } => {
            let mut values = vec![("val/loss".to_owned(), *val_loss), ("val/seconds".to_owned(), *seconds)];
            let scores = scores.iter().flat_map(|signed| signed.scores.named());
            values.extend(scores.map(|(name, value)| (format!("val/{name}"), value)));
            values.push(("epoch".to_owned(), state.epoch as f64));
            Some(Scalars { step: state.global_step, values })
        }
        _ => None,
    }
}

fn of_step(report: &StepReport) -> Scalars {
    let values = [
        ("train/loss", report.loss),
        ("train/learning_rate", report.learning_rate),
        ("train/grad_norm", report.grad_norm),
        ("train/images_per_second", report.num_examples as f64 / report.seconds),
        ("train/wait_seconds", report.wait_seconds),
    ];
    let values = values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Scalars { step: report.global_step, values }
}

/// Whether an event is one that trackers log: of the updates every `interval`th, and those that were skipped.
pub fn is_logged(event: &Event<'_>, interval: u64) -> bool {
    match event {
        Event::Step(report) => report.global_step.is_multiple_of(interval) || report.skipped,
        _ => true,
    }
}
