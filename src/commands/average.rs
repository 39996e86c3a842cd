//! `caption-train average`: the mean of the weights of several checkpoints.

use std::path::PathBuf;

use anyhow::Result;

use crate::commands::given_paths::path_argument;
use crate::commands::version::written_by;
use crate::run::checkpoint::average::average;
use base::terminal;

/// Writes the mean of the weights of several checkpoints as a checkpoint.
#[derive(Clone, Debug, clap::Args)]
pub struct AverageArgs {
    /// Two or more checkpoint files of one model
    #[arg(required = true, value_name = "CHECKPOINT", value_parser = path_argument())]
    pub checkpoints: Vec<PathBuf>,
    /// Checkpoint file to write; it must not exist
    #[arg(long, value_name = "FILE", value_parser = path_argument())]
    pub output: PathBuf,
}

/// Writes the file.
///
/// # Errors
/// As [`average`].
pub fn run(args: &AverageArgs) -> Result<()> {
    average(&args.checkpoints, &args.output, written_by())?;
    let count = args.checkpoints.len();
    terminal::message(&format!("the mean of {count} checkpoints is in {}", args.output.display()));
    Ok(())
}
