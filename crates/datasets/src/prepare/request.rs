//! What is asked of a preparation, and what it came to.

use std::path::PathBuf;

use crate::column_names::ColumnNames;
use crate::output::{Options, Origin, Preparation};
use crate::prepare::filters::{FilterRequest, Filters};
use crate::prepare::split_file::SplitFile;
use base::error::usage_error;

#[derive(Clone, Debug, Default)]
pub struct Request {
    /// A known data set or a format; absent: what is found in the source.
    pub dataset: Option<String>,
    /// Folder, archive or Parquet file with images and captions.
    pub source: Option<PathBuf>,
    /// Where the source was downloaded from.
    pub origin: Option<Origin>,
    /// Folder to make; absent: `data/` and the data set's name.
    pub output: Option<PathBuf>,
    /// A split of your own.
    pub split_file: Option<PathBuf>,
    /// As [`Options::validation_fraction`].
    pub validation_fraction: Option<f64>,
    /// As [`Options::test_fraction`].
    pub test_fraction: Option<f64>,
    /// As [`Options::columns`].
    pub columns: ColumnNames,
    /// As [`Options::limit`].
    pub limit: Option<usize>,
    /// As [`Options::resize`].
    pub resize: Option<u32>,
    /// What is to be left out.
    pub filters: FilterRequest,
    /// Only say what would happen.
    pub is_dry_run: bool,
}

#[derive(Clone, Debug)]
pub struct Outcome {
    pub done: Done,
    pub report: Preparation,
    pub directory: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    Prepared,
    /// It had been prepared before; nothing was changed.
    AlreadyPrepared,
    /// Nothing, as requested.
    DryRun,
}

/// Looks at the options only, as far as that can be done without a source.
///
/// # Errors
/// A share that leaves nothing to train on, a limit or size of nothing, a split file or a filter that cannot be used.
pub fn check_options(request: &Request) -> anyhow::Result<()> {
    read_options(request).map(drop)
}

pub(super) fn read_options(request: &Request) -> anyhow::Result<(Options, Option<SplitFile>, Filters)> {
    for (flag, fraction) in [("validation", request.validation_fraction), ("test", request.test_fraction)] {
        if let Some(fraction) = fraction.filter(|fraction| !(0.0..1.0).contains(fraction)) {
            let message = format!("expected --{flag}-fraction of 0 or more and below 1, found {fraction}");
            return Err(usage_error(message, "0.1 holds out a tenth of the images"));
        }
    }
    if request.validation_fraction.unwrap_or(0.0) + request.test_fraction.unwrap_or(0.0) >= 1.0 {
        return Err(usage_error(
            "--validation-fraction and --test-fraction leave nothing to train on",
            "lower one of them",
        ));
    }
    if let Some(number) =
        request.limit.filter(|&limit| limit == 0).or(request.resize.filter(|&side| side == 0).map(|_| 0))
    {
        return Err(usage_error(
            format!("expected --limit and --resize of 1 or more, found {number}"),
            "leave it out for all",
        ));
    }
    let split_file = request.split_file.as_deref().map(SplitFile::read).transpose()?;
    let filters = Filters::read(&request.filters)?;
    let options = Options {
        split_file_sha256: split_file.as_ref().map(|file| file.digest.clone()),
        validation_fraction: request.validation_fraction,
        test_fraction: request.test_fraction,
        columns: request.columns.clone(),
        limit: request.limit,
        resize: request.resize,
        filters: filters.options().clone(),
    };
    Ok((options, split_file, filters))
}
