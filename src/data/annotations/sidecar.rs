//! A text file beside each image: `X.jpg` and `X.txt` or `X.caption`, each line a caption; or `X.json` with the captions
//! under `caption`, `text` or another of their names.

use std::collections::HashSet;

use crate::data::annotations::candidates::{Candidates, has_ending};
use crate::data::annotations::encoding::decode_start;
use crate::data::annotations::json_text::{explain, without_nan};
use crate::data::annotations::paired::{self, Pair, pairs};
use crate::data::annotations::record::Record;
use crate::data::annotations::{Certainty, Format, Found, Input, RawDataset, many_images};
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
    let pairs = ENDINGS.into_iter().map(|endings| beside_images(source, endings));
    pairs.into_iter().find(|pairs| pairs.iter().take(MOST).any(|pair| has_words(source, pair.text))).unwrap_or_default()
}

/// Texts that are looked at.
const MOST: usize = 20;

fn beside_images(source: &Source, endings: &[&str]) -> Vec<Pair> {
    let of_many: HashSet<&str> =
        many_images::files(source).into_iter().map(|file| source.files()[file].path.as_str()).collect();
    pairs(source, |file| !file.is_in_tar() && !of_many.contains(file.path.as_str()), endings)
}

/// Files beside images that hold no captions, for a message; nothing where there are none or some hold captions.
pub(super) fn without_captions(source: &Source) -> Option<String> {
    let (count, first, what) = ENDINGS.into_iter().find_map(|endings| {
        let pairs = beside_images(source, endings);
        let first = pairs.first()?.text;
        let is_json = has_ending(&source.files()[first].path, ".json");
        let what = if is_json { describe(&text_of(source, first)) } else { "no words".to_owned() };
        (!pairs.iter().take(MOST).any(|pair| has_words(source, pair.text))).then_some((pairs.len(), first, what))
    })?;
    Some(format!("{count} files beside images hold no captions, such as {}: {what}", source.files()[first].path))
}

fn describe(text: &str) -> String {
    let (text, _) = without_nan(text);
    match serde_json::from_str::<Record<'_>>(&text) {
        Ok(record) if text.trim_start().starts_with('{') => format!("a JSON object with the keys {}", record.keys()),
        Ok(_) => "JSON that is no object".to_owned(),
        Err(error) => explain(&error, &text),
    }
}

fn text_of(source: &Source, file: usize) -> String {
    let bytes = source.glance(file, u64::MAX);
    decode_start(&source.files()[file].path, bytes.clone()).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into())
}

fn has_words(source: &Source, file: usize) -> bool {
    /// Bytes of a text that are looked at.
    const MOST_BYTES: u64 = 1000;
    let path = &source.files()[file].path;
    if has_ending(path, ".json") {
        let text = text_of(source, file);
        let (text, _) = without_nan(&text);
        // What cannot be read may have been meant as a caption, and is told.
        return text.trim_start().starts_with('{')
            && serde_json::from_str::<Record<'_>>(&text)
                .map_or_else(|_| text.to_ascii_lowercase().contains("caption"), |record| record.has.captions);
    }
    let bytes = source.glance(file, MOST_BYTES);
    let text = decode_start(path, bytes.clone()).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into_owned());
    text.chars().any(char::is_alphabetic)
}
