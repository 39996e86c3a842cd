//! `SiglipVisionModel` of transformers, which SigLIP 2 of a fixed resolution is too: the last hidden state after
//! `post_layernorm`. There is no class token. The pooling head is left out, and an export says so.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::model::builder::Builder;
use crate::model::encoders::clip;
use crate::model::encoders::family::{EncoderFamily, ImageEncoder, VisionSizes};
use crate::model::encoders::names::Names;
use crate::model::encoders::vision_block::{BlockShape, check_channels};
use crate::model::encoders::vision_transformer::{Anatomy, Rows, VisionTransformer};
use crate::model::hf_fields::{activation, model_type, real_number, whole_number};
use crate::model::initialization::Initializer;
use crate::model::layers::HiddenActivation;
use crate::model::weight_names::Renamed;

const PREFIX: &str = "vision_model";
const POSITIONS: &str = "embeddings.position_embedding.weight";
const LAYER_NORM_EPS: f64 = 1e-6;
const FILE_NAMES: Names = Names {
    prefixes: &["vision_model."],
    under: "vision_model.",
    roots: &["embeddings.", "encoder.layers.", "post_layernorm."],
    dropped: &["embeddings.position_ids"],
    block: "encoder.layers.",
    spellings: &[],
};

/// The config of SigLIP's image tower. Absent fields have the defaults of `SiglipVisionConfig`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiglipVisionConfig {
    /// Side of the square image in pixels. What is left of a multiple of the patch is cut off.
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
    /// Activation of the MLP.
    #[serde(default = "tanh_gelu")]
    pub hidden_act: HiddenActivation,
    /// Added to the variance in every LayerNorm.
    #[serde(default = "layer_norm_eps")]
    pub layer_norm_eps: f64,
}

fn tanh_gelu() -> HiddenActivation {
    HiddenActivation::GeluNew
}

fn layer_norm_eps() -> f64 {
    LAYER_NORM_EPS
}

impl SiglipVisionConfig {
    /// The `model_type`s of transformers: a whole SigLIP or SigLIP 2, and its image tower.
    pub const MODEL_TYPES: &'static [&'static str] = &["siglip", "siglip_vision_model"];

    /// Whether a `config.json` is that of a SigLIP.
    pub fn describes(config: &Value) -> bool {
        Self::MODEL_TYPES.contains(&model_type(config))
    }

    /// Reads a `config.json`. Absent fields take the defaults of `SiglipVisionConfig`.
    ///
    /// # Errors
    /// Values of another type.
    pub fn from_hf(config: &Value) -> Result<Self> {
        let config = match model_type(config) {
            "siglip" => config.get("vision_config").context("a SigLIP config without vision_config")?,
            _ => config,
        };
        let hidden_act = activation(config, "hidden_act", HiddenActivation::GeluNew)?;
        check_channels(config)?;
        Ok(Self {
            image_size: whole_number(config, "image_size", 224)?,
            patch_size: whole_number(config, "patch_size", 16)?,
            hidden_size: whole_number(config, "hidden_size", 768)?,
            num_hidden_layers: whole_number(config, "num_hidden_layers", 12)?,
            num_attention_heads: whole_number(config, "num_attention_heads", 12)?,
            intermediate_size: whole_number(config, "intermediate_size", 3072)?,
            hidden_act,
            layer_norm_eps: real_number(config, "layer_norm_eps", LAYER_NORM_EPS)?,
        })
    }

    /// First values as `SiglipPreTrainedModel._init_weights` draws them.
    fn anatomy(&self) -> Anatomy {
        /// Deviation of a normal distribution that is cut off at two deviations, which jax's LeCun initializer assumes
        /// and torch's does not do.
        const TRUNCATED: f64 = 0.879_625_661_034_239_8;
        let (hidden, inner) = (self.hidden_size, self.intermediate_size);
        let pixels = (3 * self.patch_size * self.patch_size) as f64;
        let square = Initializer::xavier_uniform(hidden, hidden);
        let of_mlp = Initializer::xavier_uniform(hidden, inner);
        Anatomy {
            patch_size: self.patch_size,
            patches: "embeddings.patch_embedding",
            patch_initializer: Initializer::Normal(pixels.powf(-0.5) / TRUNCATED),
            patch_bias: true,
            tokens: Vec::new(),
            registers: None,
            positions: Rows {
                name: POSITIONS,
                shape: vec![self.sequence_length(), hidden],
                initializer: Initializer::Normal((hidden as f64).powf(-0.5)),
            },
            norm_before: None,
            blocks: "encoder.layers",
            num_blocks: self.num_hidden_layers,
            block_names: &clip::NAMES,
            block_shape: BlockShape {
                hidden_size: hidden,
                num_attention_heads: self.num_attention_heads,
                intermediate_size: inner,
                activation: self.hidden_act.gelu(),
                layer_norm_eps: self.layer_norm_eps,
                qkv_bias: true,
                initializers: [square, square, of_mlp, of_mlp],
                mlp_bias: Initializer::Normal(1e-6),
                layer_scale: None,
            },
            norm_after: Some("post_layernorm"),
        }
    }
}

impl EncoderFamily for SiglipVisionConfig {
    fn sizes(&self) -> VisionSizes {
        VisionSizes {
            image_size: self.image_size,
            patch_size: self.patch_size,
            hidden_size: self.hidden_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            intermediate_size: self.intermediate_size,
            layer_norm_eps: self.layer_norm_eps,
            initializer_range: 0.02,
        }
    }

    fn set_image_size(&mut self, image_size: usize) {
        self.image_size = image_size;
    }

    fn num_prefix_tokens(&self) -> usize {
        0
    }

    fn position_table(&self) -> Option<&'static str> {
        Some("vision_model.embeddings.position_embedding.weight")
    }

    fn cuts_remainder(&self) -> bool {
        true
    }

    fn build(&self, builder: &Builder<'_>) -> Result<Arc<dyn ImageEncoder>> {
        Ok(Arc::new(VisionTransformer::new(&self.anatomy(), &builder.under(PREFIX))?))
    }

    /// A captioner holds the tower without its prefix.
    fn module_path(&self, layer: &str) -> String {
        layer.strip_prefix("vision_model.").unwrap_or(layer).to_owned()
    }

    fn to_hf(&self) -> Value {
        // As transformers writes it for this family; both names are the same function.
        let hidden_act = match self.hidden_act {
            HiddenActivation::GeluNew => json!("gelu_pytorch_tanh"),
            other => json!(other),
        };
        json!({
            "model_type": "siglip_vision_model",
            "hidden_act": hidden_act,
            "hidden_size": self.hidden_size,
            "image_size": self.image_size,
            "intermediate_size": self.intermediate_size,
            "layer_norm_eps": self.layer_norm_eps,
            "num_attention_heads": self.num_attention_heads,
            "num_channels": 3,
            "num_hidden_layers": self.num_hidden_layers,
            "patch_size": self.patch_size,
            "vision_use_head": false,
            // Dropout that transformers has for an encoder and this program does not.
            "attention_dropout": 0.0,
        })
    }

    fn take_names(&mut self, tensors: BTreeMap<String, Tensor>) -> Result<Renamed> {
        FILE_NAMES.take(tensors)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    fn config(json: Value) -> SiglipVisionConfig {
        SiglipVisionConfig::from_hf(&json).unwrap()
    }

    #[test]
    fn absent_fields_take_the_defaults_of_transformers() {
        let siglip = config(json!({ "model_type": "siglip", "vision_config": { "patch_size": 14 } }));
        assert_eq!((siglip.layer_norm_eps, siglip.hidden_act), (1e-6, HiddenActivation::GeluNew));
        assert_eq!((siglip.hidden_size, siglip.intermediate_size, siglip.patch_size), (768, 3072, 14));
    }

    #[test]
    fn what_is_written_is_read_back_as_the_same_config() {
        for hidden_act in ["gelu_pytorch_tanh", "gelu"] {
            let siglip = SiglipVisionConfig { image_size: 42, ..config(json!({ "hidden_act": hidden_act })) };
            assert_eq!(siglip.to_hf()["hidden_act"], hidden_act);
            assert_eq!(config(siglip.to_hf()), siglip);
            assert_eq!(serde_json::from_value::<SiglipVisionConfig>(json!(siglip)).unwrap(), siglip);
        }
    }

    #[test]
    fn the_rest_of_a_picture_that_fills_no_patch_is_no_token() {
        let siglip = SiglipVisionConfig { image_size: 384, patch_size: 14, ..config(json!({})) };
        assert_eq!((siglip.grid(), siglip.sequence_length(), siglip.covered_side()), (27, 729, 378));
        siglip.validate().unwrap();
        assert!(SiglipVisionConfig { image_size: 13, ..siglip }.validate().is_err());
    }

    #[test]
    fn the_text_tower_and_the_pooling_head_are_left_out() {
        let sources = [
            "vision_model.post_layernorm.bias",
            "vision_model.head.layernorm.bias",
            "text_model.encoder.layers.0.mlp.fc1.bias",
            "logit_bias",
        ];
        let zeros = || Tensor::zeros(2, DType::F32, &Device::Cpu).unwrap();
        let tensors = sources.map(|name| (name.to_owned(), zeros())).into();
        let renamed = config(json!({})).take_names(tensors).unwrap();
        assert_eq!(renamed.tensors.into_keys().collect::<Vec<_>>(), ["vision_model.post_layernorm.bias"]);
        assert_eq!(renamed.unused.len(), 3);
    }
}
