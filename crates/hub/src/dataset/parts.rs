//! A Parquet file of which only the first row groups are downloaded, by requests for ranges of its bytes.
//!
//! The bytes go to a file in the order of their places, so its length says how far an earlier start came. What a part of
//! a file should be has no hash: the server must say that it sends the asked bytes of a file of the listed size. The hash
//! of what came is kept, so that a part that was damaged since is noticed. A whole file in the cache is cut instead.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use reqwest::header::CONTENT_RANGE;
use reqwest::{StatusCode, Url};

use crate::content_hash::ContentHash;
use crate::http_client::{Failure, HttpClient, Remote};
use crate::requests::{DownloadedFile, Part};
use crate::source::Source;
use crate::transfer::Meter;
use base::terminal::warning;
use base::{atomic_file, bounded_file, digest};

const BUFFER_BYTES: usize = 1 << 18;

/// A file at its commit, and what of it is wanted.
pub(super) struct PartOfFile {
    pub(super) path: String,
    pub(super) remote: Remote,
    pub(super) part: Part,
    /// What was read to find out: kept, so that it is known without a network.
    pub(super) reads: Vec<(Range<u64>, Vec<u8>)>,
    /// The whole file, if the cache has it.
    pub(super) whole: Option<PathBuf>,
}

/// Gives the bytes of a range of a file to `take`, in order; resumes after failures.
///
/// # Errors
/// A [`Failure`], or an error of `take`.
fn receive(
    http: &HttpClient,
    title: &str,
    url: &Url,
    range: &Range<u64>,
    total: u64,
    take: &mut dyn FnMut(&[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let (mut at, mut retries) = (range.start, http.retries(title));
    while at < range.end {
        let before = at;
        let received = receive_once(http, url, at..range.end, total, &mut |bytes| {
            take(bytes)?;
            at += bytes.len() as u64;
            Ok(())
        });
        let Err(error) = received else { continue };
        if at > before {
            retries.reset();
        }
        retries.wait(error.downcast::<Failure>()?)?;
    }
    Ok(())
}

fn receive_once(
    http: &HttpClient,
    url: &Url,
    range: Range<u64>,
    total: u64,
    take: &mut dyn FnMut(&[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut answer = http.part(url, &range)?;
    let sent = answer.headers().get(CONTENT_RANGE).and_then(|sent| sent.to_str().ok()).unwrap_or_default();
    let expected = format!("bytes {}-{}/{total}", range.start, range.end - 1);
    if answer.status() != StatusCode::PARTIAL_CONTENT || sent.trim() != expected {
        let found = if sent.is_empty() { answer.status().to_string() } else { format!("{sent:?}") };
        let message = format!("a part of a file was asked for, {expected:?}, and the server sent {found}");
        return Err(Failure::Malformed(message).into());
    }
    let (mut buffer, mut left) = (vec![0; BUFFER_BYTES], range.end - range.start);
    while left > 0 {
        let read = http.read(&mut answer, &mut buffer)?;
        if read == 0 {
            return Err(
                Failure::Short { expected: range.end - range.start, found: range.end - range.start - left }.into()
            );
        }
        let read = read.min(usize::try_from(left).unwrap_or(usize::MAX));
        take(&buffer[..read])?;
        left -= read as u64;
    }
    Ok(())
}

/// The bytes of a range of a file.
pub(super) fn read(
    source: &Source<'_>,
    commit: &str,
    path: &str,
    range: &Range<u64>,
    total: u64,
) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let url = source.http.file_address(commit, path)?;
    receive(&source.http, path, &url, range, total, &mut |received| {
        bytes.extend(received);
        Ok(())
    })?;
    Ok(bytes)
}

/// Appends the bytes of a range of the file `whole`.
fn copy(whole: &Path, range: &Range<u64>, to: &mut File) -> anyhow::Result<()> {
    let failed = || format!("cannot copy a part of {}", whole.display());
    let mut opened = bounded_file::open(whole).with_context(failed)?;
    opened.seek(SeekFrom::Start(range.start)).with_context(failed)?;
    let copied = io::copy(&mut opened.take(range.end - range.start), to).with_context(failed)?;
    anyhow::ensure!(copied == range.end - range.start, "{} is shorter than it was", whole.display());
    Ok(())
}

fn place_of_range(source: &Source<'_>, hash: &ContentHash, range: &Range<u64>) -> PathBuf {
    source.cache.own_folder().join("ranges").join(format!("{}-{}-{}", hash.as_str(), range.start, range.end))
}

/// A range that an earlier start has kept.
pub(super) fn kept_range(source: &Source<'_>, hash: &ContentHash, range: &Range<u64>) -> Option<Vec<u8>> {
    let bytes = bounded_file::read(&place_of_range(source, hash, range), range.end - range.start).ok()?;
    (bytes.len() as u64 == range.end - range.start).then_some(bytes)
}

impl PartOfFile {
    /// The name that says which part it is.
    pub(super) fn title(&self) -> String {
        format!("{} (the first {} rows)", self.path, self.part.num_rows)
    }

    fn place(&self, source: &Source<'_>) -> PathBuf {
        let name = format!("{}-{}", self.remote.hash.as_str(), self.part.num_rows);
        source.cache.own_folder().join("parts").join(name)
    }

    /// Where the hash of the finished part is.
    fn noted(place: &Path) -> PathBuf {
        place.with_extension("sha256")
    }

    /// Bytes that will be downloaded.
    pub(super) fn absent_bytes(&self, source: &Source<'_>) -> u64 {
        let place = self.place(source);
        if self.whole.is_some() || place.is_file() && Self::noted(&place).is_file() {
            return 0;
        }
        let there = fs::metadata(place.with_extension("incomplete")).map_or(0, |file| file.len());
        let left = |range: &Range<u64>| range.end.saturating_sub(there.max(range.start));
        self.part.ranges.iter().map(left).sum()
    }

    /// The part as a file of its own, after downloading what is not in the cache.
    pub(super) fn fetch(&self, source: &Source<'_>, commit: &str) -> anyhow::Result<DownloadedFile> {
        let (place, title) = (self.place(source), self.title());
        let failed = || format!("cannot write {}", place.display());
        let _lock = source.cache.lock(&self.remote.hash, &title)?;
        let sha256 = match self.intact(source, &place)? {
            Some(sha256) => sha256,
            None if source.is_offline() && self.whole.is_none() => return Err(source.not_cached(&title)),
            None => {
                let unfinished = place.with_extension("incomplete");
                fs::create_dir_all(place.parent().unwrap_or(&place)).with_context(failed)?;
                let file = OpenOptions::new().append(true).create(true).open(&unfinished).with_context(failed);
                file.and_then(|file| self.complete(source, commit, &title, file))
                    .map_err(|error| source.explain(commit, &self.path, error))?;
                let sha256 = digest::sha256_file(&unfinished).with_context(failed)?;
                atomic_file::write(&Self::noted(&place), sha256.as_bytes()).with_context(failed)?;
                atomic_file::finish(&unfinished, &place).with_context(failed)?;
                sha256
            }
        };
        for (range, bytes) in &self.reads {
            let path = place_of_range(source, &self.remote.hash, range);
            let failed = || format!("cannot write {}", path.display());
            fs::create_dir_all(path.parent().unwrap_or(&path)).with_context(failed)?;
            if !path.is_file() {
                atomic_file::write(&path, bytes).with_context(failed)?;
            }
        }
        let bytes = fs::metadata(&place).with_context(failed)?.len();
        Ok(DownloadedFile { name: title, path: place, bytes, sha256 })
    }

    /// The hash of the kept part, if it is there and as it was. One that is not is removed, unless it cannot be
    /// downloaded again.
    fn intact(&self, source: &Source<'_>, place: &Path) -> anyhow::Result<Option<String>> {
        const HASH_BYTES: u64 = 64;
        if !place.is_file() {
            return Ok(None);
        }
        let found = digest::sha256_file(place).with_context(|| format!("cannot read {}", place.display()))?;
        // Without its hash it may be anything.
        let Ok(noted) = bounded_file::read_text(&Self::noted(place), HASH_BYTES) else { return Ok(None) };
        if noted == found {
            return Ok(Some(found));
        }
        if source.is_offline() && self.whole.is_none() {
            return Err(source.place.damaged(place, &noted, &found));
        }
        warning(&format!("{} is damaged in the cache; making it again", self.title()));
        fs::remove_file(place).with_context(|| format!("cannot remove {}", place.display()))?;
        Ok(None)
    }

    fn complete(&self, source: &Source<'_>, commit: &str, title: &str, mut file: File) -> anyhow::Result<()> {
        const FAILED: &str = "cannot write a part of a file";
        let mut at = file.metadata().context(FAILED)?.len();
        if self.whole.is_some() || self.part.ranges.last().is_none_or(|last| at > last.end) {
            // It takes a moment, or its end was begun.
            file.set_len(0).context(FAILED)?;
            at = 0;
        }
        let url = source.http.file_address(commit, &self.path)?;
        let total = self.part.ranges.iter().map(|range| range.end - range.start).sum();
        let mut meter = Meter::start(title, total, total.saturating_sub(self.absent_bytes(source)));
        let mut done = total.saturating_sub(self.absent_bytes(source));
        for range in &self.part.ranges {
            if at >= range.end {
                continue;
            }
            if at < range.start {
                // Nothing reads what lies between.
                file.set_len(range.start).context(FAILED)?;
                at = range.start;
            }
            if let Some(whole) = &self.whole {
                copy(whole, &(at..range.end), &mut file)?;
                at = range.end;
                continue;
            }
            receive(&source.http, title, &url, &(at..range.end), self.remote.bytes, &mut |bytes| {
                done += bytes.len() as u64;
                if let Some(meter) = &mut meter {
                    meter.reach(done);
                }
                file.write_all(bytes).context(FAILED)
            })?;
            at = range.end;
        }
        file.write_all(&self.part.end).context(FAILED)
    }
}
