//! What happens as named numbers, as the curves of TensorBoard and W&B have them.

use serde_json::Value;

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

/// The numbers of a line of `metrics.jsonl` that an update or an epoch has left, by the names that [`of_event`] gave them.
/// One that was not finite is NaN.
pub fn of_line(line: &Value) -> Option<Scalars> {
    let names: &[(&str, &str)] = match line["kind"].as_str()? {
        "step" => &[
            ("loss", "train/loss"),
            ("learning_rate", "train/learning_rate"),
            ("grad_norm", "train/grad_norm"),
            ("images_per_second", "train/images_per_second"),
            ("wait_seconds", "train/wait_seconds"),
        ],
        "epoch" => &[
            ("train_loss", "train/epoch_loss"),
            ("train_seconds", "train/epoch_seconds"),
            ("skipped_updates", "train/skipped_updates"),
        ],
        _ => return None,
    };
    let value = |&(key, name): &(&str, &str)| (name.to_owned(), line[key].as_f64().unwrap_or(f64::NAN));
    Some(Scalars { step: line["step"].as_u64()?, values: names.iter().map(value).collect() })
}

/// Whether an event is one that trackers log: of the updates every `interval`th, and those that were skipped.
pub fn is_logged(event: &Event<'_>, interval: u64) -> bool {
    match event {
        Event::Step(report) => report.global_step.is_multiple_of(interval) || report.skipped,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::tracking::records;
    use crate::training::train_state::TrainState;

    #[test]
    fn a_line_of_the_metrics_gives_the_numbers_of_its_event() {
        let report = StepReport {
            global_step: 7,
            epoch: 2,
            loss: 3.5,
            learning_rate: 1e-4,
            grad_norm: 0.5,
            num_examples: 32,
            seconds: 0.25,
            wait_seconds: 0.125,
            skipped: false,
        };
        let state = TrainState { epoch: 2, global_step: 7, train_loss: Some(3.25), ..TrainState::default() };
        for event in [Event::Step(report), Event::EpochTrained { state: &state }] {
            let expected = of_event(&event);
            assert!(expected.is_some());
            assert_eq!(of_line(&records::of_event(&event).unwrap()), expected);
        }
        let lost = of_line(&records::of_event(&Event::Step(StepReport { loss: f64::NAN, ..report })).unwrap()).unwrap();
        assert!(lost.values[0].0 == "train/loss" && lost.values[0].1.is_nan());
        assert_eq!(of_line(&serde_json::json!({"kind": "validation", "step": 7})), None);
    }
}
