//! Observers of the loop: each takes the same events and keeps or shows them in its own way.

pub mod checkpoints;
pub mod console;
mod epoch_table;
pub mod jsonl;
pub mod log_lines;
pub mod ownership;
pub mod records;
pub mod results_table;
pub mod sample_pictures;
pub mod scalars;
pub mod system_monitor;
pub mod tensorboard;
#[cfg(feature = "wandb")]
pub mod wandb;

use crate::training::events::{Event, Observer};
use base::fault::one_line;
use base::terminal;

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
    /// Nothing once it has failed.
    observer: Option<O>,
    /// What it is called in the warning.
    name: &'static str,
}

impl<O> Dispensable<O> {
    /// Wraps an observer.
    pub fn new(name: &'static str, observer: O) -> Self {
        Self { observer: Some(observer), name }
    }

    /// The observer, unless it has failed.
    pub fn into_inner(self) -> Option<O> {
        self.observer
    }

    /// Does something with the observer, unless it has failed.
    pub fn attempt(&mut self, action: impl FnOnce(&mut O) -> anyhow::Result<()>) {
        let Some(observer) = &mut self.observer else { return };
        if let Err(error) = action(observer) {
            self.observer = None;
            terminal::warning(&format!("{} is told nothing more: {}", self.name, one_line(&error)));
        }
    }
}

impl<O: Observer> Observer for Dispensable<O> {
    fn observe(&mut self, event: &Event<'_>) -> anyhow::Result<()> {
        self.attempt(|observer| observer.observe(event));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    struct Counting(Rc<Cell<usize>>);

    impl Observer for Counting {
        fn observe(&mut self, _: &Event<'_>) -> anyhow::Result<()> {
            self.0.set(self.0.get() + 1);
            anyhow::ensure!(self.0.get() < 2, "the disk is full");
            Ok(())
        }
    }

    #[test]
    fn a_tracker_that_fails_hears_nothing_more_and_stops_nothing() {
        let count = Rc::new(Cell::new(0));
        let mut tracker = Dispensable::new("TensorBoard", Counting(Rc::clone(&count)));
        for _ in 0..4 {
            tracker.observe(&Event::ValidationBatch).unwrap();
        }
        assert_eq!(count.get(), 2);
        assert!(tracker.into_inner().is_none());
    }
}
