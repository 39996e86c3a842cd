//! Failures of a download in words that say what to do, the same for models and data sets.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use reqwest::StatusCode;

use super::repository::Repository;
use super::wire::Failure;
use base::fault::{explained, fault, with_hint};

/// For a repository that is not there or not shown.
const NOT_SHOWN: &str = "check the id; for a private or gated repository accept its terms on its page and set HF_TOKEN";
/// For a server that has had enough requests.
const TOO_MANY: &str = "wait some minutes, or set HF_TOKEN, which raises the limit";

/// What a failure was about.
#[derive(Clone, Copy)]
pub(super) enum Subject<'a> {
    /// Which commit the repository's revision stands for.
    Revision,
    /// A file, at a revision or commit.
    File { name: &'a str, revision: &'a str },
}

/// What messages name: the repository, where it is fetched from, and where to.
pub(super) struct Place<'a> {
    pub(super) repository: Repository<'a>,
    /// The address of the Hub as it may be shown.
    pub(super) endpoint: String,
    pub(super) cache: PathBuf,
}

impl Place<'_> {
    pub(super) fn check_cache(&self) -> String {
        format!("check the space and the rights in {}, or set HF_HUB_CACHE to another folder", self.cache.display())
    }

    /// Something that must be in the cache when there is nothing else, and is not.
    pub(super) fn not_cached(&self, what: impl Display) -> anyhow::Error {
        let Repository { id, manual, .. } = self.repository;
        fault(
            format!("{what} of {id} is not in the cache {}, and HF_HUB_OFFLINE is set", self.cache.display()),
            format!("unset HF_HUB_OFFLINE to download it, or {manual}"),
        )
    }

    /// A file of the cache that has another content than its name says, and nobody to fetch it from.
    pub(super) fn damaged(&self, path: &Path, expected: &str, found: &str) -> anyhow::Error {
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        fault(
            format!("{} is damaged: its hash should be {expected} and is {found}", path.display()),
            format!(
                "remove it, and run the same command with a network and without HF_HUB_OFFLINE to download it again; or {}",
                self.repository.manual
            ),
        )
    }

    /// The failure, with what it means and a way out.
    pub(super) fn explain(&self, subject: Subject<'_>, error: anyhow::Error) -> anyhow::Error {
        let failure = match error.downcast::<Failure>() {
            Ok(failure) => failure,
            Err(error) => return with_hint(error, self.check_cache()),
        };
        let Repository { kind, id, manual, .. } = self.repository;
        let wanted = match subject {
            Subject::Revision => format!("the {} {id}", kind.noun()),
            Subject::File { name, .. } => format!("{name} of {id}"),
        };
        let check_network = format!(
            "check the network; without one set HF_HUB_OFFLINE=1 to use what was downloaded before, or {manual}"
        );
        let later = format!("try again later, or {manual}");
        let (what, hint) = match &failure {
            Failure::Unreachable(_) => (format!("cannot reach {} to get {wanted}", self.endpoint), check_network),
            Failure::Refused(refusal) if refusal.status == StatusCode::TOO_MANY_REQUESTS => {
                (self.cannot_get(&wanted), TOO_MANY.to_owned())
            }
            Failure::Refused(refusal) if refusal.status.is_client_error() => {
                let code = refusal.code.as_deref();
                self.not_there(subject, refusal.status, code, &wanted)
                    .unwrap_or_else(|| (self.cannot_get(&wanted), later))
            }
            Failure::Cut(_) | Failure::Short { .. } | Failure::Silent(_) => {
                let kept = "what has arrived is kept, and the same command resumes the download";
                (self.cannot_get(&wanted), format!("{check_network}; {kept}"))
            }
            Failure::Malformed(_) => {
                let hint = format!("check HF_ENDPOINT, which should name a Hub, or {manual}");
                (self.cannot_get(&wanted), hint)
            }
            Failure::Refused(_) | Failure::Damaged { .. } => (self.cannot_get(&wanted), later),
        };
        explained(failure.into(), what, hint)
    }

    fn cannot_get(&self, wanted: &str) -> String {
        format!("cannot get {wanted} from {}", self.endpoint)
    }

    /// What a refusal means that says that something is not there or not shown.
    fn not_there(
        &self,
        subject: Subject<'_>,
        status: StatusCode,
        code: Option<&str>,
        wanted: &str,
    ) -> Option<(String, String)> {
        let Self { repository, endpoint, .. } = self;
        let Repository { kind, id, revision, .. } = repository;
        let (page, noun) = (repository.page(endpoint), kind.noun());
        Some(match (status, code, subject) {
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, ..) => {
                (format!("{endpoint} does not show {wanted}"), format!("{NOT_SHOWN} ({page})"))
            }
            (StatusCode::NOT_FOUND, Some("RevisionNotFound"), _) => (
                format!("{id} has no revision {revision}"),
                format!("a revision is a branch, a tag or the full name of a commit; see {page}"),
            ),
            (StatusCode::NOT_FOUND, code, Subject::File { name, revision }) if code != Some("RepoNotFound") => (
                format!("{id} has no file {name} at {revision}"),
                format!("check the id; {page}/tree/{revision} shows the files"),
            ),
            (StatusCode::NOT_FOUND, code, _) => {
                let revised = if code.is_none() { format!(" with a revision {revision}") } else { String::new() };
                (format!("{endpoint} has no {noun} {id}{revised}"), NOT_SHOWN.to_owned())
            }
            _ => return None,
        })
    }
}
