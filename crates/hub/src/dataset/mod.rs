//! Named files of a dataset repository.

use super::repository::{MAIN, Repository, RepositoryKind};
use super::settings::Settings;
use super::source::{Conditions, Source};
use crate::requests::{DatasetRequest, DownloadedDataset};

/// See [`super::dataset_files`].
pub(super) fn files(
    request: &DatasetRequest<'_>,
    settings: &Settings,
    conditions: &Conditions,
) -> anyhow::Result<DownloadedDataset> {
    let DatasetRequest { id, files, revision, terms, manual, copied_to } = *request;
    let repository =
        Repository { kind: RepositoryKind::Dataset, id, revision: revision.unwrap_or(MAIN), terms, manual, copied_to };
    let source = Source::open(&repository, settings, conditions)?;
    let commit = source.commit(files)?;
    // Nothing is downloaded before all files are known to exist.
    let mut states = Vec::new();
    for &name in files {
        states.push((name, source.need(&commit, name)?));
    }
    let files = source.fetch(&commit, states, conditions)?;
    Ok(DownloadedDataset { folder: source.finish(&commit), commit, files })
}

#[cfg(test)]
mod tests;
