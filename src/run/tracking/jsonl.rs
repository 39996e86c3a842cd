//! `metrics.jsonl`: one object for each logged update, each epoch and each validation.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::base::fault::WithHint as _;
use crate::run::run_directory::{RunDirectory, UNWRITABLE};
use crate::training::events::{Event, Observer};

/// The observer.
pub struct JsonLines {
    file: File,
    path: PathBuf,
    log_interval: u64,
}

impl JsonLines {
    /// Appends to the run's file.
    ///
    /// # Errors
    /// A file that cannot be opened.
    pub fn open(run: &RunDirectory, log_interval: usize) -> anyhow::Result<Self> {
        let path = run.metrics();
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = file.with_context(|| format!("cannot open {}", path.display())).hint(|| UNWRITABLE)?;
        Ok(Self { file, path, log_interval: log_interval as u64 })
    }

    fn append(&mut self, value: &Value) -> anyhow::Result<()> {
        let line = format!("{value}\n");
        self.file
            .write_all(line.as_bytes())
            .with_context(|| format!("cannot write {}", self.path.display()))
            .hint(|| UNWRITABLE)
    }
}

impl Observer for JsonLines {
    fn observe(&mut self, event: &Event<'_>) -> anyhow::Result<()> {
        let value = match event {
            Event::Step(report) if report.global_step.is_multiple_of(self.log_interval) || report.skipped => json!({
                "kind": "step",
                "step": report.global_step,
                "epoch": report.epoch,
                "loss": report.loss,
                "learning_rate": report.learning_rate,
                "grad_norm": report.grad_norm,
                "images_per_second": report.num_examples as f64 / report.seconds,
                "wait_seconds": report.wait_seconds,
                "skipped": report.skipped,
            }),
            Event::EpochTrained { state } => json!({
                "kind": "epoch",
                "step": state.global_step,
                "epoch": state.epoch,
                "train_loss": state.train_loss,
                "train_seconds": state.train_seconds,
                "skipped_updates": state.skipped_updates,
            }),
            Event::Validated { state, val_loss, scores, seconds, is_best, alarms } => json!({
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
            _ => return Ok(()),
        };
        self.append(&value)
    }
}
