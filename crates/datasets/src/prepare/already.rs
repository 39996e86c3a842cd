//! What an existing data set means for a request: it is what was requested, has to be prepared again, or is another.

use std::path::Path;

use crate::annotations::{KnownDataset, Selector};
use crate::output::{self, Options, Preparation};
use crate::prepare::changes;
use crate::prepare::differences::Standing;
use crate::prepare::request::Request;
use base::error::failure;
use base::terminal;

const HINT: &str = "choose another `--output`, or remove the old folder first";

const OLD_PIXELS: &str = "images were resized by an older version of the program, which read some JPEGs wrong,";

/// The report of the data set in `directory`, called `name` if one is given, where it is what was asked for; `None`
/// where it has to be made: it is not there or not finished, or its source has changed since, which is reported.
pub(super) fn prepared(
    name: Option<&str>,
    request: &Request,
    wanted: Selector,
    options: &Options,
    directory: &Path,
) -> anyhow::Result<Option<Preparation>> {
    let Some(report) = output::finished(name, directory)? else { return Ok(None) };
    if *options != report.options {
        let found = serde_json::to_string(&report.options)?;
        return Err(failure(format!("{} was prepared with other options: {found}", directory.display()), HINT));
    }
    if let Selector::Format(format) = wanted
        && format.name != report.format
    {
        let message = format!("{} was prepared from captions of format {}", directory.display(), report.format);
        return Err(failure(message, HINT));
    }
    // A source that has been removed since is no reason to doubt what was made of it.
    let Some(source) = request.source.as_deref().filter(|source| source.exists()) else {
        warn_of_old_pixels(&report, directory);
        return Ok(Some(report));
    };
    match changes::since(&report, directory, source, wanted)? {
        Standing::Same if report.has_old_pixels() => {
            terminal::message(&format!("{OLD_PIXELS} in {}: they will be resized again", directory.display()));
            Ok(None)
        }
        Standing::Same => Ok(Some(report)),
        Standing::Changed(how) => {
            let (source, directory) = (source.display(), directory.display());
            terminal::message(&format!("{source} has changed since {directory} was prepared from it: {how}"));
            Ok(None)
        }
        Standing::Other(which) => Err(failure(of_other_files(source, directory, &which), HINT)),
    }
}

/// Warns where the images in `directory` have pixels that the source would no longer give.
pub(super) fn warn_of_old_pixels(report: &Preparation, directory: &Path) {
    if report.has_old_pixels() {
        terminal::warning(&format!("{OLD_PIXELS} in {}; prepare it again from its source", directory.display()));
    }
}

fn of_other_files(source: &Path, directory: &Path, which: &str) -> String {
    format!("{} was prepared from other files than those in {}: {which}", directory.display(), source.display())
}

/// What became of `source` since the data set called `name` in `directory` was prepared, for a message; `None` where it
/// is what the data set was made of, is gone, or never was its source: the folder is your own.
pub fn source_changes(name: &str, directory: &Path, source: &Path) -> anyhow::Result<Option<String>> {
    if !source.exists() {
        return Ok(None);
    }
    let Some(report) = output::finished(Some(name), directory)? else { return Ok(None) };
    let wanted = KnownDataset::named(name).map_or(Selector::Any, Selector::Dataset);
    Ok(match changes::since(&report, directory, source, wanted)? {
        Standing::Same => None,
        Standing::Changed(how) => {
            Some(format!("{} has changed since {} was prepared from it: {how}", source.display(), directory.display()))
        }
        Standing::Other(which) => Some(of_other_files(source, directory, &which)),
    })
}
