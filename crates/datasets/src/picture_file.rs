//! A picture of a data set where it lies: in a file of its own, or in a shard.

use std::fmt::{self, Display};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;

use crate::shards::place::Place;
use crate::shards::read::ShardReader;
use base::digest;
use pixels::image_file::budget::budgets;
use pixels::image_file::{self, Picture};

/// Where a picture lies. It is read when it is asked for.
#[derive(Clone, Debug)]
pub enum PictureFile {
    File(PathBuf),
    Shard { reader: Arc<ShardReader>, place: Place, name: String },
}

impl From<PathBuf> for PictureFile {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

/// The path of a file; of a picture in a shard its name and the shard.
impl Display for PictureFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(formatter),
            Self::Shard { name, .. } => write!(formatter, "{name} in {}", self.path().display()),
        }
    }
}

impl PictureFile {
    /// The file that has it: its own, or its shard.
    pub fn path(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Shard { reader, place, .. } => reader.path(place),
        }
    }

    /// Whether there is a file; a shard was there when it was opened.
    pub fn is_there(&self) -> bool {
        match self {
            Self::File(path) => path.is_file(),
            Self::Shard { .. } => true,
        }
    }

    /// Its pixels, as [`image_file::load_rgb`] has them.
    ///
    /// # Errors
    /// What cannot be read or decoded; a shard that was changed since it was indexed.
    pub fn load_rgb(&self) -> anyhow::Result<Picture> {
        match self {
            Self::File(path) => image_file::load_rgb(path),
            Self::Shard { reader, place, .. } => {
                let load = || {
                    let bytes = reader.read(place)?;
                    // Not before: to unpack it, the reader takes a share itself.
                    let _share =
                        budgets().files.take(place.bytes.into(), || format!("its {} bytes take", place.bytes))?;
                    image_file::decode_rgb(&bytes)
                };
                load().with_context(|| format!("cannot read image {self}"))
            }
        }
    }

    /// [`Self::load_rgb`] of a picture that must have this SHA-256.
    pub fn load_known_rgb(&self, digest: &[u8; 32]) -> anyhow::Result<Picture> {
        match self {
            Self::File(path) => image_file::load_known_rgb(path, digest),
            // Whatever is read of a shard is held against the digest in the index.
            Self::Shard { .. } => self.load_rgb(),
        }
    }

    /// The SHA-256 of its content; that of a picture in a shard is known.
    pub fn digest(&self) -> anyhow::Result<[u8; 32]> {
        match self {
            Self::File(path) => {
                let hasher =
                    digest::hash_file(path).with_context(|| format!("cannot read image {}", path.display()))?;
                Ok(hasher.finish_bytes())
            }
            Self::Shard { place, .. } => Ok(place.digest),
        }
    }
}
