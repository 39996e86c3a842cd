//! Checks before the first write into a folder that the user named: nothing that this program did not write is replaced
//! or removed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Files that systems put into folders. They do not count as the user's, and are never touched.
const OF_SYSTEMS: [&str; 5] = [".DS_Store", ".gitkeep", "Thumbs.db", "desktop.ini", "lost+found"];

/// The first entry by name of `folder` that belongs to the user: not put there by the system, and not `ours`, which
/// gets its path. `None` also if the folder does not exist.
///
/// # Errors
/// A folder that cannot be listed, a file in its place, or a dangling link.
pub fn users_own(folder: &Path, ours: impl Fn(&Path) -> bool) -> io::Result<Option<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound && !folder.is_symlink() => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<PathBuf>>>()?;
    paths.retain(|path| {
        let name = path.file_name().unwrap_or_default();
        !OF_SYSTEMS.iter().any(|of_system| name == *of_system) && !ours(path)
    });
    Ok(paths.into_iter().min())
}

/// Whether a file may be renamed to `path`, assuming that what is there is ours: nothing, or a regular file. A link is
/// the user's.
pub fn is_free_or_file(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(metadata.is_file()),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Refuses to write through a link, whose target may be the user's, and to anything that is not a file.
pub fn refuse_link(path: &Path) -> io::Result<()> {
    if is_free_or_file(path)? {
        return Ok(());
    }
    Err(io::Error::new(ErrorKind::InvalidInput, "expected a file, found a link or something else"))
}

/// Opens one of our files for appending and creates it if needed; refuses links as [`refuse_link`].
pub fn open_to_append(path: &Path) -> io::Result<File> {
    refuse_link(path)?;
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_folder_and_one_with_what_systems_leave_are_not_ours() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(users_own(&folder.path().join("absent"), |_| false).unwrap(), None);
        fs::create_dir(folder.path().join("lost+found")).unwrap();
        fs::write(folder.path().join(".DS_Store"), "x").unwrap();
        assert_eq!(users_own(folder.path(), |_| false).unwrap(), None);
        for name in ["b.txt", "a.txt"] {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        assert_eq!(users_own(folder.path(), |_| false).unwrap(), Some(folder.path().join("a.txt")));
        let ours = |path: &Path| path.ends_with("a.txt");
        assert_eq!(users_own(folder.path(), ours).unwrap(), Some(folder.path().join("b.txt")));
    }

    #[test]
    fn a_file_in_place_of_a_folder_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(users_own(file.path(), |_| true).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_the_users_wherever_it_leads() {
        let folder = tempfile::tempdir().unwrap();
        let (link, file) = (folder.path().join("link"), folder.path().join("file"));
        std::os::unix::fs::symlink("absent", &link).unwrap();
        assert!(users_own(&link, |_| true).is_err());
        assert!(!is_free_or_file(&link).unwrap());
        assert!(is_free_or_file(&file).unwrap());
        fs::write(&file, "x").unwrap();
        assert!(is_free_or_file(&file).unwrap() && !is_free_or_file(folder.path()).unwrap());
        open_to_append(&file).unwrap();
        for path in [&link, &folder.path().to_owned()] {
            assert!(open_to_append(path).is_err(), "{}", path.display());
        }
    }
}
