//! Uploads local files to a model repository: finds the repository, determines which files it lacks, sends the large
//! ones to its storage and makes one commit; failures come with hints.
//!
//! `hf-hub` has a call for it, `upload_folder`, which is not good enough (version 1.0.0): if the server does not speak
//! the Xet protocol, it puts files of any size into the commit, held in memory; it sends unchanged files again and
//! makes an empty commit; it waits at most half a minute whatever a server asks for, repeats a commit whose answer was
//! lost, and cannot be stopped. The calls here are those of `huggingface_hub` without Xet, which every Hub understands.

mod api;
mod calls;
mod card;
mod commit;
mod content;
mod large;

use std::collections::BTreeSet;
use std::time::Instant;

use reqwest::StatusCode;

use self::api::Api;
use self::calls::Calls;
use self::commit::Change;
use self::content::{Content, Mode};
use self::large::Large;
use super::http_client::{Failure, HttpClient, Patience};
use super::repository::RepositoryKind;
use super::settings::{Settings, shown, token};
use crate::requests::{Upload, Uploaded, is_id};
use base::error::{explained, failure, usage_error};
use base::stop::StopFlag;
use base::terminal::{detail, warning};

/// Times that a commit is rebased on commits made meanwhile.
const MAX_OVERTAKEN: u32 = 5;
const KEPT: &str = "run the same command to continue";

/// What an upload depends on in addition to its [`Settings`].
pub(super) struct Conditions {
    pub(super) token: Option<String>,
    pub(super) patience: Patience,
}

impl Conditions {
    pub(super) fn from_environment() -> Self {
        Self { token: token(), patience: Patience::default() }
    }
}

/// See [`super::check_target`].
pub(super) fn check(repo: &str, settings: &Settings, conditions: &Conditions) -> anyhow::Result<()> {
    let endpoint = shown(&settings.endpoint()?);
    if settings.offline {
        let refused = format!("cannot upload {repo} to {endpoint}: HF_HUB_OFFLINE is set");
        return Err(failure(refused, "unset HF_HUB_OFFLINE, or upload the files later from a machine with a network"));
    }
    if conditions.token.is_none() {
        let refused = format!("cannot upload {repo} to {endpoint}: no token found");
        let hint = format!(
            "create a token with write access at {endpoint}/settings/tokens, then run `hf auth login` or set HF_TOKEN"
        );
        return Err(failure(refused, hint));
    }
    Ok(())
}

/// See [`super::upload`].
pub(super) fn run(
    request: &Upload,
    settings: &Settings,
    conditions: &Conditions,
    stop: &StopFlag,
) -> anyhow::Result<Uploaded> {
    check(&request.repo, settings, conditions)?;
    let address = settings.endpoint()?;
    let endpoint = shown(&address);
    let (kind, token) = (RepositoryKind::Model, conditions.token.as_deref());
    let http = HttpClient::open(address, kind, &request.repo, token, conditions.patience.clone())?;
    if http.token.is_none() {
        let refused = format!("cannot upload {} to {endpoint}: the token contains invalid characters", request.repo);
        return Err(usage_error(refused, "check HF_TOKEN, or log in again with `hf auth login`"));
    }
    let contents = request.files.iter().map(|(name, source)| Content::open(name, source));
    let contents = contents.collect::<anyhow::Result<_>>()?;
    let api = Api { calls: Calls::new(&http, stop)?, id: request.repo.clone() };
    let mut job = Job { request, endpoint, contents, api };
    job.find_repository()?;
    job.check_card()?;
    let commit = job.deliver()?;
    Ok(Uploaded { url: format!("{}/{}", job.endpoint, job.api.id), commit })
}

/// What a failure was about.
#[derive(Clone, Copy)]
enum Step<'a> {
    Account,
    Create,
    Ask,
    Store(&'a str),
    Commit,
}

/// One upload.
struct Job<'a> {
    request: &'a Upload,
    endpoint: String,
    contents: Vec<Content>,
    api: Api<'a>,
}

impl Job<'_> {
    /// Completes the id and creates the repository if needed.
    fn find_repository(&mut self) -> anyhow::Result<()> {
        if !self.api.id.contains('/') {
            let owner = self.api.account().map_err(|error| self.explain(Step::Account, error))?;
            let id = format!("{owner}/{}", self.api.id);
            if !is_id(&id) {
                return Err(usage_error(
                    format!("\"{id}\" is not the id of a model on the Hub"),
                    "choose a shorter name",
                ));
            }
            self.api.id = id;
        }
        let Err(error) = self.api.create(self.request.private) else { return Ok(()) };
        // A token may be limited to one repository and unable to create any.
        let statuses = [StatusCode::UNAUTHORIZED, StatusCode::PAYMENT_REQUIRED, StatusCode::FORBIDDEN];
        let failure = error.downcast_ref::<Failure>();
        let is_forbidden =
            failure.is_some_and(|failure| statuses.into_iter().any(|status| failure.is_refused_with(status)));
        if is_forbidden && self.api.head().is_ok() {
            return Ok(());
        }
        Err(self.explain(Step::Create, error))
    }

    fn check_card(&self) -> anyhow::Result<()> {
        match self.contents.iter().find(|content| content.name == card::CARD) {
            Some(card) => card::check(&self.api, card),
            None => Ok(()),
        }
    }

    /// The commit with all files: made by this call, unless there is nothing to do.
    fn deliver(&mut self) -> anyhow::Result<String> {
        let http = self.api.calls.http;
        let title = format!("commit to {}", self.api.id);
        let mut retries = http.retries(&title);
        let mut overtaken = 0;
        loop {
            // Before the files, so that a commit made in between is noticed.
            let parent = self.look()?;
            let changes = self.changes()?;
            if changes.is_empty() {
                let none = || Failure::Malformed("the server has all files but names no commit".to_owned());
                return parent.ok_or_else(|| self.explain(Step::Ask, none().into()));
            }
            self.store(&changes)?;
            let made = commit::commit(&self.api, parent.as_deref(), &self.request.message, &changes);
            let failure = match made {
                Ok(commit) => return Ok(commit),
                Err(error) => error.downcast::<Failure>()?,
            };
            // It may have been made. If so, nothing is left to do in the next round.
            let wait = match is_overtaken(&failure) && overtaken < MAX_OVERTAKEN {
                true => {
                    overtaken += 1;
                    detail(&format!("{title}: {failure}; checking again"));
                    http.patience.first_wait
                }
                false => retries.next_wait(failure).map_err(|failure| self.explain(Step::Commit, failure.into()))?,
            };
            self.api.calls.pause(wait)?;
        }
    }

    /// The newest commit.
    fn look(&mut self) -> anyhow::Result<Option<String>> {
        let head = self.api.head().map_err(|error| self.explain(Step::Ask, error))?;
        if let Some(id) = head.id {
            self.api.id = id;
        }
        let id = &self.api.id;
        if self.request.private && head.is_private == Some(false) {
            return Err(failure(
                format!("{id} already exists and is public, but a private repository was requested"),
                format!(
                    "make it private at {}/{id}/settings, choose another name, or upload it as public",
                    self.endpoint
                ),
            ));
        }
        Ok(head.commit)
    }

    /// The files whose content the repository lacks.
    fn changes(&self) -> anyhow::Result<Vec<Change<'_>>> {
        let verdicts = self.api.verdicts(&self.contents).map_err(|error| self.explain(Step::Ask, error))?;
        let mut changes = Vec::new();
        for (content, verdict) in self.contents.iter().zip(verdicts) {
            if verdict.should_ignore {
                let id = &self.api.id;
                warning(&format!("skipping {}: it is in the .gitignore of {id}", content.name));
                continue;
            }
            let mode = verdict.mode();
            let digests = content.digests(mode, self.api.calls.stop)?;
            if verdict.oid.as_ref() == Some(&digests.named) {
                detail(&format!("{} is unchanged", content.name));
                continue;
            }
            changes.push(Change { content, mode, sha256: &digests.sha256 });
        }
        Ok(changes)
    }

    /// Uploads the large files to the storage.
    fn store(&self, changes: &[Change<'_>]) -> anyhow::Result<()> {
        let large = || changes.iter().filter(|change| change.mode == Mode::Lfs);
        // Two files may have the same content.
        let wanted: BTreeSet<(&str, u64)> = large().map(|change| (change.sha256, change.content.bytes)).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let said = Instant::now();
        let missing = self.api.missing(&wanted.into_iter().collect::<Vec<_>>());
        let mut missing = missing.map_err(|error| self.explain(Step::Ask, error))?;
        for Change { content, sha256, .. } in large() {
            let Some(actions) = missing.remove(*sha256) else {
                detail(&format!("the storage already has {}", content.name));
                continue;
            };
            let title = format!("{} {}", self.api.id, content.name);
            let large = Large { api: &self.api, content, sha256, title: &title };
            large.send(actions, said).map_err(|error| self.explain(Step::Store(&content.name), error))?;
        }
        Ok(())
    }

    fn explain(&self, step: Step<'_>, error: anyhow::Error) -> anyhow::Error {
        let failure = match error.downcast::<Failure>() {
            Ok(failure) => failure,
            Err(error) => return error,
        };
        let (id, endpoint) = (&self.api.id, &self.endpoint);
        let task = match step {
            Step::Account => "find the owner of the token".to_owned(),
            Step::Create => format!("create the model {id}"),
            Step::Ask => format!("upload to the model {id}"),
            Step::Store(name) => format!("upload {name} to the model {id}"),
            Step::Commit => format!("commit to the model {id}"),
        };
        let mut what = format!("cannot {task} at {endpoint}");
        let is_storage = matches!(step, Step::Store(_));
        let hint = match &failure {
            Failure::Unreachable(_) => {
                what = format!("cannot reach {endpoint} to {task}");
                format!("check the network; {KEPT}")
            }
            Failure::Cut(_) | Failure::Short { .. } | Failure::Silent(_) => format!("check the network; {KEPT}"),
            Failure::Malformed(_) | Failure::Damaged { .. } => {
                format!("check that HF_ENDPOINT is the address of a Hub; {KEPT}")
            }
            Failure::Refused(refusal) => match refusal.status {
                StatusCode::UNAUTHORIZED if !is_storage => {
                    what = format!("cannot {task}: {endpoint} does not accept the token");
                    format!(
                        "log in again with `hf auth login`, or set HF_TOKEN to a token from {endpoint}/settings/tokens"
                    )
                }
                StatusCode::FORBIDDEN if !is_storage => {
                    what = format!("the token has no permission to {task} at {endpoint}");
                    format!(
                        "check that the owner is you or an organization of yours, and that the token has write access: \
                         {endpoint}/settings/tokens"
                    )
                }
                StatusCode::NOT_FOUND => format!("check the id and HF_ENDPOINT; see {endpoint}/{id}"),
                StatusCode::TOO_MANY_REQUESTS => format!("wait a few minutes; {KEPT}"),
                status if status.is_client_error() && !is_storage => {
                    format!("fix what the server reports; {KEPT}")
                }
                _ => format!("try again later; {KEPT}"),
            },
        };
        explained(failure.into(), what, hint)
    }
}

/// Whether the commit was refused because of another one, or its outcome is unknown.
fn is_overtaken(failure: &Failure) -> bool {
    let statuses = [StatusCode::PRECONDITION_FAILED, StatusCode::CONFLICT];
    matches!(failure, Failure::Malformed(_)) || statuses.into_iter().any(|status| failure.is_refused_with(status))
}

#[cfg(test)]
mod tests;
