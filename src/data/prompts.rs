//! The text before a caption that a model is given and does not learn to say: of the caption itself, else of the run.

use std::collections::HashMap;

use anyhow::{Context as _, Result};

use crate::tokenizer::CaptionTokenizer;
use base::error::failure;
use datasets::prepared::{Dataset, Image};

/// The prompt of the caption with this number of `image`, where it or the run has one.
pub fn prompt_of<'a>(image: Image<'a>, caption: usize, of_run: Option<&'a str>) -> Option<&'a str> {
    image.prompt(caption).or(of_run)
}

/// What decoding begins with, for images that are captioned together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prompts {
    /// Of images without their own.
    usual: Prompt,
    /// By the image's index in the data set.
    own: HashMap<usize, Prompt>,
}

/// A prompt as text and as tokens; both are empty where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prompt {
    pub text: String,
    pub tokens: Vec<u32>,
}

impl Prompt {
    /// A prompt for a decoder of `num_positions`; a blank text is none.
    ///
    /// # Errors
    /// A text that the tokenizer cannot encode, or that leaves no position for a caption.
    pub fn new(text: &str, tokenizer: &CaptionTokenizer, num_positions: usize) -> Result<Self> {
        let text = text.trim().to_owned();
        if text.is_empty() {
            return Ok(Self::default());
        }
        let tokens = tokenizer.encode(&text).context("cannot use the prompt")?;
        // One position reads the start token, and one the first token of the caption.
        if tokens.len() + 2 > num_positions {
            let count = tokens.len();
            return Err(failure(
                format!(
                    "the prompt {text:?} has {count} tokens: too many for a caption after it in {num_positions} positions"
                ),
                "shorten the prompt",
            ));
        }
        Ok(Self { text, tokens })
    }
}

impl Prompts {
    /// The same for all images.
    pub fn of_all(prompt: Prompt) -> Self {
        Self { usual: prompt, own: HashMap::new() }
    }

    /// For each of `images` that of its first caption, else `of_run`.
    ///
    /// # Errors
    /// As [`Prompt::new`].
    pub fn of_dataset(
        dataset: &Dataset,
        images: &[usize],
        of_run: Option<&str>,
        tokenizer: &CaptionTokenizer,
        num_positions: usize,
    ) -> Result<Self> {
        let usual = Prompt::new(of_run.unwrap_or_default(), tokenizer, num_positions)?;
        let mut own = HashMap::new();
        for &image in images {
            let record = dataset.images.get(image);
            if let Some(text) = record.prompt(0) {
                let prompt = Prompt::new(text, tokenizer, num_positions);
                own.insert(image, prompt.with_context(|| format!("cannot caption image {}", record.filename()))?);
            }
        }
        Ok(Self { usual, own })
    }

    /// Of the image with this index in the data set.
    pub fn of_image(&self, image: usize) -> &Prompt {
        self.own.get(&image).unwrap_or(&self.usual)
    }
}
