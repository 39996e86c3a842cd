//! One preparation of a folder at a time: a second one would remove what the first is writing.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

use crate::write::explain_write;
use base::fault::WithHint as _;
use base::lock::{LOCK_FILE, Lock};
use base::terminal;

/// The right to write in a folder.
#[derive(Debug)]
pub(super) struct Turn {
    /// Whether another preparation had to be waited for.
    pub(super) has_waited: bool,
    _lock: Lock,
}

/// Waits until no other process prepares `directory`, which is made where it is absent.
///
/// # Errors
/// A folder that cannot be made or written.
pub(super) fn wait(directory: &Path) -> anyhow::Result<Turn> {
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
