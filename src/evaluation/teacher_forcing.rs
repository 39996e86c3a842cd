//! The model's predictions for captions that are given: what training losses and validation losses have in common.

use candle_core::{D, Result, Tensor};

use crate::data::batch::Batch;
use crate::data::image_source::ImageInput;
use crate::model::captioner::Captioner;
use crate::model::decoders::{Captions, Mode};
use crate::model::stages::Stages;

/// Logits (T, V) of the batch's targets.
///
/// # Errors
/// A tensor of another shape or device than the model expects.
pub fn target_logits(model: &Captioner, batch: &Batch, mode: Mode, stages: &mut dyn Stages) -> Result<Tensor> {
    let key_values = batch_key_values(model, batch, stages)?;
    let captions = Captions { ids: batch.input_ids.clone(), packing: batch.packing.clone() };
    let hidden = model.decoder().hidden_states_in(&captions, &key_values, mode, stages)?; // (B, L, D) or (rows, D)
    let width = hidden.dim(D::Minus1)?;
    // The head is the largest product of the decoder: positions without a target are left out before it. candle's own
    // selection of rows has a backward pass that adds one row after the other on a GPU.
    let hidden = match &batch.target_rows {
        Some(rows) => ops::embedding(rows, &hidden.reshape(((), width))?)?, // (T, D)
        None => hidden,
    };
    model.decoder().logits(&hidden)
}

/// Each decoder block's keys and values.
fn batch_key_values(model: &Captioner, batch: &Batch, stages: &mut dyn Stages) -> Result<Vec<Tensor>> {
    let states = match &batch.images {
        ImageInput::Pixels(pixel_values) => model.encode_in(pixel_values, stages)?,
        ImageInput::Features(features) => features.clone(),
    };
    let key_values = model.cross_key_values_in(&states, stages)?;
    match &batch.image_rows {
        Some(rows) => key_values.iter().map(|tensor| tensor.index_select(rows, 0)).collect(),
        None => Ok(key_values),
    }
}
