//! An image encoder from a folder in the Hub's format: its shape and its tensors.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, bail};
use candle_core::Tensor;
use serde_json::Value;

use crate::config::EncoderKind;
use crate::model::encoder::{EncoderShape, HiddenActivation};
use crate::model::position_table;
use crate::model::weight_files::{boolean, read_config, read_tensors, real_number, whole_number};
use crate::model::weight_names::{Renamed, rename_encoder, split_captioner};
use base::fault::fault;

/// An encoder as its folder describes it.
#[derive(Clone, Debug)]
pub struct PretrainedEncoder {
    /// Its shape, for the wanted image size.
    pub shape: EncoderShape,
    /// Its tensors, under the names of `model::encoder`, with the position table of the wanted image size.
    pub tensors: BTreeMap<String, Tensor>,
    /// Names in the file that belong to something else, such as a classifier.
    pub unused: Vec<String>,
}

/// Reads shape and weights.
///
/// # Errors
/// A folder without `config.json` or weights; a model of another family; tensors that do not fit the shape.
pub fn read_encoder(folder: &Path, image_size: Option<usize>) -> anyhow::Result<PretrainedEncoder> {
    let shape = read_shape(folder)?;
    let mut tensors = read_tensors(folder)?;
    let mut others = Vec::new();
    if is_captioner(&read_config(folder)?) {
        let parts = split_captioner(tensors);
        tensors = parts.encoder;
        others.extend(parts.decoder.into_keys().map(|name| format!("decoder.{name}")));
        others.extend(parts.projection.into_keys().chain(parts.unused));
    }
    let mut found = encoder_from(shape, tensors, image_size)
        .with_context(|| format!("cannot use the encoder in {}", folder.display()))?;
    found.unused.extend(others);
    Ok(found)
}

/// Whether a `config.json` is that of a whole captioner.
pub fn is_captioner(config: &Value) -> bool {
    config.get("model_type").and_then(Value::as_str) == Some("vision-encoder-decoder")
}

/// An encoder of tensors under the names of some file.
///
/// # Errors
/// Tensors that do not fit the shape.
pub fn encoder_from(
    mut shape: EncoderShape,
    tensors: BTreeMap<String, Tensor>,
    image_size: Option<usize>,
) -> anyhow::Result<PretrainedEncoder> {
    let Renamed { mut tensors, unused } = rename_encoder(tensors, shape.kind)?;
    shape.pooler = tensors.contains_key("pooler.dense.weight");
    shape.validate()?;
    if let Some(image_size) = image_size {
        let source_grid = shape.grid();
        shape.image_size = image_size;
        shape.validate()?;
        fit_positions(&shape, source_grid, &mut tensors)?;
    }
    Ok(PretrainedEncoder { shape, tensors, unused })
}

/// Reads the shape alone.
///
/// # Errors
/// A folder without `config.json`; a model of another family.
pub fn read_shape(folder: &Path) -> anyhow::Result<EncoderShape> {
    let config = read_config(folder)?;
    shape_of_config(&config).with_context(|| format!("cannot use {}", folder.join("config.json").display()))
}

/// The shape that a `config.json` describes, for the image size that it names.
///
/// # Errors
/// A model of another family; values that are of another type.
pub fn shape_of_config(config: &Value) -> anyhow::Result<EncoderShape> {
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
    let channels = whole_number(config, "num_channels", 3)?;
    if channels != 3 {
        bail!("num_channels is {channels}; only pictures of 3 channels can be captioned");
    }
    Ok(EncoderShape {
        kind,
        image_size: whole_number(config, "image_size", 224)?,
        patch_size: whole_number(config, "patch_size", patch)?,
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

/// Resamples the position table from the grid that the config describes to that of `shape`.
fn fit_positions(
    shape: &EncoderShape,
    source_grid: usize,
    tensors: &mut BTreeMap<String, Tensor>,
) -> anyhow::Result<()> {
    let name = match shape.kind {
        EncoderKind::Vit => "embeddings.position_embeddings",
        EncoderKind::ClipVision => "vision_model.embeddings.position_embedding.weight",
    };
    let table = tensors.get(name).with_context(|| format!("the file holds no tensor {name}"))?;
    let rank = table.rank();
    let flat = table.flatten_to(rank.saturating_sub(2))?;
    let (expected, rows) = (1 + source_grid * source_grid, flat.dim(0)?);
    if rows != expected {
        bail!("{name} has {rows} rows, where the image_size of config.json asks for {expected}");
    }
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
        assert!(base::fault::describe(&error).contains("\"swin\""));
    }

    #[test]
    fn a_folder_without_config_or_weights_is_an_error_with_a_hint() {
        let folder = tempfile::tempdir().unwrap();
        let text = base::fault::describe(&read_encoder(folder.path(), None).unwrap_err());
        assert!(text.contains("config.json") && text.contains("hint:"), "{text}");
        std::fs::write(folder.path().join("config.json"), r#"{"model_type": "vit"}"#).unwrap();
        std::fs::write(folder.path().join("pytorch_model.bin"), "x").unwrap();
        let text = base::fault::describe(&read_encoder(folder.path(), None).unwrap_err());
        assert!(text.contains("pickle"), "{text}");
    }
}
