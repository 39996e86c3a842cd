//! Files of one repository, all of one commit: which commit, what the cache has of it, what must be downloaded, whether
//! it fits, and what failures mean for the user. `transfer` gets the bytes.
//!
//! A server is not trusted with anything that becomes a path: a commit has 40 hexadecimal digits, and a content is
//! named by its hash after it was checked.

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use rayon::prelude::*;
use reqwest::StatusCode;

use super::cache::{Content, Found, RepositoryCache};
use super::content_hash::ContentHash;
use super::http_client::{Failure, HttpClient, Patience, Remote};
use super::model_id::is_commit;
use super::repository::{Repository, RepositoryKind};
use super::settings::{Settings, shown, token};
use super::transfer::{Meter, Transfer};
use crate::requests::DownloadedFile;
use base::disk;
use base::error::{WithHint as _, explained, failure, with_hint};
use base::terminal::{message, warning};
use base::threads;

/// What a download depends on in addition to its [`Settings`].
pub(super) struct Conditions {
    pub(super) token: Option<String>,
    pub(super) patience: Patience,
    /// Free space at a path; `None` if unknown.
    pub(super) free_bytes: fn(&Path) -> Option<u64>,
    /// Prints the terms of use.
    pub(super) say: fn(&str),
}

impl Conditions {
    pub(super) fn from_environment() -> Self {
        Self { token: token(), patience: Patience::default(), free_bytes: disk::free_bytes, say: message }
    }
}

/// What the cache has of a file.
pub(super) enum State {
    /// Everything, under its name.
    Named(Content),
    /// Everything, from another commit.
    Stored(Content, Remote),
    /// Nothing or a part.
    Absent(Remote),
}

impl State {
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Named(content) | Self::Stored(content, _) => content.bytes,
            Self::Absent(remote) => remote.bytes,
        }
    }
}

/// More files than this are downloaded several at a time.
const MAX_ONE_BY_ONE: usize = 4;
const AT_ONCE: usize = 8;
/// Bytes of a file that has a connection of its own for long enough.
const MIN_ALONE: u64 = 64_000_000;

/// What is to be said and counted with the files of a download.
#[derive(Clone, Copy, Default)]
pub(super) struct Along<'a> {
    /// The terms of use, printed before anything is downloaded; may be empty.
    pub(super) terms: &'a str,
    /// Bytes that will be downloaded beside the files.
    pub(super) bytes: u64,
}

/// One repository, its cache and its Hub.
pub(super) struct Source<'a> {
    pub(super) place: Place<'a>,
    offline: bool,
    /// Whether the Hub could not answer, so that only the cache is used.
    is_cut_off: AtomicBool,
    cached_commit: Option<String>,
    pub(super) cache: RepositoryCache,
    pub(super) http: HttpClient,
}

impl<'a> Source<'a> {
    pub(super) fn open(
        repository: &Repository<'a>,
        settings: &Settings,
        conditions: &Conditions,
    ) -> anyhow::Result<Self> {
        let (endpoint, folder) = (settings.endpoint()?, settings.cache());
        let Repository { kind, id, revision, .. } = *repository;
        let cache = RepositoryCache::new(&folder, kind, id);
        let cached_commit = cache.commit(revision);
        let mut patience = conditions.patience.clone();
        if cached_commit.is_some() {
            // With a cached copy there is no need to wait for a missing network.
            patience.retries_unreached = 0;
        }
        let place = Place { repository: *repository, endpoint: shown(&endpoint), cache: folder };
        let http = HttpClient::open(endpoint, kind, id, conditions.token.as_deref(), patience)?;
        Ok(Self { place, offline: settings.offline, is_cut_off: AtomicBool::new(false), cached_commit, cache, http })
    }

    /// The commit of all files; one of `names` is a file that it must have, most likely the first.
    ///
    /// If the Hub cannot be reached or does not answer, the last known commit of the revision, if there is one.
    pub(super) fn commit(&self, names: &[&str]) -> anyhow::Result<String> {
        let Repository { kind, revision, id, .. } = self.place.repository;
        if is_commit(revision) {
            return Ok(revision.to_owned());
        }
        if self.offline {
            let cached = self.cached_commit.clone();
            return cached.ok_or_else(|| self.not_cached(format!("revision {revision}")));
        }
        let (subject, found) = match kind {
            // Mirrors of models often have only the addresses of files.
            RepositoryKind::Model => {
                let name = names.first().copied().unwrap_or_default();
                (Subject::File { name, revision }, self.commit_of_files(revision, names))
            }
            RepositoryKind::Dataset => (Subject::Revision, self.http.commit(revision)),
        };
        match (found, &self.cached_commit) {
            (Ok(commit), _) => Ok(commit),
            (Err(failure), Some(cached)) if failure.may_pass() => {
                warning(&format!("{}: {failure}; using the cached copy of {id}", self.place.endpoint));
                self.cut_off();
                Ok(cached.clone())
            }
            (Err(failure), _) => Err(self.place.explain(subject, failure.into())),
        }
    }

    /// Leaves the Hub in peace, which could not answer about another revision.
    pub(super) fn cut_off(&self) {
        self.is_cut_off.store(true, Ordering::Relaxed);
    }

    /// The commit of a branch that a dataset need not have; `None` if it does not have it, or if it is not known without
    /// the Hub.
    pub(super) fn find_commit(&self) -> anyhow::Result<Option<String>> {
        if self.is_offline() {
            return Ok(self.cached_commit.clone());
        }
        match self.http.commit(self.place.repository.revision) {
            Ok(commit) => Ok(Some(commit)),
            Err(Failure::Refused(refusal)) if refusal.status == StatusCode::NOT_FOUND => Ok(None),
            Err(failure) if failure.may_pass() && self.cached_commit.is_some() => {
                self.cut_off();
                Ok(self.cached_commit.clone())
            }
            Err(failure) => Err(self.place.explain(Subject::Revision, failure.into())),
        }
    }

    /// The commit of the first of the files that is there; the failure is about the first one.
    fn commit_of_files(&self, revision: &str, names: &[&str]) -> Result<String, Failure> {
        let mut first = None;
        for name in names {
            match self.http.commit_of_file(revision, name) {
                Err(Failure::Refused(refusal)) if refusal.is_about_a_file() => {
                    first.get_or_insert(Failure::Refused(refusal));
                }
                found => return found,
            }
        }
        first.map_or_else(|| self.http.commit_of_file(revision, ""), Err)
    }

    /// The state of a file that the repository must have.
    pub(super) fn need(&self, commit: &str, name: &str) -> anyhow::Result<State> {
        if let Some(state) = self.cached(commit, name)? {
            return Ok(state);
        }
        if self.offline {
            return Err(self.not_cached(name));
        }
        let remote = self.http.describe(commit, name).map_err(|failure| self.explain(commit, name, failure.into()))?;
        self.held(commit, name, remote)
    }

    /// The state of a file; `None` if the repository does not have it. Offline, a file that is not in the cache counts
    /// as missing in the repository.
    pub(super) fn find(&self, commit: &str, name: &str) -> anyhow::Result<Option<State>> {
        if let Some(state) = self.cached(commit, name)? {
            return Ok(Some(state));
        }
        if self.is_offline() {
            return Ok(None);
        }
        match self.http.describe(commit, name) {
            Ok(remote) => self.held(commit, name, remote).map(Some),
            Err(Failure::Refused(refusal)) if refusal.is_about_a_file() => Ok(None),
            Err(failure) => Err(self.explain(commit, name, failure.into())),
        }
    }

    /// The files, after downloading those that are not in the cache. Nothing is downloaded before everything is known
    /// to fit.
    pub(super) fn fetch(
        &self,
        commit: &str,
        states: Vec<(&str, State)>,
        along: Along<'_>,
        conditions: &Conditions,
    ) -> anyhow::Result<Vec<DownloadedFile>> {
        let absent = self.announce(&states, along, conditions)?;
        if absent <= MAX_ONE_BY_ONE {
            return states.into_iter().map(|(name, state)| self.complete(commit, name, state, false)).collect();
        }
        let is_alone = |state: &State| state.bytes() >= MIN_ALONE;
        let total = states.iter().map(|(_, state)| state.bytes()).filter(|&bytes| bytes < MIN_ALONE).sum();
        let title = format!("{absent} files of {}", self.place.repository.id);
        let meter = Mutex::new((Meter::start(&title, total, 0), 0));
        let complete = |(name, state): (&str, State)| {
            let (bytes, is_quiet) = (state.bytes(), !is_alone(&state));
            let file = self.complete(commit, name, state, is_quiet)?;
            if is_quiet && let Ok((Some(meter), done)) = meter.lock().as_deref_mut() {
                *done += bytes;
                meter.reach(*done);
            }
            Ok(file)
        };
        threads::pool(0, AT_ONCE)?.install(|| states.into_par_iter().with_max_len(1).map(complete).collect())
    }

    /// Stores the commit of the revision, and only once all its files are there, so that a branch never names missing
    /// files.
    pub(super) fn finish(&self, commit: &str) -> PathBuf {
        let revision = self.place.repository.revision;
        if !self.is_offline() && commit != revision {
            self.cache.note_commit(revision, commit);
        }
        self.cache.snapshot(commit)
    }

    /// Whether the Hub cannot be asked.
    pub(super) fn is_offline(&self) -> bool {
        self.offline || self.is_cut_off.load(Ordering::Relaxed)
    }

    /// The file in the cache, if it is intact.
    pub(super) fn cached(&self, commit: &str, name: &str) -> anyhow::Result<Option<State>> {
        let path = self.cache.snapshot(commit).join(name);
        let Some(hash) = self.cache.linked_hash(commit, name) else {
            // A file that is not a link has no hash in its name to check it by.
            return match self.is_offline() && path.is_file() {
                true => Ok(Some(State::Named(unchecked(&path)?))),
                false => Ok(None),
            };
        };
        match self.check(&path, &hash)? {
            Found::Right(content) => Ok(Some(State::Named(content))),
            Found::Wrong(found) if self.is_offline() => Err(self.place.damaged(&path, hash.as_str(), &found)),
            Found::Wrong(_) => {
                warning(&format!(
                    "{name} of {} is damaged in the cache; downloading it again",
                    self.place.repository.id
                ));
                Ok(None)
            }
            Found::Nothing => Ok(None),
        }
    }

    /// The state of a file that the server has described.
    pub(super) fn held(&self, commit: &str, name: &str, remote: Remote) -> anyhow::Result<State> {
        if self.cache.linked_hash(commit, name).is_none()
            && let Found::Right(content) = self.check(&self.cache.snapshot(commit).join(name), &remote.hash)?
        {
            return Ok(State::Named(content));
        }
        match self.check(&self.cache.blob(&remote.hash), &remote.hash)? {
            Found::Right(content) => Ok(State::Stored(content, remote)),
            _ => Ok(State::Absent(remote)),
        }
    }

    /// The error for something that is missing in the cache, where the Hub is not asked.
    pub(super) fn not_cached(&self, what: impl Display) -> anyhow::Error {
        let Place { repository: Repository { id, manual, .. }, endpoint, cache } = &self.place;
        let (reason, hint) = match self.offline {
            true => ("HF_HUB_OFFLINE is set".to_owned(), "unset HF_HUB_OFFLINE to download it"),
            false => (format!("{endpoint} could not answer"), "check the network and run the same command"),
        };
        let message = format!("{what} of {id} is not in the cache {}, and {reason}", cache.display());
        failure(message, format!("{hint}, or {manual}"))
    }

    fn check(&self, path: &Path, hash: &ContentHash) -> anyhow::Result<Found> {
        self.cache.check(path, hash).hint(|| self.place.check_cache())
    }

    /// Prints the terms of use if anything will be downloaded; an error if it does not fit. Gives the number of files
    /// that will be.
    fn announce(&self, states: &[(&str, State)], along: Along<'_>, conditions: &Conditions) -> anyhow::Result<usize> {
        let absent =
            states.iter().filter_map(|(_, state)| if let State::Absent(remote) = state { Some(remote) } else { None });
        let absent: Vec<&Remote> = absent.collect();
        if absent.is_empty() && along.bytes == 0 {
            return Ok(0);
        }
        let there = |remote: &Remote| fs::metadata(self.cache.partial(&remote.hash)).map_or(0, |file| file.len());
        let needed: u64 = absent
            .iter()
            .map(|remote| remote.bytes.saturating_sub(there(remote)))
            .fold(along.bytes, u64::saturating_add);
        let blobs = self.cache.blobs();
        fs::create_dir_all(&blobs)
            .with_context(|| format!("cannot write {}", blobs.display()))
            .hint(|| self.place.check_cache())?;
        self.check_room(needed, along.bytes, states, conditions)?;
        if !along.terms.is_empty() {
            (conditions.say)(along.terms);
        }
        Ok(absent.len())
    }

    /// Refuses a download that does not fit on the disk, by itself or with the copy made of it afterwards.
    fn check_room(
        &self,
        needed: u64,
        beside: u64,
        states: &[(&str, State)],
        conditions: &Conditions,
    ) -> anyhow::Result<()> {
        let blobs = self.cache.blobs();
        let lacks = |bytes: u64, folder: &Path| (conditions.free_bytes)(folder).filter(|&free| free < bytes);
        let gigabytes = |bytes: u64| format!("{:.2} GB", bytes as f64 / base::GIGABYTE);
        if let Some(free) = lacks(needed, &blobs) {
            return Err(failure(
                format!(
                    "downloading {} needs {}, but only {} are free in {}",
                    self.place.repository.id,
                    gigabytes(needed),
                    gigabytes(free),
                    self.place.cache.display()
                ),
                "free some space, or set HF_HUB_CACHE to a folder on a larger disk",
            ));
        }
        let Some(folder) = self.place.repository.copied_to else { return Ok(()) };
        let there = disk::nearest_folder(folder);
        let copied = states.iter().map(|(_, state)| state.bytes()).fold(beside, u64::saturating_add);
        let shared = if disk::share_room(&blobs, there) { needed } else { 0 };
        let Some(free) = lacks(copied.saturating_add(shared), there) else { return Ok(()) };
        let fetched =
            if shared > 0 { format!(" in addition to a download of {}", gigabytes(shared)) } else { String::new() };
        Err(failure(
            format!(
                "the images need about {} in {}{fetched}, but only {} are free there",
                gigabytes(copied),
                folder.display(),
                gigabytes(free)
            ),
            "free some space, choose another `--output`, or store smaller images with `--resize SHORT_SIDE`",
        ))
    }

    /// Downloads and links what is missing.
    fn complete(&self, commit: &str, name: &str, state: State, is_quiet: bool) -> anyhow::Result<DownloadedFile> {
        let explained = |error| self.explain(commit, name, error);
        let content = match state {
            State::Named(content) => content,
            State::Stored(content, remote) => {
                self.cache.link(commit, name, &remote.hash).map_err(explained)?;
                content
            }
            State::Absent(remote) => {
                let title = format!("{} {name}", self.place.repository.id);
                let url = self.http.file_address(commit, name).map_err(|failure| explained(failure.into()))?;
                let (http, cache) = (&self.http, &self.cache);
                let transfer = Transfer { http, cache, title: &title, url, remote: &remote, is_quiet };
                let content = transfer.run().map_err(explained)?;
                self.cache.link(commit, name, &remote.hash).map_err(explained)?;
                content
            }
        };
        let path = self.cache.snapshot(commit).join(name);
        Ok(DownloadedFile { name: name.to_owned(), path, bytes: content.bytes, sha256: content.sha256 })
    }

    pub(super) fn explain(&self, commit: &str, name: &str, error: anyhow::Error) -> anyhow::Error {
        self.place.explain(Subject::File { name, revision: commit }, error)
    }
}

/// Length and digest of a file whose expected content is unknown.
fn unchecked(path: &Path) -> anyhow::Result<Content> {
    let failed = || format!("cannot read {}", path.display());
    let bytes = fs::metadata(path).with_context(failed)?.len();
    Ok(Content { bytes, sha256: base::digest::sha256_file(path).with_context(failed)? })
}

/// For a repository that does not exist or is not accessible.
const NO_ACCESS: &str = "check the id; for a private or gated repository accept its terms on its page and set HF_TOKEN";
/// For too many requests.
const TOO_MANY: &str = "wait a few minutes, or set HF_TOKEN, which raises the limit";

/// What a failure was about.
#[derive(Clone, Copy)]
pub(super) enum Subject<'a> {
    /// The commit of the repository's revision.
    Revision,
    /// A file, at a revision or commit.
    File { name: &'a str, revision: &'a str },
}

/// What messages name: the repository, the Hub and the cache.
pub(super) struct Place<'a> {
    pub(super) repository: Repository<'a>,
    /// The address of the Hub without secrets.
    pub(super) endpoint: String,
    pub(super) cache: PathBuf,
}

impl Place<'_> {
    pub(super) fn check_cache(&self) -> String {
        format!("check free space and permissions in {}, or set HF_HUB_CACHE to another folder", self.cache.display())
    }

    /// The error for a damaged file of the cache, offline.
    pub(super) fn damaged(&self, path: &Path, expected: &str, found: &str) -> anyhow::Error {
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        failure(
            format!("{} is damaged: its hash should be {expected} but is {found}", path.display()),
            format!(
                "remove it and run the same command with a network and without HF_HUB_OFFLINE to download it again; or \
                 {}",
                self.repository.manual
            ),
        )
    }

    /// The failure with its meaning and a hint.
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
        let check_network =
            format!("check the network; without one, set HF_HUB_OFFLINE=1 to use earlier downloads, or {manual}");
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
                let kept = "run the same command to resume the download";
                (self.cannot_get(&wanted), format!("{check_network}; {kept}"))
            }
            Failure::Malformed(_) => {
                let hint = format!("check that HF_ENDPOINT is the address of a Hub, or {manual}");
                (self.cannot_get(&wanted), hint)
            }
            Failure::Refused(_) | Failure::Damaged { .. } => (self.cannot_get(&wanted), later),
        };
        explained(failure.into(), what, hint)
    }

    fn cannot_get(&self, wanted: &str) -> String {
        format!("cannot get {wanted} from {}", self.endpoint)
    }

    /// The meaning of a refusal that says that something does not exist or is not accessible.
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
                (format!("no access to {wanted} at {endpoint}"), format!("{NO_ACCESS} ({page})"))
            }
            (StatusCode::NOT_FOUND, Some("RevisionNotFound"), _) => (
                format!("{id} has no revision {revision}"),
                format!("a revision is a branch, a tag or the full hash of a commit; see {page}"),
            ),
            (StatusCode::NOT_FOUND, code, Subject::File { name, revision }) if code != Some("RepoNotFound") => (
                format!("{id} has no file {name} at {revision}"),
                format!("check the id; {page}/tree/{revision} lists the files"),
            ),
            (StatusCode::NOT_FOUND, code, _) => {
                let revised = if code.is_none() { format!(" with a revision {revision}") } else { String::new() };
                (format!("{endpoint} has no {noun} {id}{revised}"), NO_ACCESS.to_owned())
            }
            _ => return None,
        })
    }
}
