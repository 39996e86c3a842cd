//! One repository's part of the Hub's cache, in the layout of the Hub's own tools: `blobs/HASH` holds a content,
//! `snapshots/COMMIT/NAME` is a link to it, `refs/BRANCH` names a commit, and `.locks` next to the repositories holds a
//! lock for each content. One folder is added, which those tools ignore: it lists verified contents, so that gigabytes
//! are not read again at every start.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Context as _;
use hf_hub::Repo;
use serde::{Deserialize, Serialize};

use super::content_hash::{ContentHash, ContentHasher};
use super::model_id::is_commit;
use super::repository::RepositoryKind;
use base::atomic_file;
use base::bounded_file;
use base::terminal::{detail, message, warning};

/// The folder that lists verified contents and has what was made of files.
const CHECKED: &str = ".caption-train";
const FORMAT_VERSION: u32 = 1;
/// Bytes of a note, or of a file that names a commit.
const MAX_NOTE_BYTES: u64 = 4096;
/// How often to check whether another process has finished.
const LOCK_INTERVAL: Duration = Duration::from_millis(200);

/// A verified content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

/// The result of a check of a file.
pub(super) enum Found {
    Nothing,
    Right(Content),
    /// Another content, with this hash.
    Wrong(String),
}

/// What is recorded about a verified content.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    format_version: u32,
    bytes: u64,
    /// When the file was written, in nanoseconds since 1970: another time means another content.
    modified_ns: u64,
    sha256: String,
}

pub(super) struct RepositoryCache {
    folder: PathBuf,
    locks: PathBuf,
}

impl RepositoryCache {
    /// The part of the repository `id` in the Hub's cache `cache`. Touches no file.
    pub(super) fn new(cache: &Path, kind: RepositoryKind, id: &str) -> Self {
        let name = Repo::new(id.to_owned(), kind.repo_type()).folder_name();
        Self { folder: cache.join(&name), locks: cache.join(".locks").join(&name) }
    }

    /// The folder that the Hub's own tools ignore.
    pub(super) fn own_folder(&self) -> PathBuf {
        self.folder.join(CHECKED)
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.folder.join("blobs")
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    pub(super) fn blob(&self, hash: &ContentHash) -> PathBuf {
        self.blobs().join(hash.as_str())
    }

    /// The path of an incomplete content; the Hub's tools use the same one.
    pub(super) fn partial(&self, hash: &ContentHash) -> PathBuf {
        self.blobs().join(format!("{}.incomplete", hash.as_str()))
    }

    /// The last known commit of a branch or tag.
    pub(super) fn commit(&self, revision: &str) -> Option<String> {
        let text = bounded_file::read_text(&self.folder.join("refs").join(revision), MAX_NOTE_BYTES).ok()?;
        Some(text.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// Stores the commit of a branch or tag. If that fails, the next start without a network does not find the files,
    /// which is only worth a warning.
    pub(super) fn note_commit(&self, revision: &str, commit: &str) {
        if self.commit(revision).as_deref() == Some(commit) {
            return;
        }
        let path = self.folder.join("refs").join(revision);
        let folder = path.parent().unwrap_or(&self.folder);
        if let Err(error) = fs::create_dir_all(folder).and_then(|()| atomic_file::write(&path, commit.as_bytes())) {
            warning(&format!("cannot write {}: {error}", path.display()));
        }
    }

    /// The hash of the content that a snapshot's file links to; `None` if it is not a link, as on a system without
    /// links.
    pub(super) fn linked_hash(&self, commit: &str, name: &str) -> Option<ContentHash> {
        let target = fs::read_link(self.snapshot(commit).join(name)).ok()?;
        ContentHash::parse(target.file_name()?.to_str()?)
    }

    /// Links a content under its file name in a snapshot.
    pub(super) fn link(&self, commit: &str, name: &str, hash: &ContentHash) -> anyhow::Result<()> {
        let path = self.snapshot(commit).join(name);
        if path.exists() && self.linked_hash(commit, name).as_ref() == Some(hash) {
            return Ok(());
        }
        self.link_to(&path, &self.blob(hash)).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Makes `path` a link to `target`, both in the folder of the repository; a copy on a system without links.
    pub(super) fn link_to(&self, path: &Path, target: &Path) -> io::Result<()> {
        fs::create_dir_all(path.parent().unwrap_or(&self.folder))?;
        #[cfg(unix)]
        if let (Ok(below), Ok(target)) = (path.strip_prefix(&self.folder), target.strip_prefix(&self.folder)) {
            // Relative, so that the cache can be moved.
            let to = Path::new(&"../".repeat(below.components().count() - 1)).join(target);
            if fs::read_link(path).is_ok_and(|linked| linked == to) {
                return Ok(());
            }
            if path.symlink_metadata().is_ok() {
                fs::remove_file(path)?;
            }
            let linked = std::os::unix::fs::symlink(to, path);
            // Another process may have been first.
            if linked.is_ok() || path.exists() {
                return Ok(());
            }
        }
        if path.symlink_metadata().is_ok() {
            fs::remove_file(path)?;
        }
        atomic_file::link_or_copy(target, path)
    }

    /// Waits until no other process downloads this content; none does while the file is open. The lock is that of the
    /// Hub's tools.
    #[expect(clippy::disallowed_methods, reason = "opens without truncating")]
    pub(super) fn lock(&self, hash: &ContentHash, what: &str) -> anyhow::Result<File> {
        let path = self.locks.join(format!("{}.lock", hash.as_str()));
        let open = || OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let lock = fs::create_dir_all(&self.locks).and_then(|()| open());
        let lock = lock.with_context(|| format!("cannot write {}", path.display()))?;
        let mut is_said = false;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(TryLockError::WouldBlock) => {
                    if !std::mem::replace(&mut is_said, true) {
                        message(&format!("waiting for another process that downloads {what}"));
                    }
                    std::thread::sleep(LOCK_INTERVAL);
                }
                // Some network file systems have no locks. Two processes at once then damage each other's file, which
                // its hash reveals.
                Err(TryLockError::Error(error)) => {
                    warning(&format!("cannot lock {}: {error}; run one download at a time", path.display()));
                    return Ok(lock);
                }
            }
        }
    }

    /// Whether the file at `path` holds the content named `hash`: as recorded, if the file has not changed since, else
    /// by reading it.
    pub(super) fn check(&self, path: &Path, hash: &ContentHash) -> anyhow::Result<Found> {
        let failed = || format!("cannot read {}", path.display());
        let metadata = match fs::metadata(path) {
            Ok(metadata) if metadata.is_file() => metadata,
            Ok(_) => anyhow::bail!("{} is not a file", path.display()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) => return Err(error).with_context(failed),
        };
        let bytes = metadata.len();
        if let Some(sha256) = self.noted(path, hash, bytes) {
            return Ok(Found::Right(Content { bytes, sha256 }));
        }
        detail(&format!("checking {} ({bytes} bytes)", path.display()));
        let mut hasher = ContentHasher::new(hash, bytes);
        feed(&mut bounded_file::open(path).with_context(failed)?, &mut hasher).with_context(failed)?;
        let digests = hasher.finish();
        if digests.named != hash.as_str() {
            return Ok(Found::Wrong(digests.named));
        }
        let content = Content { bytes, sha256: digests.sha256 };
        self.note(path, hash, &content);
        Ok(Found::Right(content))
    }

    fn noted(&self, path: &Path, hash: &ContentHash, bytes: u64) -> Option<String> {
        let text = bounded_file::read(&self.note_path(hash), MAX_NOTE_BYTES).ok()?;
        let note: Note = serde_json::from_slice(&text).ok()?;
        let is_same = note.format_version == FORMAT_VERSION
            && note.bytes == bytes
            && modified_ns(path) == Some(note.modified_ns)
            && match (hash, ContentHash::parse(&note.sha256)) {
                (ContentHash::Sha256(_), noted) => noted.as_ref() == Some(hash),
                (ContentHash::GitBlob(_), noted) => matches!(noted, Some(ContentHash::Sha256(_))),
            };
        is_same.then_some(note.sha256)
    }

    /// Records that the content was verified. A cache that cannot be written is read each time.
    pub(super) fn note(&self, path: &Path, hash: &ContentHash, content: &Content) {
        let Some(modified_ns) = modified_ns(path) else { return };
        let Content { bytes, sha256 } = content.clone();
        let note = Note { format_version: FORMAT_VERSION, bytes, modified_ns, sha256 };
        let path = self.note_path(hash);
        let written = serde_json::to_vec(&note).map_err(io::Error::from).and_then(|text| {
            fs::create_dir_all(path.parent().unwrap_or(&self.folder))?;
            atomic_file::write(&path, &text)
        });
        if let Err(error) = written {
            detail(&format!("cannot write {}: {error}", path.display()));
        }
    }

    fn note_path(&self, hash: &ContentHash) -> PathBuf {
        self.own_folder().join(format!("{}.json", hash.as_str()))
    }
}

fn modified_ns(path: &Path) -> Option<u64> {
    let modified = fs::metadata(path).ok()?.modified().ok()?;
    u64::try_from(modified.duration_since(UNIX_EPOCH).ok()?.as_nanos()).ok()
}

/// Feeds the rest of the file to the hasher; returns its length.
pub(super) fn feed(file: &mut File, hasher: &mut ContentHasher) -> io::Result<u64> {
    let (mut buffer, mut bytes) = (vec![0; 1 << 20], 0);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(bytes);
        }
        hasher.update(&buffer[..read]);
        bytes += read as u64;
    }
}
