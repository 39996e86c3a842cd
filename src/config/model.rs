//! The section `[model]`: encoder and decoder.

use serde::{Deserialize, Serialize};

use crate::model::decoders::DecoderConfig;
use crate::model::decoders::gpt2::Gpt2Config;
use crate::model::encoders::EncoderConfig;
use crate::model::layers::HiddenActivation;
use crate::model::role::EncoderTraining;

/// Section `[model]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// A whole captioner to start from: folder or Hub id of a `VisionEncoderDecoderModel` or of a BLIP
    /// (`BlipForConditionalGeneration`). It brings encoder, decoder sizes and tokenizer.
    pub init_from: Option<String>,
    /// The image encoder.
    pub encoder: EncoderSection,
    /// The caption decoder.
    pub decoder: DecoderSection,
}

/// Section `[model.encoder]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EncoderSection {
    /// Folder in the Hub's format, or the id of a Hub repository: a ViT or a CLIP model, as `config.json` says.
    pub name: Option<String>,
    /// Start from the weights of `name`; with `false` from random ones, of the shape of `config` or of `name`.
    pub pretrained: bool,
    /// Shape of an encoder from scratch.
    pub config: Option<EncoderConfig>,
    /// Side of the square image in pixels, a multiple of the patch. Absent: what the encoder was made for.
    pub image_size: Option<usize>,
    /// Which parameters are trained.
    pub train: EncoderTraining,
}

impl Default for EncoderSection {
    fn default() -> Self {
        Self { name: None, pretrained: true, config: None, image_size: None, train: EncoderTraining::Frozen }
    }
}

/// Section `[model.decoder]`: a GPT-2 with cross-attention.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DecoderSection {
    /// A GPT-2 to start from: folder or Hub id. It brings its sizes and its tokenizer; the cross-attention is new.
    pub name: Option<String>,
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
    /// Dropout where GPT-2 has it: 0 to below 1.
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

impl ModelConfig {
    /// Whether decoder sizes and tokenizer come from a pretrained model, so that defaults for them mean nothing.
    pub fn brings_decoder(&self) -> bool {
        self.init_from.is_some() || self.decoder.name.is_some()
    }
}
