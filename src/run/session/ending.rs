//! What a run says and leaves at its end.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::run::checkpoint::find_latest::latest_in_run;
use crate::run::checkpoint::reader::verify;
use crate::run::checkpoint_names::best_file_name;
use crate::run::report;
use crate::run::run_directory::RunDirectory;
use crate::run::status::RunStatus;
use crate::training::train_state::TrainState;
use base::error::{failure, one_line};
use base::quoting::shell_path;
use base::{memory, terminal};

/// A run is what it is without its status.
pub(super) fn note(run: &RunDirectory, status: &RunStatus) {
    // Another process that took the folder over has its own status.
    if run.check_owned().is_err() {
        return;
    }
    if let Err(error) = status.write(run) {
        terminal::warning(&format!("cannot record the status of the run: {}", one_line(&error)));
    }
}

pub(super) fn best_checkpoint(run: &RunDirectory, state: &TrainState) -> Result<PathBuf> {
    let best = best_file_name(state).map(|name| run.checkpoints().join(name));
    let path = match best {
        Some(path) if path.is_file() => path,
        Some(path) => {
            terminal::warning(&format!("the best checkpoint {} is missing: using the latest", path.display()));
            run.last_checkpoint()
        }
        None => run.last_checkpoint(),
    };
    if !path.is_file() {
        return Err(failure(
            format!("the run left no checkpoint in {}", run.checkpoints().display()),
            "was the folder changed during the run?",
        ));
    }
    Ok(path)
}

/// Where a run that failed can be resumed.
pub(super) fn last_good(run: &RunDirectory) -> String {
    match latest_in_run(run.path(), verify) {
        Ok((path, metadata)) => {
            format!("the last good checkpoint is {}, after update {}", path.display(), metadata.state.global_step)
        }
        Err(error) => format!("the run cannot be resumed: {}", one_line(&error)),
    }
}

pub(super) fn print_resume_command(run: &RunDirectory) {
    print_peak_memory();
    terminal::message(&format!("stopped; resume with: caption-train --resume {}", shell_path(&run.last_checkpoint())));
}

/// A run is complete without its page.
pub(super) fn write_report(run: &RunDirectory) {
    let path = run.path().join(report::REPORT_FILE);
    match report::write(run, &path, report::NUM_IMAGES) {
        Ok(()) => terminal::message(&format!("report      {}", path.display())),
        Err(error) => terminal::warning(&format!("cannot write the report: {}", one_line(&error))),
    }
}

pub(super) fn summarise(run: &RunDirectory, best: &Path) {
    print_peak_memory();
    terminal::message(&format!(
        "done; everything is in {}. Caption a picture of your own, or try the model in a browser:\n  caption-train \
         caption --checkpoint {best} PICTURE\n  caption-train serve --checkpoint {best}",
        run.path().display(),
        best = shell_path(best)
    ));
}

fn print_peak_memory() {
    if let Some(bytes) = memory::peak_resident_bytes() {
        terminal::message(&format!("peak memory {:.2} GB", bytes as f64 / base::GIGABYTE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_without_a_checkpoint_says_so_in_one_sentence() {
        let folder = tempfile::tempdir().unwrap();
        let text = last_good(&RunDirectory::at(folder.path()));
        assert!(text.starts_with("the run cannot be resumed: ") && !text.contains("hint:"), "{text}");
    }
}
