//! What one pass over all captions finds: the vocabulary, lengths, scripts, and texts that several images share.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde::{Deserialize, Serialize};

use crate::dataset_file::plain;
use crate::output::caption_statistics::script::{Script, main_script};
use crate::output::caption_statistics::words::words;

/// How long captions are; all zero where there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LengthStatistics {
    pub min: usize,
    pub mean: f64,
    /// The least length that half of the captions do not exceed.
    pub median: usize,
    /// The least length that 95 of 100 captions do not exceed.
    pub p95: usize,
    pub max: usize,
}

/// Of 100 captions, those in the most frequent script of a set whose other captions are outliers. Below that, the set
/// has several scripts.
const PERCENT_IN_MAIN_SCRIPT: usize = 90;

/// Each word and where it is used.
pub(crate) type Vocabulary = HashMap<Box<str>, WordUse>;

/// What the first pass finds.
#[derive(Default)]
pub(crate) struct Survey {
    pub(crate) vocabulary: Vocabulary,
    /// Captions of each number of words.
    pub(crate) num_of_length: BTreeMap<usize, usize>,
    /// Captions whose letters are mostly of each script.
    pub(crate) num_in_script: BTreeMap<Script, usize>,
    /// A hash of the words of each caption, in their order, and the index of its image. Among a million captions two different ones
    /// have the same hash once in 37 million data sets.
    pub(crate) texts: Vec<(u64, usize)>,
}

pub(crate) struct WordUse {
    /// Times that the word is there.
    pub(crate) count: usize,
    /// Images that have it in a caption.
    pub(crate) num_images: usize,
    last_image: usize,
}

impl Survey {
    /// One pass over the captions of each image.
    pub(crate) fn of<'a, C: IntoIterator<Item = &'a str>>(images: impl Iterator<Item = C>) -> Self {
        let mut survey = Self::default();
        for (image, captions) in images.enumerate() {
            for caption in captions {
                survey.add(image, caption);
            }
        }
        survey
    }

    pub(crate) fn num_captions(&self) -> usize {
        self.texts.len()
    }

    /// In words; a percentile is the length at its rank.
    pub(crate) fn lengths(&self) -> LengthStatistics {
        let num_captions = self.num_captions();
        let (Some((&min, _)), Some((&max, _))) =
            (self.num_of_length.first_key_value(), self.num_of_length.last_key_value())
        else {
            return LengthStatistics::default();
        };
        let num_words: usize = self.num_of_length.iter().map(|(length, count)| length * count).sum();
        let at_most = |percent: usize| {
            let mut num_shorter = 0;
            let is_reached = |(_, count): &(&usize, &usize)| {
                num_shorter += **count;
                100 * num_shorter >= percent * num_captions
            };
            self.num_of_length.iter().find(is_reached).map_or(max, |(&length, _)| length)
        };
        LengthStatistics {
            min,
            mean: num_words as f64 / num_captions as f64,
            median: at_most(50),
            p95: at_most(95),
            max,
        }
    }

    /// The script of the captions, if they are of one.
    pub(crate) fn main_script(&self) -> Option<Script> {
        let (&script, &count) = self.num_in_script.iter().max_by_key(|(_, count)| **count)?;
        let num_with_script: usize = self.num_in_script.values().sum();
        (100 * count >= PERCENT_IN_MAIN_SCRIPT * num_with_script).then_some(script)
    }

    /// The captions whose words another image has too.
    pub(crate) fn into_num_repeated(self) -> usize {
        let mut texts = self.texts;
        texts.sort_unstable();
        let of_several_images = |group: &&[(u64, usize)]| group[0].1 != group[group.len() - 1].1;
        texts.chunk_by(|one, other| one.0 == other.0).filter(of_several_images).map(<[_]>::len).sum()
    }

    fn add(&mut self, image: usize, caption: &str) {
        let (mut num_words, mut hasher) = (0, DefaultHasher::new());
        for word in words(&plain(caption)) {
            num_words += 1;
            word.hash(&mut hasher);
            if let Some(known) = self.vocabulary.get_mut(word) {
                known.count += 1;
                known.num_images += usize::from(known.last_image != image);
                known.last_image = image;
            } else {
                self.vocabulary.insert(word.into(), WordUse { count: 1, num_images: 1, last_image: image });
            }
        }
        *self.num_of_length.entry(num_words).or_default() += 1;
        if let Some(script) = main_script(caption) {
            *self.num_in_script.entry(script).or_default() += 1;
        }
        self.texts.push((hasher.finish(), image));
    }
}
