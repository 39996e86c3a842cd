//! Writes the checkpoints that the loop asks for, and deletes the best ones that are no longer to be kept.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::run::checkpoint::layout::{Provenance, best_file_name, step_file_name};
use crate::run::checkpoint::reader::read_metadata;
use crate::run::checkpoint::retention::to_delete;
use crate::run::checkpoint::writer::write_checkpoint;
use crate::run::run_directory::RunDirectory;
use crate::training::events::{Event, Observer, SavePoint};
use base::fault::WithHint as _;
use base::{atomic_file, terminal};

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

    /// Gives the newest checkpoint a second name, which stays when the next one replaces it.
    fn number_last(&self, last: &Path, global_step: u64) -> anyhow::Result<()> {
        let path = self.run.checkpoints().join(step_file_name(global_step));
        atomic_file::link_or_copy(last, &path)
            .with_context(|| format!("cannot keep {} as {}", last.display(), path.display()))
            .hint(|| "free some disk space, or set checkpoint.keep_last to 1")
    }

    fn number_if_missing(&self, global_step: u64) -> anyhow::Result<()> {
        let last = self.run.last_checkpoint();
        let is_kept = self.provenance.config.checkpoint.keep_last > 1;
        if is_kept && read_metadata(&last).is_ok_and(|(metadata, _)| metadata.state.global_step == global_step) {
            self.number_last(&last, global_step)?;
        }
        Ok(())
    }

    fn delete_old(&self) -> anyhow::Result<()> {
        let folder = self.run.checkpoints();
        let names = || -> std::io::Result<Vec<String>> {
            fs::read_dir(&folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
        };
        let names = names().with_context(|| format!("cannot list {}", folder.display()))?;
        let config = &self.provenance.config.checkpoint;
        for name in to_delete(&names, config.keep_best, config.keep_last) {
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
        let (point, state, parameters, optimizer) = match event {
            Event::Save { point, state, parameters, optimizer } => (point, state, parameters, optimizer),
            // The process before may have been killed between the two names.
            Event::Started { state, .. } => return self.number_if_missing(state.global_step),
            _ => return Ok(()),
        };
        let path = match point {
            SavePoint::Last => self.run.last_checkpoint(),
            SavePoint::Best { val_loss } => self.run.checkpoints().join(best_file_name(state.epoch, *val_loss)),
        };
        write_checkpoint(&path, &self.provenance, state, parameters, optimizer)?;
        terminal::detail(&format!("saved {}", path.display()));
        if *point == SavePoint::Last && self.provenance.config.checkpoint.keep_last > 1 {
            self.number_last(&path, state.global_step)?;
        }
        self.delete_old()
    }
}
