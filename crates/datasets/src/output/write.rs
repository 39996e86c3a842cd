//! Writing into the folder of a data set: one process at a time, and errors that say what to do.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use anyhow::Context as _;

use base::error::WithHint as _;
use base::lock::{LOCK_FILE, Lock};
use base::{atomic_file, bounded_file, terminal};

/// Writes `bytes` to `path` unless they are there already; returns whether it wrote.
pub(crate) fn write_if_changed(path: &Path, bytes: &[u8]) -> anyhow::Result<bool> {
    let there = fs::symlink_metadata(path).is_ok_and(|file| file.is_file() && file.len() == bytes.len() as u64);
    if there && bounded_file::read(path, bytes.len() as u64).is_ok_and(|old| old == bytes) {
        return Ok(false);
    }
    explain_write(atomic_file::write(path, bytes), path)?;
    Ok(true)
}

/// Says what could not be written, and the way out of a full disk and of a folder that may not be written.
pub(crate) fn explain_write<T>(result: io::Result<T>, path: &Path) -> anyhow::Result<T> {
    let kind = result.as_ref().err().map(io::Error::kind);
    result.with_context(|| format!("cannot write {}", path.display())).hint(|| match kind {
        Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
            "free some space and run the same command again: it continues where it stopped"
        }
        Some(ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => "choose a writable folder",
        _ => "check that the path is that of a writable folder",
    })
}

/// The right to write in a folder.
#[derive(Debug)]
pub(crate) struct Turn {
    /// Whether another preparation had to be waited for.
    pub(crate) has_waited: bool,
    _lock: Lock,
}

/// Waits until no other process prepares `directory`, which is created if absent.
pub(crate) fn wait(directory: &Path) -> anyhow::Result<Turn> {
    explain_write(fs::create_dir_all(directory), directory)?;
    let path = directory.join(LOCK_FILE);
    let mut has_waited = false;
    let lock = Lock::wait(&path, |holder| {
        if !std::mem::replace(&mut has_waited, true) {
            terminal::message(&format!(
                "waiting for another process that prepares {}: {holder}; Ctrl-C ends this one",
                directory.display()
            ));
        }
        true
    });
    let lock = explain_write(lock, &path)?;
    let lock = lock.context("the wait for another preparation ended").hint(|| "run the same command again")?;
    Ok(Turn { has_waited, _lock: lock.removed_at_the_end() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_turn_begins_when_the_first_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("a/b");
        let first = wait(&directory).unwrap();
        assert!(!first.has_waited);
        let (sender, receiver) = std::sync::mpsc::channel();
        let second = std::thread::spawn(move || sender.send(wait(&directory).unwrap().has_waited));
        assert!(receiver.recv_timeout(std::time::Duration::from_millis(300)).is_err(), "it did not wait");
        drop(first);
        assert!(receiver.recv().unwrap());
        second.join().unwrap().unwrap();
    }
}
