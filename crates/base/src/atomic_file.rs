//! Atomic file writes, the only way to a final file name: a temporary file in the same folder is synced, then renamed.
//!
//! A reader sees the old content or the new one, never a part; a crash leaves at most a file that ends in
//! [`TEMPORARY_SUFFIX`].

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::bounded_file;

/// How the name of an unfinished file ends.
pub const TEMPORARY_SUFFIX: &str = ".partial";

/// Further names to try for an unfinished file.
const MAX_TEMPORARY_NAMES: u32 = 999;

/// Writes `path` atomically; `fill` writes the content.
///
/// # Errors
/// Errors of `fill`, the file system or a sync. Unless the sync of the folder failed, which comes last, an existing
/// file at `path` is untouched; the temporary file is removed.
pub fn write_with<E: From<io::Error>>(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> Result<(), E>,
) -> Result<(), E> {
    write_on(&Disk, path, fill)
}

/// Writes `bytes` to `path` atomically. Errors as for [`write_with`].
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_with(path, |file| file.write_all(bytes))
}

/// Writes one of many files, atomically as long as the machine runs. It is certain to survive a power failure only
/// after [`sync_file_system`]: syncing each file takes longer than writing them all. Errors as for [`write_with`].
pub fn write_one_of_many(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_on(&SyncedTogether, path, |file| file.write_all(bytes))
}

/// Waits until everything written to the file system of `folder` is on its disk; also reports earlier failures to
/// write.
pub fn sync_file_system(folder: &Path) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    return Ok(rustix::fs::syncfs(File::open(folder)?)?);
    #[cfg(not(target_os = "linux"))]
    return File::open(folder).map(drop);
}

/// Copies the file `from` to `to` atomically.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    write_with(to, |file| io::copy(&mut bounded_file::open(from)?, file).map(|_| ()))
}

/// Gives the file `from` its final name `to` in the same folder, for a content that was written over several starts of
/// the program and has been checked.
///
/// # Errors
/// Errors of the file system or a sync. Unless the sync of the folder failed, which comes last, an existing file at
/// `to` is untouched and `from` is still there.
pub fn finish(from: &Path, to: &Path) -> io::Result<()> {
    let system = Disk;
    // Some systems sync only what was opened for writing.
    system.sync(&OpenOptions::new().append(true).open(from)?)?;
    system.rename(from, to)?;
    system.sync_folder(to)
}

/// Gives the file `from` the second name `to`: a hard link if the file system has them, else a copy.
pub fn link_or_copy(from: &Path, to: &Path) -> io::Result<()> {
    link_or_copy_on(&Disk, from, to)
}

fn link_or_copy_on(system: &impl FileSystem, from: &Path, to: &Path) -> io::Result<()> {
    let temporary = temporary_name(to, 0)?;
    match system.hard_link(from, &temporary) {
        Ok(()) => {
            let renamed = system.rename(&temporary, to).and_then(|()| system.sync_folder(to));
            // It is still there if the rename failed, or if both names were links to the same file.
            let _ = fs::remove_file(&temporary);
            renamed
        }
        Err(_) => write_on(system, to, |file| io::copy(&mut bounded_file::open(from)?, file).map(|_| ())),
    }
}

/// The system calls of the writer, so that tests can let each of them fail.
trait FileSystem {
    fn create(&self, path: &Path) -> io::Result<File>;
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn sync(&self, file: &File) -> io::Result<()>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
}

struct Disk;

impl FileSystem for Disk {
    fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).open(path)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        sync_folder(path)
    }
}

/// A disk whose files are synced together at the end, if the system can do that.
struct SyncedTogether;

impl FileSystem for SyncedTogether {
    fn create(&self, path: &Path) -> io::Result<File> {
        Disk.create(path)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        Disk.hard_link(from, to)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        if cfg!(target_os = "linux") { Ok(()) } else { Disk.sync(file) }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Disk.rename(from, to)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        if cfg!(target_os = "linux") { Ok(()) } else { Disk.sync_folder(path) }
    }
}

fn write_on<E: From<io::Error>>(
    system: &impl FileSystem,
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> Result<(), E>,
) -> Result<(), E> {
    let (temporary, file) = create_temporary(system, path)?;
    let result = write_and_rename(system, path, &temporary, file, fill);
    if result.is_err() {
        // The first error is the one to report; a file that cannot be removed is harmless.
        let _ = fs::remove_file(&temporary);
    }
    result
}

/// A file with an unused name: a link, another program's file, or one left by a process with the same number may be
/// there.
fn create_temporary(system: &impl FileSystem, path: &Path) -> io::Result<(PathBuf, File)> {
    let mut number = 0;
    loop {
        let temporary = temporary_name(path, number)?;
        match system.create(&temporary) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < MAX_TEMPORARY_NAMES => number += 1,
            created => return created.map(|file| (temporary, file)),
        }
    }
}

fn write_and_rename<E: From<io::Error>>(
    system: &impl FileSystem,
    path: &Path,
    temporary: &Path,
    file: File,
    fill: impl FnOnce(&mut BufWriter<File>) -> Result<(), E>,
) -> Result<(), E> {
    let mut writer = BufWriter::with_capacity(1 << 20, file);
    fill(&mut writer)?;
    let file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
    system.sync(&file)?;
    drop(file);
    system.rename(temporary, path)?;
    system.sync_folder(path)?;
    Ok(())
}

/// The name of the unfinished file for `path`; `number` counts tries.
fn temporary_name(path: &Path, number: u32) -> io::Result<PathBuf> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("{} is not a file name", path.display())))?;
    let mut temporary = name.to_os_string();
    let number = if number == 0 { String::new() } else { format!("{number:04}") };
    temporary.push(format!(".{}{number}{TEMPORARY_SUFFIX}", std::process::id()));
    Ok(path.with_file_name(temporary))
}

/// The final name of the unfinished file `name`; `None` if it is not an unfinished file.
pub fn final_name(name: &str) -> Option<&str> {
    let (name, process) = name.strip_suffix(TEMPORARY_SUFFIX)?.rsplit_once('.')?;
    let is_number = !process.is_empty() && process.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && !name.is_empty()).then_some(name)
}

/// A rename survives a power failure only when its folder is synced too.
fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder_of(path))?.sync_all() } else { Ok(()) }
}

/// The folder of a file; the current one where its path names none.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_content_and_no_temporary_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.json");
        write(&path, b"old").unwrap();
        let failed = write_with(&path, |file| {
            file.write_all(b"half of the new")?;
            Err(io::Error::other("the disk is full"))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    /// A file system on which one call fails.
    struct Broken(&'static str);

    impl Broken {
        fn unless_broken<T>(&self, what: &str, then: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
            if self.0 == what { Err(io::Error::from_raw_os_error(5)) } else { then() }
        }
    }

    impl FileSystem for Broken {
        fn create(&self, path: &Path) -> io::Result<File> {
            self.unless_broken("create", || Disk.create(path))
        }

        fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
            self.unless_broken("hard_link", || Disk.hard_link(from, to))
        }

        fn sync(&self, file: &File) -> io::Result<()> {
            self.unless_broken("sync", || Disk.sync(file))
        }

        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            self.unless_broken("rename", || Disk.rename(from, to))
        }

        fn sync_folder(&self, path: &Path) -> io::Result<()> {
            self.unless_broken("sync_folder", || Disk.sync_folder(path))
        }
    }

    #[test]
    fn whatever_fails_the_file_is_old_or_new_and_the_failure_is_reported() {
        for (broken, left) in [("create", "old"), ("sync", "old"), ("rename", "old"), ("sync_folder", "new")] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("file.json");
            write(&path, b"old").unwrap();
            let written = write_on(&Broken(broken), &path, |file| file.write_all(b"new"));
            assert_eq!(written.unwrap_err().raw_os_error(), Some(5), "{broken}");
            assert_eq!(fs::read_to_string(&path).unwrap(), left, "{broken}");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "{broken} leaves a temporary file");
        }
    }

    #[test]
    fn an_unfinished_file_is_distinguished_from_one_of_the_user() {
        for number in [0, 1, 999] {
            let temporary = temporary_name(Path::new("folder/file.json"), number).unwrap();
            assert_eq!(final_name(temporary.file_name().unwrap().to_str().unwrap()), Some("file.json"));
        }
        for name in ["notes.partial", "notes.1.part", ".1.partial", "notes.1a.partial", "notes..partial", "file.json"] {
            assert_eq!(final_name(name), None, "{name}");
        }
    }

    #[test]
    fn a_second_name_keeps_what_the_first_one_held() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("first"), folder.path().join("second"));
        write(&first, b"one").unwrap();
        for _ in 0..2 {
            link_or_copy(&first, &second).unwrap();
        }
        write(&first, b"two").unwrap();
        assert_eq!(fs::read(&second).unwrap(), b"one");
        link_or_copy(&first, &second).unwrap();
        assert_eq!(fs::read(&second).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        assert!(link_or_copy(&folder.path().join("absent"), &second).is_err());
    }

    #[test]
    fn a_second_name_is_old_or_new_and_a_failure_is_reported_and_without_links_it_is_a_copy() {
        for (broken, left, fails) in
            [("rename", "old", true), ("sync_folder", "new", true), ("hard_link", "new", false), ("", "new", false)]
        {
            let folder = tempfile::tempdir().unwrap();
            let (first, second) = (folder.path().join("first"), folder.path().join("second"));
            write(&first, b"new").unwrap();
            write(&second, b"old").unwrap();
            let linked = link_or_copy_on(&Broken(broken), &first, &second);
            assert_eq!(linked.is_err(), fails, "{broken}");
            assert_eq!(fs::read_to_string(&second).unwrap(), left, "{broken}");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "{broken} leaves a temporary file");
        }
    }

    #[test]
    fn what_has_the_name_of_an_unfinished_file_is_neither_replaced_nor_written_through() {
        let folder = tempfile::tempdir().unwrap();
        let (path, own) = (folder.path().join("file.json"), folder.path().join("own"));
        write(&own, b"mine").unwrap();
        fs::hard_link(&own, temporary_name(&path, 0).unwrap()).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(&own, temporary_name(&path, 1).unwrap()).unwrap();
        write(&path, b"new").unwrap();
        link_or_copy(&path, &folder.path().join("second")).unwrap();
        assert_eq!((fs::read(&own).unwrap(), fs::read(&path).unwrap()), (b"mine".to_vec(), b"new".to_vec()));
        assert!(path.symlink_metadata().unwrap().is_file() && temporary_name(&path, 0).unwrap().exists());
    }

    #[test]
    fn a_write_replaces_the_old_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.json");
        write(&path, b"a longer old text").unwrap();
        write(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn a_finished_file_takes_its_name_from_the_one_that_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("file.incomplete"), folder.path().join("file"));
        write(&to, b"old").unwrap();
        assert!(finish(&from, &to).is_err());
        assert_eq!(fs::read(&to).unwrap(), b"old");
        write(&from, b"new").unwrap();
        finish(&from, &to).unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn many_files_are_written_and_synced_together() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..3 {
            write_one_of_many(&folder.path().join(number.to_string()), b"x").unwrap();
        }
        sync_file_system(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
        assert!(sync_file_system(&folder.path().join("absent")).is_err());
    }

    #[test]
    fn a_missing_folder_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(write(&folder.path().join("absent/file"), b"x").is_err());
    }
}
