//! The captions that are scored, and their references, as words and n-grams.

use super::ngrams::{NgramTable, Ngrams};

/// An image's caption and its references: words separated by spaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captions {
    pub candidate: String,
    pub references: Vec<String>,
}

/// Images in a fixed order.
#[derive(Debug)]
pub struct Corpus {
    pub(super) images: Vec<Image>,
    pub(super) table: NgramTable,
}

/// An image's captions, counted.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) candidate: Ngrams,
    pub(super) references: Vec<Ngrams>,
}

impl Corpus {
    /// Counts the words of `images`, which are tokenized: separated by white space.
    pub fn new(images: &[Captions]) -> Self {
        let mut table = NgramTable::default();
        let images = images.iter().map(|image| Image {
            candidate: table.count(&image.candidate),
            references: image.references.iter().map(|reference| table.count(reference)).collect(),
        });
        Self { images: images.collect(), table }
    }

    pub(super) fn num_images(&self) -> usize {
        self.images.len()
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::{Captions, Corpus};

    /// A corpus of candidates and their references.
    pub(crate) fn corpus(images: &[(&str, &[&str])]) -> Corpus {
        let captions = images.iter().map(|(candidate, references)| Captions {
            candidate: (*candidate).to_owned(),
            references: references.iter().map(|reference| (*reference).to_owned()).collect(),
        });
        Corpus::new(&captions.collect::<Vec<_>>())
    }
}
