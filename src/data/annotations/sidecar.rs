//! A text file beside each image: `X.jpg` and `X.txt`, each line a caption.

use crate::data::annotations::paired::{self, pairs};
use crate::data::annotations::{Format, Found, RawDataset};
use crate::data::source::{Source, without_ending};

const ENDINGS: [&str; 2] = [".txt", ".caption"];

pub(super) fn find(source: &Source) -> anyhow::Result<Vec<Found>> {
    /// Texts that are looked at.
    const MOST: usize = 20;
    let pairs = pairs(source, |file| !file.is_in_tar(), without_ending, &ENDINGS);
    // Boxes and classes of objects come as numbers in files of the same names.
    let mut has_words = false;
    for pair in pairs.iter().take(MOST) {
        has_words |= String::from_utf8_lossy(&source.glance(pair.text, 1000)).chars().any(char::is_alphabetic);
    }
    if !has_words {
        return Ok(Vec::new());
    }
    Ok(Found::some(Format::Sidecar, None, pairs.into_iter().map(|pair| pair.text).collect()))
}

pub(super) fn read(source: &Source, _: &[usize]) -> anyhow::Result<RawDataset> {
    let pairs = pairs(source, |file| !file.is_in_tar(), without_ending, &ENDINGS);
    paired::read(source, &pairs, paired::add_lines)
}
