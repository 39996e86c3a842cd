//! Where the content of an image lies in the files of a data set.

use bytemuck::{Pod, Zeroable};

use base::digest::Hasher;

/// How a block of a shard is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Codec {
    None = 0,
    Snappy = 1,
    Gzip = 2,
    Zstd = 3,
    /// Elements of a snappy stream that copy from nothing before them; the length in front is not among them.
    SnappyPart = 4,
}

impl Codec {
    pub const ALL: [Self; 5] = [Self::None, Self::Snappy, Self::Gzip, Self::Zstd, Self::SnappyPart];

    pub fn of(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| *codec as u32 == code)
    }
}

/// An image as a part of a block of a shard. Of a tar file, and of a page of Parquet that is not packed, the block is the
/// image itself; else it is the page that has to be unpacked.
///
/// Little-endian on the disk, where an index has one of these for each image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Place {
    /// Where the block begins in its shard, in bytes.
    pub block: u64,
    /// The number of the shard.
    pub shard: u32,
    /// Bytes of the block in the shard.
    pub block_bytes: u32,
    /// Bytes of the block when it is unpacked.
    pub unpacked_bytes: u32,
    /// Where the image begins in the unpacked block, in bytes.
    pub offset: u32,
    /// Bytes of the image.
    pub bytes: u32,
    /// A [`Codec`].
    pub codec: u32,
    /// SHA-256 of the image.
    pub digest: [u8; 32],
}

impl Place {
    /// Of an image that is a block of the first shard, without its digest.
    pub(crate) fn plain(block: u64, bytes: u32) -> Self {
        Self {
            block,
            shard: 0,
            block_bytes: bytes,
            unpacked_bytes: bytes,
            offset: 0,
            bytes,
            codec: Codec::None as u32,
            digest: [0; 32],
        }
    }
}

/// The SHA-256 of an image.
pub fn digest_of(image: &[u8]) -> [u8; 32] {
    let mut hasher = Hasher::new();
    hasher.update(image);
    hasher.finish_bytes()
}
