//! What can be asked of the Hub, and what is checked of a request before anything is sent.

use std::collections::HashSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use base::error::usage_error;

/// Which files of a repository are downloaded, if it has them, in addition to `config.json` and the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelKind {
    /// `processor_config.json` and `preprocessor_config.json`, either of which describes the image processing.
    Encoder,
    /// Also the tokenizer's files and `generation_config.json`.
    WithTokenizer,
}

#[cfg(feature = "client")]
impl ModelKind {
    pub(super) fn files(self) -> &'static [&'static str] {
        const FILES: [&str; 9] = [
            "processor_config.json",
            "preprocessor_config.json",
            "generation_config.json",
            "tokenizer.json",
            "vocab.json",
            "merges.txt",
            "vocab.txt",
            "tokenizer_config.json",
            "added_tokens.json",
        ];
        match self {
            Self::Encoder => &FILES[..2],
            Self::WithTokenizer => &FILES,
        }
    }
}

/// The files of a model, all of one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelSnapshot {
    /// The folder in which they have their names in the repository.
    pub folder: PathBuf,
    /// The full hash of their commit.
    pub commit: String,
}

/// What to download from a dataset repository.
#[derive(Clone, Copy, Debug)]
pub struct DatasetRequest<'a> {
    /// `owner/name`, such as `nlphuji/flickr30k`.
    pub id: &'a str,
    pub files: Files<'a>,
    /// A branch, a tag, or the full hash of a commit. Absent: `main`.
    pub revision: Option<&'a str>,
    /// The terms of use of named files: printed before anything is downloaded, and not if everything is in the cache. Of
    /// files that are found, the licence that the card names is printed.
    pub terms: &'a str,
    /// What to do without a network, as the end of a hint: which files to get and where to put them.
    pub manual: &'a str,
    /// Folder into which the content of the files is copied afterwards, which needs disk space too.
    pub copied_to: Option<&'a Path>,
}

/// Which files of a dataset repository.
#[derive(Clone, Copy, Debug)]
pub enum Files<'a> {
    /// These: names in the repository, with `/` between folders.
    Named(&'a [&'a str]),
    /// Those that make a data set.
    Found(Search<'a>),
}

/// How the files of a data set are found: Parquet files by the card or by their names, else those of the branch
/// `refs/convert/parquet`, else all that is read from a folder. Parquet files without images are taken together with the
/// archives and images of their branch, and not from another branch than these.
#[derive(Clone, Copy, Debug)]
pub struct Search<'a> {
    /// One of several configs.
    pub config: Option<&'a str>,
    /// So many rows are enough: of Parquet files, the first row groups that have them, shared among the splits by the
    /// sizes of their files.
    pub limit: Option<u64>,
    pub reading: &'a Reading,
}

/// What those who read the files know of them.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    pub role_of: fn(&str) -> FileRole,
    /// The split that a path speaks of.
    pub split_of: fn(&str) -> Option<&'static str>,
    pub first_rows: FirstRows,
}

/// The part of a Parquet file of so many bytes that has its first so many rows, found by reading ranges of it.
pub type FirstRows = fn(u64, u64, &mut dyn FnMut(Range<u64>) -> anyhow::Result<Vec<u8>>) -> anyhow::Result<Part>;

/// What a file of some name is to a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileRole {
    Parquet,
    Archive,
    Picture,
    /// It may hold captions.
    Text,
    /// It is not read.
    Other,
}

/// Row groups at the beginning of a Parquet file, as a file of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Bytes that keep their places, in order.
    pub ranges: Vec<Range<u64>>,
    /// What follows the last of them.
    pub end: Vec<u8>,
    pub num_rows: u64,
    /// Whether it is the whole file.
    pub is_whole: bool,
    /// Whether a column has bytes that may be images.
    pub has_bytes: bool,
}

/// What a download would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatasetPlan {
    /// The full hash of the commit.
    pub commit: String,
    /// Its name, if there are configs.
    pub config: Option<String>,
    /// The terms of use, or where they are.
    pub terms: String,
    pub files: Vec<PlannedFile>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedFile {
    pub name: String,
    /// Bytes that are not in the cache.
    pub absent_bytes: u64,
}

/// Files of a dataset repository, all of one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DownloadedDataset {
    /// The folder in which they have their names in the repository; those that were found, alone and with names that say
    /// the splits of the card.
    pub folder: PathBuf,
    /// The full hash of their commit.
    pub commit: String,
    /// What was asked for, or the branch on which the files were found.
    pub revision: String,
    /// The name of the config, if there are configs.
    pub config: Option<String>,
    /// Named files in the order of their names in the request.
    pub files: Vec<DownloadedFile>,
    /// Whether there are rows that the limit has left out.
    pub is_cut: bool,
}

/// One file of a [`DownloadedDataset`], checked against the server's hash unless it is a part of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DownloadedFile {
    /// Its name in the repository, and how many rows of it.
    pub name: String,
    pub path: PathBuf,
    pub bytes: u64,
    /// 64 lower-case hexadecimal characters.
    pub sha256: String,
}

/// Refuses invalid ids and names that would lead out of the cache's folder.
pub(super) fn check_request(request: &DatasetRequest<'_>) -> anyhow::Result<()> {
    let DatasetRequest { id, files, revision, .. } = request;
    check_dataset_id(id)?;
    check_revision(id, *revision)?;
    let Files::Named(names) = files else { return Ok(()) };
    if let Some(name) = names.iter().find(|name| !is_relative(name)) {
        return Err(usage_error(
            format!("{name:?} cannot be the name of a file of {id}"),
            "a name is a path in the repository, such as data/train.json",
        ));
    }
    Ok(())
}

/// Refuses what is not the id of a dataset.
///
/// # Errors
/// A path, or a name with characters that the Hub does not allow.
pub fn check_dataset_id(id: &str) -> anyhow::Result<()> {
    match is_id(id) {
        true => Ok(()),
        false => Err(usage_error(
            format!("\"{id}\" is not the id of a dataset on the Hub"),
            "an id is owner/name, such as nlphuji/flickr30k",
        )),
    }
}

/// What to upload to a model repository, as one commit on its branch `main`.
#[derive(Clone, Debug)]
pub struct Upload {
    /// `owner/name`, or only `name` for a repository of the token's owner. It is created if it does not exist.
    pub repo: String,
    /// Whether only the owner can see the repository. An existing public repository is then refused.
    pub private: bool,
    /// The commit message.
    pub message: String,
    /// Paths in the repository, with `/` between folders, and their local files, which must not change during the
    /// upload. Files with other paths stay.
    pub files: Vec<(String, PathBuf)>,
}

/// Where the files of an [`Upload`] are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uploaded {
    /// The page of the repository.
    pub url: String,
    /// The full hash of the commit with all files: the new one, or the newest if there was nothing to do.
    pub commit: String,
}

/// An upload ended before its commit because a stop was requested.
#[derive(Debug, thiserror::Error)]
#[error("upload stopped")]
pub struct UploadStopped;

pub(super) fn check_repository(repo: &str) -> anyhow::Result<()> {
    if is_id(repo) {
        return Ok(());
    }
    Err(usage_error(
        format!("\"{repo}\" is not the id of a model on the Hub"),
        "an id is owner/name, such as google/vit-base-patch16-224-in21k, or only a name for one of your own",
    ))
}

/// Refuses invalid ids, and paths that the Hub would interpret differently.
pub(super) fn check_upload(request: &Upload) -> anyhow::Result<()> {
    let Upload { repo, message, files, .. } = request;
    check_repository(repo)?;
    if message.trim().is_empty() {
        return Err(usage_error(format!("the commit to {repo} has no message"), "describe the upload in a few words"));
    }
    if files.is_empty() {
        return Err(usage_error(format!("no files to upload to {repo}"), "name at least one"));
    }
    let is_gits = |name: &str| name.split('/').any(|part| part.eq_ignore_ascii_case(".git"));
    if let Some((name, _)) = files.iter().find(|(name, _)| !is_relative(name) || is_gits(name)) {
        return Err(usage_error(
            format!("{name:?} cannot be the path of a file in {repo}"),
            "a path is relative, with / between folders, such as tokenizer/vocab.json; no part of it is .. or .git",
        ));
    }
    let mut names = HashSet::new();
    if let Some((name, _)) = files.iter().find(|(name, _)| !names.insert(name)) {
        return Err(usage_error(format!("two files have the path {name} in {repo}"), "give each its own path"));
    }
    Ok(())
}

/// Refuses a revision that would lead out of the cache's folder.
pub(super) fn check_revision(id: &str, revision: Option<&str>) -> anyhow::Result<()> {
    match revision.filter(|revision| !is_relative(revision)) {
        Some(revision) => Err(usage_error(
            format!("{revision:?} cannot be a revision of {id}"),
            "a revision is a branch, a tag, a pull request such as refs/pr/1, or the full hash of a commit",
        )),
        None => Ok(()),
    }
}

/// Whether the path stays below the folder that it is joined to, on every system.
pub(super) fn is_relative(path: &str) -> bool {
    let is_plain = |part: &str| !matches!(part, "" | "." | "..");
    path.split('/').all(is_plain) && !path.contains(|c: char| c.is_control() || matches!(c, '\\' | ':'))
}

/// The Hub's own rules for ids (`validate_repo_id` of `huggingface_hub`).
pub(super) fn is_id(id: &str) -> bool {
    let is_part = |part: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !part.is_empty() && part.chars().all(allowed) && !part.starts_with(['-', '.']) && !part.ends_with(['-', '.'])
    };
    let parts: Vec<&str> = id.split('/').collect();
    let fits = parts.len() <= 2 && id.len() <= 96 && !id.contains("--") && !id.contains("..");
    fits && !id.ends_with(".git") && parts.into_iter().all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "client")]
    #[test]
    fn either_form_of_an_image_processor_is_fetched_with_every_model() {
        for kind in [ModelKind::Encoder, ModelKind::WithTokenizer] {
            for name in ["processor_config.json", "preprocessor_config.json"] {
                assert!(kind.files().contains(&name), "{kind:?} {name}");
            }
        }
        assert!(!ModelKind::Encoder.files().contains(&"tokenizer.json"));
    }

    #[test]
    fn ids_of_the_hub_are_accepted() {
        for id in ["google/vit-base-patch16-224-in21k", "gpt2", "WinKawaks/vit-tiny-patch16-224", "a/b_c.d-e", "timm/x"]
        {
            assert!(is_id(id), "{id}");
        }
    }
}
