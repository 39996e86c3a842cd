//! A text file beside each image: `X.jpg` and `X.txt` or `X.caption`, each line a caption; or `X.json` with the captions
//! under `caption`, `text` or another of their names.

use std::collections::HashSet;

use crate::annotations::candidates::{Candidates, has_ending};
use crate::annotations::chosen::{Chosen, KINDS, any_has_words, chosen, text_of};
use crate::annotations::json_text::{explain, without_nan};
use crate::annotations::paired::{self, Pair, pairs};
use crate::annotations::record::Record;
use crate::annotations::{Certainty, Format, Found, Input, RawDataset, many_images};
use crate::source::Source;

pub(super) static FORMAT: Format =
    Format { name: "sidecar", description: "X.txt, X.caption or X.json beside X.jpg", find, read };

fn find(candidates: &Candidates<'_>) -> anyhow::Result<Vec<Found>> {
    let texts = found(candidates.source)?.pairs.into_iter().map(|pair| pair.text).collect();
    let found = Found::some(&FORMAT, None, texts);
    Ok(found.into_iter().map(|found| Found { certainty: Certainty::Beside, ..found }).collect())
}

fn read(input: &Input<'_>) -> anyhow::Result<RawDataset> {
    paired::read(input, found(input.source)?)
}

fn found(source: &Source) -> anyhow::Result<Chosen> {
    chosen(source, &beside_images(source))
}

fn beside_images(source: &Source) -> [Vec<Pair>; 2] {
    let of_many: HashSet<&str> =
        many_images::files(source).into_iter().map(|file| source.files()[file].path.as_str()).collect();
    KINDS.map(|endings| pairs(source, |file| !file.is_in_tar() && !of_many.contains(file.path.as_str()), endings))
}

/// Files beside images that hold no captions, for a message; nothing where there are none or some hold captions.
pub(super) fn without_captions(source: &Source) -> Option<String> {
    let kinds = beside_images(source);
    let pairs = kinds.iter().find(|pairs| !pairs.is_empty() && !any_has_words(source, pairs).unwrap_or(true))?;
    let first = pairs.first()?.text;
    let path = &source.files()[first].path;
    let what = match has_ending(path, ".json") {
        true => describe(&text_of(path, source.glance(first, u64::MAX))),
        false => "no words".to_owned(),
    };
    Some(format!("{} files beside images hold no captions, such as {path}: {what}", pairs.len()))
}

fn describe(text: &str) -> String {
    let (text, _) = without_nan(text);
    match serde_json::from_str::<Record<'_>>(&text) {
        Ok(record) if text.trim_start().starts_with('{') => format!("a JSON object with the keys {}", record.keys()),
        Ok(_) => "JSON that is no object".to_owned(),
        Err(error) => explain(&error, &text),
    }
}
