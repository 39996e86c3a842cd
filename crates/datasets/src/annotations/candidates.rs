//! The files of a source that may hold captions, and what each of them is: told by its content, whatever it is called.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap, HashSet};

use crate::annotations::encoding::{decode, decode_start};
use crate::annotations::family::Family;
use crate::annotations::fields::file_of;
use crate::annotations::json_shape::JsonShape;
use crate::annotations::json_text::{explain, without_nan};
use crate::annotations::layout::{Layout, PairLayout};
use crate::annotations::text::split_of_path;
use crate::annotations::wrappings::{Wrapping, unwrapped, wrapping};
use crate::annotations::{Certainty, Format, Found, many_images};
use crate::name_forms::{last_part, loosest, number};
use crate::prepare::report::PREPARATION_FILE;
use crate::source::{Source, SourceFile, is_image_name, without_ending};
use base::fault::{describe, one_line};
use pixels::picture_formats::format_of_name;

/// Files of these endings are looked into; so are those without one that speak of captions.
const READ: [&str; 11] =
    [".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".tab", ".psv", ".txt", ".token", ".caption", ".captions"];
/// Endings of files that are one for each image where they have its name.
pub(super) const BESIDE: [&str; 6] = [".txt", ".caption", ".json", ".xml", ".yaml", ".yml"];
/// Files that hold captions perhaps, and are not read.
const NOT_READ: [(&str, &str); 12] = [
    (".xlsx", "a spreadsheet: save it as CSV"),
    (".xls", "a spreadsheet: save it as CSV"),
    (".ods", "a spreadsheet: save it as CSV"),
    (".feather", "a Feather file: save it as CSV or JSON Lines"),
    (".h5", "an HDF5 file: save it as CSV or JSON Lines"),
    (".hdf5", "an HDF5 file: save it as CSV or JSON Lines"),
    (".npy", "a NumPy file: save it as CSV or JSON Lines"),
    (".npz", "a NumPy file: save it as CSV or JSON Lines"),
    (".sqlite", "a data base: save it as CSV or JSON Lines"),
    (".xml", "XML: save it as CSV or JSON Lines"),
    (".yaml", "YAML: save it as CSV or JSON Lines"),
    (".yml", "YAML: save it as CSV or JSON Lines"),
];
/// Names of files about a data set, which hold none of it.
const ABOUT: [&str; 9] =
    ["readme", "license", "licence", "copying", "notice", "changelog", "citation", "requirements", "package"];
/// COCO's files of other things.
const OTHERS_OF_COCO: [&str; 5] = ["instances_", "person_keypoints_", "stuff_", "panoptic_", "image_info_"];
/// So many in one folder are one for each image.
const MOST_IN_FOLDER: usize = 100;
/// Bytes that are looked at, of files that are not JSON.
const MOST_BYTES: u64 = 1 << 16;

/// What a file holds.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// JSON.
    Json(JsonShape),
    /// Lines of text.
    Text(Layout),
    /// It cannot be read.
    Broken {
        /// Why.
        reason: String,
        /// Captions or images are spoken of in it.
        speaks_of_captions: bool,
    },
    /// It is of a kind that is not read.
    NotRead(&'static str),
    /// It is known, and holds no captions.
    Foreign(&'static str),
}

/// Files that may hold captions.
pub(super) struct Candidates<'a> {
    pub(super) source: &'a Source,
    /// Those that no format has claimed.
    open: Vec<(usize, Content)>,
    /// The source is one file: it holds captions if anything can be taken for them.
    pub(super) is_alone: bool,
    /// Files that were not looked into, of many in one folder: an example, their number, what they are.
    pub(super) many: Vec<(usize, usize)>,
    /// As [`loosest`] has them.
    names: OnceCell<HashSet<String>>,
}

impl<'a> Candidates<'a> {
    /// Looks into the files of `source`.
    pub(super) fn of(source: &'a Source) -> Self {
        let is_alone = source.files().len() == 1;
        let (few, many) = listed(source);
        let open = few.into_iter().map(|file| (file, look(source, file, is_alone))).collect();
        Self { source, open, is_alone, many, names: OnceCell::new() }
    }

    /// The files that nobody has claimed and whose content is wanted.
    pub(super) fn files(&self, is_wanted: impl Fn(&Content) -> bool) -> Vec<usize> {
        self.open.iter().filter(|(_, content)| is_wanted(content)).map(|(file, _)| *file).collect()
    }

    /// What the file holds, where nobody has claimed it.
    pub(super) fn content(&self, file: usize) -> Option<&Content> {
        self.open.iter().find(|(open, _)| *open == file).map(|(_, content)| content)
    }

    /// The files that nobody has claimed.
    pub(super) fn open(&self) -> &[(usize, Content)] {
        &self.open
    }

    /// Takes away files, so that no other format finds them.
    pub(super) fn claim(&mut self, found: &Found) {
        let claimed: HashSet<usize> = found.files.iter().chain(&found.spare).copied().collect();
        self.open.retain(|(file, _)| !claimed.contains(file));
    }

    /// Whether an image of this source is called so, with or without its ending.
    pub(super) fn has_image(&self, name: &str) -> bool {
        let names = self.names.get_or_init(|| {
            let images = self.source.files().iter().filter(|file| is_image_name(&file.path));
            images.flat_map(|file| [Some(loosest(file.name())), as_number(file.name())]).flatten().collect()
        });
        // An id is not written as the names of files are.
        let id = || as_number(name).filter(|_| !is_image_name(name));
        names.contains(last_part(&loosest(name))) || id().is_some_and(|id| names.contains(&id))
    }

    /// Whether a name is taken for that of an image: it has an ending, or an image of this name is there.
    pub(super) fn is_image(&self, name: &str) -> bool {
        let name = file_of(name);
        self.is_alone || is_image_name(name) || self.has_image(name)
    }

    /// The files as annotations of `format`: those together that are the splits of one data set, by their names alone where
    /// all of them name one.
    pub(super) fn grouped(
        &self,
        format: &'static Format,
        files: Vec<usize>,
        certainty: impl Fn(usize) -> Certainty,
    ) -> Vec<Found> {
        let name = |file: usize| self.source.files()[file].name();
        if files.len() > 1 && files.iter().all(|&file| split_of_path(name(file)).is_some()) {
            let certainty = files.iter().map(|&file| certainty(file)).min().unwrap_or(Certainty::Near);
            return vec![Found { certainty, ..Found::new(format, None, files) }];
        }
        self.by_family(format, files, certainty)
    }

    /// The files as annotations of `format`: those together whose names differ in their splits only.
    pub(super) fn by_family(
        &self,
        format: &'static Format,
        files: Vec<usize>,
        certainty: impl Fn(usize) -> Certainty,
    ) -> Vec<Found> {
        let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for file in files {
            groups.entry(Family::of(&self.source.files()[file].path).name).or_default().push(file);
        }
        let found = |files: Vec<usize>| {
            let certainty = files.iter().map(|&file| certainty(file)).min().unwrap_or(Certainty::Near);
            Found { certainty, ..Found::new(format, None, files) }
        };
        let mut all: Vec<Found> = groups.into_values().map(found).collect();
        all.sort_by_key(|found| found.files[0]);
        all
    }
}

/// The number that a name is, in a form that no name has.
fn as_number(name: &str) -> Option<String> {
    number(name).map(|number| format!("/{number}"))
}

/// Whether a file of this name may hold captions.
pub fn may_hold_captions(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    has_one_of(name, &READ) || has_one_of(name, &BESIDE) || speaks_of_captions(name)
}

/// Whether a name without an ending speaks of captions.
fn speaks_of_captions(name: &str) -> bool {
    !name.contains('.') && (has_word(name, "caption") || has_word(name, "annotation"))
}

/// Whether a path ends so, in capital letters or not.
pub(super) fn has_ending(path: &str, ending: &str) -> bool {
    let start = path.len().checked_sub(ending.len());
    start.is_some_and(|start| path.as_bytes()[start..].eq_ignore_ascii_case(ending.as_bytes()))
}

fn has_one_of(path: &str, endings: &[&str]) -> bool {
    endings.iter().any(|ending| has_ending(path, ending))
}

/// The part of a path that an image and the files about it share: in a tar archive up to the first dot of the name.
pub(super) fn key_of(file: &SourceFile) -> &str {
    if !file.is_in_tar() {
        return without_ending(&file.path);
    }
    let name_at = file.path.rfind('/').map_or(0, |at| at + 1);
    file.path[name_at..].find('.').map_or(&file.path, |dot| &file.path[..name_at + dot])
}

/// The files to look into, and those that are too many: the first of each folder and their number.
fn listed(source: &Source) -> (Vec<usize>, Vec<(usize, usize)>) {
    let files = source.files();
    // `captions.pdf` beside `captions.json` is no picture with its caption.
    let images: HashSet<&str> = files.iter().filter(|file| format_of_name(&file.path).is_some()).map(key_of).collect();
    let of_many = many_images::files(source);
    let is_listed = |&index: &usize| {
        let file = &files[index];
        let name = file.name();
        if unfinished(name).is_some() {
            return true;
        }
        let is_kind = speaks_of_captions(name)
            || has_one_of(name, &READ)
            || NOT_READ.iter().any(|(ending, _)| has_ending(name, ending));
        let is_beside = has_one_of(name, &BESIDE) && images.contains(key_of(file)) && !of_many.contains(&index);
        let is_alone = files.len() == 1 && !is_image_name(name);
        is_alone || is_kind && !is_about(name) && !is_beside && name != PREPARATION_FILE
    };
    let listed: Vec<usize> = (0..files.len()).filter(is_listed).collect();
    let mut in_folder: HashMap<(&str, &str), Vec<usize>> = HashMap::new();
    let ending = |file: usize| BESIDE.into_iter().find(|ending| has_ending(&files[file].path, ending));
    for &file in &listed {
        if let Some(ending) = ending(file) {
            in_folder.entry((files[file].folder(), ending)).or_default().push(file);
        }
    }
    let is_many = |file: usize| {
        ending(file).is_some_and(|ending| in_folder[&(files[file].folder(), ending)].len() > MOST_IN_FOLDER)
    };
    let mut many: Vec<(usize, usize)> =
        in_folder.values().filter(|all| all.len() > MOST_IN_FOLDER).map(|all| (all[0], all.len())).collect();
    many.sort_unstable();
    (listed.into_iter().filter(|&file| !is_many(file)).collect(), many)
}

/// Whether a file of this name is about a data set and holds none of it.
pub(super) fn is_about(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name);
    ABOUT.iter().any(|about| stem.eq_ignore_ascii_case(about))
}

/// Whether a file of this name is one of COCO's that hold no captions.
pub(super) fn is_other_of_coco(name: &str) -> bool {
    OTHERS_OF_COCO.iter().any(|start| name.starts_with(start))
}

/// Whether a name has this word in it, in capital letters or not.
pub(super) fn has_word(name: &str, word: &str) -> bool {
    name.to_ascii_lowercase().contains(word)
}

/// What a file will be called when its download is finished; `None` for one that is called like a whole file.
pub(super) fn unfinished(path: &str) -> Option<&str> {
    let (_, whole) = wrapping(path).filter(|(what, _)| *what == Wrapping::Unfinished)?;
    has_one_of(unwrapped(whole), &READ).then_some(whole)
}

fn look(source: &Source, file: usize, is_alone: bool) -> Content {
    let path = source.files()[file].path.as_str();
    let name = source.files()[file].name();
    if unfinished(name).is_some() {
        let reason = "its name says that its download is not finished".to_owned();
        return Content::Broken { reason, speaks_of_captions: false };
    }
    if is_other_of_coco(name) {
        return Content::Foreign("COCO's boxes, outlines or key points");
    }
    if let Some((_, what)) = NOT_READ.iter().find(|(ending, _)| has_ending(name, ending)) {
        return Content::NotRead(what);
    }
    let bytes = match source.read_start(file, MOST_BYTES) {
        Ok(bytes) => bytes,
        Err(error) => return Content::Broken { reason: one_line(&error), speaks_of_captions: false },
    };
    let is_whole = (bytes.len() as u64) < MOST_BYTES;
    let seen = String::from_utf8_lossy(&bytes).replace('\0', "").to_ascii_lowercase();
    let speaks_of_captions =
        seen.contains("caption") || [".jp", ".png", ".webp"].iter().any(|word| seen.contains(word));
    let broken = |reason: String| Content::Broken { reason, speaks_of_captions };
    let start = match decode_start(path, bytes) {
        Ok(start) => start,
        Err(error) => return broken(reason(&error, path)),
    };
    if start.trim().is_empty() {
        return broken("it is empty".to_owned());
    }
    if start.starts_with("version https://git-lfs") {
        return broken("it is a Git LFS pointer: fetch the file with `git lfs pull`".to_owned());
    }
    if ["<!doctype html", "<html"].iter().any(|tag| seen.trim_start().starts_with(tag)) {
        return broken("it is a page of the web: download the file itself".to_owned());
    }
    let is_json = has_one_of(name, &[".json", ".jsonl", ".ndjson"]);
    if start.trim_start().starts_with(['{', '[']) {
        match look_into_json(source, file, path) {
            Ok(content) => return content,
            // A caption may begin with a bracket.
            Err(reason) if is_json || start.trim_start().starts_with('{') => return broken(reason),
            Err(_) => {}
        }
    }
    match Layout::of(&start, is_whole) {
        Layout::Other(..) if is_json => {
            let shown: String = start.trim_start().chars().take(20).collect();
            broken(format!("it is not JSON: it begins with {shown:?}"))
        }
        other @ Layout::Other(..) if is_alone => {
            let text = source.read(file).and_then(|bytes| decode(path, bytes)).unwrap_or_default();
            Content::Text(PairLayout::of_any_names(&text).map_or(other, Layout::Pairs))
        }
        layout => Content::Text(layout),
    }
}

/// What the JSON is, or what is wrong with it.
fn look_into_json(source: &Source, file: usize, path: &str) -> Result<Content, String> {
    let text = source.read(file).and_then(|bytes| decode(path, bytes)).map_err(|error| reason(&error, path))?;
    let (clean, _) = without_nan(&text);
    JsonShape::of(&clean).map(Content::Json).map_err(|error| explain(&error, &text))
}

/// The message of an error about a file, which is named beside it.
fn reason(error: &anyhow::Error, path: &str) -> String {
    let text = describe(error);
    let message = text.lines().next().unwrap_or_default();
    match message.strip_prefix(path) {
        Some(rest) => format!("it{rest}"),
        None => message.replace(&format!(" of {path}"), ""),
    }
}
