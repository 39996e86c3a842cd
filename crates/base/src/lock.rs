//! Locks between processes: a file that only one process at a time can lock, with a line that names the holder.
//!
//! The system releases a lock when its process ends, however it ends. On a file system without locks, or one that loses
//! them while the machine is suspended, the line remains: a process that finds another's line there has lost the
//! folder.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::{bounded_file, clock, place, system_usage, terminal, visible};

/// The lock of a folder.
pub const LOCK_FILE: &str = ".caption-train.lock";
/// How often to check whether another process has finished.
const INTERVAL: Duration = Duration::from_millis(100);
/// Bytes of the line that are read.
const MAX_BYTES: u64 = 500;
/// Tries to read the line of a holder that is about to write it, and to lock a file that the previous holder is about
/// to remove.
const TRIES: usize = 20;

/// Who holds a lock, as that process wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder(String);

impl Holder {
    /// This process, starting now.
    fn this() -> Self {
        let host = system_usage::host_name().filter(|host| !host.is_empty());
        let place = host.map_or_else(String::new, |host| format!(" on {}", visible::cut(&host, 100)));
        Self(format!("process {}{place}, since {}", std::process::id(), clock::utc(clock::unix_seconds())))
    }

    /// The holder named in the file, if any.
    fn read(path: &Path) -> Option<Self> {
        let bytes = bounded_file::read_start(path, MAX_BYTES).ok()?;
        let line = String::from_utf8_lossy(&bytes).trim().to_owned();
        (!line.is_empty()).then_some(Self(line))
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&visible::cut(&self.0, 200))
    }
}

/// A lock, held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
    /// The line in the file; absent if it could not be written.
    holder: Option<Holder>,
    /// Whether the file is removed with the lock.
    is_removed: bool,
}

/// The result of trying to lock.
#[derive(Debug)]
pub enum Attempt {
    Held(Lock),
    /// Another process holds the lock.
    Taken(Holder),
}

impl Lock {
    /// Locks the file `path`, which is created if needed and kept. On a file system without locks a warning is printed
    /// and the lock counts as held.
    ///
    /// # Errors
    /// A file that cannot be opened for writing; a link, or anything else that is not a file.
    pub fn attempt(path: &Path) -> io::Result<Attempt> {
        attempt_on(&File::try_lock, path)
    }

    /// Repeats [`Lock::attempt`] while another process holds the lock; `None` when `keep_waiting` returns false.
    pub fn wait(path: &Path, mut keep_waiting: impl FnMut(&Holder) -> bool) -> io::Result<Option<Self>> {
        loop {
            match Self::attempt(path)? {
                Attempt::Held(lock) => return Ok(Some(lock)),
                Attempt::Taken(holder) if keep_waiting(&holder) => thread::sleep(INTERVAL),
                Attempt::Taken(_) => return Ok(None),
            }
        }
    }

    /// Removes the file with the lock, for a folder that other programs read.
    #[must_use]
    pub fn removed_at_the_end(mut self) -> Self {
        self.is_removed = true;
        self
    }

    /// The lock of a file that this process has locked; writes its line.
    fn held(file: File, path: &Path) -> Self {
        let holder = Holder::this();
        // A full disk will be reported by the next write: the line is only for other processes.
        let written = file.set_len(0).and_then(|()| (&file).write_all(format!("{holder}\n").as_bytes()));
        if written.is_err() {
            let _ = file.set_len(0);
        }
        let holder = written.is_ok().then_some(holder);
        Self { file, path: path.to_owned(), holder, is_removed: false }
    }

    /// The process that took over the lock although it was never released: on a file system without locks, or with
    /// locks that end when the machine is suspended.
    pub fn lost_to(&self) -> Option<Holder> {
        let held = self.holder.as_ref()?;
        Holder::read(&self.path).filter(|found| found != held)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.lost_to().is_some() {
            return;
        }
        // The line is obsolete. The lock itself ends with the file's handle.
        let _ = self.file.set_len(0);
        if self.is_removed && cfg!(unix) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn attempt_on(try_lock: &impl Fn(&File) -> Result<(), TryLockError>, path: &Path) -> io::Result<Attempt> {
    // The target of a link must not change.
    place::refuse_link(path)?;
    #[cfg(unix)]
    if fs::metadata(path).is_ok_and(|found| std::os::unix::fs::MetadataExt::nlink(&found) > 1) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the file has a second name (a hard link)"));
    }
    let open = || OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    let mut file = open()?;
    for _ in 0..TRIES {
        match try_lock(&file) {
            Ok(()) if is_gone(&file, path) => file = open()?,
            Ok(()) => return Ok(Attempt::Held(Lock::held(file, path))),
            Err(TryLockError::WouldBlock) => {
                if let Some(holder) = Holder::read(path) {
                    return Ok(Attempt::Taken(holder));
                }
                // The holder is about to write its line; or it has ended, and a process that it started has its handle
                // until it executes its own program.
                thread::sleep(Duration::from_millis(10));
                file = open()?;
            }
            Err(TryLockError::Error(error)) => {
                terminal::warning(&format!(
                    "cannot lock {}: {error}; on a file system without locks, run one process at a time there",
                    path.display()
                ));
                return Ok(Attempt::Held(Lock::held(file, path)));
            }
        }
    }
    Ok(Attempt::Taken(Holder("another process".to_owned())))
}

/// Whether the previous holder removed the file after it was opened here: locking it would have no effect.
fn is_gone(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let id = |found: fs::Metadata| (found.dev(), found.ino());
        file.metadata().ok().map(id) != fs::metadata(path).ok().map(id)
    }
    #[cfg(not(unix))]
    {
        let _ = (file, path);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(attempt: io::Result<Attempt>) -> Lock {
        match attempt.unwrap() {
            Attempt::Held(lock) => lock,
            Attempt::Taken(holder) => panic!("held by {holder}"),
        }
    }

    #[test]
    fn a_lock_is_held_by_one_that_is_named_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(LOCK_FILE);
        let first = held(Lock::attempt(&path));
        let Attempt::Taken(holder) = Lock::attempt(&path).unwrap() else { panic!("it is held twice") };
        let named = format!("process {} ", std::process::id());
        assert!(holder.to_string().starts_with(&named) && holder.to_string().ends_with(" UTC"), "{holder}");
        assert!(Lock::wait(&path, |_| false).unwrap().is_none());
        assert_eq!(first.lost_to(), None);
        drop(first);
        assert_eq!(fs::read(&path).unwrap(), b"");
        held(Lock::attempt(&path));
    }

    #[test]
    fn who_waits_gets_the_lock_when_it_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(LOCK_FILE);
        let mut first = Some(held(Lock::attempt(&path)));
        let second = Lock::wait(&path, |_| first.take().is_some()).unwrap();
        assert!(second.is_some_and(|lock| lock.lost_to().is_none()));
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_goes_with_its_lock_keeps_everybody_out_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(LOCK_FILE);
        let first = held(Lock::attempt(&path)).removed_at_the_end();
        // Opened before it is removed, locked after that.
        let mut first = Some(first);
        let late = |file: &File| {
            drop(first.take());
            file.try_lock()
        };
        let late = std::cell::RefCell::new(late);
        let second = held(attempt_on(&|file: &File| (late.borrow_mut())(file), &path));
        assert!(path.is_file(), "the lock that is held is of the file that is there");
        assert!(matches!(Lock::attempt(&path).unwrap(), Attempt::Taken(_)));
        drop(second.removed_at_the_end());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_line_of_a_process_that_was_killed_is_not_ours() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(LOCK_FILE);
        fs::write(&path, "process 1 on elsewhere, since ever, and a longer line than any that follows it".repeat(3))
            .unwrap();
        let lock = held(Lock::attempt(&path));
        assert_eq!(lock.lost_to(), None);
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", lock.holder.as_ref().unwrap()));
    }

    #[test]
    fn without_locks_the_first_notices_that_a_second_has_taken_over() {
        let no_locks = |_: &File| Err(TryLockError::Error(io::ErrorKind::Unsupported.into()));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(LOCK_FILE);
        let first = held(attempt_on(&no_locks, &path));
        assert_eq!(first.lost_to(), None);
        thread::sleep(Duration::from_millis(2));
        let second = held(attempt_on(&no_locks, &path));
        assert_eq!(first.lost_to(), second.holder);
        drop(first);
        assert_eq!(second.lost_to(), None, "the first leaves the line of the second");
        assert!(Holder::read(&path).is_some());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_not_written_through() {
        let folder = tempfile::tempdir().unwrap();
        let (path, own) = (folder.path().join(LOCK_FILE), folder.path().join("own"));
        fs::write(&own, "kept").unwrap();
        type Link = fn(&Path, &Path) -> io::Result<()>;
        let links: [Link; 2] =
            [|own, path| std::os::unix::fs::symlink(own, path), |own, path| fs::hard_link(own, path)];
        for link in links {
            link(&own, &path).unwrap();
            assert!(Lock::attempt(&path).is_err());
            assert_eq!(fs::read_to_string(&own).unwrap(), "kept");
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn the_line_of_a_stranger_is_shown_in_one_short_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(LOCK_FILE);
        fs::write(&path, format!("a\n\u{1b}[2J{}", "x".repeat(5000))).unwrap();
        let text = Holder::read(&path).unwrap().to_string();
        assert!(text.starts_with("a\\n\\u{1b}[2Jxx") && text.chars().count() == 200, "{text}");
    }
}
