//! Files that belong together by their names: `captions_train.json` and `captions_val.json`, `train/metadata.csv` and
//! `val/metadata.csv`, `part-00000-of-00002.csv` and the next.

use crate::annotations::file_names::{as_unpacked, stem};
use crate::annotations::split_names::{split_of_path, split_of_word};
use crate::prepared::Split;

/// What the path of a file says of the set that it is a part of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Family {
    /// Its words without the split and the number of the part: equal for files that belong together.
    pub(crate) name: String,
    pub(crate) split: Option<Split>,
    pub(crate) part: Option<String>,
    /// The words of the file's own name, where it has some beside its split.
    of_file: Option<String>,
}

impl Family {
    pub(crate) fn of(path: &str) -> Self {
        let stem = stem(as_unpacked(path));
        let is_digit = |character: char| character.is_ascii_digit();
        let (mut words, mut part, mut last) = (Vec::new(), None, None);
        for folder in stem.split('/') {
            let mut pieces: Vec<&str> = Vec::new();
            for piece in folder.split(|character: char| !character.is_alphanumeric()) {
                // `train2017`
                let letters = piece.trim_end_matches(is_digit);
                pieces.extend([letters, &piece[letters.len()..]]);
            }
            pieces.retain(|piece| !piece.is_empty());
            if let Some(of) = pieces.iter().position(|piece| piece.eq_ignore_ascii_case("of"))
                && of > 0
                && pieces.len() == of + 2
                && [pieces[of - 1], pieces[of + 1]].iter().all(|piece| piece.chars().all(is_digit))
            {
                part = Some(pieces[of - 1].to_owned());
                pieces.truncate(of - 1);
            }
            pieces.retain(|piece| split_of_word(piece).is_none());
            last = (!pieces.is_empty()).then(|| pieces.join("_").to_lowercase());
            words.extend(last.clone());
        }
        let of_file = split_of_path(stem.rsplit('/').next().unwrap_or(stem)).and(last);
        Self { name: words.join("/"), split: split_of_path(stem).map(|named| named.split), part, of_file }
    }

    /// Whether both are parts of one set: their paths are alike but for the split, or the names of the files are, and
    /// say so by more than the split.
    pub(crate) fn is_sister(&self, other: &Self) -> bool {
        self.name == other.name || self.of_file.is_some() && self.of_file == other.of_file
    }

    /// Whether both are the same part of one set.
    pub(crate) fn is_same_part(&self, other: &Self) -> bool {
        self.is_sister(other) && (self.split, &self.part) == (other.split, &other.part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_and_parts_of_one_set_are_a_family() {
        for (one, other) in [
            ("captions_train2017.json", "captions_val2017.json"),
            ("captions_train2017.json.crdownload", "captions_val2017.json"),
            ("captions_train2017.json.gz", "captions_val2017.json"),
            ("train.csv~", "val.csv"),
            ("train.jsonl.bz2.part", "val.jsonl"),
            ("captions.train", "captions.val"),
            ("train.csv", "val.csv"),
            ("train.csv", "validation.tsv"),
            ("train/metadata.jsonl", "validation/metadata.jsonl"),
            ("x/train/_annotations.coco.json", "x/valid/_annotations.coco.json"),
            ("data/train-00000-of-00002.jsonl", "data/train-00001-of-00002.jsonl"),
            ("Flickr_8k.trainImages.txt", "Flickr_8k.devImages.txt"),
            ("flickr30k_train.json", "flickr30k-val.json"),
            ("a/captions_train.json", "b/captions_val.json"),
            ("train.json.gz/train.json", "val.json"),
            ("x/train.jsonl.zst/train.jsonl", "x/val.jsonl.gz"),
            ("data/train-00000-of-00002.parquet", "data/validation-00000-of-00001.parquet"),
        ] {
            let (one, other) = (Family::of(one), Family::of(other));
            assert!(one.is_sister(&other) && !one.is_same_part(&other), "{one:?} {other:?}");
        }
        for (one, other) in [
            ("captions_train2017.json", "instances_train2017.json"),
            ("captions_train2014.json", "captions_val2017.json"),
            ("a/captions.csv", "b/captions.csv"),
            ("train.csv", "train_labels.csv"),
            ("a/train.csv", "b/val.csv"),
            ("dataset_coco.json", "dataset_flickr8k.json"),
        ] {
            assert!(!Family::of(one).is_sister(&Family::of(other)), "{one} {other}");
        }
        assert!(Family::of("train.csv").is_same_part(&Family::of("train.json")));
        assert!(Family::of("a/captions_train.csv").is_same_part(&Family::of("b/captions_train.csv")));
        assert_eq!(Family::of("a/test-00001-of-00002.csv").part.as_deref(), Some("00001"));
    }
}
