//! Local files into a model repository: which repository, what of the files it lacks, the large ones into its storage, then
//! one commit; and failures in words that say what to do.
//!
//! `hf-hub` has a call for it, `upload_folder`, which does not do (version 1.0.0): where the server does not speak the Xet
//! protocol it puts files of any size into the commit, held in memory; it sends unchanged files again and makes an empty
//! commit; it waits half a minute at most whatever a server asks for, repeats a commit whose answer was lost, and cannot be
//! stopped. The calls here are those of `huggingface_hub` without Xet, which every Hub understands.

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
use super::{Upload, Uploaded, is_id};
use base::fault::{explained, fault, usage};
use base::stop::StopFlag;
use base::terminal::{detail, warning};

/// How often a commit is made anew on what others have committed meanwhile.
const MOST_OVERTAKEN: u32 = 5;
const KEPT: &str = "what has arrived is kept: the same command goes on from there";

/// What an upload depends on beside its [`Settings`].
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
        return Err(fault(refused, "unset HF_HUB_OFFLINE, or upload the files later from a machine with a network"));
    }
    if conditions.token.is_none() {
        let refused = format!("cannot upload {repo} to {endpoint}: there is no token");
        let hint =
            format!("make one that may write at {endpoint}/settings/tokens, then `hf auth login` or set HF_TOKEN");
        return Err(fault(refused, hint));
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
        let refused =
            format!("cannot upload {} to {endpoint}: the token has characters that no token has", request.repo);
        return Err(usage(refused, "check HF_TOKEN, or log in anew with `hf auth login`"));
    }
    let contents = request.files.iter().map(|(name, source)| Content::open(name, source));
    let contents = contents.collect::<anyhow::Result<_>>()?;
    let api = Api { calls: Calls::new(&http, stop)?, id: request.repo.clone() };
    let mut errand = Errand { request, endpoint, contents, api };
    errand.find_repository()?;
    errand.check_card()?;
    let commit = errand.deliver()?;
    Ok(Uploaded { url: format!("{}/{}", errand.endpoint, errand.api.id), commit })
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
struct Errand<'a> {
    request: &'a Upload,
    endpoint: String,
    contents: Vec<Content>,
    api: Api<'a>,
}

impl Errand<'_> {
    /// Completes the id, and sees to it that there is such a repository.
    fn find_repository(&mut self) -> anyhow::Result<()> {
        if !self.api.id.contains('/') {
            let owner = self.api.account().map_err(|error| self.explain(Step::Account, error))?;
            let id = format!("{owner}/{}", self.api.id);
            if !is_id(&id) {
                return Err(usage(format!("\"{id}\" is not the id of a model on the Hub"), "choose a shorter name"));
            }
            self.api.id = id;
        }
        let Err(error) = self.api.create(self.request.private) else { return Ok(()) };
        // A token may be for one repository and must not make any.
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

    /// The commit that has all files: made by this call, unless there is nothing to do.
    fn deliver(&mut self) -> anyhow::Result<String> {
        let http = self.api.calls.http;
        let title = format!("commit to {}", self.api.id);
        let mut retries = http.retries(&title);
        let mut overtaken = 0;
        loop {
            // Asked before the files: what is committed in between is noticed.
            let parent = self.look()?;
            let changes = self.changes()?;
            if changes.is_empty() {
                let none = || Failure::Malformed("the server has all files and names no commit".to_owned());
                return parent.ok_or_else(|| self.explain(Step::Ask, none().into()));
            }
            self.store(&changes)?;
            let made = commit::commit(&self.api, parent.as_deref(), &self.request.message, &changes);
            let failure = match made {
                Ok(commit) => return Ok(commit),
                Err(error) => error.downcast::<Failure>()?,
            };
            // Whether it was made is open. If so, nothing is left to do in the next round.
            let wait = match is_overtaken(&failure) && overtaken < MOST_OVERTAKEN {
                true => {
                    overtaken += 1;
                    detail(&format!("{title}: {failure}; looking again"));
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
            return Err(fault(
                format!("{id} is there already and public, and a private repository is wanted"),
                format!(
                    "make it private at {}/{id}/settings, choose another name, or upload it as public",
                    self.endpoint
                ),
            ));
        }
        Ok(head.commit)
    }

    /// The files that the repository does not have in this form.
    fn changes(&self) -> anyhow::Result<Vec<Change<'_>>> {
        let verdicts = self.api.verdicts(&self.contents).map_err(|error| self.explain(Step::Ask, error))?;
        let mut changes = Vec::new();
        for (content, verdict) in self.contents.iter().zip(verdicts) {
            if verdict.should_ignore {
                let id = &self.api.id;
                warning(&format!("{} is not uploaded: the .gitignore of {id} names it", content.name));
                continue;
            }
            let mode = verdict.mode();
            let digests = content.digests(mode, self.api.calls.stop)?;
            if verdict.oid.as_ref() == Some(&digests.named) {
                detail(&format!("{} is there already", content.name));
                continue;
            }
            changes.push(Change { content, mode, sha256: &digests.sha256 });
        }
        Ok(changes)
    }

    /// Brings the large files into the storage.
    fn store(&self, changes: &[Change<'_>]) -> anyhow::Result<()> {
        let large = || changes.iter().filter(|change| change.mode == Mode::Lfs);
        // Two files may have one content.
        let wanted: BTreeSet<(&str, u64)> = large().map(|change| (change.sha256, change.content.bytes)).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let said = Instant::now();
        let missing = self.api.missing(&wanted.into_iter().collect::<Vec<_>>());
        let mut missing = missing.map_err(|error| self.explain(Step::Ask, error))?;
        for Change { content, sha256, .. } in large() {
            let Some(actions) = missing.remove(*sha256) else {
                detail(&format!("the storage has {} already", content.name));
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
            Step::Account => "find out whose the token is".to_owned(),
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
                format!("check HF_ENDPOINT, which should name a Hub; {KEPT}")
            }
            Failure::Refused(refusal) => match refusal.status {
                StatusCode::UNAUTHORIZED if !is_storage => {
                    what = format!("{endpoint} does not accept the token, so that one cannot {task}");
                    format!(
                        "log in anew with `hf auth login`, or set HF_TOKEN to a token of {endpoint}/settings/tokens"
                    )
                }
                StatusCode::FORBIDDEN if !is_storage => {
                    what = format!("the token may not {task} at {endpoint}");
                    format!(
                        "check that the owner is you or an organization of yours, and that the token may write: \
                         {endpoint}/settings/tokens"
                    )
                }
                StatusCode::NOT_FOUND => format!("check the id and HF_ENDPOINT; see {endpoint}/{id}"),
                StatusCode::TOO_MANY_REQUESTS => format!("wait some minutes; {KEPT}"),
                status if status.is_client_error() && !is_storage => {
                    format!("see what the server says, and change that; {KEPT}")
                }
                _ => format!("try again later; {KEPT}"),
            },
        };
        explained(failure.into(), what, hint)
    }
}

/// Whether the commit was refused because of another one, or answered in a way that leaves it open.
fn is_overtaken(failure: &Failure) -> bool {
    let statuses = [StatusCode::PRECONDITION_FAILED, StatusCode::CONFLICT];
    matches!(failure, Failure::Malformed(_)) || statuses.into_iter().any(|status| failure.is_refused_with(status))
}

#[cfg(test)]
mod tests;
