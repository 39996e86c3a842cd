//! Free disk space.

use std::path::Path;

/// Bytes that this process may still write at `path`; `None` if unknown.
pub fn free_bytes(path: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let status = rustix::fs::statvfs(path).ok()?;
        status.f_bavail.checked_mul(status.f_frsize)
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        None
    }
}

/// The folder itself, or its nearest ancestor that exists.
pub fn nearest_folder(folder: &Path) -> &Path {
    let found = folder.ancestors().find(|folder| folder.is_dir());
    found.filter(|found| !found.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether two folders are on the same file system; `false` if unknown.
pub fn share_room(one: &Path, other: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let device = |path: &Path| std::fs::metadata(path).map(|found| found.dev()).ok();
        device(one).is_some_and(|found| device(other) == Some(found))
    }
    #[cfg(not(unix))]
    {
        let _ = (one, other);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_there_yet_has_the_room_of_the_one_around_it() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(nearest_folder(&folder.path().join("a/b")), folder.path());
        assert_eq!(nearest_folder(Path::new("no such folder/a")), Path::new("."));
        assert!(share_room(folder.path(), folder.path()));
        assert!(!share_room(folder.path(), &folder.path().join("a")));
    }

    #[test]
    fn a_folder_has_room_and_a_missing_one_has_no_answer() {
        let folder = tempfile::tempdir().unwrap();
        assert!(free_bytes(folder.path()).unwrap() > 0);
        assert_eq!(free_bytes(&folder.path().join("absent")), None);
    }
}
