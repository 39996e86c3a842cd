//! Files of a data-set repository: which commit, what of it is in the cache, what must be fetched and whether it fits;
//! and failures in words that say what to do. How bytes come is the matter of `transfer`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use reqwest::StatusCode;

use super::cache::{Content, Found, RepositoryCache};
use super::content_hash::{ContentHash, is_commit};
use super::settings::{Settings, token, without_password};
use super::transfer::Transfer;
use super::wire::{Failure, Patience, Remote, Wire};
use super::{DatasetRequest, DownloadedDataset, DownloadedFile, hints};
use crate::base::disk;
use crate::base::fault::{WithHint as _, fault};
use crate::base::terminal::{message, warning};

const MAIN: &str = "main";
const GIGABYTE: f64 = 1e9;

/// What a download depends on beside its [`Settings`].
pub(super) struct Conditions {
    pub(super) token: Option<String>,
    pub(super) patience: Patience,
    /// The room where a path is; `None` where the system does not tell.
    pub(super) free_bytes: fn(&Path) -> Option<u64>,
    /// Tells a person the terms of use.
    pub(super) say: fn(&str),
}

impl Conditions {
    pub(super) fn from_environment() -> Self {
        Self { token: token(), patience: Patience::default(), free_bytes: disk::free_bytes, say: message }
    }
}

/// See [`super::dataset_files`].
pub(super) fn files(
    request: &DatasetRequest<'_>,
    settings: &Settings,
    conditions: &Conditions,
) -> anyhow::Result<DownloadedDataset> {
    Source::open(request, settings, conditions)?.files(conditions)
}

/// How much of a file is in the cache.
enum State {
    /// All of it, under its name.
    Named(Content),
    /// All of it, from another commit.
    Stored(Content, Remote),
    /// Not all of it.
    Absent(Remote),
}

/// What a failure was about.
#[derive(Clone, Copy)]
enum Subject<'a> {
    Revision,
    File { name: &'a str, commit: &'a str },
}

/// One repository.
struct Source<'a> {
    request: &'a DatasetRequest<'a>,
    revision: &'a str,
    offline: bool,
    endpoint: String,
    cache_folder: PathBuf,
    cache: RepositoryCache,
    wire: Wire,
}

impl<'a> Source<'a> {
    fn open(request: &'a DatasetRequest<'a>, settings: &Settings, conditions: &Conditions) -> anyhow::Result<Self> {
        let (endpoint, cache) = (settings.endpoint(), settings.cache());
        let (token, patience) = (conditions.token.as_deref(), conditions.patience.clone());
        Ok(Self {
            request,
            revision: request.revision.unwrap_or(MAIN),
            offline: settings.offline,
            endpoint: without_password(endpoint.trim_end_matches('/')),
            cache: RepositoryCache::new(&cache, request.id),
            cache_folder: cache,
            wire: Wire::open(&endpoint, request.id, token, patience)?,
        })
    }

    fn files(&self, conditions: &Conditions) -> anyhow::Result<DownloadedDataset> {
        let commit = self.commit()?;
        // Nothing is fetched before all is known to be there and to fit.
        let mut states = Vec::new();
        for &name in self.request.files {
            states.push((name, self.state(&commit, name)?));
        }
        self.announce(&states, conditions)?;
        let file = |(name, state): (&str, State)| self.complete(&commit, name, state);
        let files = states.into_iter().map(file).collect::<anyhow::Result<_>>()?;
        // Only now, so that a branch never stands for files that are not all there.
        if !self.offline && commit != self.revision {
            self.cache.note_commit(self.revision, &commit);
        }
        Ok(DownloadedDataset { folder: self.cache.snapshot(&commit), commit, files })
    }

    /// The commit that all files will be of.
    fn commit(&self) -> anyhow::Result<String> {
        if is_commit(self.revision) {
            return Ok(self.revision.to_owned());
        }
        if self.offline {
            let cached = self.cache.commit(self.revision);
            return cached.ok_or_else(|| self.not_cached(&format!("revision {}", self.revision)));
        }
        self.wire.commit(self.revision).map_err(|failure| self.explain(Subject::Revision, failure.into()))
    }

    /// What there is of a file, as far as it is right.
    fn state(&self, commit: &str, name: &str) -> anyhow::Result<State> {
        let path = self.cache.snapshot(commit).join(name);
        let linked = self.cache.linked_hash(commit, name);
        if let Some(hash) = &linked {
            match self.check(&path, hash)? {
                Found::Right(content) => return Ok(State::Named(content)),
                Found::Wrong(found) if self.offline => return Err(self.damaged(&path, hash.as_str(), &found)),
                Found::Wrong(_) => warning(&format!("{name} of {} is damaged: it is fetched anew", self.request.id)),
                Found::Nothing => {}
            }
        }
        if self.offline {
            // A file that is no link has no name to be checked by, and there is nobody to ask.
            return match linked.is_none() && path.is_file() {
                true => Ok(State::Named(unchecked(&path)?)),
                false => Err(self.not_cached(name)),
            };
        }
        let subject = Subject::File { name, commit };
        let url = self.wire.file_address(commit, name);
        let remote = url.and_then(|url| self.wire.describe(&url, name));
        let remote = remote.map_err(|failure| self.explain(subject, failure.into()))?;
        if linked.is_none()
            && let Found::Right(content) = self.check(&path, &remote.hash)?
        {
            return Ok(State::Named(content));
        }
        match self.check(&self.cache.blob(&remote.hash), &remote.hash)? {
            Found::Right(content) => Ok(State::Stored(content, remote)),
            _ => Ok(State::Absent(remote)),
        }
    }

    fn check(&self, path: &Path, hash: &ContentHash) -> anyhow::Result<Found> {
        self.cache.check(path, hash).hint(|| hints::check_cache(&self.cache_folder))
    }

    /// Says what follows, if anything will be fetched; an error where it does not fit.
    fn announce(&self, states: &[(&str, State)], conditions: &Conditions) -> anyhow::Result<()> {
        let absent =
            states.iter().filter_map(|(_, state)| if let State::Absent(remote) = state { Some(remote) } else { None });
        let absent: Vec<&Remote> = absent.collect();
        if absent.is_empty() {
            return Ok(());
        }
        let there = |remote: &Remote| fs::metadata(self.cache.partial(&remote.hash)).map_or(0, |file| file.len());
        let needed: u64 =
            absent.iter().map(|remote| remote.bytes.saturating_sub(there(remote))).fold(0, u64::saturating_add);
        let blobs = self.cache.blobs();
        fs::create_dir_all(&blobs)
            .with_context(|| format!("cannot write {}", blobs.display()))
            .hint(|| hints::check_cache(&self.cache_folder))?;
        self.check_room(needed, states, conditions)?;
        if !self.request.terms.is_empty() {
            (conditions.say)(self.request.terms);
        }
        Ok(())
    }

    /// Refuses a download that does not fit, or what is made of it afterwards.
    fn check_room(&self, needed: u64, states: &[(&str, State)], conditions: &Conditions) -> anyhow::Result<()> {
        let blobs = self.cache.blobs();
        let lacks = |bytes: u64, folder: &Path| (conditions.free_bytes)(folder).filter(|&free| free < bytes);
        let gigabytes = |bytes: u64| format!("{:.2} GB", bytes as f64 / GIGABYTE);
        if let Some(free) = lacks(needed, &blobs) {
            return Err(fault(
                format!(
                    "{} of {} are still to be fetched, and {} are free in {}",
                    gigabytes(needed),
                    self.request.id,
                    gigabytes(free),
                    self.cache_folder.display()
                ),
                "free some, or set HF_HUB_CACHE to a folder on a larger disk",
            ));
        }
        let Some(folder) = self.request.copied_to else { return Ok(()) };
        let there = disk::nearest_folder(folder);
        let of_state = |(_, state): &(&str, State)| match state {
            State::Named(content) | State::Stored(content, _) => content.bytes,
            State::Absent(remote) => remote.bytes,
        };
        let copied = states.iter().map(of_state).fold(0, u64::saturating_add);
        let shared = if disk::share_room(&blobs, there) { needed } else { 0 };
        let Some(free) = lacks(copied.saturating_add(shared), there) else { return Ok(()) };
        let fetched = if shared > 0 { format!(" beside {} to be fetched", gigabytes(shared)) } else { String::new() };
        Err(fault(
            format!(
                "the images take about {} in {}{fetched}, and {} are free there",
                gigabytes(copied),
                folder.display(),
                gigabytes(free)
            ),
            "free some, choose another `--output`, or store smaller images with `--resize SHORT_SIDE`",
        ))
    }

    /// Fetches and names what is not.
    fn complete(&self, commit: &str, name: &str, state: State) -> anyhow::Result<DownloadedFile> {
        let subject = Subject::File { name, commit };
        let explained = |error| self.explain(subject, error);
        let content = match state {
            State::Named(content) => content,
            State::Stored(content, remote) => {
                self.cache.link(commit, name, &remote.hash).map_err(explained)?;
                content
            }
            State::Absent(remote) => {
                let title = format!("{} {name}", self.request.id);
                let url = self.wire.file_address(commit, name).map_err(|failure| explained(failure.into()))?;
                let transfer = Transfer { wire: &self.wire, cache: &self.cache, title: &title, url, remote: &remote };
                let content = transfer.run().map_err(explained)?;
                self.cache.link(commit, name, &remote.hash).map_err(explained)?;
                content
            }
        };
        let path = self.cache.snapshot(commit).join(name);
        Ok(DownloadedFile { name: name.to_owned(), path, bytes: content.bytes, sha256: content.sha256 })
    }

    fn not_cached(&self, what: &str) -> anyhow::Error {
        hints::not_cached(format!("{what} of {}", self.request.id), &self.cache_folder, self.request.manual)
    }

    fn damaged(&self, path: &Path, expected: &str, found: &str) -> anyhow::Error {
        fault(
            format!("{} is damaged: its hash should be {expected} and is {found}", path.display()),
            format!("unset HF_HUB_OFFLINE to download it anew, or {}", self.request.manual),
        )
    }

    fn explain(&self, subject: Subject<'_>, error: anyhow::Error) -> anyhow::Error {
        let failure = match error.downcast::<Failure>() {
            Ok(failure) => failure,
            Err(error) => return error.context(format!("hint: {}", hints::check_cache(&self.cache_folder))),
        };
        let (id, revision, manual) = (self.request.id, self.revision, self.request.manual);
        let wanted = match subject {
            Subject::Revision => format!("the data set {id}"),
            Subject::File { name, .. } => format!("{name} of {id}"),
        };
        let mut what = format!("cannot get {wanted} from {}", self.endpoint);
        let hint = match &failure {
            Failure::Unreachable(_) => {
                what = format!("cannot reach {} to get {wanted}", self.endpoint);
                hints::check_network(manual)
            }
            Failure::Cut(_) | Failure::Short { .. } | Failure::Silent(_) => {
                format!(
                    "{}; what has come is kept, and the same command goes on from there",
                    hints::check_network(manual)
                )
            }
            Failure::Malformed(_) => format!("check HF_ENDPOINT, which should name a Hub, or {manual}"),
            Failure::Damaged { .. } => hints::later(manual),
            Failure::Refused(refusal) => match (refusal.status, refusal.code.as_deref(), subject) {
                (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, ..) => {
                    what = format!("{} does not show {wanted}", self.endpoint);
                    format!("{} ({}/datasets/{id})", hints::NOT_SHOWN, self.endpoint)
                }
                (StatusCode::NOT_FOUND, Some("RevisionNotFound"), _) => {
                    what = format!("{id} has no revision {revision}");
                    format!(
                        "a revision is a branch, a tag or the full name of a commit; see {}/datasets/{id}",
                        self.endpoint
                    )
                }
                (StatusCode::NOT_FOUND, code, Subject::File { name, commit }) if code != Some("RepoNotFound") => {
                    what = format!("{id} has no file {name} at {commit}");
                    format!("see {}/datasets/{id}/tree/{commit} for what it has", self.endpoint)
                }
                (StatusCode::NOT_FOUND, code, _) => {
                    let revised = if code.is_none() { format!(" with a revision {revision}") } else { String::new() };
                    what = format!("{} has no data set {id}{revised}", self.endpoint);
                    hints::NOT_SHOWN.to_owned()
                }
                (StatusCode::TOO_MANY_REQUESTS, ..) => hints::TOO_MANY.to_owned(),
                _ => hints::later(manual),
            },
        };
        anyhow::Error::new(failure).context(what).context(format!("hint: {hint}"))
    }
}

/// Length and digest of a file of which nobody tells what it should hold.
fn unchecked(path: &Path) -> anyhow::Result<Content> {
    let failed = || format!("cannot read {}", path.display());
    let bytes = fs::metadata(path).with_context(failed)?.len();
    Ok(Content { bytes, sha256: crate::base::digest::sha256_file(path).with_context(failed)? })
}

#[cfg(test)]
mod tests;
