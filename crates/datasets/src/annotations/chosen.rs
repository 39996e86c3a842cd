//! Which texts are read where several kinds lie beside images: lines of text, and JSON. The kind that captions most images
//! is read, and the other for images that it alone captions; boxes and classes of objects come as numbers in files of the
//! same names.

use std::collections::{BTreeMap, HashSet};

use crate::annotations::Repair;
use crate::annotations::candidates::has_ending;
use crate::annotations::encoding::decode_start;
use crate::annotations::json_text::without_nan;
use crate::annotations::paired::Pair;
use crate::annotations::record::Record;
use crate::source::Source;

/// The endings of each kind, those that are preferred first: what is called a caption is one, other texts may be tags.
pub(super) const KINDS: [&[&str]; 2] = [&[".caption", ".txt"], &[".json"]];
const NAMES: [&str; 2] = [".txt or .caption", ".json"];

/// The pairs that are read, and what is said of those that are not.
#[derive(Default)]
pub(super) struct Chosen {
    pub(super) pairs: Vec<Pair>,
    pub(super) note: Option<Repair>,
}

/// Chooses among the pairs of each of the [`KINDS`]; none where no text has words in it.
///
/// # Errors
/// A source that is gone.
pub(super) fn chosen(source: &Source, kinds: &[Vec<Pair>; 2]) -> anyhow::Result<Chosen> {
    let [texts, json] = kinds;
    if texts.is_empty() || json.is_empty() {
        let only = if texts.is_empty() { json } else { texts };
        let pairs = if any_has_words(source, only)? { only.clone() } else { Vec::new() };
        return Ok(Chosen { pairs, note: None });
    }
    let of_texts = with_words(source, texts)?;
    let is_enough = json.iter().all(|pair| of_texts.contains(&pair.image));
    let captioned = [of_texts, if is_enough { HashSet::new() } else { with_words(source, json)? }];
    if captioned.iter().all(HashSet::is_empty) {
        return Ok(Chosen::default());
    }
    let main = usize::from(captioned[1].len() > captioned[0].len());
    let other = 1 - main;
    let is_only_in_other =
        |pair: &&Pair| captioned[other].contains(&pair.image) && !captioned[main].contains(&pair.image);
    let (taken, passed): (Vec<&Pair>, Vec<&Pair>) = kinds[other].iter().partition(is_only_in_other);
    let mut of_image: BTreeMap<usize, Pair> = kinds[main].iter().map(|pair| (pair.image, *pair)).collect();
    of_image.extend(taken.iter().map(|pair| (pair.image, **pair)));
    let path = |pair: &Pair| source.files()[pair.text].path.as_str();
    let mut note = format!("captions of {} images are read from their {} files", captioned[main].len(), NAMES[main]);
    if let Some(first) = taken.first() {
        let count = taken.len();
        note.push_str(&format!(", of {count} without them from their {} files, such as {}", NAMES[other], path(first)));
    }
    if let Some(first) = passed.first() {
        let count = passed.len();
        note.push_str(&format!("; not read: {count} {} files beside them, such as {}", NAMES[other], path(first)));
    }
    let note = Some(Repair::new("texts beside images", note));
    Ok(Chosen { pairs: of_image.into_values().collect(), note })
}

/// Whether any text of the pairs has words in it.
///
/// # Errors
/// A source that is gone.
pub(super) fn any_has_words(source: &Source, pairs: &[Pair]) -> anyhow::Result<bool> {
    let (mut rest, mut count) = (pairs, 16);
    while !rest.is_empty() {
        let (some, others) = rest.split_at(count.min(rest.len()));
        if !with_words(source, some)?.is_empty() {
            return Ok(true);
        }
        (rest, count) = (others, count * 16);
    }
    Ok(false)
}

/// The images of those pairs whose texts have words in them.
fn with_words(source: &Source, pairs: &[Pair]) -> anyhow::Result<HashSet<usize>> {
    let texts: Vec<usize> = pairs.iter().map(|pair| pair.text).collect();
    let path = |place: usize| &source.files()[texts[place]].path;
    let are_words = source.look_into_each(&texts, |place, bytes| has_words(path(place), bytes))?;
    Ok(pairs.iter().zip(are_words).filter(|(_, has_words)| *has_words).map(|(pair, _)| pair.image).collect())
}

/// A text as far as it can be read.
pub(super) fn text_of(path: &str, bytes: Vec<u8>) -> String {
    let lossy = String::from_utf8_lossy(&bytes).into_owned();
    decode_start(path, bytes).unwrap_or(lossy)
}

fn has_words(path: &str, mut bytes: Vec<u8>) -> bool {
    /// Bytes of a text that are looked at.
    const MOST_BYTES: usize = 1000;
    if has_ending(path, ".json") {
        let text = text_of(path, bytes);
        let (text, _) = without_nan(&text);
        // What cannot be read may have been meant as a caption, and is told.
        return text.trim_start().starts_with('{')
            && serde_json::from_str::<Record<'_>>(&text)
                .map_or_else(|_| text.to_ascii_lowercase().contains("caption"), |record| record.has.captions);
    }
    bytes.truncate(MOST_BYTES);
    text_of(path, bytes).chars().any(char::is_alphabetic)
}
