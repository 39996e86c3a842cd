//! Downloads one content into the cache: resumed after an interruption, checked, and only then named. Shows the
//! progress of large downloads and uploads.
//!
//! The bytes go to a file next to the blob. Whatever ends the process, that file stays, and the next start resumes at
//! its end; a request to stop needs no special handling.

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

/// What to download, from where and to where.
pub(super) struct Transfer<'a> {
    pub(super) http: &'a HttpClient,
    pub(super) cache: &'a RepositoryCache,
    /// The name in messages.
    pub(super) title: &'a str,
    pub(super) url: Url,
    pub(super) remote: &'a Remote,
    /// Whether its progress is not shown, because it is that of one file of many.
    pub(super) is_quiet: bool,
}

impl Transfer<'_> {
    /// Downloads the content into its blob, unless another process has done so meanwhile.
    ///
    /// A content with a wrong hash is removed and downloaded again, once: a part from an earlier start may have been
    /// damaged.
    ///
    /// # Errors
    /// A [`Failure`] of the server or the network, or an error of the file system.
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
            warning(&format!("{} arrived damaged; downloading it again", self.title));
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

    /// Completes the partial file; returns the digests of the whole content.
    fn fetch(&self, path: &Path) -> anyhow::Result<Digests> {
        let mut partial = Partial::open(path, self.remote)?;
        let shown = if self.is_quiet { 0 } else { self.remote.bytes };
        let mut meter = Meter::start(self.title, shown, partial.bytes);
        let mut retries = self.http.retries(self.title);
        let mut furthest = partial.bytes;
        while partial.bytes < self.remote.bytes {
            let error = match self.receive(&mut partial, &mut meter) {
                Ok(Received::Part) => continue,
                // Its hash will not match.
                Ok(Received::OtherContent) => break,
                Err(error) => error,
            };
            // A server that restarts each time makes no progress until it gets further than before.
            if partial.bytes > furthest {
                furthest = partial.bytes;
                retries.reset();
            }
            retries.wait(error.downcast::<Failure>()?)?;
        }
        Ok(partial.hasher.finish())
    }

    /// Appends the answer to one request. Success does not mean that the content is complete.
    fn receive(&self, partial: &mut Partial<'_>, meter: &mut Option<Meter>) -> anyhow::Result<Received> {
        let mut answer = match self.http.content(&self.url, partial.bytes) {
            Err(failure) if failure.is_refused_with(StatusCode::RANGE_NOT_SATISFIABLE) && partial.bytes > 0 => {
                detail(&format!("{}: the server cannot resume from byte {}", self.title, partial.bytes));
                partial.clear(meter)?;
                return Ok(Received::Part);
            }
            answer => answer?,
        };
        let start = first_byte(&answer)?;
        let asked = partial.bytes;
        if start != asked {
            detail(&format!("{}: requested the range from byte {asked}, but got that from {start}", self.title));
            partial.clear(meter)?;
            match start {
                0 => {}
                _ if asked > 0 => return Ok(Received::Part),
                _ => return Err(Failure::Malformed("the server sent only a part of the file".to_owned()).into()),
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
            // Excess bytes are dropped; the hash shows whether the rest is right.
            let room = usize::try_from(self.remote.bytes - partial.bytes).unwrap_or(usize::MAX);
            partial.append(&buffer[..read.min(room)])?;
            if let Some(meter) = meter {
                meter.reach(partial.bytes);
            }
        }
        Ok(Received::Part)
    }
}

/// The result of a request that did not fail.
enum Received {
    /// Some of the content, or the rest of it.
    Part,
    /// All of another, shorter content, such as a web page instead of the file.
    OtherContent,
}

/// Whether the end of the answer is the end of the server's content, and not an interruption.
fn is_whole(answer: &Response) -> bool {
    let tells_its_end = answer.content_length().is_some() || answer.headers().contains_key(TRANSFER_ENCODING);
    answer.status() != StatusCode::PARTIAL_CONTENT && tells_its_end
}

/// The position of an answer's first byte in the content.
fn first_byte(answer: &Response) -> Result<u64, Failure> {
    if answer.status() != StatusCode::PARTIAL_CONTENT {
        return Ok(0);
    }
    let range = answer.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let start = range.and_then(|range| range.trim().strip_prefix("bytes")?.trim_start().split('-').next());
    let start = start.and_then(|start| start.parse().ok());
    start.ok_or_else(|| Failure::Malformed("the server sent a part without saying which".to_owned()))
}

/// The file that a content is written to, and the hash of its bytes so far.
struct Partial<'a> {
    path: PathBuf,
    file: File,
    hasher: ContentHasher,
    bytes: u64,
    remote: &'a Remote,
}

impl<'a> Partial<'a> {
    /// Opens the file and reads what it already holds.
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

    /// Starts over.
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

/// Smaller transfers show no progress.
const MIN_SHOWN_BYTES: u64 = 1_000_000;

/// The progress of one file.
pub(super) struct Meter {
    title: String,
    total: u64,
    done: u64,
    bar: Progress,
}

impl Meter {
    /// Announces a download of `total` bytes, `done` of which are there; `None` if it is too small to show.
    pub(super) fn start(title: &str, total: u64, done: u64) -> Option<Self> {
        Self::begin("downloading", title, total, done)
    }

    /// As [`Meter::start`], for an upload.
    pub(super) fn start_upload(title: &str, total: u64) -> Option<Self> {
        Self::begin("uploading", title, total, 0)
    }

    fn begin(doing: &str, title: &str, total: u64, done: u64) -> Option<Self> {
        if total < MIN_SHOWN_BYTES {
            return None;
        }
        let megabytes = |bytes: u64| bytes / 1_000_000;
        let there = if done > 0 { format!(", {} MB already there", megabytes(done)) } else { String::new() };
        message(&format!("{doing} {title} ({} MB{there})", megabytes(total)));
        Some(Self { title: title.to_owned(), total, done, bar: Progress::new(title, total, done) })
    }

    /// `bytes` bytes are there. A smaller number than before changes nothing.
    pub(super) fn reach(&mut self, bytes: u64) {
        self.bar.advance(bytes.saturating_sub(self.done), "bytes");
        self.done = bytes.max(self.done);
    }

    /// Back to 0 bytes.
    pub(super) fn rewind(&mut self) {
        self.done = 0;
        self.bar = Progress::new(&self.title, self.total, 0);
    }
}
