//! Observers of the loop: each takes the same events and keeps or shows them in its own way.

pub mod checkpoints;
pub mod console;
pub mod jsonl;
pub mod records;
pub mod results_table;
pub mod system_monitor;

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
