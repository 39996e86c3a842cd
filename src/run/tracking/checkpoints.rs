//! Writes the checkpoints that the loop asks for, and deletes the best ones that are no longer to be kept.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;

use crate::base::terminal;
use crate::run::checkpoint::layout::{Provenance, best_file_name};
use crate::run::checkpoint::retention::to_delete;
use crate::run::checkpoint::writer::write_checkpoint;
use crate::run::run_directory::RunDirectory;
use crate::training::events::{Event, Observer, SavePoint};

/// The observer.
pub struct CheckpointKeeper {
    run: RunDirectory,
    provenance: Provenance,
}

impl CheckpointKeeper {
    /// Keeps the checkpoints of `run`.
    pub fn new(run: RunDirectory, provenance: Provenance) -> Self {
        Self { run, provenance }
    }

    fn delete_old(&self) -> anyhow::Result<()> {
        let folder = self.run.checkpoints();
        let names = || -> std::io::Result<Vec<String>> {
            fs::read_dir(&folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
        };
        let names = names().with_context(|| format!("cannot list {}", folder.display()))?;
        for name in to_delete(&names, self.provenance.config.checkpoint.keep_best) {
            let path: PathBuf = folder.join(name);
            if let Err(error) = fs::remove_file(&path) {
                terminal::warning(&format!("cannot delete the old checkpoint {}: {error}", path.display()));
            }
        }
        Ok(())
    }
}

impl Observer for CheckpointKeeper {
    fn observe(&mut self, event: &Event<'_>) -> anyhow::Result<()> {
        let Event::Save { point, state, parameters, optimizer } = event else { return Ok(()) };
        let path = match point {
            SavePoint::Last => self.run.last_checkpoint(),
            SavePoint::Best { val_loss } => self.run.checkpoints().join(best_file_name(state.epoch, *val_loss)),
        };
        write_checkpoint(&path, &self.provenance, state, parameters, optimizer)?;
        terminal::detail(&format!("saved {}", path.display()));
        if matches!(point, SavePoint::Best { .. }) {
            self.delete_old()?;
        }
        Ok(())
    }
}
