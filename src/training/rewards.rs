//! What a sampled caption is worth.

use std::collections::HashMap;
use std::fmt;

use anyhow::Context as _;

use crate::decoding::DecodedCaption;
use crate::tokenizer::CaptionTokenizer;
use metrics::cider_reward::{CiderReward, Judged};

/// Judges captions that a model sampled.
pub trait Reward: fmt::Debug + Send + Sync {
    /// Judges a caption of the image with this index in the data set. It depends on no other caption.
    ///
    /// # Errors
    /// A token that the tokenizer does not know; an image without references.
    fn judge(&self, image: usize, caption: &DecodedCaption) -> anyhow::Result<Judged>;
}

/// CIDEr-D against the references of the image, with the end as a word.
pub struct CiderRewards {
    cider: CiderReward,
    /// Their indices in the data set, in the order of the references.
    images: Vec<usize>,
    /// The images' places among the references, by their indices in the data set.
    places: HashMap<usize, usize>,
    tokenizer: CaptionTokenizer,
}

impl CiderRewards {
    /// Of `images`, each with its references: all images of the training split, whose n-grams weigh.
    pub fn new(images: &[usize], references: &[Vec<String>], tokenizer: CaptionTokenizer) -> Self {
        let places = images.iter().enumerate().map(|(place, &image)| (image, place)).collect();
        Self { cider: CiderReward::new(references), images: images.to_vec(), places, tokenizer }
    }

    /// The images, by their indices in the data set, that have no reference with a word.
    pub fn without_references(&self) -> impl Iterator<Item = usize> {
        self.cider.wordless().iter().map(|&place| self.images[place])
    }

    /// Whether every caption is worth nothing.
    pub fn weigh_nothing(&self) -> bool {
        self.cider.weighs_nothing()
    }
}

impl Reward for CiderRewards {
    fn judge(&self, image: usize, caption: &DecodedCaption) -> anyhow::Result<Judged> {
        let place = *self.places.get(&image).with_context(|| format!("image {image} has no references"))?;
        let text = self.tokenizer.decode(&caption.tokens)?;
        Ok(self.cider.judge(place, &text, caption.has_end()))
    }
}

impl fmt::Debug for CiderRewards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CIDEr-D with ends for {} images", self.places.len())
    }
}
