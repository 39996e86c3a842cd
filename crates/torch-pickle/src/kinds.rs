//! Files that are no zip archive of torch, by their first bytes.

use std::path::Path;

use anyhow::{Context as _, bail};

use base::bounded_file;

/// Enough for the mark of a tar archive.
const START_BYTES: u64 = 512;
/// The number with which torch before 1.6 began its files, as a pickle of protocol 2.
const OLD_TORCH: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";

/// Refuses what is no zip archive, with the name of what it is.
pub(crate) fn check(path: &Path) -> anyhow::Result<()> {
    let start =
        bounded_file::read_start(path, START_BYTES).with_context(|| format!("cannot read {}", path.display()))?;
    match kind(&start) {
        None => Ok(()),
        Some(kind) => bail!("it is {kind}, not a zip archive of torch 1.6 or newer"),
    }
}

/// What a file is that begins with these bytes; `None` for a zip archive.
fn kind(start: &[u8]) -> Option<&'static str> {
    let is_text = |text: &str| start.trim_ascii_start().get(..text.len()).is_some_and(|found| found == text.as_bytes());
    Some(match start {
        [b'P', b'K', 3, 4, ..] => return None,
        [] => "an empty file",
        _ if start.starts_with(OLD_TORCH) => "a file of torch before 1.6 (its old format, a row of pickles)",
        _ if start.get(257..262) == Some(b"ustar") => {
            "a tar archive (torch's format before 0.1.10, or a packed folder)"
        }
        [0x80, 0..=5, ..] => "a bare pickle",
        [0x89, b'H', b'D', b'F', ..] => "an HDF5 file (of Keras or TensorFlow)",
        [b'G', b'G', b'U', b'F', ..] => "a GGUF file (of llama.cpp)",
        [_, _, _, _, _, _, _, _, b'{', ..] => "a safetensors file under another name",
        _ if is_text("version https://git-lfs") => "a Git LFS pointer (the download lacks the file itself)",
        _ if is_text("<") => "a web page",
        _ => "of an unknown kind",
    })
}
