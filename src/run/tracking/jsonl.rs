//! `metrics.jsonl`: one object for the lengths of the captions, for each logged update, each epoch and each validation.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use serde_json::Value;

use crate::run::run_directory::{RunDirectory, UNWRITABLE};
use crate::run::tracking::records::{of_captions, of_event};
use crate::run::tracking::scalars::is_logged;
use crate::training::events::{Event, Observer};
use base::fault::WithHint as _;
use base::place;

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
        let file = place::open_to_append(&path);
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
        if let Event::Started { plan, state } = event {
            return self.append(&of_captions(plan, state));
        }
        let Some(value) = of_event(event).filter(|_| is_logged(event, self.log_interval)) else { return Ok(()) };
        self.append(&value)
    }
}
