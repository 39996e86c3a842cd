//! One image, its captions, and what the model attends to.

use anyhow::Result;

use crate::data::image_source::ImageInput;
use crate::data::prompts::Prompt;
use crate::evaluation::caption_words::{CaptionWord, words};
use crate::evaluation::captioning::{CaptionWriter, WrittenCaption};

/// What a model writes about an image.
#[derive(Clone, Debug, Default)]
pub struct Description {
    /// The best first; at least one.
    pub captions: Vec<WrittenCaption>,
    /// The words of the best one.
    pub words: Vec<CaptionWord>,
}

/// Describes the only image of `input` in words that follow `prompt`. With `with_attention` words have their attention.
///
/// # Errors
/// An input that does not fit the model; a token that the tokenizer does not know.
pub fn describe(
    writer: &CaptionWriter<'_>,
    input: &ImageInput,
    prompt: &Prompt,
    with_attention: bool,
) -> Result<Description> {
    let key_values = writer.key_values(std::slice::from_ref(input))?;
    let written = writer.write_from(&key_values, &[prompt], 0)?;
    let attention = if with_attention { writer.attention(&key_values, &[prompt], &written)? } else { Vec::new() };
    let captions = written.into_iter().next().unwrap_or_default();
    anyhow::ensure!(!captions.is_empty(), "the model wrote no caption");
    let words = words(&captions[0], writer.tokenizer, attention.first().map_or(&[], Vec::as_slice))?;
    Ok(Description { captions, words })
}
