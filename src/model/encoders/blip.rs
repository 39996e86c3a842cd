//! `BlipVisionModel` of transformers: the last hidden state after the final LayerNorm, class token included.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::model::builder::Builder;
use crate::model::encoders::family::{EncoderFamily, ImageEncoder, VisionSizes};
use crate::model::encoders::names::{Names, Spelling};
use crate::model::encoders::vision_block::{BlockNames, BlockShape, check_channels};
use crate::model::encoders::vision_transformer::{Anatomy, Rows, VisionTransformer};
use crate::model::encoders::vit::{self, VitConfig};
use crate::model::hf_fields::{activation, model_type, real_number, whole_number};
use crate::model::initialization::Initializer;
use crate::model::layers::HiddenActivation;
use crate::model::weight_names::Renamed;
use pixels::image_processor::ImageProcessor;

const NAMES: BlockNames = BlockNames {
    norm_before: "layer_norm1",
    attention: ["self_attn.qkv", "self_attn.qkv", "self_attn.qkv", "self_attn.projection"],
    norm_after: "layer_norm2",
    mlp: ["mlp.fc1", "mlp.fc2"],
};
const POSITIONS: &str = "embeddings.position_embedding";
/// From its names to those of a ViT.
const AS_VIT: Names = Names {
    prefixes: &[],
    under: "",
    roots: &[],
    dropped: &[],
    block: vit::FILE_NAMES.block,
    spellings: &[Spelling {
        block: "encoder.layers.",
        outside: &[
            ("embeddings.class_embedding", "embeddings.cls_token"),
            (POSITIONS, vit::POSITIONS),
            ("embeddings.patch_embedding.", "embeddings.patch_embeddings.projection."),
            ("post_layernorm.", "layernorm."),
        ],
        inside: &[
            ("layer_norm1.", "layernorm_before."),
            ("layer_norm2.", "layernorm_after."),
            ("self_attn.projection.", "attention.output.dense."),
            ("mlp.fc1.", "intermediate.dense."),
            ("mlp.fc2.", "output.dense."),
        ],
        fused: &[(
            "self_attn.qkv.",
            ["attention.attention.query.", "attention.attention.key.", "attention.attention.value."],
        )],
        refused: &[],
    }],
};
const LAYER_NORM_EPS: f64 = 1e-5;
const INITIALIZER_RANGE: f64 = 0.02;
/// Files name 1e-10, with which transformers would begin. All weights would be as good as 0, and so would their
/// gradients: an encoder from scratch would never begin to learn.
const LEAST_INITIALIZER_RANGE: f64 = 1e-6;

/// The config of BLIP's image encoder. Absent fields have the defaults of `BlipVisionConfig`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlipVisionConfig {
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
    /// Activation of the MLP.
    #[serde(default = "gelu")]
    pub hidden_act: HiddenActivation,
    /// Added to the variance in every LayerNorm.
    #[serde(default = "layer_norm_eps")]
    pub layer_norm_eps: f64,
    /// Standard deviation of the first weights; 0.02 where it is below 1e-6, as in the files of transformers.
    #[serde(default = "initializer_range")]
    pub initializer_range: f64,
}

fn gelu() -> HiddenActivation {
    HiddenActivation::Gelu
}

fn layer_norm_eps() -> f64 {
    LAYER_NORM_EPS
}

fn initializer_range() -> f64 {
    INITIALIZER_RANGE
}

impl BlipVisionConfig {
    /// The `model_type`s of transformers: a whole BLIP, and its image encoder.
    pub const MODEL_TYPES: &'static [&'static str] = &["blip", "blip_vision_model"];

    /// Whether a `config.json` is that of a BLIP.
    pub fn describes(config: &Value) -> bool {
        Self::MODEL_TYPES.contains(&model_type(config))
    }

    /// Reads a `config.json`. Absent fields take the defaults of `BlipVisionConfig`.
    ///
    /// # Errors
    /// Values of another type.
    pub fn from_hf(config: &Value) -> Result<Self> {
        let config = match model_type(config) {
            "blip" => config.get("vision_config").context("a BLIP config without vision_config")?,
            _ => config,
        };
        check_channels(config)?;
        Ok(Self {
            image_size: whole_number(config, "image_size", 384)?,
            patch_size: whole_number(config, "patch_size", 16)?,
            hidden_size: whole_number(config, "hidden_size", 768)?,
            num_hidden_layers: whole_number(config, "num_hidden_layers", 12)?,
            num_attention_heads: whole_number(config, "num_attention_heads", 12)?,
            intermediate_size: whole_number(config, "intermediate_size", 3072)?,
            hidden_act: activation(config, "hidden_act", HiddenActivation::Gelu)?,
            layer_norm_eps: real_number(config, "layer_norm_eps", LAYER_NORM_EPS)?,
            initializer_range: real_number(config, "initializer_range", 1e-10)?,
        })
    }

    /// The ViT with its arithmetic, as which transformers finds it by its type beside a decoder that is not a BLIP's.
    pub fn as_vit(&self) -> VitConfig {
        VitConfig {
            image_size: self.image_size,
            patch_size: self.patch_size,
            hidden_size: self.hidden_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            intermediate_size: self.intermediate_size,
            hidden_act: self.hidden_act,
            layer_norm_eps: self.layer_norm_eps,
            initializer_range: self.initializer_range,
            qkv_bias: true,
            pooler: false,
        }
    }

    /// Its parameters as those of [`Self::as_vit`], in which query, key and value are apart.
    ///
    /// # Errors
    /// A parameter that it does not have.
    pub fn vit_tensors(tensors: BTreeMap<String, Tensor>) -> Result<BTreeMap<String, Tensor>> {
        let Renamed { tensors, unused } = AS_VIT.take(tensors)?;
        match unused.first() {
            Some(name) => bail!("the tensor {name} of a BLIP has no place in a ViT"),
            None => Ok(tensors),
        }
    }

    /// The layers of [`Self::as_vit`] that one of its layers is: one, or query, key and value, which are thirds of its
    /// outputs.
    ///
    /// # Errors
    /// A layer that it does not have.
    pub fn vit_layers(layer: &str) -> Result<Vec<String>> {
        AS_VIT.layers(layer)
    }

    fn initializer(&self) -> Initializer {
        let named = self.initializer_range;
        Initializer::TruncatedNormal(if named < LEAST_INITIALIZER_RANGE { INITIALIZER_RANGE } else { named })
    }

    fn anatomy(&self) -> Anatomy {
        let (hidden, initial) = (self.hidden_size, self.initializer());
        let rows = |name, shape| Rows { name, shape, initializer: initial };
        Anatomy {
            patch_size: self.patch_size,
            patches: "embeddings.patch_embedding",
            patch_initializer: initial,
            patch_bias: true,
            tokens: vec![rows("embeddings.class_embedding", vec![1, 1, hidden])],
            registers: None,
            positions: rows(POSITIONS, vec![1, self.sequence_length(), hidden]),
            norm_before: None,
            blocks: "encoder.layers",
            num_blocks: self.num_hidden_layers,
            block_names: &NAMES,
            block_shape: BlockShape {
                hidden_size: hidden,
                num_attention_heads: self.num_attention_heads,
                intermediate_size: self.intermediate_size,
                activation: self.hidden_act.gelu(),
                layer_norm_eps: self.layer_norm_eps,
                qkv_bias: true,
                initializers: [initial; 4],
                mlp_bias: Initializer::Zeros,
                layer_scale: None,
            },
            norm_after: Some("post_layernorm"),
        }
    }
}

impl EncoderFamily for BlipVisionConfig {
    fn sizes(&self) -> VisionSizes {
        VisionSizes {
            image_size: self.image_size,
            patch_size: self.patch_size,
            hidden_size: self.hidden_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            intermediate_size: self.intermediate_size,
            layer_norm_eps: self.layer_norm_eps,
            initializer_range: self.initializer_range,
        }
    }

    fn set_image_size(&mut self, image_size: usize) {
        self.image_size = image_size;
    }

    fn num_prefix_tokens(&self) -> usize {
        1
    }

    fn position_table(&self) -> Option<&'static str> {
        Some(POSITIONS)
    }

    fn build(&self, builder: &Builder<'_>) -> Result<Arc<dyn ImageEncoder>> {
        Ok(Arc::new(VisionTransformer::new(&self.anatomy(), builder)?))
    }

    fn to_hf(&self) -> Value {
        json!({
            "model_type": "blip_vision_model",
            "hidden_act": self.hidden_act,
            "hidden_size": self.hidden_size,
            "image_size": self.image_size,
            "initializer_range": self.initializer_range,
            "intermediate_size": self.intermediate_size,
            "layer_norm_eps": self.layer_norm_eps,
            "num_attention_heads": self.num_attention_heads,
            "num_channels": 3,
            "num_hidden_layers": self.num_hidden_layers,
            "patch_size": self.patch_size,
            // Dropout that transformers has for an encoder and this program does not.
            "attention_dropout": 0.0,
        })
    }

    fn image_processor(&self) -> ImageProcessor {
        ImageProcessor::blip(self.image_size)
    }

    /// `vision_model.encoder.layers.0...` in a whole BLIP, whose text models are left out; also without the prefix.
    fn take_names(&mut self, tensors: BTreeMap<String, Tensor>) -> Result<Renamed> {
        let mut renamed = Renamed::default();
        for (source, tensor) in tensors {
            let name = source.strip_prefix("vision_model.").unwrap_or(&source);
            let known = ["embeddings.", "encoder.layers.", "post_layernorm."];
            if known.iter().any(|part| name.starts_with(part)) {
                renamed.insert(name.to_owned(), tensor, &source)?;
            } else {
                renamed.unused.push(source);
            }
        }
        Ok(renamed)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    fn config(json: Value) -> BlipVisionConfig {
        BlipVisionConfig::from_hf(&json).unwrap()
    }

    #[test]
    fn absent_fields_take_the_defaults_of_transformers() {
        let blip = config(json!({ "model_type": "blip", "vision_config": { "hidden_size": 24 } }));
        assert_eq!((blip.image_size, blip.patch_size, blip.layer_norm_eps), (384, 16, 1e-5));
        assert_eq!((blip.hidden_size, blip.hidden_act), (24, HiddenActivation::Gelu));
    }

    #[test]
    fn what_is_written_is_read_back_as_the_same_config() {
        let blip = BlipVisionConfig { image_size: 42, patch_size: 14, ..config(json!({})) };
        assert_eq!(config(blip.to_hf()), blip);
        assert_eq!(serde_json::from_value::<BlipVisionConfig>(json!(blip)).unwrap(), blip);
    }

    #[test]
    fn an_encoder_from_scratch_does_not_begin_with_weights_of_zero() {
        assert_eq!(config(json!({})).initializer(), Initializer::TruncatedNormal(0.02));
        let wide = config(json!({ "initializer_range": 0.1 }));
        assert_eq!(wide.initializer(), Initializer::TruncatedNormal(0.1));
    }

    #[test]
    fn the_text_models_are_left_out() {
        let sources = [
            "vision_model.encoder.layers.0.self_attn.qkv.bias",
            "post_layernorm.bias",
            "text_decoder.bert.encoder.layer.0.output.dense.bias",
            "itm_head.weight",
        ];
        let zeros = || Tensor::zeros(2, DType::F32, &Device::Cpu).unwrap();
        let renamed = config(json!({})).take_names(sources.map(|name| (name.to_owned(), zeros())).into()).unwrap();
        let names: Vec<String> = renamed.tensors.into_keys().collect();
        assert_eq!(names, ["encoder.layers.0.self_attn.qkv.bias", "post_layernorm.bias"]);
        assert_eq!(renamed.unused, ["itm_head.weight", "text_decoder.bert.encoder.layer.0.output.dense.bias"]);
    }
}
