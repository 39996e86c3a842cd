//! `caption-train report`: one HTML page of a run.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use candle_core::Device;

use crate::commands::given_paths::path_argument;
use crate::run::report_data::{Gathered, gather};
use crate::run::run_directory::RunDirectory;
use base::fault::{WithHint as _, fault, usage};
use base::{atomic_file, bounded_file, terminal};
use report::{GENERATOR, render};

/// The page, in the run's folder.
pub const REPORT_FILE: &str = "report.html";
/// Images that are shown.
pub const NUM_IMAGES: usize = 24;

/// Writes one HTML page of a run.
#[derive(Clone, Debug, clap::Args)]
pub struct ReportArgs {
    /// Folder of the run
    #[arg(value_parser = path_argument())]
    pub run: PathBuf,
    /// File to write [default: report.html in the run's folder]
    #[arg(long, value_name = "FILE", value_parser = path_argument())]
    pub output: Option<PathBuf>,
    /// Images that are shown with their captions; 0 needs neither data set nor model
    #[arg(long, value_name = "N", default_value_t = NUM_IMAGES)]
    pub num_images: usize,
}

/// Writes the page.
///
/// # Errors
/// A folder that is no run's, a file that cannot be written.
pub fn run(args: &ReportArgs) -> Result<()> {
    if !args.run.join("config.resolved.toml").is_file() {
        return Err(usage(
            format!("{} is not the folder of a run", args.run.display()),
            "name a folder such as runs/NAME, which holds config.resolved.toml",
        ));
    }
    let path = args.output.clone().unwrap_or_else(|| args.run.join(REPORT_FILE));
    write(&RunDirectory::at(&args.run), &path, args.num_images)?;
    terminal::message(&format!("report      {}", path.display()));
    Ok(())
}

/// Whether a report was written to `path` before.
fn is_report(path: &Path) -> bool {
    /// Bytes with the end of the page's head; the style that comes last in it is longer.
    const HEAD: u64 = 1 << 14;
    // Earlier versions wrote no generator.
    bounded_file::read_start(path, HEAD).is_ok_and(|bytes| {
        let head = String::from_utf8_lossy(&bytes);
        let is_older = || head.contains(" – training report</title>") && head.contains("img-src data:; style-src");
        bytes.is_empty() || head.contains(GENERATOR) || is_older()
    })
}

/// Writes the page of a run into a file.
///
/// # Errors
/// As [`run`]; something else in the file's place.
pub fn write(run: &RunDirectory, path: &Path, num_images: usize) -> Result<()> {
    if fs::symlink_metadata(path).is_ok_and(|there| !there.is_file() || !is_report(path)) {
        return Err(fault(
            format!("{} is there, and it is no report: it would be replaced", path.display()),
            "move it away, or name another file with --output",
        ));
    }
    let Gathered { mut data, missing } = gather(run, num_images, &Device::Cpu)?;
    missing.iter().for_each(|what| terminal::warning(&format!("the report has {what}")));
    // The page names the run's files by where they are beside it.
    if path.parent() != Some(run.path()) {
        data.files.clear();
    }
    let page = render(&data).context("cannot make the page")?;
    atomic_file::write(path, page.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))
        .hint(|| "free some disk space, or name another file with --output")
}
