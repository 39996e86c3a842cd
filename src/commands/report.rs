//! `caption-train report`: one HTML page of a run, or of several runs beside each other.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::commands::given_paths::path_argument;
use crate::run::report::comparison::{self, COMPARISON_FILE};
use crate::run::report::{NUM_IMAGES, REPORT_FILE, write};
use crate::run::run_directory::RunDirectory;
use base::error::usage_error;
use base::terminal;

/// Runs that are compared: each has a colour.
const MAX_RUNS: usize = 8;

/// Writes one HTML page of a run, or of several.
#[derive(Clone, Debug, clap::Args)]
pub struct ReportArgs {
    /// Folder of the run; several are compared with the first, in configs, curves, scores and captions
    #[arg(value_name = "RUN", required = true, num_args = 1..=MAX_RUNS, value_parser = path_argument())]
    pub runs: Vec<PathBuf>,
    /// File to write [default: report.html in the run's folder; of several, comparison.html beside the first]
    #[arg(long, value_name = "FILE", value_parser = path_argument())]
    pub output: Option<PathBuf>,
    /// Number of images shown with their captions; 0 needs neither data set nor model of a single run
    #[arg(long, value_name = "N", default_value_t = NUM_IMAGES)]
    pub num_images: usize,
}

/// Writes the page; of several runs, prints the scores too.
///
/// # Errors
/// A folder that is not a run's, one that is given twice, a file that cannot be written; captions that cannot be
/// compared, after the page was written without them.
pub fn run(args: &ReportArgs) -> Result<()> {
    for (place, run) in args.runs.iter().enumerate() {
        if !run.join("config.resolved.toml").is_file() {
            return Err(usage_error(
                format!("{} is not a run folder", run.display()),
                "give a folder such as runs/NAME, which contains config.resolved.toml",
            ));
        }
        let is_same = |other: &PathBuf| other.canonicalize().ok() == run.canonicalize().ok();
        if args.runs[..place].iter().any(is_same) {
            return Err(usage_error(format!("{} is given twice", run.display()), "give each run once"));
        }
    }
    let runs: Vec<RunDirectory> = args.runs.iter().map(|run| RunDirectory::at(run)).collect();
    if let [run] = runs.as_slice() {
        let path = args.output.clone().unwrap_or_else(|| run.path().join(REPORT_FILE));
        write(run, &path, args.num_images)?;
        terminal::message(&format!("report      {}", path.display()));
        return Ok(());
    }
    let first = args.runs[0].canonicalize()?;
    let beside = first.parent().unwrap_or(Path::new("")).join(COMPARISON_FILE);
    let path = args.output.clone().unwrap_or(beside);
    let compared = comparison::write(&runs, &path, args.num_images)?;
    compared.lines.iter().try_for_each(|line| terminal::data(line))?;
    terminal::message(&format!("comparison  {}", path.display()));
    compared.failure.map_or(Ok(()), Err)
}
