//! A model as a folder that transformers loads, with its card.

use std::path::Path;

use anyhow::Result;

use crate::hf::export::{self, Export};
use crate::hf::layouts;
use crate::run::captioning_model::CaptioningModel;
use crate::run::model_card::{self, Card};

/// Writes the folder, and gives the class of transformers that loads it.
///
/// # Errors
/// A model that transformers has no class for; a folder that is not empty; a disk that cannot be written.
pub fn write(model: &CaptioningModel, folder: &Path, card: &Card) -> Result<&'static str> {
    let CaptioningModel { shape, parameters, tokenizer, processor, decoding, .. } = model;
    let layout = layouts::of_shape(shape)?;
    let card = model_card::render(model, layout, card);
    export::write(Export { layout, shape, parameters, tokenizer, processor, decoding, card: &card }, folder)?;
    Ok(layout.class)
}
