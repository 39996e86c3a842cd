//! The folder that a process trains in: a new one, or that of the run it resumes.

use anyhow::{Context as _, Result};

use crate::config;
use crate::run::checkpoint::layout::CheckpointMetadata;
use crate::run::checkpoint::reader::read_metadata;
use crate::run::checkpoint_names::best_file_name;
use crate::run::run_directory::{Claim, RunDirectory};
use crate::run::setup::Setup;
use base::{atomic_file, terminal};

const CONFIG: &str = "config.resolved.toml";

/// A new folder, numbered where the name is taken.
pub(super) fn create(setup: &Setup) -> Result<RunDirectory> {
    let config = &setup.plan.config;
    let run = RunDirectory::create(&config.output_dir, config.name.as_deref().unwrap_or("run"))?;
    run.write(CONFIG, &config::to_toml(config))?;
    setup.tokenizer.save(&run.tokenizer())?;
    Ok(run)
}

/// The folder of `run`, locked. `None`: the run is to be resumed in a new folder, since the user named another one,
/// since another process is at work in this one, or since what came after the checkpoint would be overwritten.
pub(super) fn claim_in_place(
    run: &RunDirectory,
    checkpoint: &CheckpointMetadata,
    setup: &Setup,
) -> Result<Option<RunDirectory>> {
    let (old, new) = (&checkpoint.config, &setup.plan.config);
    if old.output_dir != new.output_dir || old.name != new.name {
        return Ok(None);
    }
    match run.claim()? {
        Claim::Ours(run) => Ok(Some(run).filter(|run| is_latest(run, checkpoint))),
        Claim::InUse(holder) => {
            terminal::warning(&format!(
                "the run in {} is still being trained or is suspended ({holder}): it is resumed in a new folder",
                run.path().display()
            ));
            Ok(None)
        }
    }
}

/// Whether the run has no later checkpoint than this one.
fn is_latest(run: &RunDirectory, checkpoint: &CheckpointMetadata) -> bool {
    let last = read_metadata(&run.last_checkpoint());
    last.is_ok_and(|(metadata, _)| metadata.state.global_step <= checkpoint.state.global_step)
}

/// Takes the folder back to where the checkpoint was written.
pub(super) fn rewind(run: &RunDirectory, setup: &Setup) -> Result<()> {
    // First, since it may be what fills the disk.
    run.remove_unfinished();
    run.rewind_metrics(&setup.state)?;
    run.write(CONFIG, &config::to_toml(&setup.plan.config))
}

/// Takes the best checkpoint so far along into the folder of the resumed run.
pub(super) fn bring_best(from: &RunDirectory, to: &RunDirectory, setup: &Setup) -> Result<()> {
    let Some(name) = best_file_name(&setup.state) else { return Ok(()) };
    let source = from.checkpoints().join(&name);
    if !source.is_file() {
        return Ok(());
    }
    let target = to.checkpoints().join(&name);
    atomic_file::copy(&source, &target)
        .with_context(|| format!("cannot copy {} to {}", source.display(), target.display()))
}
