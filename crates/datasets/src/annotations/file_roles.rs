//! What a file may be to a data set by its name alone, before it is here.

use crate::annotations::file_names::{is_about, is_other_of_coco, is_read, speaks_of_captions};
use crate::annotations::split_names::split_of_path;
use crate::source::{is_archive_name, is_packed_name, is_parquet_name};
use pixels::picture_formats::is_image_name;

/// Description of the features of a data set, in repositories of the Hub.
const FEATURES: &str = "dataset_infos.json";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileRole {
    Parquet,
    /// Of a kind that is read.
    Archive,
    Picture,
    /// It may hold captions.
    Text,
    /// It is not read.
    Other,
}

/// What the file at this path may be.
pub fn role_of(path: &str) -> FileRole {
    let name = path.rsplit('/').next().unwrap_or(path);
    let is_hidden = path.split('/').any(|part| part.starts_with('.'));
    match () {
        () if is_hidden || is_packed_name(name) || name == FEATURES => FileRole::Other,
        () if is_parquet_name(name) => FileRole::Parquet,
        () if is_archive_name(name) => FileRole::Archive,
        () if is_image_name(name) => FileRole::Picture,
        () if (is_read(name) || speaks_of_captions(name)) && !is_about(name) && !is_other_of_coco(name) => {
            FileRole::Text
        }
        () => FileRole::Other,
    }
}

/// The name of the split that a path speaks of: train, val or test.
pub fn split_named(path: &str) -> Option<&'static str> {
    split_of_path(path).map(|named| named.split.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_is_fetched() {
        for (path, role) in [
            ("data/train-00000-of-00004.parquet", FileRole::Parquet),
            ("shards/00001.tar", FileRole::Archive),
            ("captions.json.gz", FileRole::Archive),
            ("images/1.JPG", FileRole::Picture),
            ("images/1.txt", FileRole::Text),
            ("train/metadata.jsonl", FileRole::Text),
            ("captions", FileRole::Text),
            ("README.md", FileRole::Other),
            ("LICENSE.txt", FileRole::Other),
            ("load.py", FileRole::Other),
            ("images.tar.xz", FileRole::Other),
            ("dataset_infos.json", FileRole::Other),
            (".cache/1.jpg", FileRole::Other),
        ] {
            assert_eq!(role_of(path), role, "{path}");
        }
        assert_eq!((split_named("validation/0000.parquet"), split_named("data/0.parquet")), (Some("val"), None));
    }
}
