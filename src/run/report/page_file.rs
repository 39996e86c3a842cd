//! The file of a page: it replaces an earlier one, and nothing else.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use base::error::{WithHint as _, failure};
use base::{atomic_file, bounded_file};

/// Writes a page into a file.
///
/// # Errors
/// A file that cannot be written.
pub(crate) fn write_page(path: &Path, page: &str) -> Result<()> {
    atomic_file::write(path, page.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))
        .hint(|| "free some disk space, or choose another file with --output")
}

/// Checks that nothing is at `path` but an earlier page, which `is_ours` recognizes by its head; `what` it is called.
///
/// # Errors
/// Anything else at `path`.
pub(crate) fn check_free(path: &Path, what: &str, is_ours: impl Fn(&str) -> bool) -> Result<()> {
    /// Bytes with the end of the page's head; the style that comes last in it is longer.
    const HEAD: u64 = 1 << 14;
    let is_page = || {
        let head = bounded_file::read_start(path, HEAD);
        head.is_ok_and(|bytes| bytes.is_empty() || is_ours(&String::from_utf8_lossy(&bytes)))
    };
    if fs::symlink_metadata(path).is_ok_and(|there| !there.is_file() || !is_page()) {
        return Err(failure(
            format!("{} exists and is not {what}: it would be replaced", path.display()),
            "move it away, or choose another file with --output",
        ));
    }
    Ok(())
}
