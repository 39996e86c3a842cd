//! A text file beside each image: `X.jpg` and `X.txt` or `X.caption`, each line a caption; or `X.json` with the captions
//! under `caption`, `text` or another of their names.

use crate::data::annotations::candidates::{Candidates, has_ending};
use crate::data::annotations::encoding::decode_start;
use crate::data::annotations::paired::{self, Pair, pairs};
use crate::data::annotations::record::Record;
use crate::data::annotations::{Certainty, Format, Found, Input, RawDataset};
use crate::data::source::Source;

/// What is called a caption is one; other texts may be tags.
const ENDINGS: [&[&str]; 2] = [&[".caption", ".txt"], &[".json"]];

pub(super) static FORMAT: Format =
    Format { name: "sidecar", description: "X.txt, X.caption or X.json beside X.jpg", find, read };

fn find(candidates: &Candidates<'_>) -> anyhow::Result<Vec<Found>> {
    let texts = found(candidates.source).into_iter().map(|pair| pair.text).collect();
    let found = Found::some(&FORMAT, None, texts);
    Ok(found.into_iter().map(|found| Found { certainty: Certainty::Beside, ..found }).collect())
}

fn read(input: &Input<'_>) -> anyhow::Result<RawDataset> {
    paired::read(input, &found(input.source))
}

/// The pairs of the first kind of text that has words in it: boxes and classes of objects come as numbers in files of the
/// same names.
fn found(source: &Source) -> Vec<Pair> {
    /// Texts that are looked at.
    const MOST: usize = 20;
    for endings in ENDINGS {
        let pairs = pairs(source, |file| !file.is_in_tar(), endings);
        if pairs.iter().take(MOST).any(|pair| has_words(source, pair.text)) {
            return pairs;
        }
    }
    Vec::new()
}

fn has_words(source: &Source, file: usize) -> bool {
    /// Bytes of a text that are looked at.
    const MOST_BYTES: u64 = 1000;
    let path = &source.files()[file].path;
    if has_ending(path, ".json") {
        let text = decode_start(path, source.glance(file, u64::MAX)).unwrap_or_default();
        let record = serde_json::from_str::<Record<'_>>(&text);
        return record.is_ok_and(|record| record.has.captions && text.trim_start().starts_with('{'));
    }
    let bytes = source.glance(file, MOST_BYTES);
    let text = decode_start(path, bytes.clone()).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into_owned());
    text.chars().any(char::is_alphabetic)
}
