//! How many images got a caption that is, word for word, one of their own references; compared with two baselines that
//! know nothing of the image.
//!
//! A measure for data sets whose captions follow from the picture. For photographs it is close to 0.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use base::random::Stream;

/// Counts of images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptionMatch {
    pub num_images: usize,
    /// Images whose caption is one of their references.
    pub matched: usize,
    /// The caption that is a reference of the most images, and of how many: the best that one caption for all can do.
    pub best_constant: (String, usize),
    /// Images matched when each gets the caption of another image.
    pub shuffled: usize,
}

/// Scores one caption for each image against its references. Case and spacing do not count.
pub fn match_captions(captions: &[String], references: &[Vec<String>], seed: u64) -> CaptionMatch {
    let captions: Vec<String> = captions.iter().map(|caption| normalise(caption)).collect();
    let references: Vec<HashSet<String>> =
        references.iter().map(|texts| texts.iter().map(|text| normalise(text)).collect()).collect();
    let count = |order: &[usize]| {
        references.iter().zip(order).filter(|(texts, index)| texts.contains(&captions[**index])).count()
    };
    let own: Vec<usize> = (0..references.len()).collect();
    CaptionMatch {
        num_images: references.len(),
        matched: count(&own),
        best_constant: best_constant(&references),
        shuffled: count(&derangement(references.len(), seed)),
    }
}

fn normalise(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

fn best_constant(references: &[HashSet<String>]) -> (String, usize) {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for text in references.iter().flatten() {
        *counts.entry(text).or_default() += 1;
    }
    // The alphabet decides between equal counts, so that the answer does not depend on a hash.
    let best = counts.into_iter().max_by(|a, b| a.1.cmp(&b.1).then_with(|| b.0.cmp(a.0)));
    best.map(|(text, count)| (text.to_owned(), count)).unwrap_or_default()
}

/// A random cycle through all images, so that none keeps its own caption (Sattolo 1986).
fn derangement(length: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..length).collect();
    let mut stream = Stream::new(seed, "shuffled captions", "");
    for last in (1..length).rev() {
        order.swap(last, stream.below(last));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_constant_and_shuffled_captions_are_counted() {
        let captions = ["A  dog".to_owned(), "a cat".to_owned(), "a car".to_owned()];
        let references = vec![
            vec!["a dog".to_owned(), "an animal".to_owned()],
            vec!["an animal".to_owned()],
            vec!["a car".to_owned()],
        ];
        let scores = match_captions(&captions, &references, 1);
        assert_eq!((scores.num_images, scores.matched), (3, 2));
        assert_eq!(scores.best_constant, ("an animal".to_owned(), 2));
        assert_eq!(scores.shuffled, 0);
    }

    #[test]
    fn no_image_keeps_its_own_caption() {
        for length in 2..40 {
            let order = derangement(length, 5);
            assert!(order.iter().enumerate().all(|(place, index)| place != *index), "{order:?}");
        }
        assert_eq!(derangement(1, 5), [0]);
    }
}
