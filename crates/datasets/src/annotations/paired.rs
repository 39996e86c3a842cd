//! What sidecars and web data sets share: an image and a text of one name, side by side.

use std::borrow::Cow;
use std::cell::LazyCell;
use std::collections::{HashMap, HashSet};

use serde_json::value::RawValue;

use crate::annotations::builder::Builder;
use crate::annotations::candidates::{has_ending, key_of};
use crate::annotations::chosen::{Chosen, KINDS};
use crate::annotations::encoding::decode;
use crate::annotations::input::Input;
use crate::annotations::json_text::read_json;
use crate::annotations::list_text::texts_of;
use crate::annotations::record::Record;
use crate::annotations::text::{lines, split_of_path};
use crate::annotations::{RawDataset, Reject, Repair};
use crate::name_forms::loosest;
use crate::source::{Source, SourceFile, is_image_name, without_ending};
use base::fault::{fault, one_line};
use pixels::picture_formats::format_of_name;

/// The image and the text of one key, or of two keys that people take for one.
#[derive(Clone, Copy)]
pub(super) struct Pair {
    pub(super) image: usize,
    pub(super) text: usize,
    /// Another text of that key, which is not read.
    other: Option<usize>,
}

/// Pairs among the files for which `is_candidate` holds, in the order of the images. Of several texts of one key that
/// counts whose ending comes first in `endings`. An image that has no text of its own key has the only one whose key is
/// alike, if no other image has it. A picture of a format that is not read has a text where no other picture
/// of its key has it. There are no pairs where none of the pictures is of a format that is read. In a tar archive a key
/// ends at the first dot of a name; where an image and a text have all before their last dots in common, or nothing is
/// paired otherwise, it ends there, as in a folder.
pub(super) fn pairs(source: &Source, is_candidate: impl Fn(&SourceFile) -> bool, endings: &[&str]) -> Vec<Pair> {
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

/// Keys of images without a text of their own, and the only key of a text that is alike, where it is that of no other image.
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

/// The data set of these pairs. Folders that are called like splits are splits. A text that cannot be read costs its image.
///
/// # Errors
/// Texts of which none can be read.
pub(super) fn read(input: &Input<'_>, chosen: Chosen) -> anyhow::Result<RawDataset> {
    let (source, pairs) = (input.source, chosen.pairs.as_slice());
    let texts: Vec<usize> = pairs.iter().map(|pair| pair.text).collect();
    let contents = source.for_each(&texts, |_, content| Ok(content))?;
    let mut builder = Builder::new(input.reading);
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
                captions.iter().for_each(|caption| builder.caption(image, None, caption));
            }
            Err(error) => {
                let reason = format!("the file of its captions is left out: {}", one_line(&error));
                builder.rejects.push(Reject::new(file.path.clone(), reason));
            }
        }
    }
    if let (false, Some(last)) = (is_any_read, builder.rejects.last()) {
        let message = format!(
            "none of the {} files of captions beside the images can be used, such as that of {}: {}",
            pairs.len(),
            last.what,
            last.reason
        );
        return Err(fault(message, "save them as UTF-8 text, or as JSON with the captions under \"caption\""));
    }
    Ok(builder.finish_with_paths())
}

/// The captions of a text beside an image: its lines, or what its JSON holds.
fn captions(builder: &mut Builder, path: &str, content: Vec<u8>) -> anyhow::Result<Vec<String>> {
    let text = decode(path, content)?;
    if has_ending(path, ".json") {
        return captions_of_json(builder, path, &text);
    }
    let mut captions = Vec::new();
    for (number, line) in lines(&text) {
        match texts_of(line.into()) {
            Ok(texts) => captions.extend(texts.into_iter().map(Cow::into_owned)),
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
    let note = format!("their texts are called a little otherwise, such as {text} for {image}");
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
        format!("not used: no images of their names lie beside them, such as {}", files[*unpaired.first()?].path);
    Some(Repair::new(format!("{} texts", unpaired.len()), note))
}

/// Where two files of one name may both hold captions, which are read.
fn note_others(source: &Source, pairs: &[Pair]) -> Option<Repair> {
    let both = || pairs.iter().filter_map(|pair| Some((pair.text, pair.other?)));
    let (first, other) = both().next()?;
    let name = |file: usize| source.files()[file].path.as_str();
    let what = format!("{} and {}", name(first), name(other));
    let note = match both().count() {
        1 => "both lie beside an image; the first is used".to_owned(),
        count => format!("both lie beside an image; the first is used ({count} images have both)"),
    };
    Some(Repair::new(what, note))
}

/// The captions of a JSON object about one image.
///
/// # Errors
/// JSON that is no object, or one without captions.
pub(super) fn captions_of_json(builder: &mut Builder, path: &str, text: &str) -> anyhow::Result<Vec<String>> {
    const EXPECTED: &str = r#"expected {"caption": "a caption"}"#;
    let (mut is_object, mut keys, mut captions) = (false, None, Vec::new());
    read_json(builder, path, text, |builder, text| {
        // Whatever else it is, is no object.
        let whole: &RawValue = serde_json::from_str(text)?;
        is_object = whole.get().starts_with('{');
        let record: Record<'_> = serde_json::from_str(whole.get())?;
        if let Some(odd) = record.odd {
            builder.rejects.push(Reject::new(format!("a caption in {path}"), format!("it is {odd}, not a text")));
        }
        keys = (!record.has.captions).then(|| record.keys());
        captions = record.captions().into_iter().map(str::to_owned).collect();
        Ok(())
    })?;
    match keys {
        _ if !is_object => Err(fault(format!("{path} is no JSON object"), EXPECTED)),
        Some(keys) => Err(fault(format!("{path} holds no captions: a JSON object with the keys {keys}"), EXPECTED)),
        None => Ok(captions),
    }
}
