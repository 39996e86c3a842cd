//! Which of the images that show the same picture is kept.

use std::collections::HashMap;

use rayon::prelude::*;

use crate::output::Sameness;
use crate::prepare::near_duplicates::{MAX_DISTANCE, is_compared};
use crate::prepared::Split;

/// What is known of an image's picture.
#[derive(Clone, Copy, Debug)]
pub(super) struct Content {
    pub(super) digest: [u8; 32],
    pub(super) difference_hash: u64,
    pub(super) split: Option<Split>,
}

/// Of each image the one that is kept in its place and the bits in which they differ; `None` where it is kept. Images of
/// the test split are kept before those of validation, these before all others, and else the first: what is scored
/// stays whole. Without [`Sameness::Near`] only equal files are the same. An image is the same as a kept one, so that
/// what is left has no two pictures that are.
pub(super) fn kept_instead(images: &[Content], sameness: Sameness) -> Vec<Option<(usize, u32)>> {
    let rank = |split| match split {
        Some(Split::Test) => 0,
        Some(Split::Val) => 1,
        Some(Split::Train) | None => 2,
    };
    let mut order: Vec<usize> = (0..images.len()).collect();
    order.sort_by_key(|&image| (rank(images[image].split), image));
    let mut instead = vec![None; images.len()];
    let mut first: HashMap<[u8; 32], usize> = HashMap::new();
    // The hashes of images that are kept, and which images these are.
    let (mut hashes, mut kept): (Vec<u64>, Vec<usize>) = (Vec::new(), Vec::new());
    for image in order {
        let Content { digest, difference_hash: hash, .. } = images[image];
        if let Some(&same) = first.get(&digest) {
            instead[image] = instead[same].or(Some((same, 0)));
            continue;
        }
        first.insert(digest, image);
        if sameness == Sameness::Exact || !is_compared(hash) {
            continue;
        }
        match nearest(&hashes, hash) {
            Some((place, distance)) => instead[image] = Some((kept[place], distance)),
            None => {
                hashes.push(hash);
                kept.push(image);
            }
        }
    }
    instead
}

/// The place of the nearest of `hashes`, and its distance, where that is one of the same picture.
fn nearest(hashes: &[u64], hash: u64) -> Option<(usize, u32)> {
    /// Hashes that one thread compares at a time.
    const CHUNK: usize = 1 << 14;
    let nearest_of = |(chunk, hashes): (usize, &[u64])| {
        let distances = hashes.iter().map(|other| (other ^ hash).count_ones()).zip(chunk * CHUNK..);
        distances.filter(|(distance, _)| *distance <= MAX_DISTANCE).min()
    };
    let found = hashes.par_chunks(CHUNK).enumerate().filter_map(|(chunk, hashes)| nearest_of((chunk, hashes))).min();
    found.map(|(distance, place)| (place, distance))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: u64 = 0xFFFF_FFFF;

    fn kept(images: &[(u8, u64, Option<Split>)], sameness: Sameness) -> Vec<Option<(usize, u32)>> {
        let content = |&(byte, difference_hash, split): &(u8, u64, Option<Split>)| Content {
            digest: [byte; 32],
            difference_hash,
            split,
        };
        kept_instead(&images.iter().map(content).collect::<Vec<_>>(), sameness)
    }

    #[test]
    fn the_first_of_equal_files_is_kept_and_near_ones_where_that_is_asked_for() {
        let images =
            [(1, HASH, None), (2, HASH ^ 1, None), (1, HASH, None), (3, HASH << 32, None), (2, HASH ^ 1, None)];
        assert_eq!(kept(&images, Sameness::Exact), [None, None, Some((0, 0)), None, Some((1, 0))]);
        let near = [None, Some((0, 1)), Some((0, 0)), None, Some((0, 1))];
        assert_eq!(kept(&images, Sameness::Near), near);
    }

    #[test]
    fn what_is_scored_is_kept_before_what_is_trained_on() {
        let images = [
            (1, HASH, Some(Split::Train)),
            (1, HASH, Some(Split::Val)),
            (2, HASH ^ 3, Some(Split::Test)),
            (1, HASH, None),
        ];
        assert_eq!(kept(&images, Sameness::Exact), [Some((1, 0)), None, None, Some((1, 0))]);
        assert_eq!(kept(&images, Sameness::Near), [Some((2, 2)), Some((2, 2)), None, Some((2, 2))]);
    }

    #[test]
    fn an_image_that_is_near_one_that_was_left_out_alone_is_kept() {
        let images = [(1, HASH, None), (2, HASH ^ 0b1111, None), (3, HASH ^ 0b1111_1111, None)];
        assert_eq!(kept(&images, Sameness::Near), [None, Some((0, 4)), None]);
    }

    #[test]
    fn pictures_without_structure_are_only_the_same_where_their_files_are() {
        let images = [(1, 0, None), (2, 0, None), (1, 0, None)];
        assert_eq!(kept(&images, Sameness::Near), [None, None, Some((0, 0))]);
    }
}
