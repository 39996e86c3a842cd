//! BLEU (Papineni et al. 2002), as `pycocoevalcap` computes it: over the whole corpus, with the closest reference
//! length and without smoothing.

use std::iter::Sum;
use std::ops::Add;

use super::corpus::{Corpus, Image};
use super::ngrams::{MAX_ORDER, NgramTable, for_each_shared};

/// Keep a precision without n-grams from 0/0, as the reference implementation does.
const TINY: f64 = 1e-15;
const SMALL: f64 = 1e-9;

/// The counts of an image from which BLEU follows; those of several images are their sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BleuStatistics {
    /// N-grams of the candidate that occur in a reference, each at most as often as in one reference.
    pub correct: [u64; MAX_ORDER],
    /// N-grams of the candidate.
    pub guess: [u64; MAX_ORDER],
    /// Words of the candidate.
    pub candidate_length: u64,
    /// Words of the reference whose length is closest, of two equally close ones the shorter.
    pub reference_length: u64,
}

impl BleuStatistics {
    /// BLEU-1 to BLEU-4, each from 0 to 1.
    pub fn scores(&self) -> [f64; MAX_ORDER] {
        let ratio = (self.candidate_length as f64 + TINY) / (self.reference_length as f64 + SMALL);
        let brevity_penalty = if ratio < 1.0 { (1.0 - 1.0 / ratio).exp() } else { 1.0 };
        let mut product = 1.0;
        std::array::from_fn(|order| {
            product *= (self.correct[order] as f64 + TINY) / (self.guess[order] as f64 + SMALL);
            product.powf(1.0 / (order + 1) as f64) * brevity_penalty
        })
    }
}

impl Add for BleuStatistics {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            correct: std::array::from_fn(|order| self.correct[order] + other.correct[order]),
            guess: std::array::from_fn(|order| self.guess[order] + other.guess[order]),
            candidate_length: self.candidate_length + other.candidate_length,
            reference_length: self.reference_length + other.reference_length,
        }
    }
}

impl Sum for BleuStatistics {
    fn sum<I: Iterator<Item = Self>>(statistics: I) -> Self {
        statistics.fold(Self::default(), Add::add)
    }
}

/// The statistics of each image.
pub fn bleu_statistics(corpus: &Corpus) -> Vec<BleuStatistics> {
    corpus.images.iter().map(|image| of_image(image, &corpus.table)).collect()
}

fn of_image(image: &Image, table: &NgramTable) -> BleuStatistics {
    let length = image.candidate.length;
    let lengths = image.references.iter().map(|reference| reference.length);
    let closest = lengths.min_by_key(|&reference| (reference.abs_diff(length), reference)).unwrap_or(0);
    let mut statistics = BleuStatistics {
        guess: std::array::from_fn(|order| length.saturating_sub(order) as u64),
        candidate_length: length as u64,
        reference_length: closest as u64,
        ..BleuStatistics::default()
    };
    // The highest clipped count of each n-gram over the references.
    let mut clipped = vec![0; image.candidate.counts.len()];
    for reference in &image.references {
        let mut place = 0;
        for_each_shared(&image.candidate, reference, |ngram, in_candidate, in_reference| {
            while image.candidate.counts[place].0 < ngram {
                place += 1;
            }
            clipped[place] = clipped[place].max(in_candidate.min(in_reference));
        });
    }
    for ((ngram, _), count) in image.candidate.counts.iter().zip(clipped) {
        statistics.correct[table.order(*ngram)] += u64::from(count);
    }
    statistics
}

#[cfg(test)]
mod tests {
    use super::super::corpus::testing::corpus;
    use super::*;

    fn scores(images: &[(&str, &[&str])]) -> [f64; MAX_ORDER] {
        bleu_statistics(&corpus(images)).into_iter().sum::<BleuStatistics>().scores()
    }

    fn assert_close(found: &[f64], expected: &[f64], tolerance: f64) {
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < tolerance), "{found:?} {expected:?}");
    }

    #[test]
    fn scores_are_those_of_the_reference_implementation() {
        let found = scores(&[("the cat was sat on the mat", &["the cat sat on the mat"])]);
        let expected =
            [0.857_142_857_020_408_3, 0.755_928_945_901_465_5, 0.611_421_417_361_915_4, 0.488_923_022_342_064_1];
        assert_close(&found, &expected, 1e-12);
        let found = scores(&[("this is a good test", &["this is a test", "this is also a test"])]);
        assert_close(&found, &[0.799_999, 0.632_455, 0.510_872_9, 0.000_090_36], 1e-6);
        let dogs: &[&str] = &["a dog runs", "the dog is running"];
        let found = scores(&[("a dog is running", dogs), ("a red car parked", &["a red car", "a car parked"])]);
        assert_close(&found[2..3], &[0.793_700_525_840_792_9], 1e-9);
    }

    #[test]
    fn a_word_counts_as_often_as_in_one_reference_at_most() {
        let found = bleu_statistics(&corpus(&[("a a a b", &["a c", "a a d"])]))[0];
        assert_eq!((found.correct, found.guess), ([2, 1, 0, 0], [4, 3, 2, 1]));
    }

    #[test]
    fn the_closest_reference_length_counts_and_of_two_the_shorter() {
        let length = |references: &[&str]| bleu_statistics(&corpus(&[("a b c d", references)]))[0].reference_length;
        assert_eq!(length(&["a", "a b c d e f", "a b c d e"]), 5);
        assert_eq!(length(&["a b c d e", "a b c"]), 3);
        assert_eq!(length(&[]), 0);
    }

    #[test]
    fn captions_without_words_score_0() {
        assert!(scores(&[("", &["a dog"])]).iter().all(|score| *score < 1e-5));
    }
}
