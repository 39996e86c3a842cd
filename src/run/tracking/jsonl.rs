//! `metrics.jsonl`: one object for the lengths of the captions, for each logged update, each epoch and each validation.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;

use crate::run::run_directory::{RunDirectory, UNWRITABLE};
use crate::training::events::{Event, Observer};
use base::error::WithHint as _;
use base::place;

/// Appends to the run's file. No tracker: a run that cannot keep its metrics stops.
pub struct JsonLines {
    file: File,
    path: PathBuf,
    log_interval: u64,
}

impl JsonLines {
    /// # Errors
    /// A file that cannot be opened.
    pub fn open(run: &RunDirectory, log_interval: usize) -> anyhow::Result<Self> {
        let path = run.metrics();
        let file = place::open_to_append(&path);
        let file = file.with_context(|| format!("cannot open {}", path.display())).hint(|| UNWRITABLE)?;
        Ok(Self { file, path, log_interval: log_interval as u64 })
    }
}

impl Observer for JsonLines {
    /// A line is written at once: a checkpoint that is saved later has its lines before it.
    fn observe(&mut self, event: &Event<'_>) -> anyhow::Result<()> {
        let Some(record) = event.record().filter(|record| record.is_logged(self.log_interval)) else { return Ok(()) };
        self.file
            .write_all(record.to_line()?.as_bytes())
            .with_context(|| format!("cannot write {}", self.path.display()))
            .hint(|| UNWRITABLE)
    }
}
