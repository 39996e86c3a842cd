//! Files that a preparation writes.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use anyhow::Context as _;

use base::atomic_file;
use base::bounded_file;
use base::fault::WithHint as _;

/// Writes `bytes` to `path` unless they are there already; gives whether it wrote.
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
            "free some space and run the same command again: it goes on where it stopped"
        }
        Some(ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => "choose a folder that may be written",
        _ => "check that the path names a folder that may be written",
    })
}
