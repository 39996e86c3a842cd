//! From the id of a Hugging Face Hub repository to a local folder, and from local files to a repository. Bytes and
//! paths; nothing about models.

#![cfg_attr(test, expect(clippy::disallowed_methods, reason = "tests write files of their own"))]

#[cfg(feature = "client")]
mod cache;
#[cfg(feature = "client")]
mod content_hash;
#[cfg(feature = "client")]
mod dataset;
#[cfg(feature = "client")]
mod http_client;
#[cfg(feature = "client")]
mod model;
#[cfg(feature = "client")]
mod repository;
#[cfg(feature = "client")]
mod settings;
#[cfg(feature = "client")]
mod source;
#[cfg(all(test, feature = "client"))]
mod testing;
#[cfg(feature = "client")]
mod transfer;
#[cfg(feature = "client")]
mod upload;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use base::fault::usage;
use base::stop::StopFlag;

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
    fn files(self) -> &'static [&'static str] {
        const FILES: [&str; 6] = [
            "processor_config.json",
            "preprocessor_config.json",
            "generation_config.json",
            "tokenizer.json",
            "vocab.json",
            "merges.txt",
        ];
        match self {
            Self::Encoder => &FILES[..2],
            Self::WithTokenizer => &FILES,
        }
    }

    /// How to convert weights in PyTorch's own format to safetensors.
    fn conversion(self) -> &'static str {
        match self {
            Self::Encoder => {
                "convert it once in Python: from_pretrained(ID).save_pretrained(FOLDER) of AutoModel and of \
                 AutoImageProcessor, and give the folder"
            }
            Self::WithTokenizer => {
                "convert it once in Python: from_pretrained(ID).save_pretrained(FOLDER) of VisionEncoderDecoderModel or \
                 GPT2LMHeadModel, of AutoTokenizer and of AutoImageProcessor, and give the folder"
            }
        }
    }
}

/// The folder with `config.json`, the weights and the files of `kind` of the Hub repository `id` (`owner/name`, or only
/// `name` for the oldest ones). What the Hub's ordinary cache lacks is downloaded into it and checked, as by
/// [`dataset_files`].
///
/// The weights are `model.safetensors`, or `model.safetensors.index.json` and the shards that it names. The
/// environment variables are those of the Hub's own tools: `HF_TOKEN`, `HF_ENDPOINT`, `HF_HOME`, `HF_HUB_CACHE`,
/// `HF_HUB_OFFLINE`.
///
/// # Errors
/// An invalid id; a repository or file that does not exist or is not accessible; weights only in PyTorch's own format;
/// no network and no cached copy; a program built without the feature `hub`.
#[cfg_attr(not(feature = "client"), expect(unused_variables, reason = "nothing can be downloaded"))]
pub fn model_folder(id: &str, kind: ModelKind) -> anyhow::Result<PathBuf> {
    if !is_id(id) {
        return Err(usage(
            format!("\"{id}\" is neither a folder that exists nor the id of a Hub repository"),
            "an id is owner/name, such as google/vit-base-patch16-224-in21k; for a folder check the path",
        ));
    }
    #[cfg(feature = "client")]
    return model::folder(id, kind, &settings::Settings::from_environment(), &source::Conditions::from_environment());
    #[cfg(not(feature = "client"))]
    return Err(base::fault::fault(
        format!("cannot download {id} from the Hub: this program was built without the feature hub"),
        "give a local folder instead of the id, or build with `--features hub`",
    ));
}

/// What to download from a dataset repository.
#[derive(Clone, Copy, Debug)]
pub struct DatasetRequest<'a> {
    /// `owner/name`, such as `nlphuji/flickr30k`.
    pub id: &'a str,
    /// Names of files in the repository, with `/` between folders.
    pub files: &'a [&'a str],
    /// A branch, a tag, or the full hash of a commit. Absent: `main`.
    pub revision: Option<&'a str>,
    /// The terms of use: printed before anything is downloaded, and not if everything is in the cache.
    pub terms: &'a str,
    /// What to do without a network, as the end of a hint: which files to get and where to put them.
    pub manual: &'a str,
    /// Folder into which the content of the files is copied afterwards, which needs disk space too.
    pub copied_to: Option<&'a Path>,
}

/// Files of a dataset repository, all of one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DownloadedDataset {
    /// The folder in which they have their names in the repository.
    pub folder: PathBuf,
    /// The full hash of their commit.
    pub commit: String,
    /// One for each requested file, in that order.
    pub files: Vec<DownloadedFile>,
}

/// One file of a [`DownloadedDataset`], checked against the server's hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DownloadedFile {
    /// As requested.
    pub name: String,
    pub path: PathBuf,
    pub bytes: u64,
    /// 64 lower-case hexadecimal characters.
    pub sha256: String,
}

/// The files of a dataset repository: what the Hub's ordinary cache lacks is downloaded into it.
///
/// A branch or tag is resolved to a commit first, and all files are of that commit. The server's hash of a file is
/// requested before the file, which gets its name only when it has that hash; a file in the cache is read once to check
/// it. An interrupted download is resumed. Temporary failures are retried. If the Hub cannot be reached or does not
/// answer, the last known commit of the branch is used.
///
/// The environment variables are those of [`model_folder`]; with `HF_HUB_OFFLINE` the Hub is not contacted.
///
/// # Errors
/// An invalid id, revision or file name; a repository, revision or file that does not exist or is not accessible; no
/// network; a server that refuses for too long or sends other content than it announced; too little disk space; a cache
/// that cannot be written; offline, a file that is not in the cache; a program built without the feature `hub`.
pub fn dataset_files(request: &DatasetRequest<'_>) -> anyhow::Result<DownloadedDataset> {
    check_request(request)?;
    #[cfg(feature = "client")]
    return dataset::files(request, &settings::Settings::from_environment(), &source::Conditions::from_environment());
    #[cfg(not(feature = "client"))]
    return Err(base::fault::fault(
        format!("cannot download {} from the Hub: this program was built without the feature hub", request.id),
        format!("build with `--features hub`, or {}", request.manual),
    ));
}

/// Refuses invalid ids and names that would lead out of the cache's folder.
fn check_request(request: &DatasetRequest<'_>) -> anyhow::Result<()> {
    let DatasetRequest { id, files, revision, .. } = request;
    if !is_id(id) {
        return Err(usage(
            format!("\"{id}\" is not the id of a dataset on the Hub"),
            "an id is owner/name, such as nlphuji/flickr30k",
        ));
    }
    if let Some(revision) = revision.filter(|revision| !is_relative(revision)) {
        return Err(usage(
            format!("{revision:?} cannot be a revision of {id}"),
            "a revision is a branch, a tag or the full hash of a commit",
        ));
    }
    if let Some(name) = files.iter().find(|name| !is_relative(name)) {
        return Err(usage(
            format!("{name:?} cannot be the name of a file of {id}"),
            "a name is a path in the repository, such as data/train.json",
        ));
    }
    Ok(())
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

/// Uploads files to a model repository on the Hub.
///
/// What the repository or its storage already has is not sent again, so the same call resumes after a failure or a
/// stop. Large files are read piece by piece. Temporary failures are retried; a commit whose answer was lost is looked
/// for before it is made again.
///
/// `HF_TOKEN`, or the token that `hf auth login` stored, must have write access; `HF_ENDPOINT` names another Hub.
///
/// # Errors
/// An invalid id or path, two files with one path, no message; `HF_HUB_OFFLINE`; no token, or one without write access;
/// an existing public repository if a private one is requested; no network; a server that refuses; a file that cannot
/// be read or changes during the upload; a stop, with [`UploadStopped`] in the chain; a program built without the
/// feature `hub`.
#[cfg_attr(not(feature = "client"), expect(unused_variables, reason = "nothing can be uploaded"))]
pub fn upload(request: &Upload, stop: &StopFlag) -> anyhow::Result<Uploaded> {
    check_upload(request)?;
    #[cfg(feature = "client")]
    return upload::run(
        request,
        &settings::Settings::from_environment(),
        &upload::Conditions::from_environment(),
        stop,
    );
    #[cfg(not(feature = "client"))]
    return Err(built_without(&request.repo));
}

/// Checks what an upload to `repo` needs, as far as possible without the server.
///
/// # Errors
/// An invalid id; `HF_HUB_OFFLINE`; no token; a program built without the feature `hub`.
pub fn check_target(repo: &str) -> anyhow::Result<()> {
    check_repository(repo)?;
    #[cfg(feature = "client")]
    return upload::check(repo, &settings::Settings::from_environment(), &upload::Conditions::from_environment());
    #[cfg(not(feature = "client"))]
    return Err(built_without(repo));
}

#[cfg(not(feature = "client"))]
fn built_without(repo: &str) -> anyhow::Error {
    base::fault::fault(
        format!("cannot upload {repo} to the Hub: this program was built without the feature hub"),
        "build with `--features hub`, or upload the files with `hf upload`",
    )
}

fn check_repository(repo: &str) -> anyhow::Result<()> {
    if is_id(repo) {
        return Ok(());
    }
    Err(usage(
        format!("\"{repo}\" is not the id of a model on the Hub"),
        "an id is owner/name, such as google/vit-base-patch16-224-in21k, or only a name for one of your own",
    ))
}

/// Refuses invalid ids, and paths that the Hub would interpret differently.
fn check_upload(request: &Upload) -> anyhow::Result<()> {
    let Upload { repo, message, files, .. } = request;
    check_repository(repo)?;
    if message.trim().is_empty() {
        return Err(usage(format!("the commit to {repo} has no message"), "describe the upload in a few words"));
    }
    if files.is_empty() {
        return Err(usage(format!("no files to upload to {repo}"), "name at least one"));
    }
    let is_gits = |name: &str| name.split('/').any(|part| part.eq_ignore_ascii_case(".git"));
    if let Some((name, _)) = files.iter().find(|(name, _)| !is_relative(name) || is_gits(name)) {
        return Err(usage(
            format!("{name:?} cannot be the path of a file in {repo}"),
            "a path is relative, with / between folders, such as tokenizer/vocab.json; no part of it is .. or .git",
        ));
    }
    let mut names = HashSet::new();
    if let Some((name, _)) = files.iter().find(|(name, _)| !names.insert(name)) {
        return Err(usage(format!("two files have the path {name} in {repo}"), "give each its own path"));
    }
    Ok(())
}

/// Whether the path stays below the folder that it is joined to, on every system.
fn is_relative(path: &str) -> bool {
    let is_plain = |part: &str| !matches!(part, "" | "." | "..");
    path.split('/').all(is_plain) && !path.contains(|c: char| c.is_control() || matches!(c, '\\' | ':'))
}

/// The Hub's own rules for ids (`validate_repo_id` of `huggingface_hub`).
fn is_id(id: &str) -> bool {
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
    use base::fault::is_usage;

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

    #[test]
    fn paths_and_mistyped_ids_are_refused_before_any_download() {
        for id in ["", "/", "./vit", "../vit", "a/b/c", "a//b", "owner/", "/name", "a b/c", "a/b--c", "a/-b", "a/b.git"]
        {
            let error = model_folder(id, ModelKind::Encoder).unwrap_err();
            assert!(is_usage(&error), "{id}: {error:?}");
        }
        assert!(model_folder(&"x".repeat(97), ModelKind::Encoder).is_err());
    }

    fn request<'a>(id: &'a str, files: &'a [&'a str], revision: Option<&'a str>) -> DatasetRequest<'a> {
        DatasetRequest { id, files, revision, terms: "", manual: "", copied_to: None }
    }

    #[test]
    fn names_that_lead_out_of_the_folder_are_refused_before_any_download() {
        for name in ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", "./a", "a\\..\\b", "C:x", "a\nb", ".."] {
            for request in [request("owner/name", &["good", name], None), request("owner/name", &[], Some(name))] {
                let error = dataset_files(&request).unwrap_err();
                assert!(is_usage(&error), "{name:?}: {error:?}");
            }
        }
        for id in ["", "..", "a/b/c", "a--b", "../b"] {
            assert!(is_usage(&dataset_files(&request(id, &["a"], None)).unwrap_err()), "{id}");
        }
    }

    fn wanted(repo: &str, names: &[&str], message: &str) -> Upload {
        let files = names.iter().map(|&name| (name.to_owned(), PathBuf::new())).collect();
        Upload { repo: repo.to_owned(), private: true, message: message.to_owned(), files }
    }

    #[test]
    fn uploads_to_what_is_no_id_or_no_path_in_a_repository_are_refused_before_anything_is_sent() {
        let bad_paths =
            ["", "/a", "../a", "a/../b", "a//b", "a/", "./a", "a\\b", "C:x", "a\nb", ".git/config", "x/.GIT/y"];
        let bad_paths = bad_paths.map(|name| wanted("owner/name", &["good", name], "first"));
        let others = [
            wanted("a/b/c", &["a"], "first"),
            wanted("../b", &["a"], "first"),
            wanted("", &["a"], "first"),
            wanted("owner/name", &["a", "b", "a"], "first"),
            wanted("owner/name", &[], "first"),
            wanted("owner/name", &["a"], " \n"),
        ];
        for request in bad_paths.iter().chain(&others) {
            let error = upload(request, &StopFlag::default()).unwrap_err();
            assert!(is_usage(&error), "{request:?}: {error:?}");
        }
        for name in ["config.json", "a/b c/ü.txt", "..a", ".gitattributes", ".github/x"] {
            assert!(check_upload(&wanted("name", &[name], "first")).is_ok(), "{name}");
        }
    }

    #[test]
    fn names_in_folders_and_names_of_branches_are_accepted() {
        let files = ["dataset_flickr8k.json", "data/train-00000-of-00002.parquet", "a b.zip", "..a", "ü"];
        for revision in [None, Some("main"), Some("refs/pr/1"), Some("refs/convert/parquet"), Some("v1.0")] {
            assert!(check_request(&request("nlphuji/flickr30k", &files, revision)).is_ok(), "{revision:?}");
        }
    }
}
