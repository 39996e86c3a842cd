//! Finds the checkpoint to resume from: the latest of a run that can be read whole.

use std::cmp::Reverse;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, Result};

use crate::run::checkpoint::reader::read_metadata;
use crate::run::checkpoint_names::{LAST, best_file_name};
use crate::run::run_directory::RunDirectory;
use base::error::{WithHint as _, describe, failure};
use base::terminal;

/// The latest checkpoint of the run in `folder` that `read` takes, with its path. What is damaged is skipped with a
/// warning.
///
/// # Errors
/// A folder that is not a run's, or that contains no readable checkpoint.
pub fn latest_in_run<T>(folder: &Path, read: impl Fn(&Path) -> Result<T>) -> Result<(PathBuf, T)> {
    let checkpoints = RunDirectory::at(folder).checkpoints();
    let mut found = Vec::new();
    for path in checkpoint_files(&checkpoints)? {
        match read_metadata(&path) {
            // No state of the run.
            Ok((metadata, _)) if !metadata.average_of.is_empty() => {}
            // Of two of one update `last` was written later: it knows the validation, if there was one.
            Ok((metadata, _)) => found.push((metadata.state.global_step, path.ends_with(LAST), path)),
            Err(error) => skip(&path, &error),
        }
    }
    found.sort();
    while let Some((_, _, path)) = found.pop() {
        match read(&path) {
            Ok(checkpoint) => return Ok((path, checkpoint)),
            Err(error) => skip(&path, &error),
        }
    }
    Err(failure(
        format!("no resumable checkpoint in {}", checkpoints.display()),
        "give another run or a checkpoint file, or start a new run with --config",
    ))
}

/// The best checkpoint of the run in `folder`.
///
/// # Errors
/// As [`latest_in_run`]; a run without a validation, a file that is gone.
pub fn best_in_run(folder: &Path) -> Result<PathBuf> {
    let (latest, (metadata, _)) = latest_in_run(folder, read_metadata)?;
    let best = best_file_name(&metadata.state).map(|name| latest.with_file_name(name));
    best.filter(|path| path.is_file()).ok_or_else(|| {
        failure(
            format!(
                "the run in {} has no best checkpoint: it was not validated, or the file is gone",
                folder.display()
            ),
            "give one of its checkpoint files",
        )
    })
}

/// [`latest_in_run`] of the run in `output` whose checkpoints were written last and of which one can be read.
///
/// # Errors
/// A folder that cannot be read, or that contains no run with such a checkpoint.
pub fn latest_of_runs<T>(output: &Path, read: impl Fn(&Path) -> Result<T>) -> Result<(PathBuf, T)> {
    let entries = fs::read_dir(output)
        .with_context(|| format!("cannot look for runs in {}", output.display()))
        .hint(|| "give the folder of the runs with --set output_dir=FOLDER, or a run's folder or a checkpoint file")?;
    let mut runs: Vec<(Reverse<SystemTime>, PathBuf)> = Vec::new();
    for entry in entries {
        let folder = entry.with_context(|| format!("cannot read {}", output.display()))?.path();
        let files = checkpoint_files(&RunDirectory::at(&folder).checkpoints()).unwrap_or_default();
        let times = files.iter().filter_map(|path| fs::metadata(path).ok()?.modified().ok());
        runs.extend(times.max().map(|time| (Reverse(time), folder)));
    }
    runs.sort();
    for (_, run) in runs {
        match latest_in_run(&run, &read) {
            Ok(found) => return Ok(found),
            Err(error) => skip(&run, &error),
        }
    }
    Err(failure(
        format!("no resumable checkpoint in any run in {}", output.display()),
        "give a run's folder or a checkpoint file, or start a new run with --config",
    ))
}

fn checkpoint_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = || format!("cannot read {}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(read)? {
        let path = entry.with_context(read)?.path();
        // An unfinished file has another ending.
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            files.push(path);
        }
    }
    Ok(files)
}

fn skip(path: &Path, error: &anyhow::Error) {
    terminal::warning(&format!("skipping {}: {}", path.display(), describe(error)));
}
