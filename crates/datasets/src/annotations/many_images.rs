//! A file that is called like one image and holds the captions of many: `flowers.json` beside `flowers.jpg`.

use std::collections::HashSet;

use crate::annotations::candidates::{BESIDE, has_ending, key_of};
use crate::annotations::encoding::decode;
use crate::annotations::json_shape::{Entries, JsonShape};
use crate::annotations::json_text::without_nan;
use crate::annotations::layout::Layout;
use crate::annotations::text::lines;
use crate::annotations::token_lines;
use crate::source::Source;
use pixels::picture_formats::format_of_name;

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
    let path = &source.files()[file].path;
    let Ok(text) = decode(path, source.glance(file, u64::MAX)) else { return false };
    if has_ending(path, ".json") {
        return JsonShape::of(&without_nan(&text).0).is_ok_and(|shape| json_is_of_many(&shape));
    }
    let has_several = |name_of: &dyn Fn(&str) -> Option<String>| {
        lines(&text).filter_map(|(_, line)| name_of(line)).collect::<HashSet<String>>().len() > 1
    };
    match Layout::of(&text, true) {
        Layout::Table(table) => table.first_image.is_some(),
        Layout::Tokens(_) => has_several(&|line| Some(token_lines::parts(line)?.0.to_owned())),
        Layout::Pairs(pairs) => has_several(&|line| Some(pairs.parts(line)?.0.to_owned())),
        Layout::Other(..) => false,
    }
}

/// One object may name its image as it was called elsewhere.
fn json_is_of_many(shape: &JsonShape) -> bool {
    match shape {
        JsonShape::Document(document) => {
            let Entries { under_image_names, with_captions, .. } = document.entries;
            document.is_coco()
                || document.is_karpathy()
                || document.first_of_table.is_some()
                || document.lists.iter().any(|(_, seen)| seen.is_complete() && seen.count > 1)
                || under_image_names > 1 && with_captions > 1
        }
        JsonShape::Lines(seen) => seen.is_complete() && seen.count > 1,
    }
}
