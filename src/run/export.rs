//! A model as a folder that transformers loads, with its card.

use std::path::Path;

use anyhow::Result;

use crate::config::{LoraConfig, ModelConfig};
use crate::hf::adapter::{self, Adapter};
use crate::hf::export::{self, Export};
use crate::hf::layouts;
use crate::model::role::Kind;
use crate::run::captioning_model::CaptioningModel;
use crate::run::model_card::{self, Card};
use base::error::usage_error;

/// Writes the folder, and returns the class of transformers that loads it; what an adapter adds is in the weights.
///
/// # Errors
/// A model that transformers has no class for; a folder that is not empty; a disk that cannot be written.
pub fn write(model: &CaptioningModel, folder: &Path, card: &Card) -> Result<&'static str> {
    write_model(model, folder, card, true)
}

/// Writes the folder of the model that an adapter belongs to, with all of it that was trained but the adapter.
///
/// # Errors
/// As [`write`]; a model without adapter.
pub fn write_base(model: &CaptioningModel, folder: &Path, card: &Card) -> Result<&'static str> {
    adapter_of(model)?;
    write_model(model, folder, card, false)
}

/// Writes the adapter alone, as PEFT takes it.
///
/// # Errors
/// As [`write`]; a model without adapter.
pub fn write_adapter(model: &CaptioningModel, folder: &Path) -> Result<()> {
    let CaptioningModel { shape, parameters, .. } = model;
    let (config, lora) = adapter_of(model)?;
    let is_unchanged = parameters
        .iter()
        .all(|(_, parameter)| parameter.in_base || !parameter.role.used || parameter.role.kind == Kind::Adapter);
    let base = config.init_from.as_deref().filter(|_| is_unchanged);
    adapter::write(Adapter { shape, parameters, lora, base }, folder)
}

/// How the model's adapter was made.
fn adapter_of(model: &CaptioningModel) -> Result<(&ModelConfig, &LoraConfig)> {
    let config = model.training.as_ref().map(|training| &training.config.model);
    config
        .and_then(|config| Some((config, config.lora.as_ref()?)))
        .ok_or_else(|| usage_error("the model has no adapter", "export it whole, without --lora"))
}

fn write_model(model: &CaptioningModel, folder: &Path, card: &Card, merged: bool) -> Result<&'static str> {
    let layout = layouts::of_shape(&model.shape)?;
    let CaptioningModel { shape, parameters, tokenizer, processor, .. } = model;
    let parameters = &parameters.without_adapter(merged)?;
    let decoding = &model.decoding_elsewhere()?;
    let card = model_card::render(model, layout, decoding, card);
    export::write(Export { layout, shape, parameters, tokenizer, processor, decoding, card: &card }, folder)?;
    Ok(layout.class)
}
