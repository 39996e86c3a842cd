//! A model as a folder that transformers loads, with its card.

use std::path::Path;

use anyhow::Result;

use crate::hf::export::{self, Export};
use crate::run::captioning_model::CaptioningModel;
use crate::run::model_card::{self, Card};

/// Writes the folder.
///
/// # Errors
/// A folder that is not empty; a disk that cannot be written.
pub fn write(model: &CaptioningModel, folder: &Path, card: &Card) -> Result<()> {
    let CaptioningModel { shape, parameters, tokenizer, processor, decoding, .. } = model;
    let card = model_card::render(model, card);
    export::write(Export { shape, parameters, tokenizer, processor, decoding, card: &card }, folder)
}
