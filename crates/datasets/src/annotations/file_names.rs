//! What the name of a file says about it: whether it may contain captions, and what was done to it. `train.csv.gz`,
//! `train.csv~` and `train.csv.part` were or will be `train.csv`.

use crate::annotations::split_names::split_of_word;
use crate::name_forms::without_ending;
use crate::source::{SourceFile, TEXTS, is_packed_text_name, is_parquet_name};

/// Whether files of this name are looked into; so are those without an ending that speak of captions.
pub(crate) fn is_read(name: &str) -> bool {
    has_one_of(name, &TEXTS) || is_parquet_name(name)
}

/// Endings of files that are one for each image where they have its name.
pub(crate) const BESIDE: [&str; 6] = [".txt", ".caption", ".json", ".xml", ".yaml", ".yml"];
/// Names of files about a data set, which contain none of it.
pub(crate) const ABOUT: [&str; 9] =
    ["readme", "license", "licence", "copying", "notice", "changelog", "citation", "requirements", "package"];
/// COCO's files of other things.
pub(crate) const OTHERS_OF_COCO: [&str; 5] = ["instances_", "person_keypoints_", "stuff_", "panoptic_", "image_info_"];

pub(crate) fn may_hold_captions(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    is_read(name) || has_one_of(name, &BESIDE) || speaks_of_captions(name)
}

/// Whether a name without an ending speaks of captions.
pub(crate) fn speaks_of_captions(name: &str) -> bool {
    !name.contains('.') && (has_word(name, "caption") || has_word(name, "annotation"))
}

/// Whether a path ends so, in capital letters or not.
pub(crate) fn has_ending(path: &str, ending: &str) -> bool {
    let start = path.len().checked_sub(ending.len());
    start.is_some_and(|start| path.as_bytes()[start..].eq_ignore_ascii_case(ending.as_bytes()))
}

pub(crate) fn has_one_of(path: &str, endings: &[&str]) -> bool {
    endings.iter().any(|ending| has_ending(path, ending))
}

/// The part of a path that an image and the files about it share: in a tar archive up to the first dot of the name.
pub(crate) fn key_of(file: &SourceFile) -> &str {
    if !file.is_in_tar() {
        return without_ending(&file.path);
    }
    let name_at = file.path.rfind('/').map_or(0, |at| at + 1);
    file.path[name_at..].find('.').map_or(&file.path, |dot| &file.path[..name_at + dot])
}

/// Whether a file with this name is about a data set and contains none of it.
pub(crate) fn is_about(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name);
    ABOUT.iter().any(|about| stem.eq_ignore_ascii_case(about))
}

/// Whether a file with this name is one of COCO's that contain no captions.
pub(crate) fn is_other_of_coco(name: &str) -> bool {
    OTHERS_OF_COCO.iter().any(|start| name.starts_with(start))
}

/// Whether a name has this word in it, in capital letters or not.
pub(crate) fn has_word(name: &str, word: &str) -> bool {
    name.to_ascii_lowercase().contains(word)
}

/// What a file will be called when its download is finished; `None` for one that is called like a whole file.
pub(crate) fn unfinished(path: &str) -> Option<&str> {
    let (_, whole) = wrapping(path).filter(|(what, _)| *what == Wrapping::Unfinished)?;
    is_read(unwrapped(whole)).then_some(whole)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrapping {
    Packed,
    /// An editor or the user kept it when it was changed.
    Backup,
    /// Its download is not finished.
    Unfinished,
}

pub(crate) const ENDINGS: [(&str, Wrapping); 33] = [
    (".gz", Wrapping::Packed),
    (".bz2", Wrapping::Packed),
    (".xz", Wrapping::Packed),
    (".lzma", Wrapping::Packed),
    (".zst", Wrapping::Packed),
    (".zstd", Wrapping::Packed),
    (".lz4", Wrapping::Packed),
    (".br", Wrapping::Packed),
    (".z", Wrapping::Packed),
    (".zip", Wrapping::Packed),
    (".7z", Wrapping::Packed),
    (".rar", Wrapping::Packed),
    (".tar", Wrapping::Packed),
    (".tgz", Wrapping::Packed),
    (".tbz", Wrapping::Packed),
    (".tbz2", Wrapping::Packed),
    (".txz", Wrapping::Packed),
    ("~", Wrapping::Backup),
    (".bak", Wrapping::Backup),
    (".backup", Wrapping::Backup),
    (".orig", Wrapping::Backup),
    (".old", Wrapping::Backup),
    (".save", Wrapping::Backup),
    (".copy", Wrapping::Backup),
    (".swp", Wrapping::Backup),
    (".part", Wrapping::Unfinished),
    (".partial", Wrapping::Unfinished),
    (".crdownload", Wrapping::Unfinished),
    (".opdownload", Wrapping::Unfinished),
    (".download", Wrapping::Unfinished),
    (".incomplete", Wrapping::Unfinished),
    (".aria2", Wrapping::Unfinished),
    (".tmp", Wrapping::Unfinished),
];

/// The outermost of what was done to the file at `path`, and its path without that.
pub(crate) fn wrapping(path: &str) -> Option<(Wrapping, &str)> {
    let (ending, wrapping) = ENDINGS.iter().find(|(ending, _)| has_ending(path, ending))?;
    let inside = &path[..path.len() - ending.len()];
    (!inside.is_empty() && !inside.ends_with('/')).then_some((*wrapping, inside))
}

/// The path of the file before anything was done to it.
pub(crate) fn unwrapped(mut path: &str) -> &str {
    while let Some((_, inside)) = wrapping(path) {
        path = inside;
    }
    path
}

/// The path that a compressed text would have unpacked: it is the only file in an archive of its name.
pub(crate) fn as_unpacked(path: &str) -> &str {
    let Some((packed, name)) = path.rsplit_once('/').filter(|(packed, _)| is_packed_text_name(packed)) else {
        return path;
    };
    let whole = without_ending(packed);
    if whole == name || whole.strip_suffix(name).is_some_and(|folder| folder.ends_with('/')) { whole } else { path }
}

/// The path without all that was done to the file, and without its own ending, unless that is a split:
/// `captions.train`.
pub(crate) fn stem(path: &str) -> &str {
    let path = unwrapped(path);
    let stem = without_ending(path);
    let is_split = path[stem.len()..].strip_prefix('.').is_some_and(|ending| split_of_word(ending).is_some());
    if is_split { path } else { stem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compressed_text_lies_where_its_archive_lies() {
        for (path, expected) in [
            ("x/train.json.gz/train.json", "x/train.json"),
            ("train.csv.ZST/train.csv", "train.csv"),
            ("x/train.json.gz/other.json", "x/train.json.gz/other.json"),
            ("x.zip/train.json", "x.zip/train.json"),
            ("a.tar.gz/a.tar", "a.tar.gz/a.tar"),
            ("train.json", "train.json"),
        ] {
            assert_eq!(as_unpacked(path), expected);
        }
    }

    #[test]
    fn endings_are_taken_off_one_after_the_other() {
        for (path, expected) in [
            ("a/train.csv", "a/train"),
            ("a/train.csv.gz", "a/train"),
            ("train.CSV.TAR.GZ.part", "train"),
            ("train.csv~", "train"),
            ("train.jsonl.bak~", "train"),
            ("train.xz", "train"),
            ("captions.train", "captions.train"),
            ("captions.train.gz", "captions.train"),
            ("x.zip/train.csv", "x.zip/train"),
            ("~", "~"),
            ("a/.gz", "a/"),
        ] {
            assert_eq!(stem(path), expected, "{path}");
        }
        assert_eq!(wrapping("a.csv.gz"), Some((Wrapping::Packed, "a.csv")));
        assert_eq!(wrapping("a.csv"), None);
    }
}
