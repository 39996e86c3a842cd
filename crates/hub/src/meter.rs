//! How far a download or an upload is, shown when it is a large one.

use base::terminal::{Progress, message};

/// What has fewer bytes shows no progress.
const WORTH_SHOWING: u64 = 1_000_000;

/// What is shown of one file under way.
pub(super) struct Meter {
    title: String,
    total: u64,
    done: u64,
    bar: Progress,
}

impl Meter {
    /// Announces a download of `total` bytes, `done` of which are there; `None` when it is not worth showing.
    pub(super) fn start(title: &str, total: u64, done: u64) -> Option<Self> {
        Self::begin("downloading", title, total, done)
    }

    /// As [`Meter::start`], for an upload.
    pub(super) fn start_upload(title: &str, total: u64) -> Option<Self> {
        Self::begin("uploading", title, total, 0)
    }

    fn begin(doing: &str, title: &str, total: u64, done: u64) -> Option<Self> {
        if total < WORTH_SHOWING {
            return None;
        }
        let megabytes = |bytes: u64| bytes / 1_000_000;
        let there = if done > 0 { format!(", {} MB of them are there", megabytes(done)) } else { String::new() };
        message(&format!("{doing} {title} ({} MB{there})", megabytes(total)));
        Some(Self { title: title.to_owned(), total, done, bar: Progress::new(title, total, done) })
    }

    /// `bytes` of it are there. Fewer than before change nothing.
    pub(super) fn reach(&mut self, bytes: u64) {
        self.bar.advance(bytes.saturating_sub(self.done), "bytes");
        self.done = bytes.max(self.done);
    }

    /// Nothing of it is there any more.
    pub(super) fn rewind(&mut self) {
        self.done = 0;
        self.bar = Progress::new(&self.title, self.total, 0);
    }
}
