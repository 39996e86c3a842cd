//! The loss: token cross-entropies as a sum and a count, divided once.

use candle_core::Tensor;

use crate::data::batch::Batch;
use crate::data::collate::IGNORE_LABEL;
use crate::data::image_source::ImageInput;
use crate::model::captioner::Captioner;
use crate::model::decoders::Mode;
use crate::model::layers::Cut;

/// A sum of token losses in nats and the number of tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossSum {
    /// Sum.
    pub sum: f64,
    /// Tokens.
    pub count: u64,
}

impl LossSum {
    /// Adds another.
    pub fn add(&mut self, other: Self) {
        self.sum += other.sum;
        self.count += other.count;
    }

    /// Nats per token; not a number when there is none.
    pub fn mean(self) -> f64 {
        self.sum / self.count as f64
    }
}

/// Each decoder block's keys and values (B, N, 2 D) for the pairs of a batch; `cut` gets the states between the
/// encoder's parts.
///
/// # Errors
/// What the model gives.
pub fn batch_key_values(model: &Captioner, batch: &Batch, cut: Cut<'_>) -> candle_core::Result<Vec<Tensor>> {
    let states = match &batch.images {
        ImageInput::Pixels(pixel_values) => model.encode_cut(pixel_values, cut)?,
        ImageInput::Features(features) => features.clone(),
    };
    let key_values = model.cross_key_values(&states)?;
    match &batch.image_rows {
        Some(rows) => key_values.iter().map(|tensor| tensor.index_select(rows, 0)).collect(),
        None => Ok(key_values),
    }
}

/// The sum of the batch's token losses, a scalar tensor; `cut` gets the states between the encoder's parts.
///
/// # Errors
/// What the model gives.
pub fn batch_loss(
    model: &Captioner,
    batch: &Batch,
    mode: Mode,
    label_smoothing: f64,
    cut: Cut<'_>,
) -> candle_core::Result<Tensor> {
    let key_values = batch_key_values(model, batch, cut)?;
    let hidden = model.decoder().hidden_states(&batch.input_ids, &key_values, mode)?; // (B, L, D)
    // The head is the largest product of the decoder: padded positions are left out before it.
    let mut rows = Vec::with_capacity(batch.num_targets);
    let mut targets = Vec::with_capacity(batch.num_targets);
    for (row, &label) in (0u32..).zip(&batch.labels) {
        if label != IGNORE_LABEL {
            rows.push(row);
            targets.push(label);
        }
    }
    let rows = ops::upload(rows, batch.num_targets, hidden.device())?;
    // Of candle's own, the backward pass adds one row after the other on a GPU.
    let hidden = ops::embedding(&rows, &hidden.flatten(0, 1)?)?; // (targets, D)
    ops::cross_entropy(&model.decoder().logits(&hidden)?, &targets, label_smoothing)
}

/// The batch's loss without gradients, dropout or smoothing.
///
/// # Errors
/// What the model gives.
pub fn evaluate_batch(model: &Captioner, batch: &Batch) -> candle_core::Result<LossSum> {
    let loss = batch_loss(model, batch, Mode::Eval, 0.0, &mut Ok)?;
    Ok(LossSum { sum: scalar(&loss)?, count: batch.num_targets as u64 })
}

/// A scalar tensor as f64.
///
/// # Errors
/// A tensor that is no scalar.
pub fn scalar(tensor: &Tensor) -> candle_core::Result<f64> {
    tensor.to_dtype(candle_core::DType::F64)?.to_scalar()
}
