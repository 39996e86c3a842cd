//! Files for training that are not read, be they packed, damaged, backups or of no known kind. Where no file for
//! training is read, the images of those for validation would be trained on: the code that settles the splits makes
//! these files an error.

use std::collections::{HashMap, HashSet};

use crate::annotations::file_names::{Wrapping, is_about, is_other_of_coco, key_of, may_hold_captions, stem, wrapping};
use crate::annotations::format::Match;
use crate::annotations::raw_dataset::Repair;
use crate::annotations::split_names::{split_of_path, split_of_word};
use crate::annotations::unread::UnreadFiles;
use crate::prepared::Split;
use crate::source::Source;
use pixels::picture_formats::is_image_name;

/// Files that are named; more would be one for each image.
const MAX_NAMED: usize = 100;
/// Extensions of programs, settings and papers, which contain no captions.
const OTHER_ENDINGS: [&str; 16] = [
    "py",
    "ipynb",
    "sh",
    "bat",
    "ps1",
    "r",
    "md",
    "rst",
    "tex",
    "log",
    "toml",
    "cfg",
    "ini",
    "db-journal",
    "css",
    "js",
];

/// A file that is not read, and whose name says that it is for training.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrainingFile {
    pub path: String,
    /// What it is, or why it is not read.
    pub reason: String,
    /// What can be done about it.
    pub way_out: &'static str,
    /// Its own name says nothing else.
    pub is_sure: bool,
    /// Another note names it.
    is_told: bool,
}

/// Notes about those that no other note names.
pub(crate) fn notes(files: &[TrainingFile]) -> impl Iterator<Item = Repair> {
    const MAX_NAMED: usize = 5;
    let untold = files.iter().filter(|file| !file.is_told);
    untold.take(MAX_NAMED).map(|file| Repair::new(file.path.clone(), format!("{}; {}", file.reason, file.way_out)))
}

/// Those of `source`, where `found` is read, and `others` could have been.
pub(crate) fn of(source: &Source, found: &Match, others: &[&Match], unread: &UnreadFiles<'_>) -> Vec<TrainingFile> {
    let files = source.files();
    let read: HashSet<usize> = found.files.iter().copied().collect();
    let format_of =
        |of: &Match| of.files.iter().chain(&of.spare).map(|&file| (file, of.format.name)).collect::<Vec<_>>();
    let formats: HashMap<usize, &str> = others.iter().copied().chain([found]).flat_map(format_of).collect();
    let images: HashSet<&str> = files.iter().filter(|file| is_image_name(&file.path)).map(key_of).collect();
    // What lies beside an image is about that one, unless it could be read as its caption.
    let is_meant = |&file: &usize| {
        !read.contains(&file) && (formats.contains_key(&file) || !images.contains(key_of(&files[file])))
    };
    let inside = (0..files.len()).filter(is_meant).map(|file| (files[file].path.clone(), formats.get(&file).copied()));
    let outside = source.packed().map(str::to_owned).chain(source.skipped().into_iter().map(|(path, _)| path));
    let mut all: Vec<TrainingFile> = inside
        .chain(outside.map(|path| (path, None)))
        .filter(|(path, _)| is_for_training(path))
        .take(MAX_NAMED)
        .map(|(path, format)| training_file(path, format, unread))
        .collect();
    all.sort_by_key(|file| !file.is_sure);
    all
}

/// Whether the name of a file, or else of a folder that it lies in, says that it is for training.
fn is_for_training(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    let is_other = is_image_name(name)
        || is_about(name)
        || is_other_of_coco(name)
        || OTHER_ENDINGS.iter().any(|other| other.eq_ignore_ascii_case(ending))
        || ["thumbs.db", "desktop.ini"].iter().any(|junk| name.eq_ignore_ascii_case(junk));
    // The last name that speaks of any split counts.
    !is_other
        && stem(path).rsplit('/').find_map(|name| {
            if words(name).any(is_training_word) {
                return Some(true);
            }
            split_of_path(name).map(|_| false)
        }) == Some(true)
}

/// The words of a name, also of one such as `captionsTrain`.
fn words(name: &str) -> impl Iterator<Item = &str> {
    let is_break = |character: char| !character.is_ascii_alphabetic();
    name.split(is_break).flat_map(|word| {
        let at = word.match_indices("Train").map(|(at, _)| at).next().unwrap_or(0);
        [&word[..at], &word[at..]]
    })
}

/// `train`, `training`, `trainset`, `trainval`; not what a training program writes.
fn is_training_word(word: &str) -> bool {
    let word = word.to_ascii_lowercase();
    split_of_word(&word) == Some(Split::Train) || word.starts_with("train") && !word.starts_with("trainer")
}

fn training_file(path: String, format: Option<&str>, unread: &UnreadFiles<'_>) -> TrainingFile {
    const RENAME: &str = "if it contains captions, give it an extension such as .csv, .tsv, .txt, .json or .jsonl";
    const REPAIR: &str = "repair it, or write it in the same form as the others";
    let name = path.rsplit('/').next().unwrap_or(&path);
    let is_sure = split_of_path(stem(name)).is_some_and(|named| named.is_sure && named.split == Split::Train);
    let (reason, way_out) = match (unread.reason(&path), format, wrapping(&path)) {
        (_, Some(format), _) => (format!("is in the format {format} and not used"), REPAIR),
        (Some(reason), ..) if reason.contains("a list of image names") => {
            (reason.to_owned(), "give the folder with the lists of all splits as `--split-file`")
        }
        (Some(reason), None, Some((Wrapping::Packed, _))) if reason.starts_with("was skipped") => {
            (reason.to_owned(), REPAIR)
        }
        (_, None, Some((Wrapping::Packed, _))) => ("is compressed, and not read".to_owned(), "unpack it"),
        (Some(reason), None, _) => (reason.to_owned(), REPAIR),
        (None, None, Some((Wrapping::Backup, _))) => {
            ("is not read: its name says that it is a backup".to_owned(), "rename it if it is the file you want")
        }
        (None, None, Some((Wrapping::Unfinished, _))) => {
            ("is not read: its name says that its download is not finished".to_owned(), "download it again")
        }
        (None, None, None) if may_hold_captions(&path) => (
            "is not read: so many files of one kind in a folder should be one per image, but no image with its name \
             is beside it"
                .to_owned(),
            "put the images beside such files",
        ),
        (None, None, None) => ("is not read: its name does not say that it is text".to_owned(), RENAME),
    };
    let is_told = format.is_some() || unread.reason(&path).is_some();
    TrainingFile { path, reason, way_out, is_sure, is_told }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_that_a_file_is_for_training_whatever_its_ending() {
        for path in [
            "train.csv.gz",
            "captions_train2017.json.xz",
            "train.csv~",
            "TRAIN",
            "train.lst",
            "training.parquet",
            "captionsTrain.dat",
            "trainval.json.gz",
            "train/captions.bin",
            "captions.train",
        ] {
            assert!(is_for_training(path), "{path}");
        }
        for path in [
            "train.py",
            "train/1.jpg",
            "train/README.md",
            "instances_train2017.json",
            "constraints.csv",
            "trainer_state.json",
            "train/val.lst",
            "val.csv.gz",
            "train/Thumbs.db",
        ] {
            assert!(!is_for_training(path), "{path}");
        }
    }
}
