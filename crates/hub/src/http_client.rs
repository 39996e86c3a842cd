//! Requests to the Hub: addresses, redirects, who gets the token, and which failures are retried.
//!
//! `hf-hub` has calls for these requests, but they lack what a download needs (version 1.0.0): it uses `ETag` and
//! `X-Repo-Commit` as parts of paths without checking them, and compares no content with its hash; it cannot get the
//! metadata of large files, because it follows the redirect to the storage, whose answer lacks the Hub's headers, and
//! `paths-info` drops their SHA-256; a stream does not say whether the server honoured the range; nothing ends a silent
//! connection. Its Xet protocol is not needed: the same redirect gives the same bytes over plain HTTP, with ranges.
//! Requests with a body are sent by `upload::calls`, under the same rules.

use std::fmt::{self, Display};
use std::io::{self, Read as _};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use reqwest::blocking::{Client, Response};
use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, LINK, LOCATION, RANGE, RETRY_AFTER,
};
use reqwest::{Method, StatusCode, Url};

use super::content_hash::ContentHash;
use super::model_id::is_commit;
use super::repository::RepositoryKind;
use base::terminal::message;

const LINKED_TAG: HeaderName = HeaderName::from_static("x-linked-etag");
const LINKED_SIZE: HeaderName = HeaderName::from_static("x-linked-size");
const REPO_COMMIT: HeaderName = HeaderName::from_static("x-repo-commit");
/// As in reqwest.
const MAX_REDIRECTS: usize = 10;
/// The description of a repository, which lists its files, is a few megabytes at most.
pub(super) const MAX_DESCRIPTION_BYTES: u64 = 64 << 20;
const MAX_EXPLANATION_BYTES: u64 = 64 << 10;
const MAX_EXPLANATION_CHARACTERS: usize = 300;

/// How long failures are retried.
#[derive(Clone, Debug)]
pub(super) struct Patience {
    /// Tries after a first failure; any progress resets the count.
    pub(super) retries: u32,
    /// The same while the server has never answered: most likely there is no network.
    pub(super) retries_unreached: u32,
    /// The wait before the first retry; it doubles for each further one.
    pub(super) first_wait: Duration,
    /// The longest wait that a server may ask for. The Hub counts requests over five minutes.
    pub(super) max_wait: Duration,
    /// Timeout for accepting a connection.
    pub(super) connecting: Duration,
    /// A connection that is silent for this long counts as interrupted.
    pub(super) silence: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            retries: 6,
            retries_unreached: 3,
            first_wait: Duration::from_secs(1),
            max_wait: Duration::from_secs(330),
            connecting: Duration::from_secs(10),
            silence: Duration::from_secs(60),
        }
    }
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("no connection")]
    Unreachable(#[source] reqwest::Error),
    #[error("the connection was cut")]
    Cut(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the connection was closed after {found} of {expected} bytes")]
    Short { expected: u64, found: u64 },
    #[error("the server sent nothing for {0:?}")]
    Silent(Duration),
    #[error("the server answered {0}")]
    Refused(Refusal),
    #[error("{0}")]
    Malformed(String),
    #[error("the server sent other content than it announced: expected the hash {expected}, found {found}")]
    Damaged { expected: String, found: String },
}

impl Failure {
    /// Whether a retry may help.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Cut(_) | Self::Short { .. } | Self::Silent(_) => true,
            Self::Refused(refusal) => {
                let status = refusal.status;
                status.is_server_error()
                    || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(&status)
            }
            Self::Malformed(_) | Self::Damaged { .. } => false,
        }
    }

    pub(super) fn is_refused_with(&self, status: StatusCode) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.status == status)
    }
}

/// An answer with an error status.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// The Hub's error code: `RepoNotFound`, `RevisionNotFound`, `EntryNotFound`, `GatedRepo`.
    pub(super) code: Option<String>,
    explanation: Option<String>,
    /// How long the server asks to wait.
    wait: Option<Duration>,
}

impl Refusal {
    /// Whether the repository and its revision exist, but not the file. A server that is not a Hub does not distinguish
    /// these.
    pub(super) fn is_about_a_file(&self) -> bool {
        let is_larger = matches!(self.code.as_deref(), Some("RepoNotFound" | "RevisionNotFound"));
        self.status == StatusCode::NOT_FOUND && !is_larger
    }

    /// Whether the server's explanation contains the text.
    pub(super) fn says(&self, text: &str) -> bool {
        self.explanation.as_ref().is_some_and(|explanation| explanation.contains(text))
    }
}

impl Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        if let Some(code) = &self.code {
            write!(f, " ({code})")?;
        }
        if let Some(explanation) = &self.explanation {
            write!(f, ": {explanation}")?;
        }
        match self.wait {
            Some(wait) => write!(f, "; it asks to wait {wait:?}"),
            None => Ok(()),
        }
    }
}

/// The server's description of a file, requested before the download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Remote {
    pub(super) hash: ContentHash,
    pub(super) bytes: u64,
}

/// A client for one repository of a Hub.
pub(super) struct HttpClient {
    client: Client,
    pub(super) endpoint: Url,
    kind: RepositoryKind,
    id: String,
    pub(super) token: Option<HeaderValue>,
    pub(super) patience: Patience,
    /// Whether the server has ever answered.
    pub(super) is_reached: AtomicBool,
}

/// Makes ring the cryptography of TLS: reqwest brings none.
pub(super) fn choose_cryptography() {
    // An error says that one was chosen already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

impl HttpClient {
    pub(super) fn open(
        endpoint: Url,
        kind: RepositoryKind,
        id: &str,
        token: Option<&str>,
        patience: Patience,
    ) -> anyhow::Result<Self> {
        let agent = format!("{}/{}", base::PROGRAM, base::VERSION);
        // The blocking client's timeout applies to each wait, not to the whole answer. Redirects are followed here,
        // because the one to the storage has the headers that matter.
        choose_cryptography();
        let client = Client::builder().user_agent(agent).connect_timeout(patience.connecting).timeout(patience.silence);
        let client = client.redirect(reqwest::redirect::Policy::none()).build();
        let token = token.and_then(|token| HeaderValue::from_str(&format!("Bearer {token}")).ok()).map(|mut value| {
            value.set_sensitive(true);
            value
        });
        Ok(Self {
            client: client.context("cannot set up a connection to the Hub")?,
            endpoint,
            kind,
            id: id.to_owned(),
            token,
            patience,
            is_reached: AtomicBool::new(false),
        })
    }

    /// The commit of a branch, a tag or an existing commit.
    pub(super) fn commit(&self, revision: &str) -> Result<String, Failure> {
        #[derive(serde::Deserialize)]
        struct Description {
            sha: String,
        }
        let url = self.address(["api", self.kind.plural()], ["revision", revision])?;
        let (description, _) = self.page(&url)?;
        match serde_json::from_slice::<Description>(&description) {
            Ok(Description { sha }) if is_commit(&sha) => Ok(sha),
            _ => Err(Failure::Malformed("the server's description of the repository names no commit".to_owned())),
        }
    }

    /// The address of the list of all files of a commit.
    pub(super) fn tree_address(&self, commit: &str) -> Result<Url, Failure> {
        let mut url = self.address(["api", self.kind.plural()], ["tree", commit])?;
        url.set_query(Some("recursive=true"));
        Ok(url)
    }

    /// A description, and where its next page is, if it has one.
    pub(super) fn page(&self, url: &Url) -> Result<(Vec<u8>, Option<Url>), Failure> {
        self.patiently(&self.id, || {
            let mut text = Vec::new();
            let answer = self.send(&Method::GET, url, None, &[])?;
            let next = answer.headers().get(LINK).and_then(|link| next_page(link.to_str().ok()?, url));
            let read = answer.take(MAX_DESCRIPTION_BYTES).read_to_end(&mut text);
            read.map_err(|error| self.interrupted(error)).map(|_| (text, next))
        })
    }

    /// The commit, from the server's answer about a file.
    pub(super) fn commit_of_file(&self, revision: &str, name: &str) -> Result<String, Failure> {
        let url = self.file_address(revision, name)?;
        self.patiently(name, || {
            let answer = self.send(&Method::HEAD, &url, None, &[REPO_COMMIT])?;
            let commit = answer.headers().get(REPO_COMMIT).and_then(|commit| commit.to_str().ok());
            let commit = commit.map(str::trim).filter(|commit| is_commit(commit));
            let none = || Failure::Malformed(format!("the server does not give the commit of {name}"));
            commit.map(str::to_owned).ok_or_else(none)
        })
    }

    /// Hash and size of a file.
    pub(super) fn describe(&self, commit: &str, name: &str) -> Result<Remote, Failure> {
        let url = self.file_address(commit, name)?;
        self.patiently(name, || {
            let answer = self.send(&Method::HEAD, &url, None, &[LINKED_TAG, LINKED_SIZE])?;
            let text = |header: HeaderName| answer.headers().get(header)?.to_str().ok();
            let tag = text(LINKED_TAG).or_else(|| text(reqwest::header::ETAG));
            let size = text(LINKED_SIZE).or_else(|| text(reqwest::header::CONTENT_LENGTH));
            match (tag.and_then(ContentHash::parse), size.and_then(|size| size.trim().parse().ok())) {
                (Some(hash), Some(bytes)) => Ok(Remote { hash, bytes }),
                _ => Err(Failure::Malformed(format!("the server does not give the hash and the size of {name}"))),
            }
        })
    }

    /// The content of the file at `url`, from byte `from` if the server honours that: see the answer's status.
    pub(super) fn content(&self, url: &Url, from: u64) -> Result<Response, Failure> {
        let range = (from > 0).then(|| format!("bytes={from}-"));
        self.send(&Method::GET, url, range.as_deref(), &[])
    }

    /// A part of the content of the file at `url`, if the server honours that: see the answer's status.
    pub(super) fn part(&self, url: &Url, range: &Range<u64>) -> Result<Response, Failure> {
        self.send(&Method::GET, url, Some(&format!("bytes={}-{}", range.start, range.end - 1)), &[])
    }

    /// Reads more of an answer; 0 bytes mean its end.
    pub(super) fn read(&self, answer: &mut Response, buffer: &mut [u8]) -> Result<usize, Failure> {
        answer.read(buffer).map_err(|error| self.interrupted(error))
    }

    /// The address of a file at a branch, tag or commit.
    pub(super) fn file_address(&self, revision: &str, name: &str) -> Result<Url, Failure> {
        self.address(self.kind.prefix(), ["resolve", revision].into_iter().chain(name.split('/')))
    }

    /// The tries of a request.
    pub(super) fn retries<'a>(&'a self, what: &'a str) -> Retries<'a> {
        Retries { http: self, what, failed: 0 }
    }

    fn patiently<T>(&self, what: &str, mut ask: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
        let mut retries = self.retries(what);
        loop {
            match ask() {
                Ok(answer) => return Ok(answer),
                Err(failure) => retries.wait(failure)?,
            }
        }
    }

    fn address<'p>(
        &'p self,
        first: impl IntoIterator<Item = &'p str>,
        rest: impl IntoIterator<Item = &'p str>,
    ) -> Result<Url, Failure> {
        self.address_of(first.into_iter().chain(self.id.split('/')).chain(rest))
    }

    /// Each of `parts` is one part of the path, whatever it contains.
    pub(super) fn address_of<'p>(&self, parts: impl IntoIterator<Item = &'p str>) -> Result<Url, Failure> {
        let mut url = self.endpoint.clone();
        match url.path_segments_mut() {
            Ok(mut path) => path.pop_if_empty().extend(parts),
            Err(()) => return Err(Failure::Malformed("HF_ENDPOINT is not the address of a server".to_owned())),
        };
        Ok(url)
    }

    /// The answer after all redirects, or the first that has all headers in `wanted`, if any are wanted.
    fn send(
        &self,
        method: &Method,
        url: &Url,
        range: Option<&str>,
        wanted: &[HeaderName],
    ) -> Result<Response, Failure> {
        let mut url = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let mut headers = HeaderMap::new();
            // A compressed answer would have another length and tag.
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            if let Some(range) = range.and_then(|range| HeaderValue::from_str(range).ok()) {
                headers.insert(RANGE, range);
            }
            // The Hub's storage has its own key, in its address, and must not see the token.
            if let Some(token) = self.token.as_ref().filter(|_| url.origin() == self.endpoint.origin()) {
                headers.insert(AUTHORIZATION, token.clone());
            }
            let sent = self.client.request(method.clone(), url.clone()).headers(headers).send();
            let answer = sent.map_err(|error| self.unsent(error))?;
            self.is_reached.store(true, Ordering::Relaxed);
            let tells = !wanted.is_empty() && wanted.iter().all(|header| answer.headers().contains_key(header));
            if answer.status().is_success() || (answer.status().is_redirection() && tells) {
                return Ok(answer);
            }
            match redirected(&answer, &url) {
                Some(next) => url = next,
                None => return Err(Failure::Refused(refused(answer))),
            }
        }
        Err(Failure::Malformed(format!("the server redirected the request {MAX_REDIRECTS} times")))
    }

    pub(super) fn unsent(&self, error: reqwest::Error) -> Failure {
        match () {
            // An address may contain a password, and one after a redirect the storage's key.
            () if error.is_connect() => Failure::Unreachable(error.without_url()),
            () if error.is_timeout() => Failure::Silent(self.patience.silence),
            () if error.is_builder() => Failure::Malformed("HF_ENDPOINT is not the address of a server".to_owned()),
            () => Failure::Cut(Box::new(error.without_url())),
        }
    }

    fn interrupted(&self, error: io::Error) -> Failure {
        match error.downcast::<reqwest::Error>() {
            Ok(error) if error.is_timeout() => Failure::Silent(self.patience.silence),
            Ok(error) => Failure::Cut(Box::new(error.without_url())),
            Err(error) => Failure::Cut(Box::new(error)),
        }
    }
}

/// The target of a redirect.
fn redirected(answer: &Response, url: &Url) -> Option<Url> {
    let location = answer.headers().get(LOCATION)?.to_str().ok()?;
    let next = url.join(location).ok()?;
    (answer.status().is_redirection() && ["http", "https"].contains(&next.scheme())).then_some(next)
}

/// The address of the next page: `<ADDRESS>; rel="next"`.
fn next_page(link: &str, url: &Url) -> Option<Url> {
    let next = link.split(',').find(|part| part.contains("rel=\"next\""))?;
    url.join(next.trim().strip_prefix('<')?.split_once('>')?.0).ok()
}

fn refused(mut answer: Response) -> Refusal {
    let (status, headers) = (answer.status(), answer.headers().clone());
    refusal(status, &headers, || {
        let mut body = Vec::new();
        // An incomplete explanation is not JSON and is ignored.
        let _ = (&mut answer).take(MAX_EXPLANATION_BYTES).read_to_end(&mut body);
        body
    })
}

pub(super) fn refusal(status: StatusCode, headers: &HeaderMap, body: impl FnOnce() -> Vec<u8>) -> Refusal {
    let text = |name: &str| Some(printable(headers.get(name)?.to_str().ok()?)).filter(|text| !text.is_empty());
    let (code, explained) = (text("x-error-code"), text("x-error-message"));
    let wait = (status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error()).then(|| asked_wait(headers));
    let explanation = explained.or_else(|| {
        let body: serde_json::Value = serde_json::from_slice(&body()).ok()?;
        let error = body.get("error").and_then(serde_json::Value::as_str).map(str::to_owned);
        let errors = body.get("errors").and_then(serde_json::Value::as_array).into_iter().flatten();
        let errors: Vec<&str> = errors.filter_map(|error| error.get("message")?.as_str()).collect();
        Some(printable(&error.unwrap_or_else(|| errors.join("; ")))).filter(|text| !text.is_empty())
    });
    Refusal { status, code, explanation, wait: wait.flatten() }
}

/// `Retry-After: SECONDS`, or the Hub's own `RateLimit: "api";r=0;t=SECONDS`.
fn asked_wait(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    let limit = || text("ratelimit")?.split(';').find_map(|part| part.trim().strip_prefix("t="));
    let seconds = text(RETRY_AFTER.as_str()).or_else(limit)?;
    seconds.trim().parse().ok().map(Duration::from_secs)
}

/// A server's text on one line, safe for a terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_EXPLANATION_CHARACTERS)
        .collect::<String>()
        .trim()
        .to_owned()
}

/// The tries of one request or download.
pub(super) struct Retries<'a> {
    http: &'a HttpClient,
    what: &'a str,
    failed: u32,
}

impl Retries<'_> {
    /// Resets the count after progress.
    pub(super) fn reset(&mut self) {
        self.failed = 0;
    }

    /// Waits until the next try; returns the failure if there is none.
    pub(super) fn wait(&mut self, failure: Failure) -> Result<(), Failure> {
        std::thread::sleep(self.next_wait(failure)?);
        Ok(())
    }

    /// How long to wait until the next try; returns the failure if there is none.
    pub(super) fn next_wait(&mut self, failure: Failure) -> Result<Duration, Failure> {
        let patience = &self.http.patience;
        let most =
            if self.http.is_reached.load(Ordering::Relaxed) { patience.retries } else { patience.retries_unreached };
        let asked = if let Failure::Refused(refusal) = &failure { refusal.wait } else { None };
        if !failure.may_pass() || self.failed >= most || asked.is_some_and(|wait| wait > patience.max_wait) {
            return Err(failure);
        }
        let wait = patience.first_wait.saturating_mul(1 << self.failed.min(16)).min(patience.max_wait);
        let wait = wait.max(asked.unwrap_or_default());
        self.failed += 1;
        message(&format!("{}: {failure}; trying again in {wait:?} ({} of {most})", self.what, self.failed));
        Ok(wait)
    }
}
