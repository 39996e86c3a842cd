//! `CLIPVisionModel` of transformers: the last hidden state before `post_layernorm`, class token included.
//!
//! `post_layernorm` acts on the pooled output only; it is stored and exported, and gets no gradient.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use candle_core::Tensor;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use crate::model::builder::Builder;
use crate::model::encoders::family::{EncoderFamily, ImageEncoder, VisionSizes};
use crate::model::encoders::names::{Names, Spelling};
use crate::model::encoders::timm::{Architecture, TimmSizes};
use crate::model::encoders::vision_block::{BlockNames, BlockShape, check_channels};
use crate::model::encoders::vision_transformer::{Anatomy, Rows, VisionTransformer};
use crate::model::hf_fields::{activation, boolean, model_type, real_number, whole_number};
use crate::model::initialization::Initializer;
use crate::model::layers::HiddenActivation;
use crate::model::limits::MAX_SIZE;
use crate::model::role::Kind;
use crate::model::weight_names::Renamed;
use base::error::failure;

pub(super) const NAMES: BlockNames = BlockNames {
    norm_before: "layer_norm1",
    attention: ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj"],
    norm_after: "layer_norm2",
    mlp: ["mlp.fc1", "mlp.fc2"],
};
/// Of open_clip's own transformer.
const OPEN_CLIP: Spelling = Spelling {
    block: "visual.transformer.resblocks.",
    outside: &[
        ("visual.class_embedding", CLASS),
        ("visual.positional_embedding", POSITIONS),
        ("visual.conv1.", "embeddings.patch_embedding."),
        ("visual.ln_pre.", "pre_layrnorm."),
        ("visual.ln_post.", "post_layernorm."),
    ],
    inside: &[
        ("ln_1.", "layer_norm1."),
        ("ln_2.", "layer_norm2."),
        ("attn.out_proj.", "self_attn.out_proj."),
        ("mlp.c_fc.", "mlp.fc1."),
        ("mlp.c_proj.", "mlp.fc2."),
    ],
    fused: &[("attn.in_proj_", ["self_attn.q_proj.", "self_attn.k_proj.", "self_attn.v_proj."])],
    // Of timm inside of open_clip, and of CoCa, whose decoder reads pooled tokens.
    refused: &["visual.trunk.", "visual.attn_pool."],
};
const TIMM: Spelling = Spelling {
    block: "blocks.",
    outside: &[
        ("cls_token", CLASS),
        ("pos_embed", POSITIONS),
        ("patch_embed.proj.", "embeddings.patch_embedding."),
        ("norm_pre.", "pre_layrnorm."),
        ("norm.", "post_layernorm."),
    ],
    inside: &[
        ("norm1.", "layer_norm1."),
        ("norm2.", "layer_norm2."),
        ("attn.proj.", "self_attn.out_proj."),
        ("mlp.fc1.", "mlp.fc1."),
        ("mlp.fc2.", "mlp.fc2."),
    ],
    fused: &[("attn.qkv.", ["self_attn.q_proj.", "self_attn.k_proj.", "self_attn.v_proj."])],
    refused: &["reg_token"],
};
const FILE_NAMES: Names = Names {
    prefixes: &["vision_model."],
    under: "vision_model.",
    roots: &["embeddings.", "pre_layrnorm.", "encoder.layers.", "post_layernorm."],
    dropped: &["embeddings.position_ids"],
    block: "encoder.layers.",
    spellings: &[OPEN_CLIP, TIMM],
};
const PREFIX: &str = "vision_model";
const CLASS: &str = "embeddings.class_embedding";
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

    /// Whether a `config.json` is that of a CLIP, of transformers, of open_clip or of timm.
    pub fn describes(config: &Value) -> bool {
        match Architecture::of(config) {
            Some(architecture) => architecture.is_clip(),
            None => Self::MODEL_TYPES.contains(&model_type(config)) || open_clip_model(config).is_some(),
        }
    }

    /// Reads a `config.json`. Absent fields take the defaults of `CLIPVisionConfig`.
    ///
    /// # Errors
    /// Values of another type.
    pub fn from_hf(config: &Value) -> Result<Self> {
        if let Some(architecture) = Architecture::of(config) {
            return Self::from_timm(&architecture);
        }
        if let Some(model) = open_clip_model(config) {
            return Self::from_open_clip(model);
        }
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

    /// timm's, which are exported as a CLIP.
    fn from_timm(architecture: &Architecture<'_>) -> Result<Self> {
        let TimmSizes { image_size, patch_size, hidden_size, num_hidden_layers, num_attention_heads } =
            architecture.sizes()?;
        Ok(Self {
            image_size,
            patch_size,
            hidden_size,
            num_hidden_layers,
            num_attention_heads,
            intermediate_size: 4 * hidden_size,
            hidden_act: open_clip_activation(architecture.has("quickgelu")),
            layer_norm_eps: LAYER_NORM_EPS,
            initializer_range: 0.02,
            qkv_bias: (),
            pooler: (),
        })
    }

    /// The `model_cfg` of an `open_clip_config.json`.
    fn from_open_clip(model: &Value) -> Result<Self> {
        let vision = model.get("vision_cfg").context("model_cfg has no vision_cfg")?;
        for (field, plain) in [
            ("timm_model_name", Value::Null),
            ("attentional_pool", false.into()),
            ("no_ln_pre", false.into()),
            ("ls_init_value", Value::Null),
            ("act_kwargs", json!({})),
            ("norm_kwargs", json!({})),
        ] {
            if let Some(value) = vision.get(field).filter(|value| **value != plain && !value.is_null()) {
                return Err(failure(
                    format!("the vision_cfg of open_clip has {field} {value}, which is not a plain CLIP"),
                    "use the repository of the same model that transformers wrote",
                ));
            }
        }
        let hidden_size = whole_number(vision, "width", 768)?;
        let head_width = whole_number(vision, "head_width", 64)?;
        if head_width == 0 || !hidden_size.is_multiple_of(head_width) {
            bail!("the width {hidden_size} in vision_cfg is not a multiple of its head_width {head_width}");
        }
        let intermediate_size = real_number(vision, "mlp_ratio", 4.0)? * hidden_size as f64;
        if !(1.0..=MAX_SIZE as f64).contains(&intermediate_size) {
            bail!("mlp_ratio in vision_cfg gives an inner width of {intermediate_size}");
        }
        Ok(Self {
            image_size: whole_number(vision, "image_size", 224)?,
            patch_size: whole_number(vision, "patch_size", 16)?,
            hidden_size,
            num_hidden_layers: whole_number(vision, "layers", 12)?,
            num_attention_heads: hidden_size / head_width,
            intermediate_size: intermediate_size as usize,
            hidden_act: open_clip_activation(boolean(model, "quick_gelu", false)?),
            layer_norm_eps: LAYER_NORM_EPS,
            initializer_range: 0.02,
            qkv_bias: (),
            pooler: (),
        })
    }

    /// First values as `CLIPPreTrainedModel._init_weights` draws them, with `initializer_factor` 1.
    fn anatomy(&self) -> Anatomy {
        let (hidden, width) = (self.hidden_size, self.hidden_size as f64);
        let embedding = Initializer::Normal(self.initializer_range);
        let depth = (2.0 * self.num_hidden_layers as f64).powf(-0.5);
        let into = Initializer::Normal(width.powf(-0.5) * depth);
        let class = Rows { name: CLASS, shape: vec![hidden], initializer: Initializer::Normal(width.powf(-0.5)) };
        Anatomy {
            patch_size: self.patch_size,
            patches: "embeddings.patch_embedding",
            patch_initializer: embedding,
            patch_bias: false,
            tokens: vec![class],
            registers: None,
            positions: Rows { name: POSITIONS, shape: vec![self.sequence_length(), hidden], initializer: embedding },
            // The spelling is that of the published files.
            norm_before: Some("pre_layrnorm"),
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
                initializers: [
                    into,
                    Initializer::Normal(width.powf(-0.5)),
                    Initializer::Normal((2.0 * width).powf(-0.5)),
                    into,
                ],
                mlp_bias: Initializer::Zeros,
                layer_scale: None,
            },
            norm_after: None,
        }
    }
}

/// The `model_cfg` of an `open_clip_config.json`.
fn open_clip_model(config: &Value) -> Option<&Value> {
    config.get("model_cfg").filter(|_| model_type(config).is_empty())
}

fn open_clip_activation(is_quick: bool) -> HiddenActivation {
    if is_quick { HiddenActivation::QuickGelu } else { HiddenActivation::Gelu }
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
        let builder = builder.under(PREFIX);
        let encoder = VisionTransformer::new(&self.anatomy(), &builder)?;
        let after = builder.at_depth(self.num_hidden_layers + 1);
        after.store("post_layernorm.weight", &[self.hidden_size], Initializer::Ones, Kind::Norm);
        after.store("post_layernorm.bias", &[self.hidden_size], Initializer::Zeros, Kind::Norm);
        Ok(Arc::new(encoder))
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
        let mut renamed = FILE_NAMES.take(tensors)?;
        // timm's have an axis of the batch.
        for (name, rank) in [(CLASS, 1), (POSITIONS, 2)] {
            let name = format!("{PREFIX}.{name}");
            if let Some(tensor) = renamed.tensors.get_mut(&name).filter(|tensor| tensor.rank() == 3) {
                *tensor = tensor.flatten_to(3 - rank)?;
            }
        }
        Ok(renamed)
    }

    fn retired_fields(&self) -> Value {
        json!({ "qkv_bias": true, "pooler": false })
    }
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
    fn names_of_timm_become_those_of_files() {
        let timm = json!({ "architecture": "vit_base_patch32_clip_quickgelu_224" });
        let mut clip = config(timm);
        assert_eq!((clip.patch_size, clip.hidden_act), (32, HiddenActivation::QuickGelu));
        let sources: [(&str, &[usize]); 4] = [
            ("cls_token", &[1, 1, 2]),
            ("pos_embed", &[1, 5, 2]),
            ("norm_pre.bias", &[2]),
            ("blocks.7.attn.qkv.weight", &[6, 2]),
        ];
        let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
        let tensors = sources.map(|(name, shape)| (name.to_owned(), zeros(shape))).into();
        let found = clip.take_names(tensors).unwrap().tensors;
        let shapes: Vec<(&str, &[usize])> = found.iter().map(|(name, tensor)| (name.as_str(), tensor.dims())).collect();
        let expected: [(&str, &[usize]); 6] = [
            ("vision_model.embeddings.class_embedding", &[2]),
            ("vision_model.embeddings.position_embedding.weight", &[5, 2]),
            ("vision_model.encoder.layers.7.self_attn.k_proj.weight", &[2, 2]),
            ("vision_model.encoder.layers.7.self_attn.q_proj.weight", &[2, 2]),
            ("vision_model.encoder.layers.7.self_attn.v_proj.weight", &[2, 2]),
            ("vision_model.pre_layrnorm.bias", &[2]),
        ];
        assert_eq!(shapes, expected);
        let tensors = BTreeMap::from([("visual.attn_pool.query".to_owned(), zeros(&[2]))]);
        assert!(clip.take_names(tensors).unwrap_err().to_string().contains("visual.attn_pool.query"));
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
