//! The section `[model]`: encoder and decoder.

use serde::{Deserialize, Serialize};

use crate::model::captioner::CaptionerShape;
use crate::model::decoders::DecoderConfig;
use crate::model::decoders::gpt2::Gpt2Config;
use crate::model::encoders::EncoderConfig;
use crate::model::layers::HiddenActivation;
use crate::model::lora::LoraConfig;
use crate::model::role::{AdaptedParts, EncoderTraining, ParameterSpec, Trained};

/// Section `[model]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// A whole captioner to start from: folder or Hub id of a `VisionEncoderDecoderModel` or of a BLIP
    /// (`BlipForConditionalGeneration`). It brings encoder, decoder sizes and tokenizer.
    pub init_from: Option<String>,
    /// Branch, tag, pull request (`refs/pr/1`) or commit of `init_from`, if that is on the Hub. Once a run has begun,
    /// the commit.
    pub revision: Option<String>,
    /// Train products of low rank beside the dense layers, and leave the pretrained weights as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraConfig>,
    /// The image encoder.
    pub encoder: EncoderSection,
    /// The caption decoder.
    pub decoder: DecoderSection,
}

/// Section `[model.encoder]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EncoderSection {
    /// Folder in the Hub's format, or the id of a Hub repository: `config.json` says of which family.
    pub name: Option<String>,
    /// Branch, tag, pull request (`refs/pr/1`) or commit of `name`, if that is on the Hub. Once a run has begun,
    /// the commit.
    pub revision: Option<String>,
    /// Start from the weights of `name`; with `false` from random ones, of the shape of `config` or of `name`.
    pub pretrained: bool,
    /// Shape of an encoder from scratch.
    pub config: Option<EncoderConfig>,
    /// Side of the square image in pixels. Absent: what the encoder was made for, or what the image processor of a
    /// DINOv2 gives.
    pub image_size: Option<usize>,
    /// Which parameters are trained.
    pub train: EncoderTraining,
}

impl Default for EncoderSection {
    fn default() -> Self {
        Self {
            name: None,
            revision: None,
            pretrained: true,
            config: None,
            image_size: None,
            train: EncoderTraining::Frozen,
        }
    }
}

/// Section `[model.decoder]`: a GPT-2 with cross-attention; from a pretrained BERT, a BERT.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DecoderSection {
    /// A GPT-2 or BERT to start from: folder or Hub id. It brings its sizes and its tokenizer; the cross-attention is new.
    pub name: Option<String>,
    /// Branch, tag, pull request (`refs/pr/1`) or commit of `name`, if that is on the Hub. Once a run has begun,
    /// the commit.
    pub revision: Option<String>,
    /// Width.
    pub hidden_size: usize,
    /// Number of blocks.
    pub num_layers: usize,
    /// Number of attention heads; divides `hidden_size`.
    pub num_heads: usize,
    /// Inner width of the MLP.
    pub intermediate_size: usize,
    /// Number of caption positions: start token and caption, or caption and end token.
    pub max_seq_len: usize,
    /// Dropout where the decoder has it: 0 to below 1.
    pub dropout: f64,
    /// Added to the variance in every LayerNorm.
    pub layer_norm_eps: f64,
    /// Standard deviation of the first weights.
    pub initializer_range: f64,
    /// The output head is the token embedding.
    pub tie_word_embeddings: bool,
}

impl Default for DecoderSection {
    fn default() -> Self {
        Self {
            name: None,
            revision: None,
            hidden_size: 512,
            num_layers: 6,
            num_heads: 8,
            intermediate_size: 2048,
            max_seq_len: 32,
            dropout: 0.1,
            layer_norm_eps: 1e-5,
            initializer_range: 0.02,
            tie_word_embeddings: true,
        }
    }
}

impl DecoderSection {
    /// A decoder from scratch, for a vocabulary of `vocab_size` tokens.
    pub fn from_scratch(&self, vocab_size: usize) -> DecoderConfig {
        DecoderConfig::Gpt2(Gpt2Config {
            vocab_size,
            hidden_size: self.hidden_size,
            num_layers: self.num_layers,
            num_heads: self.num_heads,
            intermediate_size: self.intermediate_size,
            num_positions: self.max_seq_len,
            hidden_act: HiddenActivation::GeluNew,
            dropout: self.dropout,
            layer_norm_eps: self.layer_norm_eps,
            initializer_range: self.initializer_range,
            tie_word_embeddings: self.tie_word_embeddings,
        })
    }

    /// Takes over the sizes of a pretrained decoder. Captions get no longer than its positions.
    pub fn take_sizes(&mut self, decoder: &DecoderConfig) {
        let sizes = decoder.sizes();
        self.hidden_size = sizes.hidden_size;
        self.num_layers = sizes.num_layers;
        self.num_heads = sizes.num_heads;
        self.intermediate_size = sizes.intermediate_size;
        self.max_seq_len = self.max_seq_len.min(sizes.num_positions);
        self.dropout = sizes.dropout;
        self.layer_norm_eps = sizes.layer_norm_eps;
        self.initializer_range = sizes.initializer_range;
        self.tie_word_embeddings = sizes.tie_word_embeddings;
    }
}

/// A pretrained model that a config may name.
#[derive(Debug)]
pub struct ModelName<'a> {
    /// The dotted key of its name.
    pub key: &'static str,
    /// The dotted key of its revision.
    pub revision_key: &'static str,
    pub name: &'a mut Option<String>,
    pub revision: &'a mut Option<String>,
}

impl ModelConfig {
    /// The pretrained models: the captioner, the encoder, the decoder.
    pub fn names_mut(&mut self) -> [ModelName<'_>; 3] {
        let Self { init_from, revision, encoder, decoder, .. } = self;
        [
            ModelName { key: "model.init_from", revision_key: "model.revision", name: init_from, revision },
            ModelName {
                key: "model.encoder.name",
                revision_key: "model.encoder.revision",
                name: &mut encoder.name,
                revision: &mut encoder.revision,
            },
            ModelName {
                key: "model.decoder.name",
                revision_key: "model.decoder.revision",
                name: &mut decoder.name,
                revision: &mut decoder.revision,
            },
        ]
    }

    /// Whether decoder sizes and tokenizer come from a pretrained model, so that defaults for them mean nothing.
    pub fn brings_decoder(&self) -> bool {
        self.init_from.is_some() || self.decoder.name.is_some()
    }

    /// What is trained.
    pub fn trained(&self) -> Trained {
        let adapted = self.lora.as_ref().map(|lora| AdaptedParts {
            encoder: lora.encoder,
            decoder: lora.decoder,
            has_new_connections: self.init_from.is_none(),
        });
        Trained { encoder: self.encoder.train, adapted }
    }

    /// The parameters of a model of this shape, with those of the adapter.
    ///
    /// # Errors
    /// A config that its family cannot build; a usage error for targets that no layer has.
    pub fn parameter_specs(&self, shape: &CaptionerShape) -> anyhow::Result<Vec<ParameterSpec>> {
        let mut specs = shape.parameter_specs()?;
        if let Some(lora) = &self.lora {
            let num_blocks = shape.encoder.num_layers();
            specs.extend(lora.specs(&specs, |role| !self.trained().trains(role, num_blocks))?);
        }
        Ok(specs)
    }

    /// Whether nothing that the encoder computes changes.
    pub fn has_frozen_encoder(&self) -> bool {
        self.encoder.train == EncoderTraining::Frozen && !self.lora.as_ref().is_some_and(|lora| lora.encoder)
    }
}
