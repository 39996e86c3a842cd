//! The section `[model]`: encoder and decoder.

use serde::{Deserialize, Serialize};

/// Section `[model]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// A whole captioner to start from: folder or Hub id of a `VisionEncoderDecoderModel` (ViT or CLIP encoder, GPT-2
    /// decoder). It brings encoder, decoder sizes and tokenizer.
    pub init_from: Option<String>,
    /// The image encoder.
    pub encoder: EncoderConfig,
    /// The caption decoder.
    pub decoder: DecoderConfig,
}

/// Which family an encoder belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EncoderKind {
    /// `ViTModel` of transformers.
    Vit,
    /// `CLIPVisionModel` of transformers.
    ClipVision,
}

/// Which parameters of the encoder are trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EncoderTraining {
    /// None; each image is then encoded once.
    Frozen,
    /// All that have a gradient.
    Full,
    /// The last blocks, this many, and the final normalisation.
    LastBlocks(usize),
}

/// Section `[model.encoder]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EncoderConfig {
    /// Folder in the Hub's format, or the id of a Hub repository: a ViT or a CLIP model, told apart by `config.json`.
    pub name: Option<String>,
    /// Start from the weights of `name`; with `false` from random ones, of the shape of `config` or of `name`.
    pub pretrained: bool,
    /// Shape of an encoder from scratch.
    pub config: Option<EncoderArchitecture>,
    /// Side of the square image in pixels, a multiple of the patch. Absent: what the encoder was made for.
    pub image_size: Option<usize>,
    /// Which parameters are trained.
    pub train: EncoderTraining,
}

impl Default for EncoderConfig {
    fn default() -> Self {
        Self { name: None, pretrained: true, config: None, image_size: None, train: EncoderTraining::Frozen }
    }
}

/// Shape of an encoder from scratch (`model.encoder.config`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderArchitecture {
    /// Family.
    pub kind: EncoderKind,
    /// Side of the square image in pixels.
    pub image_size: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Width.
    pub hidden_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Number of attention heads; divides `hidden_size`.
    pub num_attention_heads: usize,
    /// Inner width of the MLP.
    pub intermediate_size: usize,
    /// Standard deviation of the first weights (of a CLIP: of the embeddings; the others follow from the width).
    #[serde(default = "initializer_range")]
    pub initializer_range: f64,
}

/// As in `ViTConfig`, `CLIPVisionConfig` and `GPT2Config`.
fn initializer_range() -> f64 {
    0.02
}

/// Section `[model.decoder]`: a GPT-2 with cross-attention.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DecoderConfig {
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

impl Default for DecoderConfig {
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
            initializer_range: initializer_range(),
            tie_word_embeddings: true,
        }
    }
}

impl ModelConfig {
    /// Whether decoder sizes and tokenizer come from a pretrained model, so that defaults for them mean nothing.
    pub fn brings_decoder(&self) -> bool {
        self.init_from.is_some() || self.decoder.name.is_some()
    }
}
