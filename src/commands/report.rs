//! `caption-train report`: one HTML page of a run.

use std::path::PathBuf;

use anyhow::Result;

use crate::commands::given_paths::path_argument;
use crate::run::report::{NUM_IMAGES, REPORT_FILE, write};
use crate::run::run_directory::RunDirectory;
use base::error::usage_error;
use base::terminal;

/// Writes one HTML page of a run.
#[derive(Clone, Debug, clap::Args)]
pub struct ReportArgs {
    /// Folder of the run
    #[arg(value_parser = path_argument())]
    pub run: PathBuf,
    /// File to write [default: report.html in the run's folder]
    #[arg(long, value_name = "FILE", value_parser = path_argument())]
    pub output: Option<PathBuf>,
    /// Number of images shown with their captions; 0 needs neither data set nor model
    #[arg(long, value_name = "N", default_value_t = NUM_IMAGES)]
    pub num_images: usize,
}

/// Writes the page.
///
/// # Errors
/// A folder that is not a run's, a file that cannot be written.
pub fn run(args: &ReportArgs) -> Result<()> {
    if !args.run.join("config.resolved.toml").is_file() {
        return Err(usage_error(
            format!("{} is not a run folder", args.run.display()),
            "give a folder such as runs/NAME, which contains config.resolved.toml",
        ));
    }
    let path = args.output.clone().unwrap_or_else(|| args.run.join(REPORT_FILE));
    write(&RunDirectory::at(&args.run), &path, args.num_images)?;
    terminal::message(&format!("report      {}", path.display()));
    Ok(())
}
