//! What the end of a name says was done to a file: it was packed, kept as a backup, or is not downloaded to its end.
//! `train.csv.gz`, `train.csv~` and `train.csv.part` were or will be `train.csv`.

use crate::annotations::candidates::has_ending;
use crate::annotations::text::split_of_word;
use crate::source::without_ending;

/// What was done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrapping {
    /// It is packed.
    Packed,
    /// An editor or a person kept it when it was changed.
    Backup,
    /// Its download is not finished.
    Unfinished,
}

const ENDINGS: [(&str, Wrapping); 33] = [
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
pub(super) fn wrapping(path: &str) -> Option<(Wrapping, &str)> {
    let (ending, wrapping) = ENDINGS.iter().find(|(ending, _)| has_ending(path, ending))?;
    let inside = &path[..path.len() - ending.len()];
    (!inside.is_empty() && !inside.ends_with('/')).then_some((*wrapping, inside))
}

/// The path of the file before anything was done to it.
pub(super) fn unwrapped(mut path: &str) -> &str {
    while let Some((_, inside)) = wrapping(path) {
        path = inside;
    }
    path
}

/// The path without all that was done to the file, and without its own ending, unless that is a split: `captions.train`.
pub(super) fn stem(path: &str) -> &str {
    let path = unwrapped(path);
    let stem = without_ending(path);
    let is_split = path[stem.len()..].strip_prefix('.').is_some_and(|ending| split_of_word(ending).is_some());
    if is_split { path } else { stem }
}

#[cfg(test)]
mod tests {
    use super::*;

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
