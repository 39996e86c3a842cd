//! CIDEr-D (Vedantam et al. 2015), as `pycocoevalcap` computes it: the similarity of TF-IDF vectors of n-grams,
//! clipped, with a penalty for a different length; no stemming.

use std::sync::Arc;

use rayon::prelude::*;

use super::corpus::Corpus;
use super::ngrams::{MAX_ORDER, NgramTable, Ngrams, for_each_shared};
use super::ptb_tokenizer::PtbTokenizer;

/// Standard deviation of the length penalty.
const SIGMA: f64 = 6.0;
/// Index of the order whose count is a caption's length: that of pairs, as in `pycocoevalcap`.
const PAIRS: usize = 1;

/// With fewer images document frequencies say little: one image more or less with an n-gram changes its weight by a
/// third or more.
pub const FEW_IMAGES: usize = 10;

/// In how many images of a corpus an n-gram occurs in a reference.
#[derive(Clone, Debug)]
pub struct DocumentFrequencies {
    /// By the number of the n-gram.
    counts: Vec<u32>,
    num_images: usize,
}

impl DocumentFrequencies {
    /// Those of the references that are scored against.
    pub fn of_references(corpus: &Corpus) -> Self {
        Self::of_groups(corpus.images.iter().map(|image| image.references.as_slice()), &corpus.table)
    }

    /// Those of other references, one list for each image; words are separated by white space.
    pub fn of_others(corpus: &mut Corpus, references: &[Vec<String>]) -> Self {
        let count = |texts: &Vec<String>| texts.iter().map(|text| corpus.table.count(text)).collect();
        let groups: Vec<Vec<Ngrams>> = references.iter().map(count).collect();
        Self::of_groups(groups.iter().map(Vec::as_slice), &corpus.table)
    }

    fn of_groups<'a>(groups: impl ExactSizeIterator<Item = &'a [Ngrams]>, table: &NgramTable) -> Self {
        let (mut counts, num_images) = (vec![0; table.len()], groups.len());
        for references in groups {
            for ngram in distinct(references) {
                counts[ngram as usize] += 1;
            }
        }
        Self { counts, num_images }
    }

    /// Images that were counted.
    pub fn num_images(&self) -> usize {
        self.num_images
    }

    /// Whether CIDEr-D is 0 for any captions, since each n-gram of the references of `corpus` is in all images.
    pub fn weigh_nothing(&self, corpus: &Corpus) -> bool {
        corpus.images.iter().flat_map(|image| distinct(&image.references)).all(|ngram| self.is_everywhere(ngram))
    }

    fn is_everywhere(&self, ngram: u32) -> bool {
        self.counts[ngram as usize].max(1) as usize == self.num_images
    }

    /// `log(images) - log(max(1, frequency))`.
    fn weights(&self) -> Weights {
        let unseen = (self.num_images as f64).ln();
        let known = self.counts.iter().map(|&count| unseen - f64::from(count.max(1)).ln()).collect();
        Weights { known, unseen }
    }
}

fn distinct(references: &[Ngrams]) -> Vec<u32> {
    let mut ngrams: Vec<u32> =
        references.iter().flat_map(|ngrams| ngrams.counts.iter().map(|(ngram, _)| *ngram)).collect();
    ngrams.sort_unstable();
    ngrams.dedup();
    ngrams
}

/// The inverse document frequencies of n-grams.
#[derive(Clone, Debug)]
struct Weights {
    /// By number.
    known: Vec<f64>,
    /// Of those that were numbered later.
    unseen: f64,
}

impl Weights {
    fn of(&self, ngram: u32) -> f64 {
        self.known.get(ngram as usize).copied().unwrap_or(self.unseen)
    }
}

/// CIDEr-D of each image, from 0 to 10. That of a corpus is the mean; with document frequencies of one image it is 0.
pub fn cider_d(corpus: &Corpus, frequencies: &DocumentFrequencies) -> Vec<f64> {
    let (table, weights) = (&corpus.table, frequencies.weights());
    let weighted = |ngrams: &Ngrams| Weighted::new(ngrams.clone(), table, &weights);
    let scores = corpus.images.iter().map(|image| {
        let references: Vec<Weighted> = image.references.iter().map(weighted).collect();
        against(&weighted(&image.candidate), &references, table, &weights)
    });
    scores.collect()
}

/// References that captions are scored against again and again: tokenized and weighted once, with the document
/// frequencies of all of them. Scores equal those of [`cider_d`] but for the last bits, since sums have their terms in
/// an order of their own: here a caption's score does not depend on the others, whose words a corpus numbers before its
/// own.
#[derive(Debug)]
pub struct CiderScorer {
    tokenizer: PtbTokenizer,
    table: Arc<NgramTable>,
    weights: Weights,
    /// Of each image.
    references: Vec<Vec<Weighted>>,
    weighs_nothing: bool,
}

impl CiderScorer {
    /// The references of each image, untokenized.
    pub fn new<R: AsRef<[String]>>(references: &[R]) -> Self {
        Self::of_words(&PtbTokenizer::new().groups_to_words(references))
    }

    /// The references of each image, as words between spaces.
    pub(crate) fn of_words(references: &[Vec<String>]) -> Self {
        let mut table = NgramTable::default();
        let mut count = |words: &Vec<String>| words.iter().map(|words| table.count(words)).collect();
        let groups: Vec<Vec<Ngrams>> = references.iter().map(&mut count).collect();
        let frequencies = DocumentFrequencies::of_groups(groups.iter().map(Vec::as_slice), &table);
        let weights = frequencies.weights();
        Self {
            weighs_nothing: (0..table.len() as u32).all(|ngram| frequencies.is_everywhere(ngram)),
            references: groups
                .into_iter()
                .map(|group| group.into_iter().map(|ngrams| Weighted::new(ngrams, &table, &weights)).collect())
                .collect(),
            tokenizer: PtbTokenizer::new(),
            table: Arc::new(table),
            weights,
        }
    }

    /// Whether every caption scores 0, since each n-gram of the references is in all images.
    pub fn weighs_nothing(&self) -> bool {
        self.weighs_nothing
    }

    /// CIDEr-D, from 0 to 10, of untokenized captions. Each comes with the place of its image among
    /// those of [`Self::new`]; panics where there is no such image. They are tokenized together, as COCO does.
    pub fn score_each(&self, captions: &[(usize, &str)]) -> Vec<f64> {
        let texts: Vec<&str> = captions.iter().map(|(_, text)| *text).collect();
        let words = self.tokenizer.to_words(&texts);
        captions.par_iter().zip(&words).map(|(&(image, _), words)| self.score_words(image, words)).collect()
    }

    /// CIDEr-D of a caption as words between spaces, against the references at this place.
    pub(crate) fn score_words(&self, image: usize, words: &str) -> f64 {
        let mut table = NgramTable::above(&self.table);
        let candidate = Weighted::new(table.count(words), &table, &self.weights);
        against(&candidate, &self.references[image], &table, &self.weights)
    }

    /// The mean CIDEr-D of a caption for each image, in the images' order; 0 without images.
    pub fn score(&self, captions: &[&str]) -> f64 {
        let captions: Vec<(usize, &str)> = captions.iter().copied().enumerate().collect();
        self.score_each(&captions).iter().sum::<f64>() / captions.len().max(1) as f64
    }
}

/// CIDEr-D of a caption against the references of its image.
fn against(candidate: &Weighted, references: &[Weighted], table: &NgramTable, weights: &Weights) -> f64 {
    let of_reference = |reference: &Weighted| {
        similarities(candidate, reference, table, weights).iter().sum::<f64>() / MAX_ORDER as f64
    };
    let sum: f64 = references.iter().map(of_reference).sum();
    10.0 * sum / references.len().max(1) as f64
}

/// A caption's n-grams with the norms of its TF-IDF vectors.
#[derive(Debug)]
struct Weighted {
    ngrams: Ngrams,
    norms: [f64; MAX_ORDER],
    length: u32,
}

impl Weighted {
    fn new(ngrams: Ngrams, table: &NgramTable, weights: &Weights) -> Self {
        let mut squares = [0.0; MAX_ORDER];
        let mut length = 0;
        for &(ngram, count) in &ngrams.counts {
            let order = table.order(ngram);
            squares[order] += (f64::from(count) * weights.of(ngram)).powi(2);
            if order == PAIRS {
                length += count;
            }
        }
        Self { ngrams, norms: squares.map(f64::sqrt), length }
    }
}

fn similarities(candidate: &Weighted, reference: &Weighted, table: &NgramTable, weights: &Weights) -> [f64; MAX_ORDER] {
    let mut products = [0.0; MAX_ORDER];
    for_each_shared(&candidate.ngrams, &reference.ngrams, |ngram, in_candidate, in_reference| {
        let weight = weights.of(ngram);
        let (a, b) = (f64::from(in_candidate) * weight, f64::from(in_reference) * weight);
        products[table.order(ngram)] += a.min(b) * b;
    });
    let difference = f64::from(candidate.length) - f64::from(reference.length);
    let penalty = (-difference * difference / (2.0 * SIGMA * SIGMA)).exp();
    std::array::from_fn(|order| {
        let norms = candidate.norms[order] * reference.norms[order];
        // Where one of the two weighs nothing they share nothing.
        if norms == 0.0 { 0.0 } else { products[order] / norms * penalty }
    })
}

#[cfg(test)]
mod tests {
    use super::super::corpus::testing::corpus;
    use super::*;

    const DOGS: (&str, &[&str]) = ("a dog is running", &["a dog runs", "the dog is running"]);
    const CARS: (&str, &[&str]) = ("a red car parked", &["a red car", "a car parked"]);

    #[test]
    fn scores_are_those_of_the_reference_implementation() {
        let corpus = corpus(&[DOGS, CARS]);
        let found = cider_d(&corpus, &DocumentFrequencies::of_references(&corpus));
        let expected = [3.547_408_511_698_879_6, 4.394_594_157_602_563];
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}");
    }

    #[test]
    fn the_references_of_one_image_weigh_nothing() {
        let corpus = corpus(&[DOGS]);
        let frequencies = DocumentFrequencies::of_references(&corpus);
        assert_eq!(cider_d(&corpus, &frequencies), [0.0]);
        assert!(frequencies.weigh_nothing(&corpus));
    }

    #[test]
    fn references_that_are_the_same_for_all_images_weigh_nothing_and_others_do() {
        let weigh_nothing = |images: &[(&str, &[&str])]| {
            let corpus = corpus(images);
            let frequencies = DocumentFrequencies::of_references(&corpus);
            let is_zero = cider_d(&corpus, &frequencies).iter().all(|&score| score == 0.0);
            (frequencies.weigh_nothing(&corpus), is_zero)
        };
        assert_eq!(weigh_nothing(&[DOGS, DOGS, DOGS]), (true, true));
        assert_eq!(weigh_nothing(&[DOGS, DOGS, CARS]), (false, false));
        // A caption that is wrong altogether scores 0 too, and another would not.
        assert_eq!(weigh_nothing(&[("x y", DOGS.1), ("z", CARS.1)]), (false, true));
    }

    #[test]
    fn one_document_of_other_references_weighs_nothing_either() {
        let mut corpus = corpus(&[DOGS, CARS]);
        let given = DocumentFrequencies::of_others(&mut corpus, &[vec!["a dog".to_owned()]]);
        assert!(given.weigh_nothing(&corpus));
        assert_eq!(cider_d(&corpus, &given), [0.0, 0.0]);
    }

    #[test]
    fn with_frequencies_of_other_references_a_lone_image_scores_as_among_them() {
        let among = corpus(&[DOGS, CARS]);
        let expected = cider_d(&among, &DocumentFrequencies::of_references(&among))[0];
        let texts = |references: &[&str]| references.iter().map(|text| (*text).to_owned()).collect();
        let mut single = corpus(&[DOGS]);
        let given = DocumentFrequencies::of_others(&mut single, &[texts(DOGS.1), texts(CARS.1)]);
        assert_eq!(cider_d(&single, &given), [expected]);
    }

    fn references(images: &[(&str, &[&str])]) -> Vec<Vec<String>> {
        images.iter().map(|(_, texts)| texts.iter().map(|text| (*text).to_owned()).collect()).collect()
    }

    const IMAGES: [(&str, &[&str]); 4] = [
        DOGS,
        CARS,
        ("two dogs run in the snow", &["a dog runs in snow", "two dogs are running", "a dog and a dog"]),
        ("a zebra a zebra", &["the red car is running"]),
    ];

    #[test]
    fn prepared_references_give_the_scores_of_the_reference_implementation() {
        let scorer = CiderScorer::new(&references(&[DOGS, CARS]));
        let expected = [3.547_408_511_698_879_6, 4.394_594_157_602_563];
        let found = scorer.score_each(&[(0, DOGS.0), (1, CARS.0)]);
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}");
        assert!((scorer.score(&[DOGS.0, CARS.0]) - (expected[0] + expected[1]) / 2.0).abs() < 1e-12);
    }

    #[test]
    fn prepared_references_score_as_a_corpus_does() {
        let corpus = corpus(&IMAGES);
        let expected = cider_d(&corpus, &DocumentFrequencies::of_references(&corpus));
        let scorer = CiderScorer::new(&references(&IMAGES));
        let captions: Vec<(usize, &str)> = IMAGES.iter().map(|(caption, _)| *caption).enumerate().collect();
        let found = scorer.score_each(&captions);
        // The terms of a sum come in another order.
        assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?} {expected:?}");
    }

    #[test]
    fn a_prepared_score_weighs_by_all_images_and_depends_on_no_other_caption() {
        let scorer = CiderScorer::new(&references(&IMAGES));
        let all = scorer.score_each(&[(0, DOGS.0), (1, CARS.0), (2, "a dog"), (3, "car")]);
        assert_eq!(scorer.score_each(&[(1, CARS.0)]), [all[1]]);
        assert_eq!(scorer.score_each(&[(3, "car"), (0, "a cat"), (0, DOGS.0)])[2], all[0]);
        // Among fewer images its words weigh otherwise.
        assert_ne!(CiderScorer::new(&references(&[DOGS, CARS])).score_each(&[(0, DOGS.0)]), [all[0]]);
        assert_eq!(scorer.score_each(&[(0, ""), (0, "unknown words only")]), [0.0, 0.0]);
    }

    #[test]
    fn prepared_references_are_tokenized_as_captions_are() {
        let written = CiderScorer::new(&[vec!["A dog, running!".to_owned()], vec!["cars".to_owned()]]);
        let tokenized = CiderScorer::new(&[vec!["a dog running".to_owned()], vec!["cars".to_owned()]]);
        assert_eq!(written.score_each(&[(0, "a DOG running.")]), tokenized.score_each(&[(0, "a dog running")]));
    }

    #[test]
    fn prepared_references_that_are_the_same_for_all_images_weigh_nothing() {
        for (images, expected) in [(&[DOGS][..], true), (&[DOGS, DOGS], true), (&[DOGS, CARS], false)] {
            assert_eq!(CiderScorer::new(&references(images)).weighs_nothing(), expected);
        }
        assert_eq!(CiderScorer::new(&references(&[DOGS])).score_each(&[(0, DOGS.0)]), [0.0]);
        assert_eq!(CiderScorer::new::<Vec<String>>(&[]).score(&[]), 0.0);
    }
}
