//! Files for readers that need a path: in memory if the system has such a folder, one folder per thread.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// Where Linux keeps files in memory.
const IN_MEMORY: &str = "/dev/shm";

thread_local! {
    static FOLDER: TempDir = {
        // TMPDIR takes precedence; scripts/fuzz.sh sets it to a folder that it removes.
        let parent = if std::env::var_os("TMPDIR").is_none() && Path::new(IN_MEMORY).is_dir() {
            PathBuf::from(IN_MEMORY)
        } else {
            std::env::temp_dir()
        };
        tempfile::Builder::new().prefix("caption-train-fuzz-").tempdir_in(parent).expect("a scratch folder can be made")
    };
}

/// The folder of this name, which exists as long as the thread.
pub fn folder(name: &str) -> PathBuf {
    let folder = FOLDER.with(|folder| folder.path().join(name));
    if !folder.is_dir() {
        fs::create_dir_all(&folder).expect("a scratch folder can be made");
    }
    folder
}

/// Writes a scratch file.
pub fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("a scratch file can be written");
}

/// Removes what is at `path`, if anything is.
pub fn remove(path: &Path) {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    assert!(removed.is_ok() || fs::symlink_metadata(path).is_err(), "{} can be removed", path.display());
}
