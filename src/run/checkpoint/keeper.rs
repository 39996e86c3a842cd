//! Writes the checkpoints that the loop asks for, and deletes those that are no longer kept.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::model::parameters::Parameters;
use crate::run::checkpoint::layout::CheckpointMetadata;
use crate::run::checkpoint::reader::read_metadata;
use crate::run::checkpoint::retention::to_delete;
use crate::run::checkpoint::writer::write_checkpoint;
use crate::run::checkpoint_names::{best_file_name, step_file_name};
use crate::run::run_directory::RunDirectory;
use crate::training::checkpointer::{Checkpointer, SavePoint};
use crate::training::optimizer::Optimizer;
use crate::training::train_state::TrainState;
use base::error::WithHint as _;
use base::{atomic_file, terminal};

/// The checkpoints of a run's folder.
pub struct CheckpointKeeper {
    run: RunDirectory,
    /// What all of them say of the run.
    metadata: CheckpointMetadata,
}

impl CheckpointKeeper {
    pub fn new(run: RunDirectory, metadata: CheckpointMetadata) -> Self {
        Self { run, metadata }
    }

    /// Links the newest checkpoint under a second name, which stays when the next one replaces it.
    fn number_last(&self, last: &Path, global_step: u64) -> anyhow::Result<()> {
        let path = self.run.checkpoints().join(step_file_name(global_step));
        atomic_file::link_or_copy(last, &path)
            .with_context(|| format!("cannot keep {} as {}", last.display(), path.display()))
            .hint(|| "free some disk space, or set checkpoint.keep_last to 1")
    }

    /// Gives the checkpoint of `global_step` its second name where the process before was killed between the two.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn number_if_missing(&self, global_step: u64) -> anyhow::Result<()> {
        let last = self.run.last_checkpoint();
        let is_kept = self.metadata.config.checkpoint.keep_last > 1;
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
        let config = &self.metadata.config.checkpoint;
        for name in to_delete(&names, config.keep_best, config.keep_last) {
            let path: PathBuf = folder.join(name);
            if let Err(error) = fs::remove_file(&path) {
                terminal::warning(&format!("cannot delete the old checkpoint {}: {error}", path.display()));
            }
        }
        Ok(())
    }
}

impl Checkpointer for CheckpointKeeper {
    fn save(
        &mut self,
        point: SavePoint,
        state: &TrainState,
        parameters: &Parameters,
        optimizer: &Optimizer,
    ) -> anyhow::Result<()> {
        let path = match point {
            SavePoint::Last => self.run.last_checkpoint(),
            SavePoint::Best { .. } => {
                self.run.checkpoints().join(best_file_name(state).context("a best model has a validation")?)
            }
        };
        write_checkpoint(&path, &self.metadata, state, parameters, optimizer)?;
        terminal::detail(&format!("saved {}", path.display()));
        if point == SavePoint::Last && self.metadata.config.checkpoint.keep_last > 1 {
            self.number_last(&path, state.global_step)?;
        }
        self.delete_old()
    }
}
