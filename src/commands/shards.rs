//! Data sets whose images stay in their shards: `data.shards` and `prepare-data --shards`.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::commands::dataset_source::OnChange;
use base::error::{failure, one_line, usage_error};
use base::quoting::{shell_path, shell_word};
use base::terminal;
use datasets::output::Options;
use datasets::prepare;
use datasets::prepare::shards::build::{BuildRequest, InFolder, build, in_folder, last_options};

/// Ensures that `directory` has the index of the shards that `patterns` mean.
///
/// # Errors
/// Shards that cannot be used; for a new run, an index of other shards, or of shards that have changed since.
pub(super) fn ensure(patterns: &[PathBuf], directory: &Path, on_change: OnChange) -> Result<()> {
    // Those of a build that was stopped, or of the index that is there.
    let Options { columns, validation_fraction, test_fraction, .. } = last_options(directory);
    let request = BuildRequest {
        patterns: texts(patterns)?,
        directory: directory.to_owned(),
        columns,
        validation_fraction,
        test_fraction,
    };
    let found = in_folder(&request);
    match (found, on_change) {
        (Ok(InFolder::Nothing), _) => {
            let outcome = build(&request)?;
            terminal::message(&prepare::summary(&outcome));
            Ok(())
        }
        (Ok(InFolder::SameShards), _) => Ok(()),
        (Ok(InFolder::OtherShards), OnChange::Warn) => {
            terminal::warning("the shards are not those that were indexed; the run uses the index as it is");
            Ok(())
        }
        (Ok(InFolder::OtherShards), OnChange::Refuse) => {
            let message = format!("the shards are not those of the index in {}", directory.display());
            let shards: String = patterns.iter().map(|pattern| format!(" {}", shell_path(pattern))).collect();
            let (directory, options) = (shell_path(directory), flags(&request));
            Err(failure(
                message,
                format!(
                    "run `caption-train prepare-data --shards{shards} --output {directory}{options}` to index those that \
                     are new, or remove `data.shards` to train on the data set as it is"
                ),
            ))
        }
        (Err(error), OnChange::Warn) => {
            let error = one_line(&error);
            terminal::warning(&format!(
                "cannot check whether the shards have changed since they were indexed: {error}"
            ));
            Ok(())
        }
        (Err(error), OnChange::Refuse) => Err(error.context("data.shards")),
    }
}

/// The options of an index as they are written.
fn flags(request: &BuildRequest) -> String {
    let columns = request.columns.pairs().into_iter().map(|pair| format!(" --columns {}", shell_word(&pair)));
    let fraction = |name: &str, share: Option<f64>| share.map(|share| format!(" --{name}-fraction {share}"));
    let fractions = [fraction("validation", request.validation_fraction), fraction("test", request.test_fraction)];
    columns.chain(fractions.into_iter().flatten()).collect()
}

/// Patterns as text.
pub(super) fn texts(patterns: &[PathBuf]) -> Result<Vec<String>> {
    let text = |pattern: &PathBuf| {
        let text = pattern.to_str().map(str::to_owned);
        text.ok_or_else(|| {
            let message = format!("the pattern {} of shards is not UTF-8", pattern.display());
            usage_error(message, "use another path, such as that of a link to it")
        })
    };
    patterns.iter().map(text).collect()
}
