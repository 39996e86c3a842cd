//! ROUGE-L (Lin 2004), as `pycocoevalcap` computes it: from the longest common subsequence of words, with the highest
//! precision and the highest recall over the references, taken independently.

use super::corpus::{Corpus, Image};

/// Weight of the recall.
const BETA: f64 = 1.2;

/// ROUGE-L of each image, from 0 to 1. That of a corpus is the mean.
pub fn rouge_l(corpus: &Corpus) -> Vec<f64> {
    let mut row = Vec::new();
    corpus.images.iter().map(|image| of_image(image, &mut row)).collect()
}

fn of_image(image: &Image, row: &mut Vec<usize>) -> f64 {
    let candidate = &image.candidate.parts;
    let (mut precision, mut recall): (f64, f64) = (0.0, 0.0);
    for reference in &image.references {
        let common = longest_common_subsequence(candidate, &reference.parts, row) as f64;
        precision = precision.max(common / candidate.len() as f64);
        recall = recall.max(common / reference.parts.len() as f64);
    }
    if precision == 0.0 || recall == 0.0 {
        return 0.0;
    }
    let beta = BETA * BETA;
    (1.0 + beta) * precision * recall / (recall + beta * precision)
}

/// `row` is scratch memory.
fn longest_common_subsequence(left: &[u32], right: &[u32], row: &mut Vec<usize>) -> usize {
    row.clear();
    row.resize(right.len() + 1, 0);
    for word in left {
        let mut diagonal = 0;
        for (index, other) in right.iter().enumerate() {
            let above = row[index + 1];
            row[index + 1] = if word == other { diagonal + 1 } else { above.max(row[index]) };
            diagonal = above;
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::super::corpus::testing::corpus;
    use super::*;

    #[test]
    fn scores_are_those_of_the_reference_implementation() {
        let found = rouge_l(&corpus(&[
            ("the cat was sat on the mat", &["the cat sat on the mat"]),
            ("this is a good test", &["this is a test", "this is also a test"]),
            ("a dog is running", &["a dog runs", "the dog is running"]),
            ("a red car parked", &["a red car", "a car parked"]),
        ]));
        let expected = [0.936_061_381_074_168_8, 0.907_063_1, 0.0, 0.0];
        assert!((found[0] - expected[0]).abs() < 1e-12);
        assert!((found[1] - expected[1]).abs() < 1e-7);
        assert!(((found[2] + found[3]) / 2.0 - 0.814_903_846_153_846_1).abs() < 1e-12);
    }

    #[test]
    fn texts_without_words_equal_only_each_other() {
        assert_eq!(rouge_l(&corpus(&[("", &["a dog"]), ("a dog", &[""]), ("", &[""])])), [0.0, 0.0, 1.0]);
    }
}
