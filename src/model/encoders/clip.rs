//! `CLIPVisionModel` of transformers: the last hidden state before `post_layernorm`, class token included.
//!
//! `post_layernorm` acts on the pooled output only; it is stored and exported, and gets no gradient.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use candle_core::Tensor;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use crate::model::builder::Builder;
use crate::model::encoders::family::{EncoderFamily, ImageEncoder, VisionSizes};
use crate::model::encoders::vision_block::{
    BlockNames, BlockShape, PatchEmbedding, VisionBlock, add_class_and_positions, check_channels,
};
use crate::model::hf_fields::{activation, model_type, real_number, whole_number};
use crate::model::initialization::Initializer;
use crate::model::layers::{Cut, HiddenActivation, LayerNorm};
use crate::model::role::Kind;
use crate::model::weight_names::Renamed;

const NAMES: BlockNames = BlockNames {
    norm_before: "layer_norm1",
    attention: ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj"],
    norm_after: "layer_norm2",
    mlp: ["mlp.fc1", "mlp.fc2"],
};
const PREFIX: &str = "vision_model";
const PATCHES: &str = "embeddings.patch_embedding";
const POSITIONS: &str = "embeddings.position_embedding.weight";
const LAYER_NORM_EPS: f64 = 1e-5;

/// The config of CLIP's image tower. Absent fields have the defaults of `CLIPVisionConfig`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClipVisionConfig {
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
    #[serde(default = "quick_gelu")]
    pub hidden_act: HiddenActivation,
    /// Added to the variance in every LayerNorm.
    #[serde(default = "layer_norm_eps")]
    pub layer_norm_eps: f64,
    /// Standard deviation of the first embeddings; the other first weights follow from the width.
    #[serde(default = "initializer_range")]
    pub initializer_range: f64,
    /// Checkpoints of version 0.1 have it for every family. A CLIP has no other value.
    #[serde(default, skip_serializing, deserialize_with = "only::<_, true>")]
    qkv_bias: (),
    /// Likewise.
    #[serde(default, skip_serializing, deserialize_with = "only::<_, false>")]
    pooler: (),
}

fn only<'de, D: Deserializer<'de>, const EXPECTED: bool>(deserializer: D) -> std::result::Result<(), D::Error> {
    match bool::deserialize(deserializer)? == EXPECTED {
        true => Ok(()),
        false => Err(D::Error::custom(format!("in a CLIP it can only be {EXPECTED}"))),
    }
}

fn quick_gelu() -> HiddenActivation {
    HiddenActivation::QuickGelu
}

fn layer_norm_eps() -> f64 {
    LAYER_NORM_EPS
}

fn initializer_range() -> f64 {
    0.02
}

impl ClipVisionConfig {
    /// The `model_type`s of transformers: a whole CLIP, and its image tower.
    pub const MODEL_TYPES: &'static [&'static str] = &["clip", "clip_vision_model"];

    /// Whether a `config.json` is that of a CLIP.
    pub fn describes(config: &Value) -> bool {
        Self::MODEL_TYPES.contains(&model_type(config))
    }

    /// Reads a `config.json`. Absent fields take the defaults of `CLIPVisionConfig`.
    ///
    /// # Errors
    /// Values of another type.
    pub fn from_hf(config: &Value) -> Result<Self> {
        let config = match model_type(config) {
            "clip" => config.get("vision_config").context("a CLIP config without vision_config")?,
            _ => config,
        };
        let hidden_act = activation(config, "hidden_act", HiddenActivation::QuickGelu)?;
        check_channels(config)?;
        Ok(Self {
            image_size: whole_number(config, "image_size", 224)?,
            patch_size: whole_number(config, "patch_size", 32)?,
            hidden_size: whole_number(config, "hidden_size", 768)?,
            num_hidden_layers: whole_number(config, "num_hidden_layers", 12)?,
            num_attention_heads: whole_number(config, "num_attention_heads", 12)?,
            intermediate_size: whole_number(config, "intermediate_size", 3072)?,
            hidden_act,
            layer_norm_eps: real_number(config, "layer_norm_eps", LAYER_NORM_EPS)?,
            initializer_range: real_number(config, "initializer_range", 0.02)?,
            qkv_bias: (),
            pooler: (),
        })
    }

    /// First values as `CLIPPreTrainedModel._init_weights` draws them, with `initializer_factor` 1.
    fn block_shape(&self) -> BlockShape {
        let hidden = self.hidden_size as f64;
        let depth = (2.0 * self.num_hidden_layers as f64).powf(-0.5);
        let into = Initializer::Normal(hidden.powf(-0.5) * depth);
        BlockShape {
            hidden_size: self.hidden_size,
            num_attention_heads: self.num_attention_heads,
            intermediate_size: self.intermediate_size,
            activation: self.hidden_act.gelu(),
            layer_norm_eps: self.layer_norm_eps,
            qkv_bias: true,
            initializers: [
                into,
                Initializer::Normal(hidden.powf(-0.5)),
                Initializer::Normal((2.0 * hidden).powf(-0.5)),
                into,
            ],
        }
    }
}

impl EncoderFamily for ClipVisionConfig {
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
        Some("vision_model.embeddings.position_embedding.weight")
    }

    fn build(&self, builder: &Builder<'_>) -> Result<Arc<dyn ImageEncoder>> {
        Ok(Arc::new(ClipVision::new(self, &builder.under(PREFIX))?))
    }

    /// A captioner holds the tower without its prefix.
    fn module_path(&self, layer: &str) -> String {
        layer.strip_prefix("vision_model.").unwrap_or(layer).to_owned()
    }

    fn to_hf(&self) -> Value {
        json!({
            "model_type": "clip_vision_model",
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

    fn take_names(&mut self, tensors: BTreeMap<String, Tensor>) -> Result<Renamed> {
        let mut renamed = Renamed::default();
        for (source, tensor) in tensors {
            match hf_name(&source) {
                Some(name) => renamed.insert(name, tensor, &source)?,
                None => renamed.unused.push(source),
            }
        }
        Ok(renamed)
    }

    fn retired_fields(&self) -> Value {
        json!({ "qkv_bias": true, "pooler": false })
    }
}

/// CLIP's image tower.
#[derive(Clone, Debug)]
pub struct ClipVision {
    patches: PatchEmbedding,
    class: Tensor,
    positions: Tensor,
    norm_before: LayerNorm,
    blocks: Vec<VisionBlock>,
}

impl ClipVision {
    fn new(config: &ClipVisionConfig, builder: &Builder<'_>) -> Result<Self> {
        let hidden = config.hidden_size;
        let embedding = Initializer::Normal(config.initializer_range);
        let of_class = Initializer::Normal((hidden as f64).powf(-0.5));
        let class = builder.embedding("embeddings.class_embedding", &[hidden], of_class)?;
        let positions = builder.embedding(POSITIONS, &[config.sequence_length(), hidden], embedding)?;
        let patches = PatchEmbedding::new(&builder.under(PATCHES), hidden, config.patch_size, embedding, false)?;
        // The spelling is that of the published files.
        let norm_before = LayerNorm::new(&builder.under("pre_layrnorm"), hidden, config.layer_norm_eps)?;
        let shape = config.block_shape();
        let block = |index: usize| {
            let builder = builder.under(&format!("encoder.layers.{index}"));
            VisionBlock::new(&shape, &NAMES, &builder.at_depth(index + 1))
        };
        let blocks = (0..config.num_hidden_layers).map(block).collect::<Result<_>>()?;
        let after = builder.at_depth(config.num_hidden_layers + 1);
        after.store("post_layernorm.weight", &[hidden], Initializer::Ones, Kind::Norm);
        after.store("post_layernorm.bias", &[hidden], Initializer::Zeros, Kind::Norm);
        Ok(Self { patches, class, positions, norm_before, blocks })
    }
}

impl ImageEncoder for ClipVision {
    fn forward(&self, pixel_values: &Tensor, cut: Cut<'_>) -> candle_core::Result<Tensor> {
        let embedded = add_class_and_positions(&self.patches.forward(pixel_values)?, &self.class, &self.positions)?;
        let mut states = self.norm_before.forward(&embedded)?;
        for block in &self.blocks {
            states = block.forward(&cut(states)?)?;
        }
        Ok(states)
    }
}

/// `vision_model...` by itself or inside a whole `CLIPModel`; also the names without the prefix.
fn hf_name(source: &str) -> Option<String> {
    let name = match source.find("vision_model.") {
        Some(position) => &source[position + "vision_model.".len()..],
        None => source,
    };
    let known = ["embeddings.", "pre_layrnorm.", "encoder.layers.", "post_layernorm."];
    let wanted = known.iter().any(|part| name.starts_with(part)) && !name.ends_with("position_ids");
    wanted.then(|| format!("{PREFIX}.{name}"))
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    fn config(json: Value) -> ClipVisionConfig {
        ClipVisionConfig::from_hf(&json).unwrap()
    }

    #[test]
    fn absent_fields_take_the_defaults_of_transformers() {
        let clip = config(json!({ "model_type": "clip", "vision_config": { "hidden_size": 32 } }));
        assert_eq!((clip.layer_norm_eps, clip.hidden_act, clip.patch_size), (1e-5, HiddenActivation::QuickGelu, 32));
        assert_eq!(clip.hidden_size, 32);
    }

    #[test]
    fn what_is_written_is_read_back_as_the_same_config() {
        let clip = ClipVisionConfig { image_size: 42, patch_size: 14, ..config(json!({})) };
        assert_eq!(config(clip.to_hf()), clip);
        let mut json = json!(clip);
        assert_eq!(serde_json::from_value::<ClipVisionConfig>(json.clone()).unwrap(), clip);
        json["qkv_bias"] = true.into();
        json["pooler"] = false.into();
        assert_eq!(serde_json::from_value::<ClipVisionConfig>(json.clone()).unwrap(), clip, "as version 0.1 wrote it");
        json["pooler"] = true.into();
        assert!(serde_json::from_value::<ClipVisionConfig>(json).is_err());
    }

    #[test]
    fn the_text_tower_is_left_out() {
        let sources = [
            "vision_model.encoder.layers.0.mlp.fc1.bias",
            "vision_model.embeddings.position_ids",
            "text_model.encoder.layers.0.mlp.fc1.bias",
            "logit_scale",
        ];
        let zeros = || Tensor::zeros(2, DType::F32, &Device::Cpu).unwrap();
        let tensors = sources.map(|name| (name.to_owned(), zeros())).into();
        let renamed = config(json!({})).take_names(tensors).unwrap();
        // Both towers end alike; only the image tower's prefix is known.
        assert_eq!(renamed.tensors.into_keys().collect::<Vec<_>>(), ["vision_model.encoder.layers.0.mlp.fc1.bias"]);
    }
}
