//! `source.json`: all files of the source as they were when a data set was prepared from it, so that a later change is
//! noticed by sizes and times, without reading 100,000 images again.

use std::collections::HashMap;
use std::fs;
use std::io::{self, BufReader, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::output::write::explain_write;
use crate::prepared::RECORD_FILE;
use crate::source::{Listing, Source, Stamp, is_archive_name, is_packed_name, is_parquet_name};
use base::{atomic_file, bounded_file};

const FORMAT_VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SourceRecord {
    format_version: u32,
    /// SHA-256 of the `dataset.json` that it belongs to.
    dataset_sha256: String,
    /// Where the source was.
    pub(crate) path: String,
    /// All its files and archives.
    pub(crate) files: Vec<FileRecord>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileRecord {
    pub(crate) path: String,
    bytes: u64,
    /// In nanoseconds since 1970; 0 if the time does not show whether the file was changed since.
    modified: i64,
    touched: i64,
    #[serde(rename = "use")]
    pub(crate) used: Use,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Use {
    /// It was read: its SHA-256.
    Read(String),
    /// It was looked into or weighed against others, and nothing of it is in the data set: its SHA-256.
    Weighed(String),
    /// It was looked into, or changed while it was read: its content is not known.
    Seen,
    /// It could not be read, and was left out.
    Unreadable,
    /// Nothing.
    Unused,
}

impl FileRecord {
    /// Whether size and time are those that were recorded.
    pub(crate) fn has(&self, stamp: Stamp) -> bool {
        self.has_size(stamp) && self.modified != 0 && (self.modified, self.touched) == (stamp.modified, stamp.touched)
    }

    /// [`FileRecord::has`] for a file whose owner, rights and links may have changed.
    pub(crate) fn has_size_and_time(&self, stamp: Stamp) -> bool {
        self.has_size(stamp) && self.modified == stamp.modified
    }

    /// Whether the size is the one that was recorded.
    pub(crate) fn has_size(&self, stamp: Stamp) -> bool {
        self.bytes == stamp.bytes
    }
}

impl SourceRecord {
    /// The record of the source at `path`, which was listed before it was read. `uses` lists files by their paths;
    /// an archive or Parquet file that it does not list was looked into.
    pub(crate) fn new(path: &Path, source: &Source, mut uses: HashMap<&str, Use>) -> Self {
        let record = |(path, stamp): (&str, Stamp)| {
            let is_opened = is_archive_name(path) || is_packed_name(path) || is_parquet_name(path);
            let otherwise = if is_opened { Use::Seen } else { Use::Unused };
            let used = uses.remove(path).unwrap_or(otherwise);
            let is_read = matches!(used, Use::Read(_) | Use::Weighed(_));
            FileRecord {
                path: path.to_owned(),
                bytes: stamp.bytes,
                modified: if is_read { settled_time(stamp, source.listed_at()) } else { stamp.modified },
                touched: stamp.touched,
                used,
            }
        };
        let files = source.on_disk().map(record).collect();
        Self { format_version: FORMAT_VERSION, dataset_sha256: String::new(), path: place_of(path), files }
    }

    /// The record in `directory` of the data set whose `dataset.json` has this SHA-256; `None` where there is none that
    /// can be used: an earlier release wrote none.
    pub(crate) fn read(directory: &Path, dataset_sha256: &str) -> Option<Self> {
        let file = bounded_file::open(&directory.join(RECORD_FILE)).ok()?;
        let record: Self = serde_json::from_reader(BufReader::new(file)).ok()?;
        (record.format_version == FORMAT_VERSION && record.dataset_sha256 == dataset_sha256).then_some(record)
    }

    /// Writes it for the data set whose `dataset.json` has this SHA-256.
    pub(crate) fn write(mut self, directory: &Path, dataset_sha256: &str) -> anyhow::Result<()> {
        dataset_sha256.clone_into(&mut self.dataset_sha256);
        self.save(directory)
    }

    /// Takes over the times of files whose contents have turned out to be the same. A folder that cannot be written
    /// keeps the old record, which is as true.
    pub(crate) fn refresh(mut self, directory: &Path, listing: &Listing) {
        let stamps: HashMap<&str, Stamp> = listing.all().map(|file| (file.path.as_str(), file.stamp)).collect();
        for file in self.files.iter_mut().filter(|file| matches!(file.used, Use::Read(_) | Use::Weighed(_))) {
            if let Some(stamp) = stamps.get(file.path.as_str()) {
                (file.modified, file.touched) = (settled_time(*stamp, listing.taken), stamp.touched);
            }
        }
        let _ = self.save(directory);
    }

    fn save(&self, directory: &Path) -> anyhow::Result<()> {
        let path = directory.join(RECORD_FILE);
        let written = atomic_file::write_with(&path, |file| -> io::Result<()> {
            serde_json::to_writer(&mut *file, self)?;
            file.write_all(b"\n")
        });
        explain_write(written, &path)
    }
}

/// The place of a source, whichever way it is called.
pub(crate) fn place_of(path: &Path) -> String {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()).to_string_lossy().into_owned()
}

/// The time of a file; 0 where it lies so close to that of the listing that a later change may get the same: some file
/// systems count in steps of two seconds.
fn settled_time(stamp: Stamp, listed_at: i64) -> i64 {
    const STEP: i64 = 2_000_000_000;
    if stamp.modified.max(stamp.touched).saturating_add(STEP) > listed_at { 0 } else { stamp.modified }
}
