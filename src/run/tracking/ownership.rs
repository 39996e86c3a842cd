//! Stops a run whose folder another process has taken over, before anything more is written there.

use std::time::{Duration, Instant};

use crate::run::run_directory::RunDirectory;
use crate::run::tracking::Observers;
use crate::training::events::{Event, Observer};

/// Time between two checks; a checkpoint is written only after one.
const INTERVAL: Duration = Duration::from_secs(1);

/// Observers that see events only as long as the run's folder is this process's own.
pub struct WhileOwned<'a> {
    run: RunDirectory,
    observers: Observers<'a>,
    checked: Instant,
}

impl<'a> WhileOwned<'a> {
    /// Observers that write to `run`, which this process has locked.
    pub fn new(run: RunDirectory, observers: Observers<'a>) -> Self {
        Self { run, observers, checked: Instant::now() }
    }
}

impl Observer for WhileOwned<'_> {
    fn observe(&mut self, event: &Event<'_>) -> anyhow::Result<()> {
        // A process that was suspended finds that the interval is over.
        if matches!(event, Event::Saving { .. }) || self.checked.elapsed() >= INTERVAL {
            self.run.check_owned()?;
            self.checked = Instant::now();
        }
        self.observers.observe(event)
    }
}
