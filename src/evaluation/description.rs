//! One picture, its captions, and where the model looks.

use anyhow::Result;
use candle_core::{Device, Tensor};

use crate::data::image_source::ImageInput;
use crate::evaluation::caption_words::{CaptionWord, words};
use crate::evaluation::captioning::{CaptionWriter, WrittenCaption};

/// What a model says of a picture.
#[derive(Clone, Debug, Default)]
pub struct Description {
    /// Its captions, the best first; at least one.
    pub captions: Vec<WrittenCaption>,
    /// The words of the best one.
    pub words: Vec<CaptionWord>,
}

/// Describes the picture with these values, (3, height, width). Words have their attention where it is asked for.
///
/// # Errors
/// What model and tokenizer give.
pub fn describe(
    writer: &CaptionWriter<'_>,
    values: Vec<f32>,
    (height, width): (usize, usize),
    with_attention: bool,
    device: &Device,
) -> Result<Description> {
    let input = ImageInput::Pixels(Tensor::from_vec(values, (1, 3, height, width), device)?);
    let key_values = writer.key_values(&input)?;
    let written = writer.write_from(&key_values, 0)?;
    let attention = if with_attention { writer.attention(&key_values, &written)? } else { Vec::new() };
    let captions = written.into_iter().next().unwrap_or_default();
    anyhow::ensure!(!captions.is_empty(), "the model wrote no caption");
    let words = words(&captions[0], writer.tokenizer, attention.first().map_or(&[], Vec::as_slice))?;
    Ok(Description { captions, words })
}
