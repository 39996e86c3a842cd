//! Encoder, projection and decoder as one model.

use std::sync::Arc;

use anyhow::Result;
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::model::builder::{Builder, record};
use crate::model::decoders::{Captions, DecoderConfig, Mode, TextDecoder};
use crate::model::encoders::{EncoderConfig, ImageEncoder};
use crate::model::initialization::Initializer;
use crate::model::layers::Linear;
use crate::model::parameters::Parameters;
use crate::model::role::{ParameterSpec, Part, Trained};
use crate::model::stages::{Stages, Uncut};

/// Everything that decides a captioner's parameters and arithmetic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaptionerShape {
    /// The image encoder.
    pub encoder: EncoderConfig,
    /// The caption decoder.
    pub decoder: DecoderConfig,
}

/// What the names of the parts' parameters begin with, as in a `VisionEncoderDecoderModel`.
pub const ENCODER: &str = "encoder";
/// See [`ENCODER`].
pub const PROJECTION: &str = "enc_to_dec_proj";
/// See [`ENCODER`].
pub const DECODER: &str = "decoder";

impl CaptionerShape {
    /// Every parameter of the model, with the names of a `VisionEncoderDecoderModel`.
    ///
    /// # Errors
    /// A config that its family cannot build.
    pub fn parameter_specs(&self) -> Result<Vec<ParameterSpec>> {
        record(|builder| Captioner::build(self, builder))
    }

    /// Whether a projection stands between encoder and decoder: the cross-attention takes states of another width than
    /// the encoder's.
    pub fn has_projection(&self) -> bool {
        self.encoder.hidden_size() != self.decoder.cross_attention_width()
    }

    /// The path of a layer in the memory of transformers' model, by its name in files.
    pub fn module_path(&self, layer: &str) -> String {
        match layer.split_once('.') {
            Some((ENCODER, inner)) => format!("{ENCODER}.{}", self.encoder.module_path(inner)),
            Some((DECODER, inner)) => format!("{DECODER}.{}", self.decoder.module_path(inner)),
            _ => layer.to_owned(),
        }
    }

    /// Freezes the parameters that are not to be trained.
    pub fn freeze(&self, parameters: &mut Parameters, trained: impl Into<Trained>) {
        let trained = trained.into();
        parameters.freeze_unless(|role| trained.trains(role, self.encoder.num_layers()));
    }
}

/// A captioning model on given parameters.
#[derive(Clone, Debug)]
pub struct Captioner {
    encoder: Arc<dyn ImageEncoder>,
    projection: Option<Linear>,
    decoder: Arc<dyn TextDecoder>,
}

impl Captioner {
    /// Builds the model.
    ///
    /// # Errors
    /// A parameter that is missing or of another shape.
    pub fn build(shape: &CaptionerShape, builder: &Builder<'_>) -> Result<Self> {
        let encoder = shape.encoder.build(&builder.part(Part::Encoder, ENCODER))?;
        let projection = || {
            let (input, output) = (shape.encoder.hidden_size(), shape.decoder.cross_attention_width());
            // What torch.nn.Linear begins with.
            let uniform = Initializer::Uniform((input as f64).powf(-0.5));
            let builder = builder.part(Part::Projection, PROJECTION).connecting();
            Linear::new(&builder, input, output, uniform, Some(uniform))
        };
        let projection = shape.has_projection().then(projection).transpose()?;
        let decoder = shape.decoder.build(&builder.part(Part::Decoder, DECODER))?;
        Ok(Self { encoder, projection, decoder })
    }

    /// `pixel_values` (B, 3, image, image) to the encoder's last hidden states (B, N, D of the encoder).
    ///
    /// # Errors
    /// Pixels of another shape.
    pub fn encode(&self, pixel_values: &Tensor) -> candle_core::Result<Tensor> {
        self.encode_in(pixel_values, &mut Uncut)
    }

    /// [`Self::encode`] in stages, a block each, with a cut after the last.
    ///
    /// # Errors
    /// Pixels of another shape; those of `stages`.
    pub fn encode_in(&self, pixel_values: &Tensor, stages: &mut dyn Stages) -> candle_core::Result<Tensor> {
        let states = self.encoder.forward(pixel_values, stages)?;
        stages.cut(states)
    }

    /// The encoder's hidden states to the keys and values of the decoder's blocks: see
    /// [`TextDecoder::cross_key_values`].
    ///
    /// # Errors
    /// States of another width.
    pub fn cross_key_values(&self, encoder_hidden_states: &Tensor) -> candle_core::Result<Vec<Tensor>> {
        self.cross_key_values_in(encoder_hidden_states, &mut Uncut)
    }

    /// [`Self::cross_key_values`] with a cut before them, since each begins a way back to what they are made of.
    ///
    /// # Errors
    /// As [`Self::cross_key_values`]; those of `stages`.
    pub fn cross_key_values_in(
        &self,
        encoder_hidden_states: &Tensor,
        stages: &mut dyn Stages,
    ) -> candle_core::Result<Vec<Tensor>> {
        match &self.projection {
            Some(projection) => {
                let states = stages.cut(projection.forward(encoder_hidden_states)?)?;
                self.decoder.cross_key_values(&states)
            }
            None => self.decoder.cross_key_values(encoder_hidden_states),
        }
    }

    /// The decoder, for its hidden states and logits.
    pub fn decoder(&self) -> &dyn TextDecoder {
        &*self.decoder
    }

    /// `pixel_values` and `input_ids` (B, L) to logits (B, L, V).
    ///
    /// # Errors
    /// Inputs of other shapes.
    pub fn forward(&self, pixel_values: &Tensor, input_ids: &Tensor, mode: Mode) -> candle_core::Result<Tensor> {
        let key_values = self.cross_key_values(&self.encode(pixel_values)?)?;
        self.decoder.logits(&self.decoder.hidden_states(&Captions::padded(input_ids), &key_values, mode)?)
    }
}
