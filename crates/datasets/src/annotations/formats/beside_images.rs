//! Texts beside images, one for each image. A sidecar: `X.jpg` and `X.txt` or `X.caption`, each line a caption; or
//! `X.json` with the captions under `caption`, `text` or another of their names. A web data set: the same in tar
//! archives, where a key ends at the first dot of the file's name, or at the last one where an image and a text have
//! all before it in common.
//!
//! Where several kinds of texts lie beside images, the kind that captions most images is read, and the other for images
//! that only it captions; boxes and classes of objects come as numbers in files of the same names.

use std::cell::LazyCell;
use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::value::RawValue;

use crate::annotations::builder::{Builder, Reading};
use crate::annotations::candidates::{Candidates, files_of_many};
use crate::annotations::encoding::{decode, decode_start};
use crate::annotations::extras;
use crate::annotations::file_names::{has_ending, key_of};
use crate::annotations::format::{Certainty, Format, Match};
use crate::annotations::input::Input;
use crate::annotations::json::record::Record;
use crate::annotations::json::text::{explain, read_json, without_nan};
use crate::annotations::json::values::RawExtras;
use crate::annotations::list_text::texts_of;
use crate::annotations::raw_dataset::{RawDataset, Reject, Repair};
use crate::annotations::split_names::split_of_path;
use crate::annotations::text::lines;
use crate::caption_extras::CaptionExtras;
use crate::column_names::ColumnNames;
use crate::name_forms::{loosest, without_ending};
use crate::source::{Source, SourceFile};
use base::error::{failure, one_line};
use pixels::picture_formats::{format_of_name, is_image_name};

pub(crate) static SIDECAR: Format = Format {
    name: "sidecar",
    description: "X.txt, X.caption or X.json beside X.jpg",
    find: find_sidecar,
    read: read_sidecar,
};

fn find_sidecar(candidates: &Candidates<'_>) -> anyhow::Result<Vec<Match>> {
    let texts = sidecar_texts(candidates.source)?.pairs.into_iter().map(|pair| pair.text).collect();
    let found = Match::some(&SIDECAR, None, texts);
    Ok(found.into_iter().map(|found| Match { certainty: Certainty::Beside, ..found }).collect())
}

fn read_sidecar(input: &Input<'_>) -> anyhow::Result<RawDataset> {
    read_pairs(input, sidecar_texts(input.source)?)
}

fn sidecar_texts(source: &Source) -> anyhow::Result<ChosenTexts> {
    chosen(source, &beside_images(source))
}

fn beside_images(source: &Source) -> [Vec<Pair>; 2] {
    let of_many: HashSet<&str> =
        files_of_many(source).into_iter().map(|file| source.files()[file].path.as_str()).collect();
    KINDS.map(|endings| pairs(source, |file| !file.is_in_tar() && !of_many.contains(file.path.as_str()), endings))
}

/// Files beside images that contain no captions, for a message; nothing if there are none or some contain captions.
pub(crate) fn without_captions(source: &Source) -> Option<String> {
    let kinds = beside_images(source);
    let pairs = kinds.iter().find(|pairs| !pairs.is_empty() && !any_has_words(source, pairs).unwrap_or(true))?;
    let first = pairs.first()?.text;
    let path = &source.files()[first].path;
    let what = match has_ending(path, ".json") {
        true => describe_json(&text_of(path, source.glance(first, u64::MAX))),
        false => "no words".to_owned(),
    };
    Some(format!("{} files beside images contain no captions, such as {path}: {what}", pairs.len()))
}

fn describe_json(text: &str) -> String {
    let (text, _) = without_nan(text);
    match Record::parse(&text, &ColumnNames::default()) {
        Ok(record) if text.trim_start().starts_with('{') => format!("a JSON object with the keys {}", record.keys()),
        Ok(_) => "JSON that is not an object".to_owned(),
        Err(error) => explain(&error, &text),
    }
}

pub(crate) static WEBDATASET: Format = Format {
    name: "webdataset",
    description: "tar archives with KEY.jpg and KEY.txt or KEY.json",
    find: find_webdataset,
    read: read_webdataset,
};

fn find_webdataset(candidates: &Candidates<'_>) -> anyhow::Result<Vec<Match>> {
    let texts = webdataset_texts(candidates.source)?.pairs.into_iter().map(|pair| pair.text).collect();
    Ok(Match::some(&WEBDATASET, None, texts))
}

fn read_webdataset(input: &Input<'_>) -> anyhow::Result<RawDataset> {
    read_pairs(input, webdataset_texts(input.source)?)
}

/// What is read of the shards; where no text has words in it, those that say so when they are read.
fn webdataset_texts(source: &Source) -> anyhow::Result<ChosenTexts> {
    let kinds = KINDS.map(|endings| pairs(source, SourceFile::is_in_tar, endings));
    let chosen = chosen(source, &kinds)?;
    let of_any = || kinds.into_iter().find(|pairs| !pairs.is_empty()).unwrap_or_default();
    Ok(if chosen.pairs.is_empty() { ChosenTexts { pairs: of_any(), note: None } } else { chosen })
}

/// The endings of each kind, those that are preferred first: what is called a caption is one, other texts may be tags.
pub(crate) const KINDS: [&[&str]; 2] = [&[".caption", ".txt"], &[".json"]];
const NAMES: [&str; 2] = [".txt or .caption", ".json"];

/// The pairs that are read, and what is said of those that are not.
#[derive(Default)]
pub(crate) struct ChosenTexts {
    pub(crate) pairs: Vec<Pair>,
    pub(crate) note: Option<Repair>,
}

/// Chooses among the pairs of each of the [`KINDS`]; none where no text has words in it.
pub(crate) fn chosen(source: &Source, kinds: &[Vec<Pair>; 2]) -> anyhow::Result<ChosenTexts> {
    let [texts, json] = kinds;
    if texts.is_empty() || json.is_empty() {
        let only = if texts.is_empty() { json } else { texts };
        let pairs = if any_has_words(source, only)? { only.clone() } else { Vec::new() };
        return Ok(ChosenTexts { pairs, note: None });
    }
    let of_texts = with_words(source, texts)?;
    let is_enough = json.iter().all(|pair| of_texts.contains(&pair.image));
    let captioned = [of_texts, if is_enough { HashSet::new() } else { with_words(source, json)? }];
    if captioned.iter().all(HashSet::is_empty) {
        return Ok(ChosenTexts::default());
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
    Ok(ChosenTexts { pairs: of_image.into_values().collect(), note })
}

/// Whether any text of the pairs has words in it.
pub(crate) fn any_has_words(source: &Source, pairs: &[Pair]) -> anyhow::Result<bool> {
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
    let are_words = source.look_into_each(&texts, |place, bytes| has_words(path(place), bytes, source.columns()))?;
    Ok(pairs.iter().zip(are_words).filter(|(_, has_words)| *has_words).map(|(pair, _)| pair.image).collect())
}

pub(crate) fn text_of(path: &str, bytes: Vec<u8>) -> String {
    let lossy = String::from_utf8_lossy(&bytes).into_owned();
    decode_start(path, bytes).unwrap_or(lossy)
}

fn has_words(path: &str, mut bytes: Vec<u8>, names: &ColumnNames) -> bool {
    /// Bytes of a text that are looked at.
    const MAX_BYTES: usize = 1000;
    if has_ending(path, ".json") {
        let text = text_of(path, bytes);
        let (text, _) = without_nan(&text);
        // What cannot be read may have been meant as a caption, and is reported.
        return text.trim_start().starts_with('{')
            && Record::parse(&text, names)
                .map_or_else(|_| text.to_ascii_lowercase().contains("caption"), |record| record.has.captions);
    }
    bytes.truncate(MAX_BYTES);
    text_of(path, bytes).chars().any(char::is_alphabetic)
}

/// The image and the text of one key, or of two keys that mean the same.
#[derive(Clone, Copy)]
pub(crate) struct Pair {
    pub(crate) image: usize,
    pub(crate) text: usize,
    /// Another text of that key, which is not read.
    other: Option<usize>,
}

/// Pairs among the files for which `is_candidate` holds, in the order of the images. Of several texts of one key that
/// counts whose ending comes first in `endings`. An image that has no text of its own key has the only one whose key is
/// alike, if no other image has it. A picture of a format that is not read has a text where no other picture
/// of its key has it. There are no pairs where none of the pictures is of a format that is read. In a tar archive a key
/// ends at the first dot of a name; where an image and a text have all before their last dots in common, or nothing is
/// paired otherwise, it ends there, as in a folder.
pub(crate) fn pairs(source: &Source, is_candidate: impl Fn(&SourceFile) -> bool, endings: &[&str]) -> Vec<Pair> {
    let stem = |file: &usize| without_ending(&source.files()[*file].path);
    let is_dotted = |file: &SourceFile| is_candidate(file) && has_dots(file);
    let is_text = |file: &SourceFile| endings.iter().any(|ending| has_ending(&file.path, ending));
    let images = source.find(|file| is_dotted(file) && is_image_name(&file.path));
    let images: HashSet<&str> = images.iter().map(stem).collect();
    let texts = source.find(|file| is_dotted(file) && is_text(file));
    let shared: HashSet<&str> = texts.iter().map(stem).filter(|stem| images.contains(stem)).collect();
    let key = |file| Some(without_ending(file)).filter(|stem| shared.contains(stem));
    let usual = pairs_by(source, &is_candidate, endings, |file| key(&file.path).unwrap_or_else(|| key_of(file)));
    if usual.is_empty() && !images.is_empty() {
        return pairs_by(source, &is_candidate, endings, |file| without_ending(&file.path));
    }
    usual
}

/// Whether its name has more in front of its ending than its key.
fn has_dots(file: &SourceFile) -> bool {
    key_of(file) != without_ending(&file.path)
}

/// [`pairs`] of these keys.
fn pairs_by<'a>(
    source: &'a Source,
    is_candidate: impl Fn(&SourceFile) -> bool,
    endings: &[&str],
    key_of: impl Fn(&'a SourceFile) -> &'a str,
) -> Vec<Pair> {
    let files = source.files();
    let rank = |file: usize| endings.iter().position(|ending| has_ending(&files[file].path, ending));
    let mut texts: HashMap<&str, (usize, Option<usize>)> = HashMap::new();
    for file in source.find(|file| is_candidate(file) && endings.iter().any(|ending| has_ending(&file.path, ending))) {
        let held = texts.entry(key_of(&files[file])).or_insert((file, None));
        if rank(file) < rank(held.0) {
            *held = (file, Some(held.0));
        } else if held.0 != file {
            held.1 = Some(file);
        }
    }
    // `1.seg.png` beside `1.png` is a mask.
    let is_plain = |&image: &usize| key_of(&files[image]) == without_ending(&files[image].path);
    let mut images = source.find(|file| is_candidate(file) && is_image_name(&file.path));
    images.retain(is_plain);
    let is_read = |image: usize| format_of_name(&files[image].path).is_some();
    let key = |image: usize| key_of(&files[image]);
    let read: HashSet<&str> = images.iter().filter(|&&image| is_read(image)).map(|&image| key(image)).collect();
    images.retain(|&image| is_read(image) || !read.contains(key(image)));
    let alike = LazyCell::new(|| alike(images.iter().map(|&image| key(image)), texts.keys().copied()));
    let pair = |image: usize| {
        let &(text, other) = texts.get(key(image)).or_else(|| texts.get(alike.get(key(image))?))?;
        Some(Pair { image, text, other })
    };
    let pairs: Vec<Pair> = images.iter().copied().filter_map(pair).collect();
    if pairs.iter().any(|pair| is_read(pair.image)) { pairs } else { Vec::new() }
}

/// Keys of images without a text of their own, and the only key of a text that is alike, where it is that of no other
/// image.
fn alike<'a>(images: impl Iterator<Item = &'a str>, texts: impl Iterator<Item = &'a str>) -> HashMap<&'a str, &'a str> {
    let mut without: HashSet<&str> = images.collect();
    let texts: Vec<&str> = texts.filter(|text| !without.remove(text)).collect();
    let only = |keys: &mut dyn Iterator<Item = &'a str>| {
        let mut only: HashMap<String, Option<&'a str>> = HashMap::new();
        keys.for_each(|key| {
            only.entry(loosest(key)).and_modify(|other| *other = None).or_insert(Some(key));
        });
        only
    };
    let texts = only(&mut texts.into_iter());
    let images = only(&mut without.into_iter());
    images.into_iter().filter_map(|(form, image)| Some((image?, (*texts.get(&form)?)?))).collect()
}

/// The data set of these pairs. Folders that are called like splits are splits. A text that cannot be read costs its
/// image.
fn read_pairs(input: &Input<'_>, chosen: ChosenTexts) -> anyhow::Result<RawDataset> {
    let (source, pairs) = (input.source, chosen.pairs.as_slice());
    let texts: Vec<usize> = pairs.iter().map(|pair| pair.text).collect();
    let contents = source.for_each(&texts, |_, content| Ok(content))?;
    let mut builder = input.builder();
    builder.repairs.extend(note_others(source, pairs));
    builder.repairs.extend(note_alike(source, pairs));
    builder.repairs.extend(note_unpaired(source, pairs));
    builder.repairs.extend(chosen.note);
    let mut is_any_read = false;
    for (pair, content) in pairs.iter().zip(contents) {
        let file = &source.files()[pair.image];
        let path = &source.files()[pair.text].path;
        match content.and_then(|content| captions(&mut builder, path, content)) {
            Ok(captions) => {
                is_any_read = true;
                let image = builder.image(&file.path);
                if let Some(split) = split_of_path(file.folder()) {
                    builder.split(image, split);
                }
                for (caption, extras) in captions {
                    builder.caption_with(image, None, &caption, extras);
                }
            }
            Err(error) => {
                let reason = format!("its caption file cannot be used: {}", one_line(&error));
                builder.rejects.push(Reject::new(file.path.clone(), reason));
            }
        }
    }
    if let (false, Some(last)) = (is_any_read, builder.rejects.last()) {
        let message = format!(
            "none of the {} caption files beside the images can be used, such as the one of {}: {}",
            pairs.len(),
            last.what,
            last.reason
        );
        return Err(failure(message, "save them as UTF-8 text, or as JSON with the captions under \"caption\""));
    }
    Ok(builder.finish_with_paths())
}

/// The captions of a text beside an image: its lines, or what its JSON contains.
fn captions(builder: &mut Builder, path: &str, content: Vec<u8>) -> anyhow::Result<Vec<(String, CaptionExtras)>> {
    let text = decode(path, content)?;
    if has_ending(path, ".json") {
        return captions_of_json(builder, path, &text);
    }
    let mut captions = Vec::new();
    for (number, line) in lines(&text) {
        match texts_of(line.into()) {
            Ok(texts) => {
                captions.extend(texts.into_iter().map(|text| (text.into_owned(), CaptionExtras::default())));
            }
            Err(odd) => {
                let reason = format!("it is {odd}, not a text");
                builder.rejects.push(Reject::new(format!("line {number} of {path}"), reason));
            }
        }
    }
    Ok(captions)
}

/// Where texts are not called just like their images.
fn note_alike(source: &Source, pairs: &[Pair]) -> Option<Repair> {
    let file = |file: usize| &source.files()[file];
    let alike = || pairs.iter().filter(|pair| key_of(file(pair.image)) != key_of(file(pair.text)));
    let first = alike().next()?;
    let (text, image) = (&file(first.text).path, &file(first.image).path);
    let note = format!("the names of their texts differ slightly, such as {text} for {image}");
    Some(Repair::new(format!("{} images", alike().count()), note))
}

/// Texts in tar archives that have the key of images, and the whole name of none.
fn note_unpaired(source: &Source, pairs: &[Pair]) -> Option<Repair> {
    let files = source.files();
    let is_text = |file: &SourceFile| KINDS.concat().iter().any(|ending| has_ending(&file.path, ending));
    let mut unpaired = source.find(|file| has_dots(file) && is_text(file));
    let taken: HashSet<usize> = pairs.iter().flat_map(|pair| [Some(pair.text), pair.other]).flatten().collect();
    let read: HashSet<&str> = pairs.iter().map(|pair| without_ending(&files[pair.image].path)).collect();
    let images: HashSet<&str> =
        files.iter().filter(|file| file.is_in_tar() && is_image_name(&file.path)).map(key_of).collect();
    unpaired.retain(|&file| {
        let (key, stem) = (key_of(&files[file]), without_ending(&files[file].path));
        !taken.contains(&file) && images.contains(key) && !read.contains(key) && !read.contains(stem)
    });
    let note =
        format!("not used: no images with their names are beside them, such as {}", files[*unpaired.first()?].path);
    Some(Repair::new(format!("{} texts", unpaired.len()), note))
}

/// Where two files of one name may both hold captions, which are read.
fn note_others(source: &Source, pairs: &[Pair]) -> Option<Repair> {
    let both = || pairs.iter().filter_map(|pair| Some((pair.text, pair.other?)));
    let (first, other) = both().next()?;
    let name = |file: usize| source.files()[file].path.as_str();
    let what = format!("{} and {}", name(first), name(other));
    let note = match both().count() {
        1 => "both are beside an image; the first is used".to_owned(),
        count => format!("both are beside an image; the first is used ({count} images have both)"),
    };
    Some(Repair::new(what, note))
}

/// The captions of a JSON object about one image.
pub(crate) fn captions_of_json(
    builder: &mut Builder,
    path: &str,
    text: &str,
) -> anyhow::Result<Vec<(String, CaptionExtras)>> {
    const EXPECTED: &str = r#"expected {"caption": "a caption"}"#;
    let (mut is_object, mut keys, mut captions) = (false, None, Vec::new());
    let names = builder.columns.clone();
    read_json(builder, path, text, |builder, text| {
        // Anything else is not an object.
        let whole: &RawValue = serde_json::from_str(text)?;
        is_object = whole.get().starts_with('{');
        let record = Record::parse(whole.get(), &names)?;
        record.named.iter().for_each(|key| builder.hear(key));
        if let Some(odd) = record.odd {
            builder.rejects.push(Reject::new(format!("a caption in {path}"), format!("it is {odd}, not a text")));
        }
        keys = (!record.has.captions).then(|| record.keys());
        let is_prepared = builder.reading == Reading::Preparation;
        for (caption, raw) in record.captions_and_extras() {
            match extras::of_json(if is_prepared { raw } else { RawExtras::default() }, path, text) {
                Ok(extras) => captions.push((caption.to_owned(), extras)),
                Err(error) => drop(builder.fault.get_or_insert(error)),
            }
        }
        Ok(())
    })?;
    match keys {
        _ if !is_object => Err(failure(format!("{path} is not a JSON object"), EXPECTED)),
        Some(keys) => {
            Err(failure(format!("{path} contains no captions: a JSON object with the keys {keys}"), EXPECTED))
        }
        None => Ok(captions),
    }
}

#[cfg(test)]
mod webdataset_tests {
    use crate::annotations::builder::Builder;
    use crate::annotations::formats::beside_images::captions_of_json;
    use base::error::describe;

    #[test]
    fn captions_are_under_any_of_their_names() {
        for (text, expected) in [
            (r#"{"caption":"A","url":1,"captions":["B","C"],"text":null}"#, vec!["A", "B", "C"]),
            (r#"{"Caption":"A","similarity":NaN}"#, vec!["A"]),
            (r#"{"sentence_1":"A","sentence_2":"B"}"#, vec!["A", "B"]),
        ] {
            let mut builder = Builder::default();
            let found = captions_of_json(&mut builder, "a.json", text).unwrap();
            assert_eq!(found.into_iter().map(|(caption, _)| caption).collect::<Vec<_>>(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_a_caption_is_reported() {
        let mut builder = Builder::default();
        let mut read = |text| captions_of_json(&mut builder, "a.json", text).map_err(|error| describe(&error));
        assert!(read(r#"{"caption":3}"#).unwrap().is_empty());
        assert!(read("[\"A\"]").unwrap_err().contains("a.json is not a JSON object"));
        assert!(read(r#"{"caption":"#).unwrap_err().contains("cut off"));
        assert!(
            read(r#"{"label":1,"size":2}"#)
                .unwrap_err()
                .contains("contains no captions: a JSON object with the keys label, size")
        );
        assert_eq!(builder.rejects[0].reason, "it is a number, not a text");
    }
}
