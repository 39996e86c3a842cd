//! One file to upload: its length and start, its hashes, and its bytes each time they are sent.
//!
//! The bytes are read piece by piece, so that a large file is never held in memory. They are compared with the hash
//! that the Hub was given: the last piece of a content that has changed is not sent, so that the server never has all
//! of it.

use std::cell::OnceCell;
use std::fs::{self, File};
use std::io::{self, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;

use super::calls::{Flow, check_stop};
use crate::content_hash::{ContentHash, ContentHasher, Digests};
use base::bounded_file;
use base::digest::Hasher;
use base::error::{WithHint as _, failure};
use base::stop::StopFlag;

/// Bytes of the start of a file by which the Hub recognizes its kind; its own tools send as many.
const SAMPLE_BYTES: u64 = 512;
/// A multiple of three: in base64 such pieces can be concatenated.
const PIECE_BYTES: u64 = 3 << 16;

/// How the Hub wants a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mode {
    /// To its storage for large files, named by SHA-256.
    Lfs,
    /// With the commit, named as in git.
    Regular,
}

pub(super) struct Content {
    /// Its path in the repository.
    pub(super) name: String,
    pub(super) bytes: u64,
    /// The start of the file.
    pub(super) sample: Vec<u8>,
    path: PathBuf,
    as_large: OnceCell<Digests>,
    as_regular: OnceCell<Digests>,
}

impl Content {
    /// Reads the file's length and start.
    pub(super) fn open(name: &str, path: &Path) -> anyhow::Result<Self> {
        let bytes = length(path).with_context(|| failed(path)).hint(check_file)?;
        let sample = bounded_file::read_start(path, SAMPLE_BYTES);
        let sample = sample.with_context(|| failed(path)).hint(check_file)?;
        Ok(Self {
            name: name.to_owned(),
            bytes,
            sample,
            path: path.to_owned(),
            as_large: OnceCell::new(),
            as_regular: OnceCell::new(),
        })
    }

    /// The Hub's name of the content, and its SHA-256; computed at the first call.
    pub(super) fn digests(&self, mode: Mode, stop: &StopFlag) -> anyhow::Result<&Digests> {
        let (known, kind) = match mode {
            Mode::Lfs => (&self.as_large, ContentHash::Sha256(String::new())),
            Mode::Regular => (&self.as_regular, ContentHash::GitBlob(String::new())),
        };
        if let Some(digests) = known.get() {
            return Ok(digests);
        }
        let mut hasher = ContentHasher::new(&kind, self.bytes);
        let mut pieces = self.pieces(0, self.bytes, Check::Later(Hasher::new()), Arc::new(Flow::new(stop)));
        while pieces.left > 0 {
            hasher.update(&pieces.read()?);
        }
        // Bytes added meanwhile would not be sent.
        if length(&self.path).with_context(|| failed(&self.path))? != self.bytes {
            return Err(changed(&self.name));
        }
        Ok(known.get_or_init(|| hasher.finish()))
    }

    /// A small content as a whole.
    pub(super) fn read(&self, stop: &StopFlag) -> anyhow::Result<Vec<u8>> {
        let mut pieces = self.pieces(0, self.bytes, Check::Later(Hasher::new()), Arc::new(Flow::new(stop)));
        let mut all = Vec::new();
        while pieces.left > 0 {
            all.extend(pieces.read()?);
        }
        Ok(all)
    }

    /// The `bytes` bytes from `from`, for the body of a request. They must be inside the content.
    pub(super) fn pieces(&self, from: u64, bytes: u64, check: Check, flow: Arc<Flow>) -> Pieces {
        let (name, path) = (self.name.clone(), self.path.clone());
        Pieces { name, path, reader: None, from, left: bytes, check, flow }
    }
}

fn length(path: &Path) -> io::Result<u64> {
    match fs::metadata(path)? {
        found if found.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        found => Ok(found.len()),
    }
}

fn open_at(path: &Path, from: u64) -> io::Result<File> {
    let mut file = bounded_file::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    Ok(file)
}

fn failed(path: &Path) -> String {
    format!("cannot read {}", path.display())
}

/// What to check at the last byte of the pieces; the digest of everything so far is then kept in the [`Flow`].
pub(super) enum Check {
    /// Nothing: more pieces follow.
    Later(Hasher),
    /// The digest of the whole content, continued from the hasher.
    Now(Hasher, String),
}

/// Bytes of a content, in pieces whose length is a multiple of three, except for the last one.
pub(super) struct Pieces {
    name: String,
    path: PathBuf,
    reader: Option<File>,
    from: u64,
    left: u64,
    check: Check,
    flow: Arc<Flow>,
}

impl Pieces {
    fn read(&mut self) -> anyhow::Result<Vec<u8>> {
        check_stop(&self.flow.stop)?;
        let wanted = self.left.min(PIECE_BYTES);
        let mut piece = Vec::with_capacity(usize::try_from(wanted).unwrap_or_default());
        // Opened only now: a commit has many files, and a process may open few.
        let reader = match self.reader.take() {
            Some(reader) => Ok(reader),
            None => open_at(&self.path, self.from),
        };
        let read = reader.and_then(|mut reader| {
            reader.by_ref().take(wanted).read_to_end(&mut piece)?;
            self.reader = Some(reader);
            Ok(())
        });
        read.with_context(|| failed(&self.path)).hint(check_file)?;
        if piece.len() as u64 != wanted {
            return Err(changed(&self.name));
        }
        self.left -= wanted;
        let (Check::Later(hasher) | Check::Now(hasher, _)) = &mut self.check;
        hasher.update(&piece);
        if self.left == 0 {
            if let Check::Now(hasher, expected) = &self.check
                && hasher.clone().finish() != *expected
            {
                return Err(changed(&self.name));
            }
            let (Check::Later(hasher) | Check::Now(hasher, _)) = &self.check;
            self.flow.keep(hasher.clone());
        }
        self.flow.hand_over(wanted);
        Ok(piece)
    }
}

impl Iterator for Pieces {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<io::Result<Vec<u8>>> {
        (self.left > 0).then(|| self.read().map_err(|error| self.flow.fail(error)))
    }
}

fn check_file() -> &'static str {
    "check that the file exists and is readable"
}

fn changed(name: &str) -> anyhow::Error {
    failure(
        format!("{name} changed while it was uploaded"),
        "wait until nothing writes to it, then run the same command again",
    )
}
