//! The words for splits, and the names of files and folders that have them.

use crate::prepared::Split;

/// The split called `word`.
pub(crate) fn split_of_word(word: &str) -> Option<Split> {
    let word = word.trim().to_ascii_lowercase();
    // `Flickr_8k.trainImages.txt`
    match word.strip_suffix("images").unwrap_or(&word) {
        // `trainval` is VOC's word for what is not for testing.
        "train" | "training" | "trainval" | "restval" => Some(Split::Train),
        "val" | "valid" | "validation" | "dev" | "eval" => Some(Split::Val),
        "test" | "testing" => Some(Split::Test),
        _ => None,
    }
}

/// The split that a file or folder name speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NamedSplit<'a> {
    pub split: Split,
    /// The name has no other words than those that names of splits have.
    pub is_sure: bool,
    pub name: &'a str,
}

/// The split that a path speaks of: `flickr30k_train.json`, `captions_val2017.json`, `test/`. The last name with such a
/// word counts; one with words for two splits (`captions_train_val.json`) says nothing.
pub(crate) fn split_of_path(path: &str) -> Option<NamedSplit<'_>> {
    for name in path.rsplit('/') {
        // A folder of "my test photos" is not a split.
        let words = || name.split(|character: char| !character.is_ascii_alphabetic() && character != ' ');
        let mut splits = words().filter_map(split_of_word);
        if let Some(split) = splits.next() {
            let is_sure = words().all(|word| split_of_word(word).is_some() || says_nothing(word));
            return splits.all(|other| other == split).then_some(NamedSplit { split, is_sure, name });
        }
    }
    None
}

/// Whether a word in the name of a split says nothing about what is in it.
fn says_nothing(word: &str) -> bool {
    const WORDS: [&str; 40] = [
        "",
        "annotation",
        "annotations",
        "archive",
        "caption",
        "captions",
        "coco",
        "csv",
        "data",
        "dataset",
        "file",
        "files",
        "gz",
        "flickr",
        "image",
        "images",
        "img",
        "imgs",
        "json",
        "jsonl",
        "k",
        "karpathy",
        "list",
        "metadata",
        "of",
        "parquet",
        "part",
        "photos",
        "pictures",
        "set",
        "shard",
        "shards",
        "split",
        "splits",
        "tar",
        "text",
        "tsv",
        "txt",
        "zip",
        "zst",
    ];
    WORDS.contains(&word.trim().to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_and_folders_say_the_split() {
        for (path, expected) in [
            ("flickr30k_train.json", Some(Split::Train)),
            ("annotations/captions_val2017.json", Some(Split::Val)),
            ("validation/metadata.jsonl", Some(Split::Val)),
            ("Flickr_8k.devImages.txt", Some(Split::Val)),
            ("my test photos/1.jpg", None),
            ("shards/test-0001.tar/7", Some(Split::Test)),
            ("train/val.csv", Some(Split::Val)),
            ("captions.txt", None),
            ("contest.json", None),
            ("my_test_photos/1.jpg", Some(Split::Test)),
            ("captions_train_val.json", None),
            ("test/captions_train_val.json", None),
            ("train2014+val2014.json", None),
            ("train/train-part.json", Some(Split::Train)),
        ] {
            assert_eq!(split_of_path(path).map(|named| named.split), expected, "{path}");
        }
    }

    #[test]
    fn a_name_with_words_of_its_own_is_less_sure() {
        for (path, is_sure, name) in [
            ("val/1.jpg", true, "val"),
            ("x/train2017/y", true, "train2017"),
            ("captions_val2017.json", true, "captions_val2017.json"),
            ("train-0001.tar", true, "train-0001.tar"),
            ("Flickr_8k.testImages.txt", true, "Flickr_8k.testImages.txt"),
            ("my_test_photos/1.jpg", false, "my_test_photos"),
            ("test-tubes", false, "test-tubes"),
            ("birds_val.csv", false, "birds_val.csv"),
        ] {
            let named = split_of_path(path).unwrap();
            assert_eq!((named.is_sure, named.name), (is_sure, name), "{path}");
        }
    }
}
