//! A file that is called like one image and holds the captions of many: `flowers.json` beside `flowers.jpg`.

use std::collections::HashSet;

use crate::data::annotations::candidates::{BESIDE, has_ending, key_of};
use crate::data::annotations::encoding::decode;
use crate::data::annotations::json_shape::{Document, JsonShape};
use crate::data::annotations::json_text::without_nan;
use crate::data::annotations::layout::Layout;
use crate::data::annotations::text::lines;
use crate::data::annotations::token_lines;
use crate::data::name_forms::loosest;
use crate::data::picture_formats::format_of_name;
use crate::data::source::{Source, SourceFile, is_image_name, without_ending};

/// More files of one kind beside images are one for each of them.
const MOST: usize = 20;

/// The files beside images that are about many.
pub(super) fn files(source: &Source) -> HashSet<usize> {
    let files = source.files();
    let images: HashSet<&str> = files.iter().filter(|file| format_of_name(&file.path).is_some()).map(key_of).collect();
    let mut found = HashSet::new();
    for ending in BESIDE {
        let beside =
            source.find(|file| !file.is_in_tar() && has_ending(&file.path, ending) && images.contains(key_of(file)));
        if beside.len() <= MOST {
            found.extend(beside.into_iter().filter(|&file| is_of_many(source, file)));
        }
    }
    found
}

fn is_of_many(source: &Source, file: usize) -> bool {
    let bytes = source.glance(file, u64::MAX);
    let file = &source.files()[file];
    let Ok(text) = decode(&file.path, bytes) else { return false };
    if has_ending(&file.path, ".json") {
        return matches!(JsonShape::of(&without_nan(&text).0), Ok(shape) if json_is_of_many(&shape, file));
    }
    match Layout::of(&text, true) {
        Layout::Table(table) => table.first_image.is_some(),
        Layout::Tokens(_) => {
            lines(&text).any(|(_, line)| token_lines::parts(line).is_some_and(|(name, ..)| is_other(name, file)))
        }
        Layout::Pairs(pairs) => {
            lines(&text).any(|(_, line)| pairs.parts(line).is_some_and(|(name, _)| is_other(name, file)))
        }
        Layout::Other(..) => false,
    }
}

fn json_is_of_many(shape: &JsonShape, file: &SourceFile) -> bool {
    let of_entries = |document: &Document| {
        let entries = &document.entries;
        entries.with_captions > 0 && entries.keys.iter().any(|key| is_image_name(key) && is_other(key, file))
    };
    match shape {
        JsonShape::Document(document) => {
            document.is_coco()
                || document.is_karpathy()
                || document.first_of_table.is_some()
                || document.lists.iter().any(|(_, seen)| seen.is_complete())
                || of_entries(document)
        }
        // Several objects, or one about another image.
        JsonShape::Lines(seen) => {
            seen.is_complete() && (seen.count > 1 || seen.first_image.as_ref().is_some_and(|name| is_other(name, file)))
        }
    }
}

/// Whether the name is that of another image than the one that the file lies beside.
fn is_other(name: &str, file: &SourceFile) -> bool {
    let last = |name: &str| loosest(name).rsplit('/').next().map(str::to_owned);
    last(name) != last(without_ending(file.name()))
}
