//! What happens as JSON: the lines of `metrics.jsonl`, which the other trackers speak of too.

use std::io;
use std::path::Path;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::training::events::{Event, StepReport};
use crate::training::plan::RunPlan;
use crate::training::train_state::TrainState;
use base::bounded_file::{self, MAX_CAPTIONS_BYTES};

/// The line that says how the captions of a run fit into its decoder.
pub fn of_captions(plan: &RunPlan, state: &TrainState) -> Value {
    json!({
        "kind": "captions",
        "step": state.global_step,
        "epoch": state.epoch,
        "fit": plan.counts.captions,
    })
}

/// The line of an event; `None` for those that have none.
pub fn of_event(event: &Event<'_>) -> Option<Value> {
    Some(match event {
        Event::Step(report) => of_step(report),
        Event::EpochTrained { state } => json!({
            "kind": "epoch",
            "step": state.global_step,
            "epoch": state.epoch,
            "train_loss": state.train_loss,
            "train_seconds": state.train_seconds,
            "skipped_updates": state.skipped_updates,
        }),
        Event::Validated { state, val_loss, scores, seconds, is_best, alarms, .. } => json!({
            "kind": "validation",
            "step": state.global_step,
            "epoch": state.epoch,
            "val_loss": val_loss,
            "scores": scores.map(|signed| signed.scores),
            "signature": scores.map(|signed| &signed.signature),
            "val_seconds": seconds,
            "best": is_best,
            "alarms": alarms.iter().map(ToString::to_string).collect::<Vec<_>>(),
        }),
        _ => return None,
    })
}

fn of_step(report: &StepReport) -> Value {
    json!({
        "kind": "step",
        "step": report.global_step,
        "epoch": report.epoch,
        "loss": report.loss,
        "learning_rate": report.learning_rate,
        "grad_norm": report.grad_norm,
        "images_per_second": report.num_examples as f64 / report.seconds,
        "seconds": report.seconds,
        "wait_seconds": report.wait_seconds,
        "skipped": report.skipped,
    })
}

/// The lines of a `metrics.jsonl`, without those that are none; nothing where there is no file.
///
/// # Errors
/// A file that cannot be read.
pub fn lines(path: &Path) -> anyhow::Result<Vec<Value>> {
    let bytes = match bounded_file::read(path, MAX_CAPTIONS_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    Ok(bytes.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect())
}
