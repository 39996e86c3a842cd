//! Encoder, projection and decoder as one model.

use anyhow::Result;
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::config::EncoderTraining;
use crate::model::caption_decoder::{CaptionDecoder, DecoderShape, Mode};
use crate::model::encoder::{Encoder, EncoderShape, is_trained};
use crate::model::initialization::Initializer;
use crate::model::parameters::{Declaration, ParameterSpec, ParameterView, Parameters};
use crate::model::vision_block::{Cut, Linear};

/// Everything that decides a captioner's parameters and arithmetic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaptionerShape {
    /// The image encoder.
    pub encoder: EncoderShape,
    /// The caption decoder.
    pub decoder: DecoderShape,
}

/// What the names of the encoder's parameters begin with.
pub const ENCODER: &str = "encoder";
const PROJECTION: &str = "enc_to_dec_proj";
const DECODER: &str = "decoder";

impl CaptionerShape {
    /// Every parameter of the model, with the names of a `VisionEncoderDecoderModel`.
    pub fn parameter_specs(&self) -> Vec<ParameterSpec> {
        let mut specs = Vec::new();
        let mut declaration = Declaration::new(&mut specs);
        Encoder::declare(&self.encoder, &mut declaration.under(ENCODER));
        if self.has_projection() {
            let (input, output) = (self.encoder.hidden_size, self.decoder.hidden_size);
            // What torch.nn.Linear begins with.
            let uniform = Initializer::Uniform((input as f64).powf(-0.5));
            Linear::declare(&mut declaration.under(PROJECTION), input, output, uniform, Some(uniform));
        }
        CaptionDecoder::declare(&self.decoder, &mut declaration.under(DECODER));
        specs
    }

    /// Whether the widths differ, so that a projection stands between encoder and decoder.
    pub fn has_projection(&self) -> bool {
        self.encoder.hidden_size != self.decoder.hidden_size
    }

    /// Freezes the parameters of the encoder that are not to be trained.
    pub fn freeze(&self, parameters: &mut Parameters, training: EncoderTraining) {
        parameters.freeze_unless(|name| self.trains(name, training));
    }

    /// Whether the parameter called `name` is trained.
    pub fn trains(&self, name: &str, training: EncoderTraining) -> bool {
        name.strip_prefix("encoder.").is_none_or(|inner| is_trained(inner, &self.encoder, training))
    }
}

/// A captioning model on given parameters.
#[derive(Clone, Debug)]
pub struct Captioner {
    encoder: Encoder,
    projection: Option<Linear>,
    decoder: CaptionDecoder,
}

impl Captioner {
    /// Builds the model.
    ///
    /// # Errors
    /// A parameter that was not declared.
    pub fn build(shape: &CaptionerShape, view: &ParameterView<'_>) -> Result<Self> {
        let projection =
            if shape.has_projection() { Some(Linear::build(&view.under(PROJECTION), true)?) } else { None };
        Ok(Self {
            encoder: Encoder::build(&shape.encoder, &view.under(ENCODER))?,
            projection,
            decoder: CaptionDecoder::build(&shape.decoder, &view.under(DECODER))?,
        })
    }

    /// `pixel_values` (B, 3, image, image) to the encoder's last hidden states (B, N, D of the encoder).
    ///
    /// # Errors
    /// Pixels of another shape.
    pub fn encode(&self, pixel_values: &Tensor) -> candle_core::Result<Tensor> {
        self.encode_cut(pixel_values, &mut Ok)
    }

    /// [`Self::encode`] in parts: `cut` gets the states before each block and behind the last.
    ///
    /// # Errors
    /// Pixels of another shape; what `cut` gives.
    pub fn encode_cut(&self, pixel_values: &Tensor, cut: Cut<'_>) -> candle_core::Result<Tensor> {
        let states = self.encoder.forward(pixel_values, cut)?;
        cut(states)
    }

    /// The encoder's hidden states to each decoder block's keys and values (B, N, 2 D).
    ///
    /// # Errors
    /// States of another width.
    pub fn cross_key_values(&self, encoder_hidden_states: &Tensor) -> candle_core::Result<Vec<Tensor>> {
        match &self.projection {
            Some(projection) => self.decoder.cross_key_values(&projection.forward(encoder_hidden_states)?),
            None => self.decoder.cross_key_values(encoder_hidden_states),
        }
    }

    /// The decoder, for its hidden states and logits.
    pub fn decoder(&self) -> &CaptionDecoder {
        &self.decoder
    }

    /// `pixel_values` and `input_ids` (B, L) to logits (B, L, V).
    ///
    /// # Errors
    /// What the parts give.
    pub fn forward(&self, pixel_values: &Tensor, input_ids: &Tensor, mode: Mode) -> candle_core::Result<Tensor> {
        let key_values = self.cross_key_values(&self.encode(pixel_values)?)?;
        self.decoder.logits(&self.decoder.hidden_states(input_ids, &key_values, mode)?)
    }
}
