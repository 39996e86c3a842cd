//! `VisionEncoderDecoderModel`: any encoder and any decoder, each with its config, and a projection where the widths
//! differ. The names of the tensors are those in memory, except of BLIP's image encoder, which is exported as a ViT.

use std::borrow::Cow;

use anyhow::{Context as _, Result};
use candle_core::{DType, Device, Tensor};
use serde_json::Value;

use super::layout::{Layout, Tensors};
use crate::hf::token_ids::{TokenIds, first_named};
use crate::model::captioner::{CaptionerShape, DECODER, ENCODER, PROJECTION};
use crate::model::decoders::DecoderConfig;
use crate::model::encoders::EncoderConfig;
use crate::model::encoders::vit::VitConfig;

const PYTHON: &str = r#"from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer, VisionEncoderDecoderModel

folder = "FOLDER_OR_ID"
model = VisionEncoderDecoderModel.from_pretrained(folder)
processor = AutoImageProcessor.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)

pixel_values = processor(Image.open("picture.jpg").convert("RGB"), return_tensors="pt").pixel_values
print(tokenizer.decode(model.generate(pixel_values)[0], skip_special_tokens=True))
"#;

pub(super) const LAYOUT: Layout = Layout {
    model_type: "vision-encoder-decoder",
    class: "VisionEncoderDecoderModel",
    python: PYTHON,
    prefixes: &[(ENCODER, ENCODER), (DECODER, DECODER), (PROJECTION, PROJECTION)],
    encoder: |config| EncoderConfig::from_hf(config.get("encoder").context("config.json has no encoder")?),
    decoder: |config| DecoderConfig::from_hf(config.get("decoder").context("config.json has no decoder")?),
    token_ids: |generation, config| first_named(&[generation, config, &config["decoder"]]),
    has_eos: true,
    decoder_key: "decoder",
    // BLIP's text decoder is not among the models for text that transformers finds by their type.
    takes: |shape| !matches!(&shape.decoder, DecoderConfig::Bert(bert) if bert.is_blip()),
    config,
    exported,
};

fn config(shape: &CaptionerShape, ids: TokenIds) -> Value {
    let mut config = ids.fields();
    config["decoder_start_token_id"] = ids.start.into();
    config["is_encoder_decoder"] = true.into();
    // Of encoder and decoder; the decoder's own head is in its own config.
    config["tie_word_embeddings"] = false.into();
    config["encoder"] = as_exported(&shape.encoder).to_hf();
    config["decoder"] = shape.decoder.to_hf();
    // The defaults of the decoder's class may be outside of a smaller vocabulary.
    for name in ["bos_token_id", "eos_token_id", "pad_token_id"] {
        config["decoder"][name] = config[name].clone();
    }
    config
}

/// The encoder as transformers finds it by its type. It finds BLIP's in a whole BLIP only, but its arithmetic is a ViT's.
fn as_exported(encoder: &EncoderConfig) -> Cow<'_, EncoderConfig> {
    let EncoderConfig::BlipVision(blip) = encoder else { return Cow::Borrowed(encoder) };
    Cow::Owned(EncoderConfig::Vit(VitConfig {
        image_size: blip.image_size,
        patch_size: blip.patch_size,
        hidden_size: blip.hidden_size,
        num_hidden_layers: blip.num_hidden_layers,
        num_attention_heads: blip.num_attention_heads,
        intermediate_size: blip.intermediate_size,
        hidden_act: blip.hidden_act,
        layer_norm_eps: blip.layer_norm_eps,
        initializer_range: blip.initializer_range,
        qkv_bias: true,
        pooler: false,
    }))
}

fn exported(shape: &CaptionerShape, tensors: Tensors) -> Result<Tensors> {
    if !matches!(shape.encoder, EncoderConfig::BlipVision(_)) {
        return Ok(tensors);
    }
    let mut renamed = Tensors::new();
    for (name, tensor) in tensors {
        match name.strip_prefix(ENCODER).and_then(|inner| inner.strip_prefix('.')) {
            Some(inner) => renamed.extend(
                vit_entries(inner, tensor)?.into_iter().map(|(name, tensor)| (format!("{ENCODER}.{name}"), tensor)),
            ),
            None => drop(renamed.insert(name, tensor)),
        }
    }
    for (name, shape) in as_exported(&shape.encoder).exported_zeros() {
        renamed.insert(format!("{ENCODER}.{name}"), Tensor::zeros(shape, DType::F32, &Device::Cpu)?);
    }
    Ok(renamed)
}

/// A tensor of BLIP's image encoder as those of a ViT: query, key and value are apart there.
fn vit_entries(name: &str, tensor: Tensor) -> Result<Vec<(String, Tensor)>> {
    const OUTSIDE: [(&str, &str); 4] = [
        ("embeddings.class_embedding", "embeddings.cls_token"),
        ("embeddings.position_embedding", "embeddings.position_embeddings"),
        ("embeddings.patch_embedding.", "embeddings.patch_embeddings.projection."),
        ("post_layernorm.", "layernorm."),
    ];
    const INSIDE: [(&str, &str); 5] = [
        ("layer_norm1.", "layernorm_before."),
        ("layer_norm2.", "layernorm_after."),
        ("self_attn.projection.", "attention.output.dense."),
        ("mlp.fc1.", "intermediate.dense."),
        ("mlp.fc2.", "output.dense."),
    ];
    let renamed = |table: &[(&str, &str)], name: &str| {
        table.iter().find_map(|(blip, vit)| Some(format!("{vit}{}", name.strip_prefix(blip)?)))
    };
    if let Some(name) = renamed(&OUTSIDE, name) {
        return Ok(vec![(name, tensor)]);
    }
    let (layer, inner) = name
        .strip_prefix("encoder.layers.")
        .and_then(|rest| rest.split_once('.'))
        .with_context(|| format!("{ENCODER}.{name} has no place in a ViT"))?;
    if let Some(kind) = inner.strip_prefix("self_attn.qkv.") {
        let thirds = tensor.chunk(3, 0)?.into_iter().zip(["query", "key", "value"]);
        return thirds
            .map(|(third, part)| {
                Ok((format!("encoder.layer.{layer}.attention.attention.{part}.{kind}"), third.contiguous()?))
            })
            .collect();
    }
    let inner = renamed(&INSIDE, inner).with_context(|| format!("{ENCODER}.{name} has no place in a ViT"))?;
    Ok(vec![(format!("encoder.layer.{layer}.{inner}"), tensor)])
}
