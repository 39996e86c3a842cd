//! Where the content of an image lies in the files of a data set.

use bytemuck::{Pod, Zeroable};

/// How a block of a shard is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Codec {
    None = 0,
    Snappy = 1,
    Gzip = 2,
    Zstd = 3,
}

impl Codec {
    pub const ALL: [Self; 4] = [Self::None, Self::Snappy, Self::Gzip, Self::Zstd];

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
    /// Bytes of memory that reading it takes.
    pub fn memory(&self) -> u64 {
        let is_packed = self.codec != Codec::None as u32;
        u64::from(self.bytes) + if is_packed { u64::from(self.block_bytes) + u64::from(self.unpacked_bytes) } else { 0 }
    }
}
