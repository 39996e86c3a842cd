//! chrF (Popović 2015), as sacreBLEU 2 computes it with its default settings: n-grams of one to six characters without
//! white space, recall weighed twice as much as precision, and of several references the one that an image's caption
//! matches best. It needs no words, so that it can compare captions in any language.

use std::iter::Sum;
use std::ops::Add;

/// Longest n-gram, in characters.
const ORDER: usize = 6;

/// Weight of the recall.
const BETA: f64 = 2.0;

/// Bits of a character; six fit into the 128 of an n-gram.
const BITS: u32 = 21;

/// How many n-grams of each length a caption and a reference have, and how many of them match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChrfStatistics([Counts; ORDER]);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    /// Of the caption; 0 where the reference has none of this length.
    candidate: u64,
    reference: u64,
    both: u64,
}

impl ChrfStatistics {
    /// The score of one caption or of the captions whose statistics were added up: 0 to 1.
    pub fn score(&self) -> f64 {
        let (mut precision, mut recall, mut orders) = (0.0, 0.0, 0);
        for counts in self.0.iter().filter(|counts| counts.candidate > 0 && counts.reference > 0) {
            precision += counts.both as f64 / counts.candidate as f64;
            recall += counts.both as f64 / counts.reference as f64;
            orders += 1;
        }
        let (precision, recall) = (precision / f64::from(orders.max(1)), recall / f64::from(orders.max(1)));
        if precision + recall == 0.0 {
            return 0.0;
        }
        let beta = BETA * BETA;
        (1.0 + beta) * precision * recall / (beta * precision + recall)
    }

    fn of(candidate: &Sorted, reference: &Sorted) -> Self {
        Self(std::array::from_fn(|order| {
            let (candidate, reference) = (&candidate.0[order], &reference.0[order]);
            Counts {
                candidate: if reference.is_empty() { 0 } else { candidate.len() as u64 },
                reference: reference.len() as u64,
                both: num_common(candidate, reference),
            }
        }))
    }
}

impl Add for ChrfStatistics {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let sum = |left: Counts, right: Counts| Counts {
            candidate: left.candidate + right.candidate,
            reference: left.reference + right.reference,
            both: left.both + right.both,
        };
        Self(std::array::from_fn(|order| sum(self.0[order], other.0[order])))
    }
}

impl Sum for ChrfStatistics {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}

/// What a caption has in common with the reference that it matches best; the first of several. Without references
/// nothing.
pub fn chrf_statistics(candidate: &str, references: &[String]) -> ChrfStatistics {
    let candidate = Sorted::new(candidate);
    let mut best: Option<(f64, ChrfStatistics)> = None;
    for reference in references {
        let statistics = ChrfStatistics::of(&candidate, &Sorted::new(reference));
        let score = statistics.score();
        if best.is_none_or(|(highest, _)| score > highest) {
            best = Some((score, statistics));
        }
    }
    best.map_or_else(ChrfStatistics::default, |(_, statistics)| statistics)
}

/// The n-grams of a text by length, sorted.
struct Sorted([Vec<u128>; ORDER]);

impl Sorted {
    fn new(text: &str) -> Self {
        let characters: Vec<u128> =
            text.chars().filter(|&character| !is_white_space(character)).map(|c| u128::from(u32::from(c))).collect();
        Self(std::array::from_fn(|order| {
            let joined = |ngram: &[u128]| ngram.iter().fold(0, |joined, character| joined << BITS | character);
            let mut ngrams: Vec<u128> = characters.windows(order + 1).map(joined).collect();
            ngrams.sort_unstable();
            ngrams
        }))
    }
}

/// What Python's `str.split` takes away, which includes four control characters that Unicode does not count.
fn is_white_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

/// Of two sorted lists; an element that both have several times counts as often as the one that has it less.
fn num_common(mut left: &[u128], mut right: &[u128]) -> u64 {
    let mut count = 0;
    while let ([first, left_rest @ ..], [second, right_rest @ ..]) = (left, right) {
        count += u64::from(first == second);
        if first <= second {
            left = left_rest;
        }
        if second <= first {
            right = right_rest;
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A caption, its references, and what `sacrebleu.metrics.CHRF().sentence_score` of version 2.6.0 gives, over 100.
    const CASES: [(&str, &[&str], f64); 7] = [
        (
            "a dog runs on the beach",
            &["a dog is running on the beach", "the brown dog runs along a beach"],
            0.513937649423006,
        ),
        ("一只狗在沙滩上奔跑", &["一只棕色的狗在海滩上奔跑", "狗在沙滩上跑"], 0.5390143404062033),
        ("สุนัขวิ่งบนชายหาด", &["สุนัขกำลังวิ่งบนชายหาด"], 0.6370333111975559),
        ("", &["a dog"], 0.0),
        ("a cat", &["xyz"], 0.0),
        ("ab", &["abcdefgh", "a b"], 1.0),
        (
            "two men\u{a0}ride bikes \u{1c} down\ta hill",
            &["two men ride bikes down a hill 🚲", "Two Men"],
            0.9639149075818747,
        ),
    ];

    fn statistics((candidate, references, _): &(&str, &[&str], f64)) -> ChrfStatistics {
        let references: Vec<String> = references.iter().map(|&reference| reference.to_owned()).collect();
        chrf_statistics(candidate, &references)
    }

    #[test]
    fn scores_of_captions_are_those_of_sacrebleu() {
        for case in &CASES {
            let found = statistics(case).score();
            assert!((found - case.2).abs() < 1e-12, "{case:?}: {found}");
        }
    }

    #[test]
    fn the_score_of_a_corpus_is_that_of_sacrebleu() {
        // Which wants as many references of every caption: the first ones were given again.
        let sum: ChrfStatistics = CASES.iter().map(statistics).sum();
        assert!((sum.score() - 0.6863574836592486).abs() < 1e-12, "{}", sum.score());
    }

    #[test]
    fn a_caption_without_references_scores_nothing() {
        assert_eq!(chrf_statistics("a dog", &[]).score(), 0.0);
    }
}
