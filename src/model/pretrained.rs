//! Reads an image encoder from a folder in the Hub's format: `config.json` and safetensors files.
//!
//! Values are read as f32. Nothing is downloaded here, and nothing but safetensors is opened.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, bail};
use candle_core::{DType, Device, Tensor};
use serde_json::Value;

use crate::base::fault::{WithHint as _, fault};
use crate::config::EncoderKind;
use crate::model::encoder::{EncoderShape, HiddenActivation};
use crate::model::position_table;
use crate::model::weight_names::rename_encoder;

/// An encoder as its folder describes it.
#[derive(Clone, Debug)]
pub struct PretrainedEncoder {
    /// Its shape, for the wanted image size.
    pub shape: EncoderShape,
    /// Its tensors, under the names of `model::encoder`, with the position table of the wanted image size.
    pub tensors: BTreeMap<String, Tensor>,
}

/// Reads shape and weights.
///
/// # Errors
/// A folder without `config.json` or weights; a model of another family; tensors that do not fit the shape.
pub fn read_encoder(folder: &Path, image_size: Option<usize>) -> anyhow::Result<PretrainedEncoder> {
    let mut shape = read_shape(folder)?;
    let tensors = read_tensors(folder)?;
    let mut tensors = rename_encoder(tensors, shape.kind)
        .with_context(|| format!("cannot use the weights in {}", folder.display()))?;
    shape.pooler = tensors.contains_key("pooler.dense.weight");
    shape.qkv_bias =
        shape.kind == EncoderKind::ClipVision || tensors.contains_key("encoder.layer.0.attention.attention.query.bias");
    if let Some(image_size) = image_size {
        shape.image_size = image_size;
    }
    shape.validate().with_context(|| format!("cannot use the encoder in {}", folder.display()))?;
    fit_positions(&shape, &mut tensors).with_context(|| format!("cannot use the weights in {}", folder.display()))?;
    Ok(PretrainedEncoder { shape, tensors })
}

/// Reads the shape alone.
///
/// # Errors
/// A folder without `config.json`; a model of another family.
pub fn read_shape(folder: &Path) -> anyhow::Result<EncoderShape> {
    if !folder.is_dir() {
        return Err(fault(
            format!("the encoder folder {} does not exist", folder.display()),
            "set model.encoder.name to a folder in the Hub's format or to the id of a Hub repository",
        ));
    }
    let path = folder.join("config.json");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))
        .hint(|| "an encoder folder holds config.json, preprocessor_config.json and model.safetensors")?;
    let config: Value = serde_json::from_str(&text).with_context(|| format!("{} is not valid JSON", path.display()))?;
    shape_of_config(&config).with_context(|| format!("cannot use {}", path.display()))
}

fn shape_of_config(config: &Value) -> anyhow::Result<EncoderShape> {
    if let Some(architecture) = config.get("architecture").and_then(Value::as_str) {
        return timm_shape(config, architecture);
    }
    let model_type = config.get("model_type").and_then(Value::as_str).unwrap_or("");
    match model_type {
        "vit" => family_shape(config, EncoderKind::Vit),
        "clip_vision_model" => family_shape(config, EncoderKind::ClipVision),
        "clip" => {
            let vision = config.get("vision_config").context("a CLIP config without vision_config")?;
            family_shape(vision, EncoderKind::ClipVision)
        }
        "vision-encoder-decoder" => {
            shape_of_config(config.get("encoder").context("a vision-encoder-decoder config without encoder")?)
        }
        other => Err(fault(
            format!("expected model_type \"vit\", \"clip\" or \"clip_vision_model\", found {other:?}"),
            "use a ViT or CLIP checkpoint, e.g. google/vit-base-patch16-224-in21k or openai/clip-vit-base-patch32",
        )),
    }
}

/// Absent fields take the defaults of `ViTConfig` and `CLIPVisionConfig`.
fn family_shape(config: &Value, kind: EncoderKind) -> anyhow::Result<EncoderShape> {
    let (patch, activation, eps) = match kind {
        EncoderKind::Vit => (16, "gelu", 1e-12),
        EncoderKind::ClipVision => (32, "quick_gelu", 1e-5),
    };
    let activation = config.get("hidden_act").cloned().unwrap_or_else(|| Value::from(activation));
    let hidden_act: HiddenActivation = serde_json::from_value(activation.clone())
        .with_context(|| format!("hidden_act {activation} is not one of gelu, gelu_new, quick_gelu"))?;
    if let Some(channels) = config.get("num_channels").and_then(Value::as_u64)
        && channels != 3
    {
        bail!("num_channels is {channels}; only pictures of 3 channels can be captioned");
    }
    Ok(EncoderShape {
        kind,
        image_size: field(config, "image_size", 224)?,
        patch_size: field(config, "patch_size", patch)?,
        hidden_size: field(config, "hidden_size", 768)?,
        num_hidden_layers: field(config, "num_hidden_layers", 12)?,
        num_attention_heads: field(config, "num_attention_heads", 12)?,
        intermediate_size: field(config, "intermediate_size", 3072)?,
        hidden_act,
        layer_norm_eps: config.get("layer_norm_eps").and_then(Value::as_f64).unwrap_or(eps),
        initializer_range: config.get("initializer_range").and_then(Value::as_f64).unwrap_or(0.02),
        qkv_bias: config.get("qkv_bias").and_then(Value::as_bool).unwrap_or(true),
        pooler: false,
    })
}

fn field(config: &Value, name: &str, default: usize) -> anyhow::Result<usize> {
    match config.get(name) {
        None | Some(Value::Null) => Ok(default),
        Some(value) => {
            let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
            number.with_context(|| format!("{name}: expected a whole number, found {value}"))
        }
    }
}

/// timm's config names an architecture and no sizes but the input's; its plain ViTs follow from the name.
fn timm_shape(config: &Value, architecture: &str) -> anyhow::Result<EncoderShape> {
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
        bail!("the timm architecture {architecture} is no plain ViT");
    }
    Ok(EncoderShape {
        kind: EncoderKind::Vit,
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

fn read_tensors(folder: &Path) -> anyhow::Result<BTreeMap<String, Tensor>> {
    let single = folder.join("model.safetensors");
    if single.is_file() {
        return read_file(&single);
    }
    let index = folder.join("model.safetensors.index.json");
    if index.is_file() {
        return read_shards(folder, &index);
    }
    let found = folder.join("pytorch_model.bin").is_file();
    let hint = if found {
        "pytorch_model.bin is a pickle, which can run code and is not read: save the model as safetensors \
         (save_pretrained with safe_serialization=True)"
    } else {
        "an encoder folder holds config.json, preprocessor_config.json and model.safetensors"
    };
    Err(fault(format!("{} holds no model.safetensors", folder.display()), hint))
}

fn read_shards(folder: &Path, index: &Path) -> anyhow::Result<BTreeMap<String, Tensor>> {
    let text = std::fs::read_to_string(index).with_context(|| format!("cannot read {}", index.display()))?;
    let parsed: Value =
        serde_json::from_str(&text).with_context(|| format!("{} is not valid JSON", index.display()))?;
    let map = parsed.get("weight_map").and_then(Value::as_object);
    let map = map.with_context(|| format!("{} has no weight_map", index.display()))?;
    let mut tensors = BTreeMap::new();
    for shard in map.values().filter_map(Value::as_str).collect::<BTreeSet<_>>() {
        if Path::new(shard).file_name().is_none_or(|name| name != shard) {
            bail!("{} names the shard {shard:?}, which is no plain file name", index.display());
        }
        tensors.extend(read_file(&folder.join(shard))?);
    }
    Ok(tensors)
}

/// All tensors of a safetensors file as f32 (integers, such as position ids, are left out).
fn read_file(path: &Path) -> anyhow::Result<BTreeMap<String, Tensor>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = safetensors::SafeTensors::deserialize(&bytes)
        .with_context(|| format!("{} is not a valid safetensors file", path.display()))
        .hint(|| "it may be truncated or a Git LFS pointer: fetch it again")?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.tensors() {
        let dtype = match view.dtype() {
            safetensors::Dtype::F32 => DType::F32,
            safetensors::Dtype::F16 => DType::F16,
            safetensors::Dtype::BF16 => DType::BF16,
            safetensors::Dtype::F64 => DType::F64,
            _ => continue,
        };
        let tensor = Tensor::from_raw_buffer(view.data(), dtype, view.shape(), &Device::Cpu)
            .with_context(|| format!("{}: cannot read the tensor {name}", path.display()))?;
        tensors.insert(name.to_owned(), tensor.to_dtype(DType::F32)?);
    }
    Ok(tensors)
}

fn fit_positions(shape: &EncoderShape, tensors: &mut BTreeMap<String, Tensor>) -> anyhow::Result<()> {
    let name = match shape.kind {
        EncoderKind::Vit => "embeddings.position_embeddings",
        EncoderKind::ClipVision => "vision_model.embeddings.position_embedding.weight",
    };
    let table = tensors.get(name).with_context(|| format!("the file holds no tensor {name}"))?;
    let rank = table.rank();
    let flat = table.flatten_to(rank.saturating_sub(2))?;
    let resampled = position_table::resample(&flat, shape.grid())?;
    let resampled = if rank == 3 { resampled.unsqueeze(0)? } else { resampled };
    tensors.insert(name.to_owned(), resampled);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(json: &str) -> anyhow::Result<EncoderShape> {
        shape_of_config(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn absent_fields_take_the_defaults_of_transformers() {
        let vit = shape(r#"{"model_type": "vit"}"#).unwrap();
        assert_eq!((vit.layer_norm_eps, vit.hidden_act, vit.patch_size), (1e-12, HiddenActivation::Gelu, 16));
        let clip = shape(r#"{"model_type": "clip", "vision_config": {"hidden_size": 32}}"#).unwrap();
        assert_eq!((clip.layer_norm_eps, clip.hidden_act, clip.patch_size), (1e-5, HiddenActivation::QuickGelu, 32));
        assert_eq!(clip.hidden_size, 32);
    }

    #[test]
    fn timm_architectures_follow_from_the_name() {
        let config = r#"{"architecture": "vit_small_patch14_224", "pretrained_cfg": {"input_size": [3, 224, 224]}}"#;
        let small = shape(config).unwrap();
        assert_eq!((small.hidden_size, small.num_attention_heads, small.patch_size), (384, 6, 14));
        assert!(shape(r#"{"architecture": "resnet50"}"#).is_err());
    }

    #[test]
    fn another_family_is_refused_by_name() {
        let error = shape(r#"{"model_type": "swin"}"#).unwrap_err();
        assert!(crate::base::fault::describe(&error).contains("\"swin\""));
    }

    #[test]
    fn a_folder_without_config_or_weights_is_an_error_with_a_hint() {
        let folder = tempfile::tempdir().unwrap();
        let text = crate::base::fault::describe(&read_encoder(folder.path(), None).unwrap_err());
        assert!(text.contains("config.json") && text.contains("hint:"), "{text}");
        std::fs::write(folder.path().join("config.json"), r#"{"model_type": "vit"}"#).unwrap();
        std::fs::write(folder.path().join("pytorch_model.bin"), "x").unwrap();
        let text = crate::base::fault::describe(&read_encoder(folder.path(), None).unwrap_err());
        assert!(text.contains("pickle"), "{text}");
    }
}
