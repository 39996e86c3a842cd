//! One content from the server into the cache: continued where it was cut, checked, and only then named.
//!
//! The bytes go to a file beside the blob. Whatever ends the process, that file stays, and the next start goes on from
//! its end; nothing is to be done when a stop is asked for.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use reqwest::StatusCode;
use reqwest::Url;
use reqwest::blocking::Response;
use reqwest::header::{CONTENT_RANGE, TRANSFER_ENCODING};

use super::cache::{Content, Found, RepositoryCache, feed};
use super::content_hash::{ContentHasher, Digests};
use super::http_client::{Failure, HttpClient, Remote};
use base::atomic_file;
use base::terminal::{Progress, detail, message, warning};

const BUFFER_BYTES: usize = 1 << 18;

/// What is to be fetched, from where and to where.
pub(super) struct Transfer<'a> {
    pub(super) http: &'a HttpClient,
    pub(super) cache: &'a RepositoryCache,
    /// What it is called in messages.
    pub(super) title: &'a str,
    pub(super) url: Url,
    pub(super) remote: &'a Remote,
}

impl Transfer<'_> {
    /// Fetches the content into its blob, unless another process did so meanwhile.
    ///
    /// A content with a wrong hash is removed and fetched anew, once: a part from an earlier start may have been spoiled.
    ///
    /// # Errors
    /// A [`Failure`] of the server or the network; what the file system gives.
    pub(super) fn run(&self) -> anyhow::Result<Content> {
        let (cache, hash) = (self.cache, &self.remote.hash);
        let (blob, path) = (cache.blob(hash), cache.partial(hash));
        fs::create_dir_all(cache.blobs()).with_context(|| format!("cannot write {}", cache.blobs().display()))?;
        let _lock = cache.lock(hash, self.title)?;
        match cache.check(&blob, hash)? {
            Found::Right(content) => return Ok(content),
            Found::Wrong(_) => remove(&blob)?,
            Found::Nothing => {}
        }
        let mut digests = self.fetch(&path)?;
        if digests.named != hash.as_str() {
            warning(&format!("{} arrived damaged and is fetched again", self.title));
            remove(&path)?;
            digests = self.fetch(&path)?;
        }
        if digests.named != hash.as_str() {
            remove(&path)?;
            let (expected, found) = (hash.as_str().to_owned(), digests.named);
            return Err(Failure::Damaged { expected, found }.into());
        }
        atomic_file::finish(&path, &blob).with_context(|| format!("cannot write {}", blob.display()))?;
        let content = Content { bytes: self.remote.bytes, sha256: digests.sha256 };
        cache.note(&blob, hash, &content);
        Ok(content)
    }

    /// Completes the partial file; gives the digests of all of it.
    fn fetch(&self, path: &Path) -> anyhow::Result<Digests> {
        let mut partial = Partial::open(path, self.remote)?;
        let mut meter = Meter::start(self.title, self.remote.bytes, partial.bytes);
        let mut retries = self.http.retries(self.title);
        let mut furthest = partial.bytes;
        while partial.bytes < self.remote.bytes {
            let error = match self.receive(&mut partial, &mut meter) {
                Ok(Received::Part) => continue,
                // Its hash says so too.
                Ok(Received::OtherContent) => break,
                Err(error) => error,
            };
            // A server that begins anew each time makes no progress until it comes further than before.
            if partial.bytes > furthest {
                furthest = partial.bytes;
                retries.reset();
            }
            retries.wait(error.downcast::<Failure>()?)?;
        }
        Ok(partial.hasher.finish())
    }

    /// Appends what one request brings. No error does not mean that all is there.
    fn receive(&self, partial: &mut Partial<'_>, meter: &mut Option<Meter>) -> anyhow::Result<Received> {
        let mut answer = match self.http.content(&self.url, partial.bytes) {
            Err(failure) if failure.is_refused_with(StatusCode::RANGE_NOT_SATISFIABLE) && partial.bytes > 0 => {
                detail(&format!("{}: the server cannot go on from byte {}", self.title, partial.bytes));
                partial.clear(meter)?;
                return Ok(Received::Part);
            }
            answer => answer?,
        };
        let start = first_byte(&answer)?;
        let asked = partial.bytes;
        if start != asked {
            detail(&format!("{}: asked for byte {asked} on, got {start} on", self.title));
            partial.clear(meter)?;
            match start {
                0 => {}
                _ if asked > 0 => return Ok(Received::Part),
                _ => return Err(Failure::Malformed("the server sent a part of the file unasked".to_owned()).into()),
            }
        }
        let is_whole = is_whole(&answer);
        let mut buffer = vec![0; BUFFER_BYTES];
        while partial.bytes < self.remote.bytes {
            let read = self.http.read(&mut answer, &mut buffer)?;
            if read == 0 && is_whole {
                return Ok(Received::OtherContent);
            }
            if read == 0 {
                return Err(Failure::Short { expected: self.remote.bytes, found: partial.bytes }.into());
            }
            // What is too much is not kept; whether the rest is right, its hash tells.
            let room = usize::try_from(self.remote.bytes - partial.bytes).unwrap_or(usize::MAX);
            partial.append(&buffer[..read.min(room)])?;
            if let Some(meter) = meter {
                meter.reach(partial.bytes);
            }
        }
        Ok(Received::Part)
    }
}

/// What a request brought, if it did not fail.
enum Received {
    /// Some of the content, or the rest of it.
    Part,
    /// All of another, shorter content: a page in place of the file.
    OtherContent,
}

/// Whether the end of the answer, if one comes to it, is the end of the content that the server has, and no cut.
fn is_whole(answer: &Response) -> bool {
    let tells_its_end = answer.content_length().is_some() || answer.headers().contains_key(TRANSFER_ENCODING);
    answer.status() != StatusCode::PARTIAL_CONTENT && tells_its_end
}

/// Which byte of the content an answer begins with.
fn first_byte(answer: &Response) -> Result<u64, Failure> {
    if answer.status() != StatusCode::PARTIAL_CONTENT {
        return Ok(0);
    }
    let range = answer.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let start = range.and_then(|range| range.trim().strip_prefix("bytes")?.trim_start().split('-').next());
    let start = start.and_then(|start| start.parse().ok());
    start.ok_or_else(|| Failure::Malformed("the server sent a part and does not tell which".to_owned()))
}

/// The file that a content is written to, and the hash of what it holds.
struct Partial<'a> {
    path: PathBuf,
    file: File,
    hasher: ContentHasher,
    bytes: u64,
    remote: &'a Remote,
}

impl<'a> Partial<'a> {
    /// Takes over what is there.
    fn open(path: &Path, remote: &'a Remote) -> anyhow::Result<Self> {
        let failed = || format!("cannot write {}", path.display());
        let file = OpenOptions::new().read(true).append(true).create(true).open(path).with_context(failed)?;
        let hasher = ContentHasher::new(&remote.hash, remote.bytes);
        let mut partial = Self { path: path.to_owned(), file, hasher, bytes: 0, remote };
        let there = partial.file.metadata().with_context(failed)?.len();
        if there > remote.bytes {
            partial.clear(&mut None)?;
        } else if there > 0 {
            detail(&format!("reading the {there} bytes of {}", path.display()));
            partial.bytes = feed(&mut partial.file, &mut partial.hasher).with_context(failed)?;
        }
        Ok(partial)
    }

    fn append(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.file.write_all(bytes).with_context(|| format!("cannot write {}", self.path.display()))?;
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Begins anew.
    fn clear(&mut self, meter: &mut Option<Meter>) -> anyhow::Result<()> {
        self.file.set_len(0).with_context(|| format!("cannot write {}", self.path.display()))?;
        self.hasher = ContentHasher::new(&self.remote.hash, self.remote.bytes);
        self.bytes = 0;
        if let Some(meter) = meter {
            meter.rewind();
        }
        Ok(())
    }
}

fn remove(path: &Path) -> anyhow::Result<()> {
    fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))
}

/// What has fewer bytes shows no progress.
const WORTH_SHOWING: u64 = 1_000_000;

/// What is shown of one file under way.
pub(super) struct Meter {
    title: String,
    total: u64,
    done: u64,
    bar: Progress,
}

impl Meter {
    /// Announces a download of `total` bytes, `done` of which are there; `None` when it is not worth showing.
    pub(super) fn start(title: &str, total: u64, done: u64) -> Option<Self> {
        Self::begin("downloading", title, total, done)
    }

    /// As [`Meter::start`], for an upload.
    pub(super) fn start_upload(title: &str, total: u64) -> Option<Self> {
        Self::begin("uploading", title, total, 0)
    }

    fn begin(doing: &str, title: &str, total: u64, done: u64) -> Option<Self> {
        if total < WORTH_SHOWING {
            return None;
        }
        let megabytes = |bytes: u64| bytes / 1_000_000;
        let there = if done > 0 { format!(", {} MB of them are there", megabytes(done)) } else { String::new() };
        message(&format!("{doing} {title} ({} MB{there})", megabytes(total)));
        Some(Self { title: title.to_owned(), total, done, bar: Progress::new(title, total, done) })
    }

    /// `bytes` of it are there. Fewer than before change nothing.
    pub(super) fn reach(&mut self, bytes: u64) {
        self.bar.advance(bytes.saturating_sub(self.done), "bytes");
        self.done = bytes.max(self.done);
    }

    /// Nothing of it is there any more.
    pub(super) fn rewind(&mut self) {
        self.done = 0;
        self.bar = Progress::new(&self.title, self.total, 0);
    }
}
