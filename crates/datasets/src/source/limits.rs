//! What archives of unknown origin may contain, and the list of their members while it is checked.

use std::collections::HashSet;
use std::fmt::Display;
use std::io::{self, Read};

use crate::prepared::is_safe_relative;
use pixels::picture_formats::format_of_name;

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub num_members: usize,
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

    /// `what` says what unpacks, as in "its member a.jpg".
    pub(super) fn check_ratio(&self, what: impl Display, bytes: u64, compressed_bytes: u64) -> anyhow::Result<()> {
        let grows = bytes > RATIO_FROM && bytes / self.ratio > compressed_bytes;
        anyhow::ensure!(!grows, "{what} unpacks to more than {} times its size: a compression bomb", self.ratio);
        Ok(())
    }
}

/// A shorter text may compress as well as a bomb.
pub(super) const RATIO_FROM: u64 = 1 << 20;

#[derive(Clone, Debug)]
pub struct Member {
    /// Its path in the archive, checked: relative, with `/` between the parts.
    pub name: String,
    /// Its size, uncompressed.
    pub bytes: u64,
    /// Its index in a zip archive; in a tar archive the offset of its content, unpacked; the row of a table.
    pub(super) place: u64,
}

/// Members that have been checked so far.
pub(super) struct Members {
    limits: Limits,
    pub(super) list: Vec<Member>,
    names: HashSet<String>,
    total_bytes: u64,
}

impl Members {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, list: Vec::new(), names: HashSet::new(), total_bytes: 0 }
    }

    pub(super) fn add(&mut self, name: &str, bytes: u64, place: u64) -> anyhow::Result<()> {
        let Limits { num_members, image_bytes, text_bytes, total_bytes, .. } = self.limits;
        anyhow::ensure!(self.names.insert(name.to_owned()), "two of its members have the same name {name}");
        let max = if format_of_name(name).is_some() { image_bytes } else { text_bytes };
        anyhow::ensure!(bytes <= max, "its member {name} has {bytes} bytes, at most {max} are accepted");
        self.total_bytes = self.total_bytes.saturating_add(bytes);
        anyhow::ensure!(self.total_bytes <= total_bytes, "its members have more than {total_bytes} bytes together");
        anyhow::ensure!(self.list.len() < num_members, "it has more than the {num_members} members that are accepted");
        self.list.push(Member { name: name.to_owned(), bytes, place });
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

/// Reads `content` to its end or to `max` bytes. `expected` is a hint about its length that is trusted for one
/// mebibyte.
pub(super) fn read_to_limit(content: impl Read, max: u64, expected: u64) -> io::Result<Vec<u8>> {
    const MAX_TRUSTED: u64 = 1 << 20;
    let mut bytes = Vec::with_capacity(max.min(expected).min(MAX_TRUSTED) as usize);
    content.take(max).read_to_end(&mut bytes)?;
    Ok(bytes)
}
