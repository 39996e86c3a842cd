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
mod model_id;
#[cfg(feature = "client")]
mod repository;
mod requests;
#[cfg(feature = "client")]
mod settings;
#[cfg(feature = "client")]
mod source;
#[cfg(feature = "client")]
#[cfg(test)]
mod testing;
#[cfg(feature = "client")]
mod transfer;
#[cfg(feature = "client")]
mod upload;

use base::stop::StopFlag;

pub use model_id::{ModelId, is_commit};
pub use requests::{
    DatasetPlan, DatasetRequest, DownloadedDataset, DownloadedFile, FileRole, Files, FirstRows, ModelKind,
    ModelSnapshot, Part, PlannedFile, Reading, Search, Upload, UploadStopped, Uploaded, check_dataset_id,
};

use requests::{check_repository, check_request, check_upload};

/// The folder with `config.json`, the weights and the files of `kind` of a Hub repository (`owner/name`, or only `name`
/// for the oldest ones). What the Hub's ordinary cache lacks is downloaded into it and checked, as by
/// [`dataset_files`]; all files are of one commit.
///
/// The weights are `model.safetensors`, or `model.safetensors.index.json` and the shards that it names; where a
/// repository has neither, `pytorch_model.bin` or its shards, and a message says so. The environment variables are those
/// of the Hub's own tools: `HF_TOKEN`, `HF_ENDPOINT`, `HF_HOME`, `HF_HUB_CACHE`,
/// `HF_HUB_OFFLINE`.
///
/// # Errors
/// A repository, revision or file that does not exist or is not accessible; no weights; no network and no cached copy;
/// a program built without the feature `hub`.
#[cfg_attr(not(feature = "client"), expect(unused_variables, reason = "nothing can be downloaded"))]
pub fn model_folder(id: &ModelId, kind: ModelKind) -> anyhow::Result<ModelSnapshot> {
    #[cfg(feature = "client")]
    return model::folder(id, kind, &settings::Settings::from_environment(), &source::Conditions::from_environment());
    #[cfg(not(feature = "client"))]
    return Err(base::error::failure(
        format!("cannot download {id} from the Hub: this program was built without the feature hub"),
        "give a local folder instead of the id, or build with `--features hub`",
    ));
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
    return Err(cannot_download(request));
}

/// What [`dataset_files`] would download. The Hub is asked; nothing is written.
///
/// # Errors
/// As [`dataset_files`], as far as they are known before a download.
pub fn plan_dataset(request: &DatasetRequest<'_>) -> anyhow::Result<DatasetPlan> {
    check_request(request)?;
    #[cfg(feature = "client")]
    return dataset::plan(request, &settings::Settings::from_environment(), &source::Conditions::from_environment());
    #[cfg(not(feature = "client"))]
    return Err(cannot_download(request));
}

#[cfg(not(feature = "client"))]
fn cannot_download(request: &DatasetRequest<'_>) -> anyhow::Error {
    base::error::failure(
        format!("cannot download {} from the Hub: this program was built without the feature hub", request.id),
        format!("build with `--features hub`, or {}", request.manual),
    )
}

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
    base::error::failure(
        format!("cannot upload {repo} to the Hub: this program was built without the feature hub"),
        "build with `--features hub`, or upload the files with `hf upload`",
    )
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::requests::{check_request, check_upload};
    use base::error::is_usage_error;

    #[test]
    fn paths_and_mistyped_ids_are_refused_before_any_download() {
        for id in ["", "/", "./vit", "../vit", "a/b/c", "a//b", "owner/", "/name", "a b/c", "a/b--c", "a/-b", "a/b.git"]
        {
            let error = ModelId::parse(id).unwrap_err();
            assert!(is_usage_error(&error), "{id}: {error:?}");
        }
        assert!(ModelId::parse(&"x".repeat(97)).is_err());
    }

    fn request<'a>(id: &'a str, files: &'a [&'a str], revision: Option<&'a str>) -> DatasetRequest<'a> {
        DatasetRequest { id, files: Files::Named(files), revision, terms: "", manual: "", copied_to: None }
    }

    #[test]
    fn names_that_lead_out_of_the_folder_are_refused_before_any_download() {
        for name in ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", "./a", "a\\..\\b", "C:x", "a\nb", ".."] {
            for request in [request("owner/name", &["good", name], None), request("owner/name", &[], Some(name))] {
                let error = dataset_files(&request).unwrap_err();
                assert!(is_usage_error(&error), "{name:?}: {error:?}");
            }
        }
        for id in ["", "..", "a/b/c", "a--b", "../b"] {
            assert!(is_usage_error(&dataset_files(&request(id, &["a"], None)).unwrap_err()), "{id}");
        }
    }

    fn wanted(repo: &str, names: &[&str], message: &str) -> Upload {
        let files = names.iter().map(|&name| (name.to_owned(), PathBuf::new())).collect();
        Upload { repo: repo.to_owned(), private: true, message: message.to_owned(), files }
    }

    #[test]
    fn uploads_to_what_is_not_an_id_or_no_path_in_a_repository_are_refused_before_anything_is_sent() {
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
            assert!(is_usage_error(&error), "{request:?}: {error:?}");
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
