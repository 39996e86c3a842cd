//! Observers of the loop: each takes the same events and keeps or shows them in its own way.

pub mod checkpoints;
pub mod console;
pub mod event_file;
pub mod jsonl;
pub mod log_lines;
pub mod protobuf;
pub mod records;
pub mod results_table;
pub mod sample_pictures;
pub mod scalars;
pub mod system_monitor;
pub mod tensorboard;
#[cfg(feature = "wandb")]
pub mod wandb;
#[cfg(feature = "wandb")]
pub mod weights_and_biases;

use crate::base::fault::one_line;
use crate::base::terminal;
use crate::training::events::{Event, Observer};

/// Several observers, told one after the other. The first failure is returned, after all were told.
pub struct Observers<'a>(pub Vec<Box<dyn Observer + 'a>>);

impl Observer for Observers<'_> {
    fn observe(&mut self, event: &Event<'_>) -> anyhow::Result<()> {
        let mut result = Ok(());
        for observer in &mut self.0 {
            let told = observer.observe(event);
            if result.is_ok() {
                result = told;
            }
        }
        result
    }
}

/// An observer whose failure does not stop the run: it is told once, and the observer hears nothing more.
pub struct Dispensable<O> {
    observer: O,
    /// What it is called in the warning.
    name: &'static str,
    has_failed: bool,
}

impl<O> Dispensable<O> {
    /// Wraps an observer.
    pub fn new(name: &'static str, observer: O) -> Self {
        Self { observer, name, has_failed: false }
    }

    /// The observer, unless it has failed.
    pub fn into_inner(self) -> Option<O> {
        (!self.has_failed).then_some(self.observer)
    }
}

impl<O: Observer> Observer for Dispensable<O> {
    fn observe(&mut self, event: &Event<'_>) -> anyhow::Result<()> {
        if !self.has_failed
            && let Err(error) = self.observer.observe(event)
        {
            self.has_failed = true;
            terminal::warning(&format!("{} is told nothing more: {}", self.name, one_line(&error)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counting(usize);

    impl Observer for Counting {
        fn observe(&mut self, _: &Event<'_>) -> anyhow::Result<()> {
            self.0 += 1;
            anyhow::ensure!(self.0 < 2, "the disk is full");
            Ok(())
        }
    }

    #[test]
    fn a_tracker_that_fails_hears_nothing_more_and_stops_nothing() {
        let mut tracker = Dispensable::new("TensorBoard", Counting(0));
        for _ in 0..4 {
            tracker.observe(&Event::ValidationBatch).unwrap();
        }
        assert_eq!(tracker.observer.0, 2);
        assert!(tracker.into_inner().is_none());
    }
}
