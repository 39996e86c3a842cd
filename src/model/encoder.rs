//! The image encoder of a captioner: its shape, and the choice between ViT and CLIP.

use anyhow::bail;
use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

use crate::config::{EncoderArchitecture, EncoderKind, EncoderTraining};
use crate::model::clip_vision::ClipVision;
use crate::model::parameters::{Declaration, ParameterView};
use crate::model::vision_block::Cut;
use crate::model::vision_transformer::VisionTransformer;
use ops::Gelu;

/// Blocks that an encoder or a decoder may have. Each is declared before its weights are looked for, so that without a
/// limit a number in a file would be memory.
pub(crate) const MAX_LAYERS: usize = 1024;
/// Most of any other size that a file may name: far above any model, far below what overflows.
const MAX_SIZE: usize = 1 << 20;

/// Activation of the MLP, under the names that transformers uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HiddenActivation {
    /// `x * Phi(x)`.
    #[serde(rename = "gelu")]
    Gelu,
    /// The tanh approximation.
    #[serde(rename = "gelu_new", alias = "gelu_pytorch_tanh")]
    GeluNew,
    /// `x * sigmoid(1.702 x)`.
    #[serde(rename = "quick_gelu")]
    QuickGelu,
}

impl HiddenActivation {
    /// The operation that computes it.
    pub fn gelu(self) -> Gelu {
        match self {
            Self::Gelu => Gelu::Erf,
            Self::GeluNew => Gelu::Tanh,
            Self::QuickGelu => Gelu::Quick,
        }
    }
}

/// Everything that decides the encoder's parameters and arithmetic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderShape {
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
    /// Number of attention heads.
    pub num_attention_heads: usize,
    /// Inner width of the MLP.
    pub intermediate_size: usize,
    /// Activation of the MLP.
    pub hidden_act: HiddenActivation,
    /// Added to the variance in every LayerNorm.
    pub layer_norm_eps: f64,
    /// Standard deviation of the first weights (of a CLIP: of the embeddings).
    pub initializer_range: f64,
    /// Whether query, key and value have biases (ViT; CLIP always has them).
    pub qkv_bias: bool,
    /// Whether the source holds a pooler, kept for export and not used here.
    pub pooler: bool,
}

impl EncoderShape {
    /// Shape of an encoder from scratch, with the constants that transformers has for the family.
    pub fn from_architecture(architecture: &EncoderArchitecture) -> Self {
        let (hidden_act, layer_norm_eps) = match architecture.kind {
            EncoderKind::Vit => (HiddenActivation::Gelu, 1e-12),
            EncoderKind::ClipVision => (HiddenActivation::QuickGelu, 1e-5),
        };
        Self {
            kind: architecture.kind,
            image_size: architecture.image_size,
            patch_size: architecture.patch_size,
            hidden_size: architecture.hidden_size,
            num_hidden_layers: architecture.num_hidden_layers,
            num_attention_heads: architecture.num_attention_heads,
            intermediate_size: architecture.intermediate_size,
            hidden_act,
            layer_norm_eps,
            initializer_range: architecture.initializer_range,
            qkv_bias: true,
            pooler: false,
        }
    }

    /// Patches along one side.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch_size
    }

    /// Length of the encoder's output: patches and the class token.
    pub fn sequence_length(&self) -> usize {
        self.grid() * self.grid() + 1
    }

    /// Checks what the layers rely on.
    ///
    /// # Errors
    /// A size of 0, heads that do not divide the width, an image that is no whole number of patches.
    pub fn validate(&self) -> anyhow::Result<()> {
        let sizes = [
            ("image_size", self.image_size, MAX_SIZE),
            ("patch_size", self.patch_size, MAX_SIZE),
            ("hidden_size", self.hidden_size, MAX_SIZE),
            ("num_hidden_layers", self.num_hidden_layers, MAX_LAYERS),
            ("num_attention_heads", self.num_attention_heads, MAX_SIZE),
            ("intermediate_size", self.intermediate_size, MAX_SIZE),
        ];
        check_sizes("encoder", &sizes)?;
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            bail!(
                "the encoder's hidden_size {} is not a multiple of its num_attention_heads {}",
                self.hidden_size,
                self.num_attention_heads
            );
        }
        if !self.image_size.is_multiple_of(self.patch_size) {
            bail!(
                "the encoder's image_size {} is not a multiple of its patch_size {}",
                self.image_size,
                self.patch_size
            );
        }
        Ok(())
    }
}

/// Makes sure that each size (its name, itself, and the most that it may be) is at least 1 and not too large.
///
/// # Errors
/// One that is not.
pub(crate) fn check_sizes(owner: &str, sizes: &[(&str, usize, usize)]) -> anyhow::Result<()> {
    for (name, size, most) in sizes {
        if size == &0 || size > most {
            bail!("the {owner}'s {name} is {size}; expected 1 to {most}");
        }
    }
    Ok(())
}

/// An image encoder.
#[derive(Clone, Debug)]
pub enum Encoder {
    /// ViT.
    Vit(VisionTransformer),
    /// CLIP's image tower.
    Clip(ClipVision),
}

impl Encoder {
    /// Declares the parameters.
    pub fn declare(shape: &EncoderShape, declaration: &mut Declaration<'_>) {
        match shape.kind {
            EncoderKind::Vit => VisionTransformer::declare(shape, declaration),
            EncoderKind::ClipVision => ClipVision::declare(shape, declaration),
        }
    }

    /// Builds the encoder on declared parameters.
    ///
    /// # Errors
    /// A parameter that was not declared.
    pub fn build(shape: &EncoderShape, view: &ParameterView<'_>) -> anyhow::Result<Self> {
        Ok(match shape.kind {
            EncoderKind::Vit => Self::Vit(VisionTransformer::build(shape, view)?),
            EncoderKind::ClipVision => Self::Clip(ClipVision::build(shape, view)?),
        })
    }

    /// `pixel_values` (B, 3, image, image), normalised, to hidden states (B, N, D); `cut` gets the states before
    /// each block.
    ///
    /// # Errors
    /// Pixels of another shape.
    pub fn forward(&self, pixel_values: &Tensor, cut: Cut<'_>) -> Result<Tensor> {
        match self {
            Self::Vit(model) => model.forward(pixel_values, cut),
            Self::Clip(model) => model.forward(pixel_values, cut),
        }
    }
}

/// Which block a parameter of the encoder (without the prefix `encoder.`) belongs to: 0 the embeddings, 1 to n the
/// blocks, n + 1 what follows them.
pub fn encoder_depth(name: &str, shape: &EncoderShape) -> usize {
    let marker = match shape.kind {
        EncoderKind::Vit => "encoder.layer.",
        EncoderKind::ClipVision => "vision_model.encoder.layers.",
    };
    if let Some(rest) = name.strip_prefix(marker) {
        let index = rest.split('.').next().and_then(|number| number.parse::<usize>().ok());
        return index.map_or(0, |index| index + 1);
    }
    let is_after = name.starts_with("layernorm.") || name.starts_with("pooler.") || name.contains("post_layernorm");
    if is_after { shape.num_hidden_layers + 1 } else { 0 }
}

/// Whether a parameter of the encoder (without the prefix `encoder.`) is trained.
pub fn is_trained(name: &str, shape: &EncoderShape, training: EncoderTraining) -> bool {
    match training {
        EncoderTraining::Frozen => false,
        EncoderTraining::Full => true,
        EncoderTraining::LastBlocks(count) => encoder_depth(name, shape) + count > shape.num_hidden_layers,
    }
}
