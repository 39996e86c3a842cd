//! The images that are captioned at validations: a few as samples, or all of them to score.

use std::fmt;
use std::sync::Arc;

use crate::data::batch::Example;
use crate::data::example_list::ExampleList;
use crate::data::prompts::Prompts;
use crate::evaluation::captioning::WrittenCaption;
use crate::tokenizer::{CaptionTokenizer, SpecialIds};
use crate::training::events::Sample;
use metrics::corpus::Captions;
use metrics::meteor::Meteor;
use metrics::score::{ScoreOptions, SignedScores, score};
use metrics::statistics::share_of_bad_endings;

/// The validation split as it is captioned.
pub struct CaptionedSplit {
    /// Its images, as indices in the data set.
    pub images: Vec<usize>,
    /// Those that every validation captions.
    pub samples: Vec<usize>,
    /// The references of each of `images`.
    pub references: Vec<Vec<String>>,
    /// What their captions begin with.
    pub prompts: Prompts,
    pub tokenizer: CaptionTokenizer,
    pub meteor: Arc<Meteor>,
    /// How the reward was counted that the model is trained on, for the signature of its scores.
    pub reward: Option<String>,
}

/// What a validation captioned.
#[derive(Default)]
pub struct Captioned {
    /// Captions of the samples, or of the whole split.
    pub captions: Vec<WrittenCaption>,
    /// Their scores, if the whole split was captioned.
    pub scores: Option<SignedScores>,
}

impl Captioned {
    /// The share of the captions that end as no sentence does.
    pub fn bad_endings(&self) -> f64 {
        let texts: Vec<&str> = self.captions.iter().map(|caption| caption.text.as_str()).collect();
        share_of_bad_endings(&texts)
    }
}

impl CaptionedSplit {
    /// The samples among what a validation captioned.
    pub fn samples<'a>(&'a self, captioned: &'a Captioned) -> Vec<Sample<'a>> {
        let is_whole = captioned.captions.len() == self.images.len();
        let sample = |(place, &image): (usize, &usize)| {
            let in_split = self.images.iter().position(|&other| other == image)?;
            let caption = captioned.captions.get(if is_whole { in_split } else { place })?;
            Some(Sample { image, caption, references: &self.references[in_split] })
        };
        self.samples.iter().enumerate().filter_map(sample).collect()
    }

    /// The captions as a teacher would give them: framed, each after its prompt.
    pub fn as_examples(&self, captioned: &Captioned) -> ExampleList {
        let is_whole = captioned.captions.len() == self.images.len();
        let images = if is_whole { &self.images } else { &self.samples };
        let SpecialIds { start, end, .. } = self.tokenizer.special_ids();
        let example = |(&image, caption): (&usize, &WrittenCaption)| {
            let prompt = &self.prompts.of_image(image).tokens;
            let ended = if caption.decoded.has_end() { &[end][..] } else { &[] };
            let tokens = [&[start], &prompt[..], &caption.decoded.tokens, ended].concat();
            Example { image, tokens, prompt_length: prompt.len(), weight: 1.0 }
        };
        let mut examples = ExampleList::default();
        examples.extend(images.iter().zip(&captioned.captions).map(example));
        examples
    }

    /// The scores of captions of all images, in their order.
    pub fn score(&self, captions: &[WrittenCaption], seed: u64) -> SignedScores {
        let images: Vec<Captions> = captions
            .iter()
            .zip(&self.references)
            .map(|(caption, references)| Captions { candidate: caption.text.clone(), references: references.clone() })
            .collect();
        let options = ScoreOptions {
            meteor: &self.meteor,
            document_references: None,
            training_captions: None,
            num_resamples: 0,
            seed,
        };
        let SignedScores { scores, signature } = score(&images, &options).signed();
        let parts: Vec<String> = std::iter::once(signature).chain(self.reward.clone()).collect();
        SignedScores { scores, signature: parts.join("|") }
    }
}

impl fmt::Debug for CaptionedSplit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} images, {} of them samples", self.images.len(), self.samples.len())
    }
}
