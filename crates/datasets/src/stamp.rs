//! Whether a file may have changed since it was looked at.

use std::fs::{self, Metadata};
use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// What shows whether a file may have changed, without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub bytes: u64,
    /// When its content was last changed, in nanoseconds since 1970; 0 where the system does not say.
    pub modified: i64,
    /// When it was last written, renamed or given other rights, which no program can set as it likes; 0 where the
    /// system does not say. An archive that is unpacked over older files brings the times of contents along.
    pub touched: i64,
}

impl Stamp {
    pub fn of(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|metadata| Self::from(&metadata))
    }
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        let modified = metadata.modified().map_or(0, nanoseconds);
        Self { bytes: metadata.len(), modified, touched: touched(metadata) }
    }
}

#[cfg(unix)]
fn touched(metadata: &Metadata) -> i64 {
    use std::os::unix::fs::MetadataExt as _;

    metadata.ctime().saturating_mul(1_000_000_000).saturating_add(metadata.ctime_nsec())
}

#[cfg(not(unix))]
fn touched(_: &Metadata) -> i64 {
    0
}

/// Since 1970; 0 for a time before.
pub(crate) fn nanoseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).ok();
    since.and_then(|since| i64::try_from(since.as_nanos()).ok()).unwrap_or(0)
}
