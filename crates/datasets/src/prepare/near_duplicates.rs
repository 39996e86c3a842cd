//! Images of different splits that show the same picture: equal to the byte, or scaled, encoded again or touched up.
//!
//! Works on digests and hashes only and reads no file. A preparation does not look for pairs inside one split: they make
//! a set smaller than it seems, but no score better than it is.

use std::collections::{BTreeMap, BTreeSet};

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U16;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use image::{Rgb, RgbImage};
use rayon::prelude::*;

use crate::annotations::{RawDataset, Repair};

/// Finds pictures that are, or seem to be, in two splits.
pub(super) fn note_shared_pictures(raw: &mut RawDataset, digests: &[[u8; 32]], hashes: &[u64]) {
    /// Pairs that are named.
    const MAX_NAMED: usize = 20;
    let splits = || raw.images.iter().map(|image| image.split);
    let same = same_content(&digests.iter().copied().zip(splits()).collect::<Vec<_>>());
    let is_same = |one: usize, other: usize| digests[one] == digests[other];
    let near = pairs_across(&hashes.iter().copied().zip(splits()).collect::<Vec<_>>(), MAX_DISTANCE, is_same);
    let name = |index: usize| {
        let image = &raw.images[index];
        format!("{} ({})", image.filename, image.split.map_or("", |split| split.name()))
    };
    let mut repairs = Vec::new();
    for &(one, other) in same.iter().take(MAX_NAMED) {
        repairs.push(Repair::new(name(one), format!("the same picture is in another split: {}", name(other))));
    }
    if same.len() > MAX_NAMED {
        repairs.push(Repair::new(format!("{} more", same.len() - MAX_NAMED), "pictures are in two splits"));
    }
    for &(one, other, distance) in near.closest.iter().take(MAX_NAMED) {
        let note = format!("looks like {} of another split ({distance} of 64 bits differ)", name(other));
        repairs.push(Repair::new(name(one), note));
    }
    if near.count > MAX_NAMED {
        repairs
            .push(Repair::new(format!("{} more pairs", near.count - MAX_NAMED), "pictures in two splits look alike"));
    }
    if near.num_not_compared > 0 {
        let note = format!("{} not compared with those of other splits", near.num_not_compared);
        repairs.push(Repair::new("pictures without structure", note));
    }
    raw.repairs.extend(repairs);
}

/// The distance up to which two pictures count as the same, in bits of 64. Of the 24 million pairs of 7,000 photographs
/// of Flickr8k only one is as near, and shows the same picture; of 1,000 of these photographs, 2 are farther from
/// themselves once saved as JPEG of quality 50, and none once made half as large.
pub(crate) const MAX_DISTANCE: u32 = 4;
/// Maximum number of pairs in [`Pairs::closest`].
pub(crate) const NUM_LISTED: usize = 100;
/// The hash of a picture without structure.
const NO_STRUCTURE: u64 = 0;
/// Set bits of a hash that is compared. A picture that grows brighter or darker all the way from left to right, as a
/// sky or an empty page does, has next to none or nearly all 64, whatever else it shows. Of 7,000 photographs of
/// Flickr8k one is outside.
const COMPARED_BITS: std::ops::RangeInclusive<u32> = 6..=58;
/// Of 255: the contrast of the 9x8 picture below which its hash is noise. The least of 7,000 photographs of Flickr8k is
/// 37; a plain surface of 160x160 pixels under noise of 20 to either side has 3.
const MIN_CONTRAST: u32 = 10;
/// In pixels. No JPEG is longer, and the resizer's table for a line that long takes 3 MB.
const MAX_SIDE: u32 = 65_535;
/// Columns and rows of the picture that is hashed; neighbours in a row give the 8x8 bits.
const COLUMNS: u32 = 9;
const ROWS: u32 = 8;
/// What one step of an 8-bit value is in 16 bits.
const STEP: u32 = 257;

/// Pairs of images in different splits that are within a distance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pairs {
    /// All such pairs.
    pub count: usize,
    /// The closest of them, at most [`NUM_LISTED`]: (index, larger index, distance in bits), by distance, then index.
    pub closest: Vec<(usize, usize, u32)>,
    /// Images that were not compared, since their pictures have too little structure to distinguish them.
    pub num_not_compared: usize,
}

/// The difference hash of a picture: 64 bits that stay nearly the same when it is scaled or encoded again.
///
/// The picture becomes gray (ITU-R BT.601, 16 bits) and is resized to 9x8 with antialiasing (Lanczos, three lobes). A
/// bit is set where a pixel is brighter than its right neighbour; rows from the top, pixels from the left, the first
/// bit is the highest. 16 bits since neighbours that 8 bits round to the same value would be decided by the encoder.
/// A picture whose 72 pixels differ by less than 10 of 255 has hash 0, which [`pairs_across`] compares with nothing; so
/// have a picture without pixels and one with a side above 65,535.
///
/// Source: N. Krawetz, "Kind of Like That" (The Hacker Factor Blog, 2013), which calls it dHash; Lanczos as in the
/// Python package `imagehash`. With a triangle, five pairs of other photographs among 7,000 are within the distance.
pub(crate) fn difference_hash(image: &RgbImage) -> u64 {
    let Some(pixels) = shrink(image) else { return NO_STRUCTURE };
    let (darkest, brightest) = pixels.iter().fold((u16::MAX, 0), |(low, high), &gray| (low.min(gray), high.max(gray)));
    if u32::from(brightest - darkest) < MIN_CONTRAST * STEP {
        return NO_STRUCTURE;
    }
    let neighbours = pixels.chunks_exact(COLUMNS as usize).flat_map(|row| row.windows(2));
    neighbours.fold(0, |hash, pair| hash << 1 | u64::from(pair[0] > pair[1]))
}

/// Whether a picture of this hash has enough structure to be compared.
pub(crate) fn is_compared(hash: u64) -> bool {
    COMPARED_BITS.contains(&hash.count_ones())
}

/// Pairs of images in different splits whose hashes differ in at most `max_distance` bits ([`MAX_DISTANCE`] is a good
/// one), without those that `is_known`, given their indices. Hashes with fewer than 6 or more than 58 set bits are not
/// compared. The result does not depend on the number of threads.
pub(crate) fn pairs_across<S: Copy + Ord + Sync>(
    hashes: &[(u64, S)],
    max_distance: u32,
    is_known: impl Fn(usize, usize) -> bool + Sync,
) -> Pairs {
    let (groups, mut pairs) = groups(hashes);
    for (index, group) in groups.iter().enumerate() {
        for other in &groups[index + 1..] {
            pairs = pairs.and(compare(group, other, max_distance, &is_known));
        }
    }
    pairs
}

/// As [`pairs_across`], of images in the same split.
pub(crate) fn pairs_within<S: Copy + Ord + Sync>(
    hashes: &[(u64, S)],
    max_distance: u32,
    is_known: impl Fn(usize, usize) -> bool + Sync,
) -> Pairs {
    let (groups, mut pairs) = groups(hashes);
    // Each pair is met from both of its images, and each image meets itself.
    let is_met = |image: usize, candidate: usize| candidate >= image || is_known(image, candidate);
    for group in &groups {
        pairs = pairs.and(compare(group, group, max_distance, &is_met));
    }
    pairs
}

/// The images of each split that are compared, and the number of those that are not.
fn groups<S: Copy + Ord>(hashes: &[(u64, S)]) -> (Vec<Group>, Pairs) {
    let mut groups = BTreeMap::<S, Group>::new();
    for (image, &(hash, split)) in hashes.iter().enumerate() {
        if is_compared(hash) {
            let group = groups.entry(split).or_default();
            group.hashes.push(hash);
            group.images.push(image);
        }
    }
    let groups: Vec<Group> = groups.into_values().collect();
    let num_compared: usize = groups.iter().map(|group| group.images.len()).sum();
    (groups, Pairs { num_not_compared: hashes.len() - num_compared, ..Pairs::default() })
}

/// Pairs of images in different splits with the same digest, as (index, larger index) in ascending order. Each image of
/// a group of equal ones is paired with the first image of the group that is in another split, so that a picture that
/// is there a thousand times gives a thousand pairs and not a million.
pub(crate) fn same_content<C: Copy + Ord, S: Copy + PartialEq>(images: &[(C, S)]) -> Vec<(usize, usize)> {
    let mut order: Vec<usize> = (0..images.len()).collect();
    // The sort is stable: equal ones stay in the order of their indices.
    order.sort_by_key(|&image| images[image].0);
    let mut pairs = BTreeSet::new();
    for group in order.chunk_by(|&one, &other| images[one].0 == images[other].0) {
        let first = group[0];
        let Some(&elsewhere) = group.iter().find(|&&image| images[image].1 != images[first].1) else { continue };
        for &image in group {
            let partner = if images[image].1 == images[first].1 { elsewhere } else { first };
            pairs.insert((image.min(partner), image.max(partner)));
        }
    }
    pairs.into_iter().collect()
}

/// The images of a split that are compared.
#[derive(Default)]
struct Group {
    hashes: Vec<u64>,
    images: Vec<usize>,
}

impl Pairs {
    fn add(&mut self, one: usize, other: usize, distance: u32) {
        self.count += 1;
        self.closest.push((one.min(other), one.max(other), distance));
        // Sorting at each pair would be slow, and never sorting would keep them all in memory.
        if self.closest.len() >= 4 * NUM_LISTED {
            self.keep_closest();
        }
    }

    fn and(mut self, other: Self) -> Self {
        self.count += other.count;
        self.closest.extend(other.closest);
        self.keep_closest();
        self
    }

    fn keep_closest(&mut self) {
        self.closest.sort_unstable_by_key(|&(one, other, distance)| (distance, one, other));
        self.closest.truncate(NUM_LISTED);
    }
}

/// The pixels of the 9x8 gray picture, row by row.
fn shrink(image: &RgbImage) -> Option<Vec<u16>> {
    let (width, height) = image.dimensions();
    if width.min(height) == 0 || width.max(height) > MAX_SIDE {
        return None;
    }
    let gray: Vec<U16> = image.pixels().map(|&pixel| U16::new(gray(pixel))).collect();
    let source = TypedImageRef::new(width, height, &gray).expect("there are as many pixels");
    let mut target = TypedImage::new(COLUMNS, ROWS);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Lanczos3));
    Resizer::new().resize_typed(&source, &mut target, &options).expect("none of the pictures is empty");
    Some(target.pixels().iter().map(|pixel| pixel.0).collect())
}

fn gray(Rgb([red, green, blue]): Rgb<u8>) -> u16 {
    let thousandths = 299 * u32::from(red) + 587 * u32::from(green) + 114 * u32::from(blue);
    (thousandths * STEP / 1000) as u16
}

/// Compares each image of one split with each of the other.
fn compare(one: &Group, other: &Group, max_distance: u32, is_known: &(impl Fn(usize, usize) -> bool + Sync)) -> Pairs {
    /// Hashes looked at without a branch, which the compiler makes vector instructions of.
    const BLOCK: usize = 64;
    let (small, large) = if one.images.len() < other.images.len() { (one, other) } else { (other, one) };
    let compare_one = |mut pairs: Pairs, (&hash, &image): (&u64, &usize)| {
        for (hashes, images) in small.hashes.chunks(BLOCK).zip(small.images.chunks(BLOCK)) {
            let distance = |candidate: &u64| (candidate ^ hash).count_ones();
            if hashes.iter().map(distance).min().is_some_and(|least| least <= max_distance) {
                let distances = hashes.iter().map(distance).zip(images);
                for (distance, &candidate) in distances {
                    if distance <= max_distance && !is_known(image, candidate) {
                        pairs.add(image, candidate, distance);
                    }
                }
            }
        }
        pairs
    };
    let images = large.hashes.par_iter().zip(&large.images);
    images.fold(Pairs::default, compare_one).reduce(Pairs::default, Pairs::and)
}

#[cfg(test)]
mod tests {
    use image::codecs::jpeg::JpegEncoder;
    use image::imageops::{self, FilterType as Filter};

    use super::*;

    /// Numbers from 0 to 1 that look random.
    struct Numbers(u64);

    impl Numbers {
        fn bits(&mut self) -> u64 {
            // SplitMix64.
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
            mixed ^ mixed >> 31
        }

        fn next(&mut self) -> f32 {
            (self.bits() >> 40) as f32 / (1 << 24) as f32
        }
    }

    /// Waves of all directions, a bright disc, and grain: as coarse and as fine as a photograph.
    fn picture(seed: u64) -> RgbImage {
        let mut numbers = Numbers(seed);
        let waves: Vec<[f32; 4]> = (0..8).map(|_| [(); 4].map(|()| numbers.next())).collect();
        let [left, top] = [numbers.next() * 320.0, numbers.next() * 240.0];
        RgbImage::from_fn(320, 240, |x, y| {
            let (x, y) = (x as f32, y as f32);
            let wave = |[a, b, phase, height]: &[f32; 4]| {
                height * ((a - 0.5) * x / 16.0 + (b - 0.5) * y / 16.0 + 6.3 * phase).sin()
            };
            let disc = if (x - left).hypot(y - top) < 50.0 { 60.0 } else { 0.0 };
            let gray = 120.0 + 25.0 * waves.iter().map(wave).sum::<f32>() + disc + 10.0 * numbers.next();
            Rgb([gray as u8, (gray * 0.9) as u8, (gray * 0.7 + 20.0) as u8])
        })
    }

    fn plain(noise: f32) -> RgbImage {
        let mut numbers = Numbers(3);
        RgbImage::from_fn(160, 160, |_, _| Rgb([(120.0 + noise * (2.0 * numbers.next() - 1.0)) as u8; 3]))
    }

    fn saved(image: &RgbImage, quality: u8) -> RgbImage {
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, quality).encode_image(image).unwrap();
        image::load_from_memory(&bytes).unwrap().into_rgb8()
    }

    fn distance(one: &RgbImage, other: &RgbImage) -> u32 {
        (difference_hash(one) ^ difference_hash(other)).count_ones()
    }

    #[test]
    fn a_picture_scaled_or_saved_again_stays_within_the_distance() {
        for seed in 0..8 {
            let original = picture(seed);
            let half = imageops::resize(&original, 160, 120, Filter::Triangle);
            let other_shape = imageops::resize(&original, 131, 197, Filter::CatmullRom);
            let larger = imageops::resize(&original, 500, 375, Filter::Lanczos3);
            for changed in [saved(&original, 40), saved(&half, 75), half, other_shape, saved(&larger, 75)] {
                let distance = distance(&original, &changed);
                assert!(distance <= MAX_DISTANCE, "{distance} for {:?} of seed {seed}", changed.dimensions());
            }
        }
    }

    #[test]
    fn other_pictures_are_far_away() {
        let pictures: Vec<RgbImage> = (0..8).map(picture).collect();
        for (index, one) in pictures.iter().enumerate() {
            for other in &pictures[index + 1..] {
                assert!(distance(one, other) > 3 * MAX_DISTANCE);
            }
        }
    }

    #[test]
    fn a_bit_is_set_where_a_pixel_is_brighter_than_its_right_neighbour() {
        // Every row rises but for one step.
        let falls = |places: &'static [(u32, u32)]| {
            RgbImage::from_fn(9, 8, |x, y| {
                let falls = places.iter().filter(|&&(column, row)| row == y && column < x).count() as u32;
                Rgb([(100 + 5 * x - 20 * falls) as u8; 3])
            })
        };
        assert_eq!(difference_hash(&falls(&[(0, 0)])), 1 << 63);
        assert_eq!(difference_hash(&falls(&[(7, 7)])), 1);
        assert_eq!(difference_hash(&falls(&[(1, 0), (0, 1)])), 1 << 62 | 1 << 55);
    }

    #[test]
    fn colours_count_as_their_gray() {
        let one_pixel = |pixel| RgbImage::from_fn(9, 8, |x, y| if (x, y) == (4, 4) { pixel } else { Rgb([80; 3]) });
        let at = |column: u32| 1_u64 << (63 - (8 * 4 + column));
        assert_eq!(difference_hash(&one_pixel(Rgb([0, 200, 0]))), at(4));
        assert_eq!(difference_hash(&one_pixel(Rgb([0, 0, 255]))), at(3));
        assert_eq!(difference_hash(&one_pixel(Rgb([255; 3]))), at(4));
        assert_eq!((gray(Rgb([255; 3])), gray(Rgb([1; 3]))), (u16::MAX, 257));
    }

    #[test]
    fn pictures_without_structure_are_not_compared() {
        let ramp = |seed: u64, rising: bool| {
            let grain = picture(seed);
            RgbImage::from_fn(320, 240, |x, y| {
                let x = if rising { x } else { 319 - x };
                Rgb([(x / 2) as u8 + grain.get_pixel(x, y)[0] / 16; 3])
            })
        };
        for (one, other) in
            [(plain(0.0), saved(&plain(20.0), 60)), (ramp(1, true), ramp(2, true)), (ramp(1, false), ramp(2, false))]
        {
            let hashes = [(difference_hash(&one), 0), (difference_hash(&other), 1)];
            assert!(distance(&one, &other) <= MAX_DISTANCE);
            let expected = Pairs { num_not_compared: 2, ..Pairs::default() };
            assert_eq!(pairs_across(&hashes, MAX_DISTANCE, |_, _| false), expected);
        }
    }

    #[test]
    fn hashes_of_next_to_no_or_nearly_all_bits_are_not_compared() {
        for (num_bits, is_compared) in [(0, false), (5, false), (6, true), (58, true), (59, false), (64, false)] {
            let hash = u64::MAX.checked_shr(64 - num_bits).unwrap_or(0);
            let found = pairs_across(&[(hash, 'a'), (hash, 'b')], 0, |_, _| false);
            assert_eq!((found.count, found.num_not_compared), if is_compared { (1, 0) } else { (0, 2) }, "{num_bits}");
        }
    }

    #[test]
    fn a_dark_picture_is_compared_and_noise_alone_is_not() {
        let mut dark = picture(1);
        dark.iter_mut().for_each(|value| *value /= 8);
        assert!(distance(&dark, &picture(1)) <= MAX_DISTANCE);
        assert_eq!(difference_hash(&plain(20.0)), NO_STRUCTURE);
        assert_ne!(difference_hash(&plain(255.0)), NO_STRUCTURE);
    }

    #[test]
    fn every_shape_has_a_hash() {
        for (width, height) in [(0, 0), (0, 5), (1, 1), (1, 500), (70_000, 1), (3, 2)] {
            let image = RgbImage::from_fn(width, height, |x, y| Rgb([(x % 251) as u8, (y % 251) as u8, 9]));
            let hash = difference_hash(&image);
            // The last one is there to end without a panic.
            assert!(hash == NO_STRUCTURE || (width, height) == (3, 2), "{width}x{height}: {hash:x}");
        }
    }

    #[test]
    fn pairs_are_those_of_a_plain_double_loop() {
        let mut numbers = Numbers(5);
        let centres: Vec<u64> = (0..6).map(|_| numbers.bits()).collect();
        let mut near = |index: usize| {
            let flips = numbers.bits() & numbers.bits() & numbers.bits() & numbers.bits();
            (centres[index % 6] ^ flips, (index % 10).min(2))
        };
        let hashes: Vec<(u64, usize)> = (0..400).map(&mut near).collect();
        let expected = |is_within: bool| {
            let mut expected = Vec::new();
            for (one, (hash, split)) in hashes.iter().enumerate() {
                for (other, (other_hash, other_split)) in hashes.iter().enumerate().skip(one + 1) {
                    let distance = (hash ^ other_hash).count_ones();
                    if distance <= MAX_DISTANCE && (split == other_split) == is_within {
                        expected.push((one, other, distance));
                    }
                }
            }
            expected.sort_by_key(|&(one, other, distance)| (distance, one, other));
            expected
        };
        let across = pairs_across(&hashes, MAX_DISTANCE, |_, _| false);
        let within = pairs_within(&hashes, MAX_DISTANCE, |_, _| false);
        for (found, expected) in [(across, expected(false)), (within, expected(true))] {
            assert!(expected.len() > 400, "{}", expected.len());
            assert_eq!((found.count, found.num_not_compared), (expected.len(), 0));
            assert_eq!(found.closest, expected[..NUM_LISTED]);
        }
    }

    #[test]
    fn pairs_do_not_depend_on_the_number_of_threads() {
        let hashes: Vec<(u64, usize)> = (0..900).map(|index| (0xFF_FFFF ^ (index as u64 % 7), index % 3)).collect();
        let with = |num_threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(num_threads).build().unwrap();
            pool.install(|| pairs_across(&hashes, 1, |_, _| false))
        };
        assert_eq!(with(1), with(4));
        assert!(with(1).count > 10 * NUM_LISTED);
    }

    #[test]
    fn equal_content_pairs_each_image_with_the_first_of_another_split() {
        let pairs = |images: &[(u8, char)]| {
            same_content(&images.iter().map(|&(byte, split)| ([byte; 32], split)).collect::<Vec<_>>())
        };
        assert_eq!(pairs(&[]), []);
        assert_eq!(pairs(&[(1, 'a'), (1, 'a'), (2, 'b')]), []);
        assert_eq!(pairs(&[(2, 'b'), (1, 'a'), (2, 'a'), (3, 'c')]), [(0, 2)]);
        assert_eq!(pairs(&[(1, 'a'), (1, 'a'), (1, 'b'), (1, 'b'), (1, 'c')]), [(0, 2), (0, 3), (0, 4), (1, 2)]);
    }
}
