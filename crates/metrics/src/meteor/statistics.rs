//! The counts from which a METEOR score is computed, of one caption or of many.

use std::iter::Sum;
use std::ops::{Add, AddAssign};

/// What METEOR counts in a caption and its best reference; sums of such counts belong to a set of captions.
///
/// Matches are counted in words for each module, in the order exact, stem, synonym, paraphrase; modules that are not in
/// use have none. They are the numbers of the `SCORE` line of `meteor-1.5.jar`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MeteorStatistics {
    /// Words of the candidate.
    pub candidate_length: u64,
    /// Words of the reference.
    pub reference_length: u64,
    /// Those of the candidate that are function words.
    pub candidate_function_words: u64,
    /// Those of the reference that are function words.
    pub reference_function_words: u64,
    /// Matched words of the candidate that are not function words.
    pub candidate_content_matches: [u64; 4],
    /// Matched words of the reference that are not function words.
    pub reference_content_matches: [u64; 4],
    /// Matched function words of the candidate.
    pub candidate_function_matches: [u64; 4],
    /// Matched function words of the reference.
    pub reference_function_matches: [u64; 4],
    /// Runs of matches that are adjacent and in the same order on both sides.
    pub num_chunks: u64,
}

impl MeteorStatistics {
    /// Matched words of the candidate.
    pub fn candidate_matches(&self) -> u64 {
        self.candidate_content_matches.iter().chain(&self.candidate_function_matches).sum()
    }

    /// Matched words of the reference.
    pub fn reference_matches(&self) -> u64 {
        self.reference_content_matches.iter().chain(&self.reference_function_matches).sum()
    }

    /// Whether all words of both sides are matched in one chunk: such a caption has no fragmentation.
    pub(super) fn is_whole(&self) -> bool {
        self.candidate_matches() == self.candidate_length
            && self.reference_matches() == self.reference_length
            && self.num_chunks == 1
    }

    /// The chunks that count in a sum.
    fn num_chunks_in_sum(&self) -> u64 {
        if self.is_whole() { 0 } else { self.num_chunks }
    }
}

/// Sums all counts; the chunk of a caption that is whole, one that equals its reference, is left out as in METEOR 1.5.
/// Sums may be summed again, in any order.
impl Add for MeteorStatistics {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let add = |left: [u64; 4], right: [u64; 4]| std::array::from_fn(|module| left[module] + right[module]);
        Self {
            candidate_length: self.candidate_length + other.candidate_length,
            reference_length: self.reference_length + other.reference_length,
            candidate_function_words: self.candidate_function_words + other.candidate_function_words,
            reference_function_words: self.reference_function_words + other.reference_function_words,
            candidate_content_matches: add(self.candidate_content_matches, other.candidate_content_matches),
            reference_content_matches: add(self.reference_content_matches, other.reference_content_matches),
            candidate_function_matches: add(self.candidate_function_matches, other.candidate_function_matches),
            reference_function_matches: add(self.reference_function_matches, other.reference_function_matches),
            num_chunks: self.num_chunks_in_sum() + other.num_chunks_in_sum(),
        }
    }
}

impl AddAssign for MeteorStatistics {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for MeteorStatistics {
    fn sum<I: Iterator<Item = Self>>(statistics: I) -> Self {
        statistics.fold(Self::default(), Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matched(length: u64, num_matches: u64, num_chunks: u64) -> MeteorStatistics {
        MeteorStatistics {
            candidate_length: length,
            reference_length: length,
            candidate_content_matches: [num_matches, 0, 0, 0],
            reference_content_matches: [num_matches, 0, 0, 0],
            num_chunks,
            ..MeteorStatistics::default()
        }
    }

    #[test]
    fn sums_leave_out_the_chunk_of_a_whole_caption_and_of_no_other() {
        assert_eq!(matched(3, 3, 1) + matched(5, 4, 2), matched(8, 7, 2));
        assert_eq!(matched(3, 3, 1) + MeteorStatistics::default(), matched(3, 3, 0));
        assert_eq!(matched(3, 2, 1) + matched(3, 3, 2), matched(6, 5, 3));
    }

    #[test]
    fn the_order_of_a_sum_does_not_matter() {
        let all = [matched(3, 3, 1), matched(2, 1, 1), matched(4, 4, 1), matched(4, 4, 2), matched(0, 0, 0)];
        let at_once: MeteorStatistics = all.into_iter().sum();
        let mut in_parts: MeteorStatistics = all[..2].iter().copied().sum();
        in_parts += all[2..].iter().rev().copied().sum();
        assert_eq!(at_once, in_parts);
        assert_eq!(at_once, matched(13, 12, 3));
        assert_eq!(std::iter::empty::<MeteorStatistics>().sum::<MeteorStatistics>(), MeteorStatistics::default());
    }
}
