//! The requests of an upload, one call each. Their shapes are those of `huggingface_hub` 2.4.0.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;
use serde_json::json;

use super::calls::{Body, Calls};
use super::content::{Content, Mode};
use crate::http_client::{Failure, printable};
use crate::model_id::is_commit;
use crate::requests::is_id;
use base::error::failure;

/// The branch that is committed to.
pub(super) const BRANCH: &str = "main";
/// Files in one request, as in `huggingface_hub`.
const MAX_FILES: usize = 256;
/// Tries to create a repository while the Hub is creating another one for the same user.
const MAX_CONFLICTS: u32 = 5;

pub(super) struct Api<'a> {
    pub(super) calls: Calls<'a>,
    /// `owner/name`.
    pub(super) id: String,
}

pub(super) struct Head {
    /// Its current name: a renamed repository is also found under its old one.
    pub(super) id: Option<String>,
    pub(super) is_private: Option<bool>,
    /// The newest commit on the branch, if there is one.
    pub(super) commit: Option<String>,
}

/// How the Hub wants a file, and what it has under that path.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Verdict {
    path: String,
    upload_mode: Mode,
    /// Whether the repository's `.gitignore` names it.
    #[serde(default)]
    pub(super) should_ignore: bool,
    /// The hash of the content that is there.
    pub(super) oid: Option<String>,
    #[serde(skip)]
    is_empty: bool,
}

impl Verdict {
    /// The storage refuses empty files, so they always go with the commit.
    pub(super) fn mode(&self) -> Mode {
        if self.is_empty { Mode::Regular } else { self.upload_mode }
    }
}

/// How to upload a content to the storage.
#[derive(Clone, Deserialize)]
pub(super) struct Actions {
    pub(super) upload: Option<Action>,
    pub(super) verify: Option<Action>,
}

/// An address and its headers; for a content in parts also their addresses.
#[derive(Clone, Deserialize)]
pub(super) struct Action {
    pub(super) href: String,
    pub(super) header: Option<serde_json::Map<String, serde_json::Value>>,
}

impl Api<'_> {
    /// The owner of the token.
    pub(super) fn account(&self) -> anyhow::Result<String> {
        #[derive(Deserialize)]
        struct Account {
            name: String,
        }
        let url = self.calls.http.address_of(["api", "whoami-v2"])?;
        let request = || self.calls.request(Method::GET, url.clone(), Body::Nothing);
        let Account { name } = self.calls.patiently("the owner of the token", request)?.json("account")?;
        if is_id(&name) && !name.contains('/') {
            return Ok(name);
        }
        Err(Failure::Malformed("the server's answer names no account".to_owned()).into())
    }

    /// Creates the repository, unless it exists.
    pub(super) fn create(&self, is_private: bool) -> anyhow::Result<()> {
        let (owner, name) = self.id.split_once('/').unwrap_or_default();
        let url = self.calls.http.address_of(["api", "repos", "create"])?;
        let visibility = if is_private { "private" } else { "public" };
        let body = json!({"name": name, "organization": owner, "visibility": visibility, "type": "model"});
        let request = || self.calls.request(Method::POST, url.clone(), Body::Json(body.clone()));
        let mut conflicts = 0;
        loop {
            let failure = match self.calls.patiently(&format!("creating {}", self.id), request) {
                Ok(_) => return Ok(()),
                Err(error) => error.downcast::<Failure>()?,
            };
            match &failure {
                Failure::Refused(refusal) if refusal.status != StatusCode::CONFLICT => return Err(failure.into()),
                Failure::Refused(refusal) if refusal.says("conflicting operation") && conflicts < MAX_CONFLICTS => {
                    conflicts += 1;
                    self.calls.pause(self.calls.http.patience.first_wait)?;
                }
                Failure::Refused(_) => return Ok(()),
                _ => return Err(failure.into()),
            }
        }
    }

    /// The state of the repository and of its branch.
    pub(super) fn head(&self) -> anyhow::Result<Head> {
        #[derive(Deserialize)]
        struct Description {
            id: Option<String>,
            private: Option<bool>,
            sha: Option<String>,
        }
        let url = self.model(&["revision", BRANCH])?;
        let request = || self.calls.request(Method::GET, url.clone(), Body::Nothing);
        let Description { id, private, sha } =
            self.calls.patiently(&self.id, request)?.json("description of a repository")?;
        if sha.as_ref().is_some_and(|sha| !is_commit(sha)) {
            return Err(Failure::Malformed("the server's description of the repository names no commit".into()).into());
        }
        Ok(Head { id: id.filter(|id| is_id(id) && id.contains('/')), is_private: private, commit: sha })
    }

    pub(super) fn verdicts(&self, contents: &[Content]) -> anyhow::Result<Vec<Verdict>> {
        #[derive(Deserialize)]
        struct Verdicts {
            files: Vec<Verdict>,
        }
        let url = self.model(&["preupload", BRANCH])?;
        let mut verdicts = Vec::new();
        for contents in contents.chunks(MAX_FILES) {
            let file = |Content { name, bytes, sample, .. }: &Content| {
                let sample = STANDARD.encode(sample);
                json!({"path": name, "sample": sample, "size": bytes})
            };
            let body = json!({"files": contents.iter().map(file).collect::<Vec<_>>()});
            let request = || self.calls.request(Method::POST, url.clone(), Body::Json(body.clone()));
            let Verdicts { files } = self.calls.patiently(&self.id, request)?.json("verdict on files")?;
            let mut named: HashMap<String, Verdict> =
                files.into_iter().map(|verdict| (verdict.path.clone(), verdict)).collect();
            for content in contents {
                let Some(mut verdict) = named.remove(&content.name) else {
                    let unknown = format!("the server does not say how to upload {}", content.name);
                    return Err(Failure::Malformed(unknown).into());
                };
                verdict.is_empty = content.bytes == 0;
                verdicts.push(verdict);
            }
        }
        Ok(verdicts)
    }

    /// How to upload contents, given by SHA-256 and length, to the storage; by SHA-256, without those that it has.
    pub(super) fn missing(&self, contents: &[(&str, u64)]) -> anyhow::Result<HashMap<String, Actions>> {
        #[derive(Deserialize)]
        struct Batch {
            objects: Vec<Object>,
        }
        #[derive(Deserialize)]
        struct Object {
            oid: String,
            actions: Option<Actions>,
            error: Option<Refused>,
        }
        #[derive(Deserialize)]
        struct Refused {
            message: String,
        }
        let (owner, name) = self.id.split_once('/').unwrap_or_default();
        let repository = format!("{name}.git");
        let url = self.calls.http.address_of([owner, &repository, "info", "lfs", "objects", "batch"])?;
        let mut missing = HashMap::new();
        for contents in contents.chunks(MAX_FILES) {
            let object = |&(sha256, bytes): &(&str, u64)| json!({"oid": sha256, "size": bytes});
            let body = json!({
                "operation": "upload",
                "transfers": ["basic", "multipart"],
                "objects": contents.iter().map(object).collect::<Vec<_>>(),
                "hash_algo": "sha256",
                "ref": {"name": BRANCH},
            });
            let request = || {
                let mut request = self.calls.request(Method::POST, url.clone(), Body::Json(body.clone()));
                request.headers.extend(lfs_headers());
                request
            };
            let Batch { objects } = self.calls.patiently(&self.id, request)?.json("list of large files")?;
            let mut named: HashMap<String, Object> =
                objects.into_iter().map(|object| (object.oid.clone(), object)).collect();
            for &(sha256, _) in contents {
                let Some(Object { actions, error, .. }) = named.remove(sha256) else {
                    let unknown = format!("the server does not say whether it has the content {sha256}");
                    return Err(Failure::Malformed(unknown).into());
                };
                if let Some(Refused { message }) = error {
                    let refused = format!("the server refuses the content {sha256}: {}", printable(&message));
                    return Err(failure(refused, "see the server's message; no other files were sent"));
                }
                if let Some(actions) = actions.filter(|actions| actions.upload.is_some()) {
                    missing.insert(sha256.to_owned(), actions);
                }
            }
        }
        Ok(missing)
    }

    /// An address of the repository in the API for models.
    pub(super) fn model(&self, rest: &[&str]) -> Result<Url, Failure> {
        let parts = ["api", "models"].into_iter().chain(self.id.split('/')).chain(rest.iter().copied());
        self.calls.http.address_of(parts)
    }
}

/// The headers of all requests about large files.
pub(super) fn lfs_headers() -> HeaderMap {
    let kind = HeaderValue::from_static("application/vnd.git-lfs+json");
    HeaderMap::from_iter([(ACCEPT, kind.clone()), (CONTENT_TYPE, kind)])
}
