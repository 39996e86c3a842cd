//! `ViTModel` of transformers: the last hidden state after the final LayerNorm, class token included. timm's plain ViTs
//! are read too.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::model::builder::Builder;
use crate::model::encoders::family::{EncoderFamily, ImageEncoder, VisionSizes};
use crate::model::encoders::vision_block::{
    BlockNames, BlockShape, PatchEmbedding, VisionBlock, add_class_and_positions, check_channels,
};
use crate::model::hf_fields::{activation, boolean, model_type, real_number, whole_number};
use crate::model::initialization::Initializer;
use crate::model::layers::{Cut, HiddenActivation, LayerNorm};
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
/// The dense layers of a block in the order of [`NAMES`], as they are called in memory.
const MODULES: [&str; 6] =
    ["attention.q_proj", "attention.k_proj", "attention.v_proj", "attention.o_proj", "mlp.fc1", "mlp.fc2"];
const PATCHES: &str = "embeddings.patch_embeddings.projection";
const POSITIONS: &str = "embeddings.position_embeddings";
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
    /// The `model_type`s of transformers.
    pub const MODEL_TYPES: &'static [&'static str] = &["vit"];

    /// Whether a `config.json` is that of a ViT, or of a model of timm.
    pub fn describes(config: &Value) -> bool {
        architecture(config).is_some() || Self::MODEL_TYPES.contains(&model_type(config))
    }

    /// Reads a `config.json`. Absent fields take the defaults of `ViTConfig`.
    ///
    /// # Errors
    /// Values of another type; a model of timm that is not a plain ViT.
    pub fn from_hf(config: &Value) -> Result<Self> {
        if let Some(architecture) = architecture(config) {
            return Self::from_timm(config, architecture);
        }
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
            layer_norm_eps: real_number(config, "layer_norm_eps", LAYER_NORM_EPS)?,
            initializer_range: real_number(config, "initializer_range", 0.02)?,
            qkv_bias: boolean(config, "qkv_bias", true)?,
            pooler: false,
        })
    }

    /// timm's config names an architecture and no sizes but the input's; its plain ViTs follow from the name.
    fn from_timm(config: &Value, architecture: &str) -> Result<Self> {
        let parts: Vec<&str> = architecture.split('_').collect();
        let (hidden_size, num_hidden_layers, num_attention_heads) = match parts.get(1).copied() {
            Some("tiny") => (192, 12, 3),
            Some("small") => (384, 12, 6),
            Some("base") => (768, 12, 12),
            Some("large") => (1024, 24, 16),
            _ => bail!("the timm architecture {architecture} is not one of vit_tiny, vit_small, vit_base, vit_large"),
        };
        let number = |prefix: &str| {
            parts.iter().find_map(|part| part.strip_prefix(prefix).and_then(|text| text.parse::<usize>().ok()))
        };
        let input = config.pointer("/pretrained_cfg/input_size/2").and_then(Value::as_u64);
        let named = parts.iter().skip(2).find_map(|part| part.parse::<usize>().ok());
        let is_plain =
            parts.first() == Some(&"vit") && !parts.iter().any(|part| ["clip", "rope", "reg4", "gap"].contains(part));
        if !is_plain {
            bail!("the timm architecture {architecture} is not a plain ViT");
        }
        Ok(Self {
            image_size: input.and_then(|size| usize::try_from(size).ok()).or(named).unwrap_or(224),
            patch_size: number("patch").context("the timm architecture names no patch size")?,
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

    fn block_shape(&self) -> BlockShape {
        BlockShape {
            hidden_size: self.hidden_size,
            num_attention_heads: self.num_attention_heads,
            intermediate_size: self.intermediate_size,
            activation: self.hidden_act.gelu(),
            layer_norm_eps: self.layer_norm_eps,
            qkv_bias: self.qkv_bias,
            initializers: [self.initializer(); 4],
        }
    }
}

/// What timm calls the model.
fn architecture(config: &Value) -> Option<&str> {
    config.get("architecture").and_then(Value::as_str)
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
        Ok(Arc::new(VisionTransformer::new(self, builder)?))
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

    /// Fused projections of timm are split.
    fn take_names(&mut self, tensors: BTreeMap<String, Tensor>) -> Result<Renamed> {
        let mut renamed = Renamed::default();
        for (source, tensor) in tensors {
            let entries = match hf_name(&source) {
                Some(name) => vec![(name, tensor)],
                None => timm_entries(&source, tensor)?,
            };
            if entries.is_empty() {
                renamed.unused.push(source.clone());
            }
            for (name, tensor) in entries {
                renamed.insert(name, tensor, &source)?;
            }
        }
        self.pooler = renamed.tensors.contains_key(POOLER[0]);
        Ok(renamed)
    }

    /// Since version 5 of transformers, layers have other names in memory than in files.
    fn module_path(&self, layer: &str) -> String {
        let Some((index, part)) = layer.strip_prefix("encoder.layer.").and_then(|rest| rest.split_once('.')) else {
            return layer.to_owned();
        };
        let parts = NAMES.attention.iter().chain(&NAMES.mlp).zip(MODULES);
        let module = parts.into_iter().find_map(|(&name, module)| (name == part).then_some(module));
        format!("layers.{index}.{}", module.unwrap_or(part))
    }

    /// transformers builds a ViT with a pooler and has no config to say otherwise.
    fn exported_zeros(&self) -> Vec<(&'static str, Vec<usize>)> {
        if self.pooler {
            return Vec::new();
        }
        vec![(POOLER[0], vec![self.hidden_size, self.hidden_size]), (POOLER[1], vec![self.hidden_size])]
    }
}

/// A ViT.
#[derive(Clone, Debug)]
pub struct VisionTransformer {
    patches: PatchEmbedding,
    class: Tensor,
    positions: Tensor,
    blocks: Vec<VisionBlock>,
    norm: LayerNorm,
}

impl VisionTransformer {
    fn new(config: &VitConfig, builder: &Builder<'_>) -> Result<Self> {
        let (hidden, initial) = (config.hidden_size, config.initializer());
        let class = builder.embedding("embeddings.cls_token", &[1, 1, hidden], initial)?;
        let positions = builder.embedding(POSITIONS, &[1, config.sequence_length(), hidden], initial)?;
        let patches = PatchEmbedding::new(&builder.under(PATCHES), hidden, config.patch_size, initial, true)?;
        let shape = config.block_shape();
        let block = |index: usize| {
            let builder = builder.under(&format!("encoder.layer.{index}"));
            VisionBlock::new(&shape, &NAMES, &builder.at_depth(index + 1))
        };
        let blocks = (0..config.num_hidden_layers).map(block).collect::<Result<_>>()?;
        let after = builder.at_depth(config.num_hidden_layers + 1);
        let norm = LayerNorm::new(&after.under("layernorm"), hidden, config.layer_norm_eps)?;
        if config.pooler {
            after.store(POOLER[0], &[hidden, hidden], initial, Kind::Weight);
            after.store(POOLER[1], &[hidden], Initializer::Zeros, Kind::Bias);
        }
        Ok(Self { patches, class, positions, blocks, norm })
    }
}

impl ImageEncoder for VisionTransformer {
    fn forward(&self, pixel_values: &Tensor, cut: Cut<'_>) -> candle_core::Result<Tensor> {
        let mut states = add_class_and_positions(&self.patches.forward(pixel_values)?, &self.class, &self.positions)?;
        for block in &self.blocks {
            states = block.forward(&cut(states)?)?;
        }
        self.norm.forward(&states)
    }
}

/// `vit.encoder.layer.0...`, `encoder.layer.0...`, and `encoder.encoder.layer.0...` of a `VisionEncoderDecoderModel`.
fn hf_name(source: &str) -> Option<String> {
    let name = ["vit.", "model.vit."].iter().find_map(|prefix| source.strip_prefix(prefix)).unwrap_or(source);
    let inner = name
        .strip_prefix("encoder.")
        .filter(|rest| ["embeddings.", "encoder.", "layernorm.", "pooler."].iter().any(|part| rest.starts_with(part)));
    let name = inner.unwrap_or(name);
    let known = ["embeddings.", "encoder.layer.", "layernorm.", "pooler.dense."];
    // The mask token belongs to masked pretraining; this model has no place for it.
    let wanted = known.iter().any(|part| name.starts_with(part)) && name != "embeddings.mask_token";
    wanted.then(|| name.to_owned())
}

/// timm's `vision_transformer`.
fn timm_entries(source: &str, tensor: Tensor) -> anyhow::Result<Vec<(String, Tensor)>> {
    let fixed = match source {
        "cls_token" => Some("embeddings.cls_token".to_owned()),
        "pos_embed" => Some("embeddings.position_embeddings".to_owned()),
        _ => None,
    };
    if let Some(name) = fixed {
        return Ok(vec![(name, tensor)]);
    }
    if let Some(rest) = source.strip_prefix("patch_embed.proj.") {
        return Ok(vec![(format!("embeddings.patch_embeddings.projection.{rest}"), tensor)]);
    }
    if let Some(rest) = source.strip_prefix("norm.") {
        return Ok(vec![(format!("layernorm.{rest}"), tensor)]);
    }
    if source.starts_with("norm_pre.") {
        bail!("the tensor {source} belongs to a kind of ViT that is not supported");
    }
    let Some((index, part)) = source.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')) else {
        return Ok(Vec::new());
    };
    let block = format!("encoder.layer.{index}");
    if let Some(rest) = part.strip_prefix("attn.qkv.") {
        let rows = tensor.dim(0)?;
        if !rows.is_multiple_of(3) {
            bail!("{source}: {rows} rows are not query, key and value of one size");
        }
        let pieces = ["query", "key", "value"].iter().enumerate().map(|(index, name)| {
            let piece = tensor.narrow(0, index * rows / 3, rows / 3)?.contiguous()?;
            Ok((format!("{block}.attention.attention.{name}.{rest}"), piece))
        });
        return pieces.collect();
    }
    let parts = [
        ("norm1.", "layernorm_before."),
        ("norm2.", "layernorm_after."),
        ("attn.proj.", "attention.output.dense."),
        ("mlp.fc1.", "intermediate.dense."),
        ("mlp.fc2.", "output.dense."),
    ];
    let renamed = parts.iter().find_map(|(from, to)| part.strip_prefix(from).map(|rest| format!("{block}.{to}{rest}")));
    // Leaving out a part of a block (a layer scale, a query norm) would make another model of it.
    let name =
        renamed.with_context(|| format!("the tensor {source} belongs to a kind of ViT that is not supported"))?;
    Ok(vec![(name, tensor)])
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
        assert!(config(r#"{"architecture": "resnet50"}"#).is_err());
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
