//! `shards.json` of a data set that is trained on where it lies: which shards its index is about, and how they were.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::shards::read::Shard;
use base::bounded_file::{self, MAX_CAPTIONS_BYTES};
use base::error::{WithHint as _, failure};

/// The file in the folder of the data set.
pub const SHARDS_FILE: &str = "shards.json";
const FORMAT_VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardsFile {
    format_version: u32,
    /// SHA-256 of the index that it belongs to.
    pub index_sha256: String,
    /// In the order in which places count them.
    pub shards: Vec<IndexedShard>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexedShard {
    /// What its images are called by: they are `NAME/MEMBER`.
    pub name: String,
    /// Images of it that are in the index.
    pub images: usize,
    #[serde(flatten)]
    pub shard: Shard,
}

impl ShardsFile {
    pub fn new(index_sha256: String, shards: Vec<IndexedShard>) -> Self {
        Self { format_version: FORMAT_VERSION, index_sha256, shards }
    }

    /// That of the data set in `directory`; `None` where there is none.
    ///
    /// # Errors
    /// A file that cannot be read, or that another version of the program wrote.
    pub fn read(directory: &Path) -> anyhow::Result<Option<Self>> {
        let path = directory.join(SHARDS_FILE);
        let cannot = || format!("cannot use {}", path.display());
        let bytes = match bounded_file::read(&path, MAX_CAPTIONS_BYTES) {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
            read => read.with_context(cannot)?,
        };
        let file: Self = serde_json::from_slice(&bytes).with_context(cannot).hint(|| "prepare the data again")?;
        if file.format_version != FORMAT_VERSION {
            let message = format!("expected format_version {FORMAT_VERSION}, found {}", file.format_version);
            return Err(failure(message, "prepare the data again with this version of the program"))
                .with_context(cannot);
        }
        Ok(Some(file))
    }

    /// Its text.
    pub fn write(&self, output: &mut impl io::Write) -> io::Result<()> {
        serde_json::to_writer(&mut *output, self)?;
        output.write_all(b"\n")
    }

    /// Whether `directory` has one.
    pub fn is_in(directory: &Path) -> bool {
        fs::symlink_metadata(directory.join(SHARDS_FILE)).is_ok()
    }
}
