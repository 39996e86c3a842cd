//! `ViTModel` of transformers: the last hidden state after the final LayerNorm, class token included. Read too: the
//! encoders of `ViTMAEModel`, without its masking and its decoder, and of `ViTMSNModel`, and timm's plain ViTs. All of
//! them are exported as a ViT.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use candle_core::Tensor;
use serde::{Deserialize, Serialize};
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
use crate::model::role::Kind;
use crate::model::weight_names::Renamed;

const NAMES: BlockNames = BlockNames {
    norm_before: "layernorm_before",
    attention: [
        "attention.attention.query",
        "attention.attention.key",
        "attention.attention.value",
        "attention.output.dense",
    ],
    norm_after: "layernorm_after",
    mlp: ["intermediate.dense", "output.dense"],
};
const PATCHES: &str = "embeddings.patch_embeddings.projection";
pub(super) const POSITIONS: &str = "embeddings.position_embeddings";
/// In transformers 5 in memory; before it, [`NAMES`] and [`FILE_NAMES`].
const IN_MEMORY: Spelling = Spelling {
    block: "layers.",
    outside: &[],
    inside: &[
        ("attention.q_proj.", "attention.attention.query."),
        ("attention.k_proj.", "attention.attention.key."),
        ("attention.v_proj.", "attention.attention.value."),
        ("attention.o_proj.", "attention.output.dense."),
        ("mlp.fc1.", "intermediate.dense."),
        ("mlp.fc2.", "output.dense."),
        ("layernorm_before.", "layernorm_before."),
        ("layernorm_after.", "layernorm_after."),
    ],
    fused: &[],
    refused: &[],
};
const TIMM: Spelling = Spelling {
    block: "blocks.",
    outside: &[
        ("cls_token", "embeddings.cls_token"),
        ("dist_token", "embeddings.distillation_token"),
        ("pos_embed", "embeddings.position_embeddings"),
        ("patch_embed.proj.", "embeddings.patch_embeddings.projection."),
        ("norm.", "layernorm."),
    ],
    inside: &[
        ("norm1.", "layernorm_before."),
        ("norm2.", "layernorm_after."),
        ("attn.proj.", "attention.output.dense."),
        ("mlp.fc1.", "intermediate.dense."),
        ("mlp.fc2.", "output.dense."),
    ],
    fused: &[("attn.qkv.", ["attention.attention.query.", "attention.attention.key.", "attention.attention.value."])],
    refused: &["norm_pre.", "reg_token"],
};
pub(super) const FILE_NAMES: Names = Names {
    prefixes: &["vit.", "deit.", "encoder."],
    under: "",
    roots: &["embeddings.", "encoder.layer.", "layernorm.", "pooler.dense."],
    // The mask token belongs to masked pretraining; this model has no place for it.
    dropped: &["embeddings.mask_token"],
    block: "encoder.layer.",
    spellings: &[IN_MEMORY, TIMM],
};
const POOLER: [&str; 2] = ["pooler.dense.weight", "pooler.dense.bias"];
const LAYER_NORM_EPS: f64 = 1e-12;

/// The config of a ViT. Absent fields have the defaults of `ViTConfig`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VitConfig {
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
    /// Standard deviation of the first weights.
    #[serde(default = "initializer_range")]
    pub initializer_range: f64,
    /// Whether query, key and value have biases.
    #[serde(default = "qkv_bias")]
    pub qkv_bias: bool,
    /// Whether a pooler is kept for export. Captioning does not use it.
    #[serde(default)]
    pub pooler: bool,
}

fn gelu() -> HiddenActivation {
    HiddenActivation::Gelu
}

fn layer_norm_eps() -> f64 {
    LAYER_NORM_EPS
}

fn initializer_range() -> f64 {
    0.02
}

fn qkv_bias() -> bool {
    true
}

impl VitConfig {
    /// The `model_type`s of transformers: a ViT, and what a masked autoencoder and a masked siamese network train, which
    /// is one.
    pub const MODEL_TYPES: &'static [&'static str] = &["vit", "vit_mae", "vit_msn"];

    /// Whether a `config.json` is that of a ViT, of transformers or of timm.
    pub fn describes(config: &Value) -> bool {
        match Architecture::of(config) {
            Some(architecture) => architecture.is_plain() && !architecture.has("distilled"),
            None => Self::MODEL_TYPES.contains(&model_type(config)),
        }
    }

    /// Reads a `config.json`. Absent fields take the defaults of `ViTConfig`.
    ///
    /// # Errors
    /// Values of another type; a model of timm that is not a plain ViT.
    pub fn from_hf(config: &Value) -> Result<Self> {
        if let Some(architecture) = Architecture::of(config) {
            return Self::from_timm(&architecture);
        }
        let eps = if model_type(config) == "vit_msn" { 1e-6 } else { LAYER_NORM_EPS };
        let hidden_act = activation(config, "hidden_act", HiddenActivation::Gelu)?;
        check_channels(config)?;
        Ok(Self {
            image_size: whole_number(config, "image_size", 224)?,
            patch_size: whole_number(config, "patch_size", 16)?,
            hidden_size: whole_number(config, "hidden_size", 768)?,
            num_hidden_layers: whole_number(config, "num_hidden_layers", 12)?,
            num_attention_heads: whole_number(config, "num_attention_heads", 12)?,
            intermediate_size: whole_number(config, "intermediate_size", 3072)?,
            hidden_act,
            layer_norm_eps: real_number(config, "layer_norm_eps", eps)?,
            initializer_range: real_number(config, "initializer_range", 0.02)?,
            qkv_bias: boolean(config, "qkv_bias", true)?,
            pooler: false,
        })
    }

    /// timm's plain ViTs, and the DeiTs that are such.
    pub(super) fn from_timm(architecture: &Architecture<'_>) -> Result<Self> {
        let TimmSizes { image_size, patch_size, hidden_size, num_hidden_layers, num_attention_heads } =
            architecture.sizes()?;
        Ok(Self {
            image_size,
            patch_size,
            hidden_size,
            num_hidden_layers,
            num_attention_heads,
            intermediate_size: 4 * hidden_size,
            hidden_act: HiddenActivation::Gelu,
            layer_norm_eps: 1e-6,
            initializer_range: 0.02,
            qkv_bias: true,
            pooler: false,
        })
    }

    fn initializer(&self) -> Initializer {
        Initializer::TruncatedNormal(self.initializer_range)
    }

    pub(super) fn anatomy(&self) -> Anatomy {
        let (hidden, initializer) = (self.hidden_size, self.initializer());
        Anatomy {
            patch_size: self.patch_size,
            patches: PATCHES,
            patch_initializer: initializer,
            patch_bias: true,
            tokens: vec![Rows { name: "embeddings.cls_token", shape: vec![1, 1, hidden], initializer }],
            registers: None,
            positions: Rows { name: POSITIONS, shape: vec![1, self.sequence_length(), hidden], initializer },
            norm_before: None,
            blocks: "encoder.layer",
            num_blocks: self.num_hidden_layers,
            block_names: &NAMES,
            block_shape: BlockShape {
                hidden_size: hidden,
                num_attention_heads: self.num_attention_heads,
                intermediate_size: self.intermediate_size,
                activation: self.hidden_act.gelu(),
                layer_norm_eps: self.layer_norm_eps,
                qkv_bias: self.qkv_bias,
                initializers: [initializer; 4],
                mlp_bias: Initializer::Zeros,
                layer_scale: None,
            },
            norm_after: Some("layernorm"),
        }
    }

    /// A ViT with the parts of `anatomy`, and with the pooler that its file had.
    pub(super) fn build_as(&self, anatomy: &Anatomy, builder: &Builder<'_>) -> Result<Arc<dyn ImageEncoder>> {
        let encoder = VisionTransformer::new(anatomy, builder)?;
        if self.pooler {
            let (after, hidden) = (builder.at_depth(self.num_hidden_layers + 1), self.hidden_size);
            after.store(POOLER[0], &[hidden, hidden], self.initializer(), Kind::Weight);
            after.store(POOLER[1], &[hidden], Initializer::Zeros, Kind::Bias);
        }
        Ok(Arc::new(encoder))
    }
}

impl EncoderFamily for VitConfig {
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
        self.build_as(&self.anatomy(), builder)
    }

    fn to_hf(&self) -> Value {
        json!({
            "model_type": "vit",
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
            "qkv_bias": self.qkv_bias,
            // Dropout that transformers has for an encoder and this program does not.
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        })
    }

    fn take_names(&mut self, tensors: BTreeMap<String, Tensor>) -> Result<Renamed> {
        let renamed = FILE_NAMES.take(tensors)?;
        self.pooler = renamed.tensors.contains_key(POOLER[0]);
        Ok(renamed)
    }

    /// Since version 5 of transformers, layers have other names in memory than in files.
    fn module_path(&self, layer: &str) -> String {
        IN_MEMORY.of_layer(&FILE_NAMES, layer)
    }

    /// transformers builds a ViT with a pooler and has no config to say otherwise.
    fn exported_zeros(&self) -> Vec<(&'static str, Vec<usize>)> {
        if self.pooler {
            return Vec::new();
        }
        vec![(POOLER[0], vec![self.hidden_size, self.hidden_size]), (POOLER[1], vec![self.hidden_size])]
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    fn config(json: &str) -> Result<VitConfig> {
        VitConfig::from_hf(&serde_json::from_str(json).unwrap())
    }

    fn zeros(shape: &[usize]) -> Tensor {
        Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap()
    }

    fn names(sources: &[(&str, &[usize])]) -> Vec<String> {
        let tensors = sources.iter().map(|(name, shape)| ((*name).to_owned(), zeros(shape))).collect();
        config("{}").unwrap().take_names(tensors).unwrap().tensors.into_keys().collect()
    }

    #[test]
    fn absent_fields_take_the_defaults_of_transformers() {
        let vit = config(r#"{"model_type": "vit"}"#).unwrap();
        assert_eq!((vit.layer_norm_eps, vit.hidden_act, vit.patch_size), (1e-12, HiddenActivation::Gelu, 16));
    }

    #[test]
    fn what_is_written_is_read_back_as_the_same_config() {
        let vit = VitConfig { image_size: 42, patch_size: 14, qkv_bias: false, ..config("{}").unwrap() };
        assert_eq!(VitConfig::from_hf(&vit.to_hf()).unwrap(), vit);
        assert_eq!(serde_json::from_value::<VitConfig>(json!(vit)).unwrap(), vit);
    }

    #[test]
    fn timm_architectures_follow_from_the_name() {
        let small = r#"{"architecture": "vit_small_patch14_224", "pretrained_cfg": {"input_size": [3, 224, 224]}}"#;
        let small = config(small).unwrap();
        assert_eq!((small.hidden_size, small.num_attention_heads, small.patch_size), (384, 6, 14));
        assert!(config(r#"{"architecture": "vit_giant_patch14_224"}"#).is_err());
    }

    #[test]
    fn names_lose_their_prefix_and_the_classifier_is_left_out() {
        let expected = ["encoder.layer.0.output.dense.bias", "layernorm.bias"];
        for prefix in ["", "vit.", "encoder."] {
            let layer = format!("{prefix}encoder.layer.0.output.dense.bias");
            let norm = format!("{prefix}layernorm.bias");
            let sources = [(layer.as_str(), [2].as_slice()), (norm.as_str(), &[2]), ("classifier.weight", &[2])];
            assert_eq!(names(&sources), expected, "with the prefix {prefix:?}");
        }
    }

    #[test]
    fn timm_projections_are_split_into_three() {
        let found = names(&[("blocks.3.attn.qkv.weight", &[6, 2]), ("head.weight", &[2])]);
        let part = |name: &str| format!("encoder.layer.3.attention.attention.{name}.weight");
        assert_eq!(found, [part("key"), part("query"), part("value")]);
    }

    #[test]
    fn a_part_of_a_block_that_is_not_known_is_refused() {
        for name in ["blocks.0.ls1.gamma", "norm_pre.weight"] {
            let tensors = BTreeMap::from([(name.to_owned(), zeros(&[2]))]);
            assert!(config("{}").unwrap().take_names(tensors).unwrap_err().to_string().contains(name));
        }
    }

    #[test]
    fn a_pooler_is_kept_where_the_file_has_one_and_exported_as_zeros_where_it_has_none() {
        let mut vit = config("{}").unwrap();
        assert_eq!(vit.exported_zeros().len(), 2);
        vit.take_names(BTreeMap::from([("vit.pooler.dense.weight".to_owned(), zeros(&[2]))])).unwrap();
        assert!(vit.pooler && vit.exported_zeros().is_empty());
    }
}
