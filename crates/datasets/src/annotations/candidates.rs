//! The files of a source that may contain captions, and what each of them is, judged by its content.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};

use crate::annotations::encoding::{decode, decode_start};
use crate::annotations::file_names::{
    BESIDE, has_ending, has_one_of, is_about, is_other_of_coco, is_read, key_of, may_hold_captions, speaks_of_captions,
    unfinished,
};
use crate::annotations::json::shape::{JsonShape, KeyedEntries};
use crate::annotations::json::text::{explain, without_nan};
use crate::annotations::layout::{Layout, PairLayout, token_parts};
use crate::annotations::references::file_of;
use crate::annotations::table_columns::TableColumns;
use crate::annotations::text::lines;
use crate::name_forms::{last_part, loosest, number};
use crate::prepared::PREPARATION_FILE;
use crate::source::{START, Source, UnnamedPictures};
use base::error::{describe, one_line};
use pixels::picture_formats::{format_of_name, is_image_name};

/// Files that may contain captions and are not read.
const NOT_READ: [(&str, &str); 12] = [
    (".xlsx", "a spreadsheet: save it as CSV"),
    (".xls", "a spreadsheet: save it as CSV"),
    (".ods", "a spreadsheet: save it as CSV"),
    (".feather", "a Feather file: save it as CSV or JSON Lines"),
    (".h5", "an HDF5 file: save it as CSV or JSON Lines"),
    (".hdf5", "an HDF5 file: save it as CSV or JSON Lines"),
    (".npy", "a NumPy file: save it as CSV or JSON Lines"),
    (".npz", "a NumPy file: save it as CSV or JSON Lines"),
    (".sqlite", "a database: save it as CSV or JSON Lines"),
    (".xml", "XML: save it as CSV or JSON Lines"),
    (".yaml", "YAML: save it as CSV or JSON Lines"),
    (".yml", "YAML: save it as CSV or JSON Lines"),
];
/// More in one folder are one for each image.
const MAX_IN_FOLDER: usize = 100;
/// Bytes that are looked at, of files that are not JSON.
const MAX_BYTES: u64 = 1 << 16;

#[derive(Clone, Debug)]
pub(crate) enum Content {
    Json(JsonShape),
    Text(Layout),
    Parquet(TableColumns),
    Broken {
        reason: String,
        /// Captions or images are spoken of in it.
        speaks_of_captions: bool,
    },
    /// It is of a kind that is not read.
    NotRead(&'static str),
    /// It is known, and contains no captions.
    Foreign(&'static str),
}

pub(crate) struct Candidates<'a> {
    pub(crate) source: &'a Source,
    /// Those that no format has claimed.
    open: Vec<(usize, Content)>,
    /// The source is one file: it contains captions if anything can be taken for them.
    pub(crate) is_alone: bool,
    /// Files that were not looked into, of many in one folder: an example, their number, what they are.
    pub(crate) many: Vec<(usize, usize)>,
    /// In their [`loosest`] forms.
    names: OnceCell<HashSet<String>>,
}

impl<'a> Candidates<'a> {
    pub(crate) fn of(source: &'a Source) -> Self {
        let is_alone = source.files().len() == 1;
        let (few, many) = listed(source);
        let open = few.into_iter().map(|file| (file, look(source, file, is_alone))).collect();
        Self { source, open, is_alone, many, names: OnceCell::new() }
    }

    /// The unclaimed files whose content is wanted.
    pub(crate) fn files(&self, is_wanted: impl Fn(&Content) -> bool) -> Vec<usize> {
        self.open.iter().filter(|(_, content)| is_wanted(content)).map(|(file, _)| *file).collect()
    }

    /// What the file contains, if no format has claimed it.
    pub(crate) fn content(&self, file: usize) -> Option<&Content> {
        self.open.iter().find(|(open, _)| *open == file).map(|(_, content)| content)
    }

    /// The unclaimed files.
    pub(crate) fn open(&self) -> &[(usize, Content)] {
        &self.open
    }

    /// Takes away files, so that no other format finds them.
    pub(crate) fn claim(&mut self, files: impl Iterator<Item = usize>) {
        let claimed: HashSet<usize> = files.collect();
        self.open.retain(|(file, _)| !claimed.contains(file));
    }

    /// Whether an image of this source has this name, with or without its ending.
    pub(crate) fn has_image(&self, name: &str) -> bool {
        let names = self.names.get_or_init(|| {
            let images = self.source.files().iter().filter(|file| is_image_name(&file.path));
            images.flat_map(|file| [Some(loosest(file.name())), as_number(file.name())]).flatten().collect()
        });
        // An id is not written as the names of files are.
        let id = || as_number(name).filter(|_| !is_image_name(name));
        names.contains(last_part(&loosest(name))) || id().is_some_and(|id| names.contains(&id))
    }

    /// Whether a name is taken for that of an image: it has an ending, or an image of this name is there.
    pub(crate) fn is_image(&self, name: &str) -> bool {
        let name = file_of(name);
        self.is_alone || is_image_name(name) || self.has_image(name)
    }
}

/// The number that a name is, in a form that no name has.
fn as_number(name: &str) -> Option<String> {
    number(name).map(|number| format!("/{number}"))
}

/// The files to look into, and those that are too many: the first of each folder and their number.
fn listed(source: &Source) -> (Vec<usize>, Vec<(usize, usize)>) {
    let files = source.files();
    // `captions.pdf` beside `captions.json` is not a picture with its caption.
    let images: HashSet<&str> = files.iter().filter(|file| format_of_name(&file.path).is_some()).map(key_of).collect();
    let of_many = files_of_many(source);
    let is_listed = |&index: &usize| {
        let file = &files[index];
        let name = file.name();
        if unfinished(name).is_some() {
            return true;
        }
        let is_kind =
            speaks_of_captions(name) || is_read(name) || NOT_READ.iter().any(|(ending, _)| has_ending(name, ending));
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
        ending(file).is_some_and(|ending| in_folder[&(files[file].folder(), ending)].len() > MAX_IN_FOLDER)
    };
    let mut many: Vec<(usize, usize)> =
        in_folder.values().filter(|all| all.len() > MAX_IN_FOLDER).map(|all| (all[0], all.len())).collect();
    many.sort_unstable();
    (listed.into_iter().filter(|&file| !is_many(file)).collect(), many)
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
    if let Some(table) = source.table(file) {
        return Content::Parquet(TableColumns::of(table, source.columns()));
    }
    if let Some((_, what)) = NOT_READ.iter().find(|(ending, _)| has_ending(name, ending)) {
        return Content::NotRead(what);
    }
    let bytes = match source.read_start(file, MAX_BYTES) {
        Ok(bytes) => bytes,
        Err(error) => return Content::Broken { reason: one_line(&error), speaks_of_captions: false },
    };
    let is_whole = (bytes.len() as u64) < MAX_BYTES;
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
        return broken("it is a web page: download the file itself".to_owned());
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
    match Layout::named(&start, is_whole, source.columns()) {
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
    JsonShape::of(&clean, source.columns()).map(Content::Json).map_err(|error| explain(&error, &text))
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

/// More files of one kind beside images are one for each of them.
const MAX_OF_MANY: usize = 20;

/// The files beside images that are about many: `flowers.json` beside `flowers.jpg` may hold the captions of all.
pub(crate) fn files_of_many(source: &Source) -> HashSet<usize> {
    let files = source.files();
    let images: HashSet<&str> = files.iter().filter(|file| format_of_name(&file.path).is_some()).map(key_of).collect();
    let mut found = HashSet::new();
    for ending in BESIDE {
        let beside =
            source.find(|file| !file.is_in_tar() && has_ending(&file.path, ending) && images.contains(key_of(file)));
        if beside.len() <= MAX_OF_MANY {
            found.extend(beside.into_iter().filter(|&file| is_of_many(source, file)));
        }
    }
    found
}

fn is_of_many(source: &Source, file: usize) -> bool {
    let path = &source.files()[file].path;
    let Ok(text) = decode(path, source.glance(file, u64::MAX)) else { return false };
    if has_ending(path, ".json") {
        return JsonShape::of(&without_nan(&text).0, source.columns()).is_ok_and(|shape| json_is_of_many(&shape));
    }
    let has_several = |name_of: &dyn Fn(&str) -> Option<String>| {
        lines(&text).filter_map(|(_, line)| name_of(line)).collect::<HashSet<String>>().len() > 1
    };
    match Layout::named(&text, true, source.columns()) {
        Layout::Table(table) => table.first_image.is_some(),
        Layout::Tokens(_) => has_several(&|line| Some(token_parts(line)?.0.to_owned())),
        Layout::Pairs(pairs) => has_several(&|line| Some(pairs.parts(line)?.0.to_owned())),
        Layout::Other(..) => false,
    }
}

/// One object may name its image as it was called elsewhere.
fn json_is_of_many(shape: &JsonShape) -> bool {
    match shape {
        JsonShape::Document(document) => {
            let KeyedEntries { under_image_names, with_captions, .. } = document.entries;
            document.is_coco()
                || document.is_karpathy()
                || document.first_of_table.is_some()
                || document.lists.iter().any(|(_, seen)| seen.is_complete() && seen.count > 1)
                || under_image_names > 1 && with_captions > 1
        }
        JsonShape::Lines(seen) => seen.is_complete() && seen.count > 1,
    }
}

/// Files that are pictures by their content only, except those that hold texts by their names and those for which
/// `is_known` holds.
pub(crate) fn unnamed_pictures(source: &Source, is_known: impl Fn(usize) -> bool) -> Option<UnnamedPictures> {
    struct Path<'a>(usize, &'a str);
    impl AsRef<str> for Path<'_> {
        fn as_ref(&self) -> &str {
            self.1
        }
    }
    let paths = source.files().iter().enumerate().map(|(file, of)| Path(file, &of.path));
    let open = paths.filter(|Path(file, path)| !is_known(*file) && !may_hold_captions(path));
    UnnamedPictures::among(open, |Path(file, _)| source.peek(*file, START).unwrap_or_default())
}
