//! Finds the checkpoint to go on from: the newest one of a run that can be read whole.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, Result};

use crate::base::fault::{WithHint as _, describe, fault};
use crate::base::terminal;
use crate::run::checkpoint::reader::{Checkpoint, read_checkpoint, read_metadata};
use crate::run::run_directory::RunDirectory;

/// The newest checkpoint of the run in `folder` that is whole, with its path. What is damaged is named in a warning and
/// passed over.
///
/// # Errors
/// A folder that is no run's, or that holds no checkpoint that can be read.
pub fn newest_in_run(folder: &Path) -> Result<(PathBuf, Checkpoint)> {
    let checkpoints = RunDirectory::at(folder).checkpoints();
    let mut found = Vec::new();
    for path in checkpoint_files(&checkpoints)? {
        match read_metadata(&path) {
            // Of two of one update `last` knows its validation.
            Ok((metadata, _)) => found.push((metadata.state.global_step, path.ends_with(LAST), path)),
            Err(error) => pass_over(&path, &error),
        }
    }
    found.sort();
    while let Some((_, _, path)) = found.pop() {
        match read_checkpoint(&path) {
            Ok(checkpoint) => return Ok((path, checkpoint)),
            Err(error) => pass_over(&path, &error),
        }
    }
    Err(fault(
        format!("there is no checkpoint in {} that can be gone on from", checkpoints.display()),
        "name another run or a checkpoint file, or begin a new run with --config",
    ))
}

/// The run in `output` whose newest checkpoint was written last.
///
/// # Errors
/// A folder that cannot be read, or that holds no run with a checkpoint.
pub fn newest_run(output: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(output)
        .with_context(|| format!("cannot look for runs in {}", output.display()))
        .hint(|| "name the folder of the runs with --set output_dir=FOLDER, a run's folder or a checkpoint file")?;
    let mut newest: Option<(SystemTime, PathBuf)> = None;
    for entry in entries {
        let folder = entry.with_context(|| format!("cannot read {}", output.display()))?.path();
        let files = checkpoint_files(&RunDirectory::at(&folder).checkpoints()).unwrap_or_default();
        let times = files.iter().filter_map(|path| fs::metadata(path).ok()?.modified().ok());
        if let Some(time) = times.max()
            && newest.as_ref().is_none_or(|(newest, _)| time > *newest)
        {
            newest = Some((time, folder));
        }
    }
    newest.map(|(_, folder)| folder).ok_or_else(|| {
        fault(
            format!("no run in {} has a checkpoint", output.display()),
            "name a run's folder or a checkpoint file, or begin a new run with --config",
        )
    })
}

const LAST: &str = "last.safetensors";

fn checkpoint_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = || format!("cannot read {}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(read)? {
        let path = entry.with_context(read)?.path();
        // An unfinished file ends otherwise.
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            files.push(path);
        }
    }
    Ok(files)
}

fn pass_over(path: &Path, error: &anyhow::Error) {
    terminal::warning(&format!("{} is passed over: {}", path.display(), describe(error)));
}
