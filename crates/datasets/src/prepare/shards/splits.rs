//! What the images of all shards are for: as annotations or names of files say, or drawn. Of each image 37 bytes are in
//! memory.

use rayon::slice::ParallelSliceMut as _;

use crate::annotations::{RawDataset, RawImage, Repair, SplitFrom};
use crate::output::Options;
use crate::prepare::guessed_splits;
use crate::prepare::shards::scan::ScannedImage;
use crate::prepared::Split;
use base::error::usage_error;
use base::random::Stream;

/// What is said of an image, as the number of one of these in [`Claims::kinds`].
type Claim = (Option<Split>, SplitFrom);

/// What is known of the images, one after the other.
#[derive(Default)]
pub(super) struct Claims {
    /// Different claims: ten at most.
    kinds: Vec<Claim>,
    of_images: Vec<u8>,
    /// With the number of the image.
    digests: Vec<([u8; 32], u32)>,
    split_names: Vec<(Split, String)>,
}

/// The split of each image, and notes about all of them.
pub(super) struct Assigned {
    pub(super) splits: Vec<Split>,
    pub(super) repairs: Vec<Repair>,
}

impl Claims {
    /// Adds the first name of each split that names of files speak of.
    pub(super) fn hear(&mut self, names: &[(Split, String)]) {
        for (split, name) in names {
            if !self.split_names.iter().any(|(known, _)| known == split) {
                self.split_names.push((*split, name.clone()));
            }
        }
    }

    /// Adds the next image. There may be fewer than 2^32 of them.
    pub(super) fn add(&mut self, image: &ScannedImage) {
        let from = if image.split.is_some() { image.split_from } else { SplitFrom::default() };
        let claim = (image.split, from);
        let kind = self.kinds.iter().position(|known| *known == claim).unwrap_or_else(|| {
            self.kinds.push(claim);
            self.kinds.len() - 1
        });
        let number = u32::try_from(self.of_images.len()).expect("a data set has fewer than 2^32 images");
        self.of_images.push(kind as u8);
        self.digests.push((image.place.digest, number));
    }

    /// Settles which claims count, and draws the shares of `options` from the training images. Equal pictures come to
    /// one side; the draw depends on the contents of the images alone.
    ///
    /// # Errors
    /// A share for a split that has images.
    pub(super) fn assign(mut self, options: &Options) -> anyhow::Result<Assigned> {
        let mut repairs = Vec::new();
        let kinds = self.settled(&mut repairs);
        let split_of = |kind: u8| kinds[usize::from(kind)];
        let has = |split| self.of_images.iter().any(|&kind| split_of(kind) == Some(split));
        let shares =
            [("test", options.test_fraction, Split::Test), ("validation", options.validation_fraction, Split::Val)];
        for (flag, asked, split) in shares {
            if asked.is_some() && has(split) {
                let message =
                    format!("--{flag}-fraction was given, but the shards already name {} images", split.name());
                return Err(usage_error(message, "leave it out"));
            }
        }
        let num_without = self.of_images.iter().filter(|&&kind| split_of(kind).is_none()).count();
        if num_without > 0 && num_without < self.of_images.len() {
            let note = "nothing says what they are for: used for training";
            repairs.push(Repair::new(format!("{num_without} images"), note));
        }
        let mut splits: Vec<Split> =
            self.of_images.iter().map(|&kind| split_of(kind).unwrap_or(Split::Train)).collect();
        drop(std::mem::take(&mut self.of_images));
        self.digests.par_sort_unstable();
        self.draw(shares.map(|(_, share, split)| (share.unwrap_or(0.0), split)), &mut splits, &mut repairs);
        self.note_equal(&splits, &mut repairs);
        Ok(Assigned { splits, repairs })
    }

    /// The split of each kind of claim, once those are left out that are not believed.
    fn settled(&mut self, repairs: &mut Vec<Repair>) -> Vec<Option<Split>> {
        let image = |&(split, split_from): &Claim| RawImage { split, split_from, ..RawImage::default() };
        let mut raw = RawDataset {
            images: self.kinds.iter().map(image).collect(),
            split_names: std::mem::take(&mut self.split_names),
            ..RawDataset::default()
        };
        // What counts is which claims there are, not how many images make them.
        guessed_splits::settle(&mut raw, false);
        repairs.append(&mut raw.repairs);
        raw.images.iter().map(|image| image.split).collect()
    }

    fn draw(&self, shares: [(f64, Split); 2], splits: &mut [Split], repairs: &mut Vec<Repair>) {
        if shares.iter().all(|(share, _)| *share <= 0.0) {
            return;
        }
        let is_train = |splits: &[Split], number: u32| splits[number as usize] == Split::Train;
        // Where the equal images of each group begin.
        let (mut groups, mut at, mut num_train) = (Vec::new(), 0, 0);
        for group in self.digests.chunk_by(|(one, _), (other, _)| one == other) {
            let count = group.iter().filter(|(_, number)| is_train(splits, *number)).count();
            if count > 0 {
                groups.push(at as u32);
            }
            (at, num_train) = (at + group.len(), num_train + count);
        }
        Stream::new(0, "prepare", "split").shuffle(&mut groups);
        for (share, split) in shares {
            if share <= 0.0 || groups.len() < 2 {
                continue;
            }
            let wanted = ((num_train as f64 * share).round() as usize).max(1);
            let mut taken = 0;
            while taken < wanted
                && groups.len() > 1
                && let Some(first) = groups.pop()
            {
                let rest = &self.digests[first as usize..];
                for (_, number) in rest.iter().take_while(|(digest, _)| *digest == rest[0].0) {
                    if is_train(splits, *number) {
                        splits[*number as usize] = split;
                        taken += 1;
                    }
                }
            }
            let note = format!("drawn for {} from the training images", split.name());
            repairs.push(Repair::new(format!("{taken} images"), note));
        }
    }

    /// Counts the images that are there several times, and those of them that are in several splits.
    fn note_equal(&self, splits: &[Split], repairs: &mut Vec<Repair>) {
        let (mut num_more, mut num_across) = (0, 0);
        for group in self.digests.chunk_by(|(one, _), (other, _)| one == other).filter(|group| group.len() > 1) {
            let split = |place: usize| splits[group[place].1 as usize];
            num_more += group.len() - 1;
            if (1..group.len()).any(|place| split(place) != split(0)) {
                num_across += (0..group.len()).filter(|&place| split(place) != Split::Train).count();
            }
        }
        if num_more > 0 {
            repairs.push(Repair::new(format!("{num_more} images"), "have the content of another image: they are kept"));
        }
        if num_across > 0 {
            let note = "for validation or testing show a picture that is in another split too";
            repairs.push(Repair::new(format!("{num_across} images"), note));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shards::place::{Place, digest_of};
    use base::error::{describe, is_usage_error};

    fn claims(images: &[(u32, Option<Split>, SplitFrom)]) -> Claims {
        let mut claims = Claims::default();
        for (content, split, split_from) in images {
            claims.add(&ScannedImage {
                member: String::new(),
                captions: Vec::new(),
                extras: Vec::new(),
                id: None,
                split: *split,
                split_from: *split_from,
                place: Place { digest: digest_of(&content.to_le_bytes()), ..Place::plain(0, 4) },
            });
        }
        claims.hear(&[(Split::Val, "val-0.tar".to_owned())]);
        claims
    }

    fn shares(validation: Option<f64>, test: Option<f64>) -> Options {
        Options { validation_fraction: validation, test_fraction: test, ..Options::default() }
    }

    fn count(splits: &[Split], wanted: Split) -> usize {
        splits.iter().filter(|&&split| split == wanted).count()
    }

    const SURE: SplitFrom = SplitFrom::Name { is_sure: true };

    #[test]
    fn images_of_which_nothing_is_said_are_for_training() {
        let found = claims(&[(0, None, SURE), (1, None, SURE)]).assign(&Options::default()).unwrap();
        assert_eq!((found.splits, found.repairs), (vec![Split::Train; 2], vec![]));
    }

    #[test]
    fn shares_are_drawn_by_content_and_equal_pictures_come_to_one_side() {
        let images: Vec<(u32, Option<Split>, SplitFrom)> =
            (0..400).map(|number| (number % 200, None, SplitFrom::default())).collect();
        let found = claims(&images).assign(&shares(Some(0.1), Some(0.05))).unwrap();
        assert_eq!((count(&found.splits, Split::Val), count(&found.splits, Split::Test)), (40, 20));
        assert!((0..200).all(|number| found.splits[number] == found.splits[number + 200]));
        let notes: Vec<&str> = found.repairs.iter().map(|repair| repair.what.as_str()).collect();
        assert_eq!(notes, ["20 images", "40 images", "200 images"], "{:?}", found.repairs);
        let backward: Vec<_> = images.into_iter().rev().collect();
        let mut again = claims(&backward).assign(&shares(Some(0.1), Some(0.05))).unwrap().splits;
        again.reverse();
        assert!(again == found.splits);
    }

    #[test]
    fn names_of_shards_are_believed_where_something_is_left_for_training() {
        let found = claims(&[(0, Some(Split::Val), SURE), (1, None, SURE), (0, None, SURE)]);
        let found = found.assign(&Options::default()).unwrap();
        assert_eq!(found.splits, [Split::Val, Split::Train, Split::Train]);
        let notes = format!("{:?}", found.repairs);
        assert!(notes.contains("val from \\\"val-0.tar\\\"") && notes.contains("used for training"), "{notes}");
        assert!(notes.contains("1 images\", repair: \"for validation or testing show a picture"), "{notes}");
        let all = claims(&[(0, Some(Split::Val), SURE), (1, Some(Split::Val), SURE)]);
        let all = all.assign(&Options::default()).unwrap();
        assert_eq!(all.splits, [Split::Train; 2]);
        assert!(all.repairs[0].repair.contains("none left for training"), "{:?}", all.repairs);
    }

    #[test]
    fn a_share_of_a_split_that_is_there_is_a_mistake() {
        let named = claims(&[(0, Some(Split::Val), SplitFrom::Annotations), (1, None, SURE)]);
        let error = named.assign(&shares(Some(0.5), None)).map(|found| found.splits).unwrap_err();
        assert!(is_usage_error(&error) && describe(&error).contains("--validation-fraction was given"));
    }
}
