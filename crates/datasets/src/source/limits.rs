//! What archives of unknown origin may hold.

use std::io::{self, Read};

use crate::prepared::is_safe_relative;
use pixels::picture_formats::format_of_name;

/// What an archive may hold at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Number of members.
    pub num_members: usize,
    /// Bytes of an image.
    pub image_bytes: u64,
    /// Bytes of any other member, uncompressed.
    pub text_bytes: u64,
    /// Bytes of all members, uncompressed.
    pub total_bytes: u64,
    /// Uncompressed bytes for each compressed one, in a member of more than a mebibyte.
    pub ratio: u64,
}

impl Limits {
    /// Three times the largest in use (COCO 2017: 123,000 images, 20 GB).
    pub const DATASET: Self =
        Self { num_members: 500_000, image_bytes: 64 << 20, text_bytes: 1 << 30, total_bytes: 64 << 30, ratio: 200 };

    /// Checks the size that a list of members gives, and adds it to `total`.
    pub(super) fn check_member(&self, name: &str, bytes: u64, total: &mut u64) -> anyhow::Result<()> {
        let most = if format_of_name(name).is_some() { self.image_bytes } else { self.text_bytes };
        anyhow::ensure!(bytes <= most, "its member {name} has {bytes} bytes, at most {most} are accepted");
        *total = total.saturating_add(bytes);
        anyhow::ensure!(*total <= self.total_bytes, "its members have more than {} bytes together", self.total_bytes);
        Ok(())
    }

    /// Checks how much a member grows.
    pub(super) fn check_ratio(&self, name: &str, bytes: u64, compressed_bytes: u64) -> anyhow::Result<()> {
        // A short text compresses as well as a bomb.
        const RATIO_FROM: u64 = 1 << 20;
        let grows = bytes > RATIO_FROM && bytes / self.ratio > compressed_bytes;
        anyhow::ensure!(!grows, "its member {name} grows by more than {} times: a compression bomb", self.ratio);
        Ok(())
    }
}

/// Refuses names of members that would leave the folder they are unpacked into.
pub(super) fn check_name(name: &str) -> anyhow::Result<()> {
    anyhow::ensure!(is_safe_relative(name.strip_suffix('/').unwrap_or(name)), "its member {name:?} has an unsafe path");
    Ok(())
}

/// What macOS adds to archives and folders.
pub(super) fn is_system_junk(name: &str) -> bool {
    let file_name = name.rsplit('/').next().unwrap_or(name);
    name.split('/').any(|part| part == "__MACOSX") || file_name.starts_with("._") || file_name == ".DS_Store"
}

/// Reads `content` to its end or to `most` bytes; `expected` are likely, and believed for a first mebibyte alone.
pub(super) fn read_to_limit(content: impl Read, most: u64, expected: u64) -> io::Result<Vec<u8>> {
    const FIRST: u64 = 1 << 20;
    let mut bytes = Vec::with_capacity(most.min(expected).min(FIRST) as usize);
    content.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}
