//! The files of a dataset repository: named ones, or those that make a data set by its card and their names.
//! Imports go down: `card` < `layout`, `listing`, `parts` < `found`.

mod card;
mod found;
mod layout;
mod listing;
mod parts;

use super::settings::Settings;
use super::source::{Along, Conditions, Source, State};
use crate::requests::{DatasetPlan, DatasetRequest, DownloadedDataset, Files};
use found::{Found, planned, repository};

/// See [`super::dataset_files`].
pub(super) fn files(
    request: &DatasetRequest<'_>,
    settings: &Settings,
    conditions: &Conditions,
) -> anyhow::Result<DownloadedDataset> {
    match request.files {
        Files::Named(names) => {
            let (source, commit, states) = named(request, names, settings, conditions)?;
            let along = Along { terms: request.terms, bytes: 0 };
            let files = source.fetch(&commit, states, along, conditions)?;
            let revision = source.place.repository.revision.to_owned();
            Ok(DownloadedDataset {
                folder: source.finish(&commit),
                commit,
                revision,
                config: None,
                files,
                is_cut: false,
            })
        }
        Files::Found(search) => Found::plan(request, &search, settings, conditions)?.fetch(request, conditions),
    }
}

/// See [`super::plan_dataset`].
pub(super) fn plan(
    request: &DatasetRequest<'_>,
    settings: &Settings,
    conditions: &Conditions,
) -> anyhow::Result<DatasetPlan> {
    match request.files {
        Files::Named(names) => {
            let (_, commit, states) = named(request, names, settings, conditions)?;
            let files = states.iter().map(|(name, state)| planned(name, state)).collect();
            Ok(DatasetPlan { commit, config: None, terms: request.terms.to_owned(), files })
        }
        Files::Found(search) => Ok(Found::plan(request, &search, settings, conditions)?.describe()),
    }
}

/// Where named files are, their commit, and what of each has to be downloaded.
type NamedFiles<'a> = (Source<'a>, String, Vec<(&'a str, State)>);

/// Nothing is downloaded before all files are known to exist.
fn named<'a>(
    request: &DatasetRequest<'a>,
    names: &[&'a str],
    settings: &Settings,
    conditions: &Conditions,
) -> anyhow::Result<NamedFiles<'a>> {
    let source = Source::open(&repository(request), settings, conditions)?;
    let commit = source.commit(names)?;
    let mut states = Vec::new();
    for &name in names {
        states.push((name, source.need(&commit, name)?));
    }
    Ok((source, commit, states))
}

#[cfg(test)]
mod tests;
