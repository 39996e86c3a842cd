//! CIDEr-D (Vedantam et al. 2015), as `pycocoevalcap` computes it: the similarity of TF-IDF vectors of n-grams, clipped,
//! with a penalty for another length; no stemming.

use super::corpus::{Corpus, Image};
use super::ngrams::{MAX_ORDER, NgramTable, Ngrams, for_each_shared};

/// Standard deviation of the penalty for another length.
const SIGMA: f64 = 6.0;
/// Index of the order whose count is a caption's length: words in pairs.
const PAIRS: usize = 1;

/// Images below which document frequencies say little: one image more or less with an n-gram changes its weight by a third
/// and more.
pub const FEW_IMAGES: usize = 10;

/// In how many images of a corpus an n-gram stands in a reference.
#[derive(Clone, Debug)]
pub struct DocumentFrequencies {
    /// By the number of the n-gram in the corpus that is scored.
    counts: Vec<u32>,
    num_images: usize,
}

impl DocumentFrequencies {
    /// Those of the references that are scored against.
    pub fn of_references(corpus: &Corpus) -> Self {
        let mut frequencies = Self { counts: vec![0; corpus.table.len()], num_images: corpus.num_images() };
        for image in &corpus.images {
            frequencies.add(image.references.iter());
        }
        frequencies
    }

    /// Those of other references, one list for each image; words are separated by white space.
    pub fn of_others(corpus: &mut Corpus, references: &[Vec<String>]) -> Self {
        let mut frequencies = Self { counts: Vec::new(), num_images: references.len() };
        for texts in references {
            let counted: Vec<Ngrams> = texts.iter().map(|text| corpus.table.count(text)).collect();
            frequencies.counts.resize(corpus.table.len(), 0);
            frequencies.add(counted.iter());
        }
        frequencies.counts.resize(corpus.table.len(), 0);
        frequencies
    }

    fn add<'a>(&mut self, references: impl Iterator<Item = &'a Ngrams>) {
        let mut seen: Vec<u32> = references.flat_map(|ngrams| ngrams.counts.iter().map(|(ngram, _)| *ngram)).collect();
        seen.sort_unstable();
        seen.dedup();
        for ngram in seen {
            self.counts[ngram as usize] += 1;
        }
    }

    /// Images that are counted.
    pub fn num_images(&self) -> usize {
        self.num_images
    }

    /// Whether no n-gram of the references of `corpus` has a weight, since each is in all images: then CIDEr-D is 0,
    /// whatever the captions are.
    pub fn weigh_nothing(&self, corpus: &Corpus) -> bool {
        let mut ngrams = corpus.images.iter().flat_map(|image| &image.references).flat_map(|ngrams| &ngrams.counts);
        ngrams.all(|(ngram, _)| self.counts[*ngram as usize].max(1) as usize == self.num_images)
    }

    /// `log(images) - log(max(1, frequency))` of every n-gram.
    fn inverse(&self) -> Vec<f64> {
        let images = (self.num_images as f64).ln();
        self.counts.iter().map(|&count| images - f64::from(count.max(1)).ln()).collect()
    }
}

/// CIDEr-D of each image, from 0 to 10. That of a corpus is the mean; with document frequencies of one image it is 0.
pub fn cider_d(corpus: &Corpus, frequencies: &DocumentFrequencies) -> Vec<f64> {
    let inverse = frequencies.inverse();
    let vector = |ngrams: &Ngrams| Vector::new(ngrams, &corpus.table, &inverse);
    let score = |image: &Image| {
        let candidate = vector(&image.candidate);
        let of_reference = |reference: &Ngrams| {
            let similarities =
                similarities((&image.candidate, &candidate), (reference, &vector(reference)), &corpus.table, &inverse);
            similarities.iter().sum::<f64>() / MAX_ORDER as f64
        };
        let sum: f64 = image.references.iter().map(of_reference).sum();
        10.0 * sum / image.references.len().max(1) as f64
    };
    corpus.images.iter().map(score).collect()
}

/// What the similarity needs to know of a caption beside its counts.
struct Vector {
    norms: [f64; MAX_ORDER],
    length: u32,
}

impl Vector {
    fn new(ngrams: &Ngrams, table: &NgramTable, inverse: &[f64]) -> Self {
        let mut squares = [0.0; MAX_ORDER];
        let mut length = 0;
        for &(ngram, count) in &ngrams.counts {
            let order = table.order(ngram);
            squares[order] += (f64::from(count) * inverse[ngram as usize]).powi(2);
            if order == PAIRS {
                length += count;
            }
        }
        Self { norms: squares.map(f64::sqrt), length }
    }
}

fn similarities(
    (candidate, of_candidate): (&Ngrams, &Vector),
    (reference, of_reference): (&Ngrams, &Vector),
    table: &NgramTable,
    inverse: &[f64],
) -> [f64; MAX_ORDER] {
    let mut products = [0.0; MAX_ORDER];
    for_each_shared(candidate, reference, |ngram, in_candidate, in_reference| {
        let weight = inverse[ngram as usize];
        let (a, b) = (f64::from(in_candidate) * weight, f64::from(in_reference) * weight);
        products[table.order(ngram)] += a.min(b) * b;
    });
    let difference = f64::from(of_candidate.length) - f64::from(of_reference.length);
    let penalty = (-difference * difference / (2.0 * SIGMA * SIGMA)).exp();
    std::array::from_fn(|order| {
        let norms = of_candidate.norms[order] * of_reference.norms[order];
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
        let mut alone = corpus(&[DOGS]);
        let given = DocumentFrequencies::of_others(&mut alone, &[texts(DOGS.1), texts(CARS.1)]);
        assert_eq!(cider_d(&alone, &given), [expected]);
    }
}
