//! Images that show the same picture, in two splits or in one.

use std::collections::{HashMap, HashSet};

use crate::look::pictures::Picture;
use crate::prepare::near_duplicates::{MAX_DISTANCE, Pairs, pairs_across, pairs_within, same_content};
use crate::prepared::{Dataset, Split};

/// Pairs of a kind that are kept at most.
const NUM_KEPT: usize = 100;

/// Two images that show the same picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Index in the data set.
    pub one: usize,
    /// Index in the data set, larger than `one`.
    pub other: usize,
    /// Bits of 64 by which their difference hashes differ; absent where the files are equal.
    pub distance: Option<u32>,
}

/// Pairs of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PairList {
    /// All of them.
    pub count: usize,
    /// At most 100: equal files in the order of the images, similar pictures from the nearest.
    pub first: Vec<Pair>,
}

/// Images that show the same picture. An image of a group of equal files is paired with one of the others only, the
/// first; similar ones are paired each with each, without those whose files are equal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Duplicates {
    /// Equal files in two splits.
    pub same_across: PairList,
    /// Similar pictures in two splits.
    pub near_across: PairList,
    /// Equal files in one split.
    pub same_within: PairList,
    /// Similar pictures in one split.
    pub near_within: PairList,
    /// Images that were not compared for similarity: their pictures have too little structure.
    pub num_not_compared: usize,
}

/// Finds them among `pictures`, one for each image of `dataset`; those that could not be read are left out.
pub fn duplicates(dataset: &Dataset, pictures: &[Result<Picture, String>]) -> Duplicates {
    let read = pictures.iter().enumerate().filter_map(|(image, picture)| Some((image, picture.as_ref().ok()?)));
    let (images, pictures): (Vec<usize>, Vec<&Picture>) = read.unzip();
    let splits: Vec<Split> = images.iter().map(|&image| dataset.images.get(image).split()).collect();
    let is_same = |one: usize, other: usize| pictures[one].digest == pictures[other].digest;
    let hashes: Vec<(u64, Split)> =
        pictures.iter().zip(&splits).map(|(picture, &split)| (picture.difference_hash, split)).collect();
    let across = pairs_across(&hashes, MAX_DISTANCE, is_same);
    let within = pairs_within(&hashes, MAX_DISTANCE, is_same);
    let place = |one: usize, other: usize, distance| Pair { one: images[one], other: images[other], distance };
    let near = |pairs: &Pairs| PairList {
        count: pairs.count,
        first: pairs.closest.iter().map(|&(one, other, distance)| place(one, other, Some(distance))).collect(),
    };
    let same = |pairs: Vec<(usize, usize)>| PairList {
        count: pairs.len(),
        first: pairs.into_iter().take(NUM_KEPT).map(|(one, other)| place(one, other, None)).collect(),
    };
    let of_splits: Vec<([u8; 32], Split)> =
        pictures.iter().map(|picture| picture.digest).zip(splits.iter().copied()).collect();
    Duplicates {
        same_across: same(same_content(&of_splits)),
        near_across: near(&across),
        same_within: same(repeated(&of_splits)),
        near_within: near(&within),
        num_not_compared: across.num_not_compared,
    }
}

/// Each item that an earlier one equals, with the first of these.
fn repeated(items: &[([u8; 32], Split)]) -> Vec<(usize, usize)> {
    let (mut firsts, mut seen) = (HashMap::new(), HashSet::new());
    let mut pairs = Vec::new();
    for (place, item) in items.iter().enumerate() {
        if seen.insert(item) {
            firsts.insert(item, place);
        } else {
            pairs.push((firsts[item], place));
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image_id::ImageId;
    use crate::prepared::{ImageRecord, Images};

    fn dataset(splits: &[Split]) -> Dataset {
        let record = |(index, &split): (usize, &Split)| ImageRecord {
            filename: format!("{index}.jpg"),
            split,
            captions: vec!["a dog runs".to_owned()],
            extras: Vec::new(),
            image_id: ImageId::Natural(index as u64),
        };
        let records: Vec<ImageRecord> = splits.iter().enumerate().map(record).collect();
        Dataset {
            directory: "absent".into(),
            name: "x".to_owned(),
            images: records.iter().collect::<Images>(),
            digest: String::new(),
            in_shards: None,
        }
    }

    fn picture(content: &str, difference_hash: u64) -> Result<Picture, String> {
        Ok(Picture { width: 8, height: 8, digest: [content.as_bytes()[0]; 32], difference_hash })
    }

    fn pairs(list: &PairList) -> Vec<(usize, usize, Option<u32>)> {
        assert_eq!(list.count, list.first.len());
        list.first.iter().map(|pair| (pair.one, pair.other, pair.distance)).collect()
    }

    #[test]
    fn the_same_picture_is_found_within_and_across_splits_and_told_from_a_similar_one() {
        const HASH: u64 = 0xFFFF_FFFF;
        let splits = [Split::Train, Split::Train, Split::Val, Split::Train, Split::Train, Split::Test];
        let pictures = [
            picture("a", HASH),
            picture("a", HASH),
            picture("a", HASH),
            Err("it is damaged".to_owned()),
            picture("b", HASH ^ 1),
            picture("c", 0),
        ];
        let found = duplicates(&dataset(&splits), &pictures);
        assert_eq!(pairs(&found.same_across), [(0, 2, None), (1, 2, None)]);
        assert_eq!(pairs(&found.near_across), [(2, 4, Some(1))]);
        assert_eq!(pairs(&found.same_within), [(0, 1, None)]);
        assert_eq!(pairs(&found.near_within), [(0, 4, Some(1)), (1, 4, Some(1))]);
        assert_eq!(found.num_not_compared, 1);
    }

    #[test]
    fn of_many_pairs_the_number_is_kept_and_the_first_are_listed() {
        let pictures: Vec<_> = (0..300).map(|_| picture("a", 0)).collect();
        let found = duplicates(&dataset(&[Split::Train; 300]), &pictures);
        assert_eq!((found.same_within.count, found.same_within.first.len()), (299, NUM_KEPT));
        assert_eq!(found.near_within, PairList::default());
    }
}
