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
use crate::model::encoders::blip::BlipVisionConfig;

const PYTHON: &str = r#"from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer, VisionEncoderDecoderModel

folder = "FOLDER_OR_ID"
model = VisionEncoderDecoderModel.from_pretrained(folder)
processor = AutoImageProcessor.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)

pixel_values = processor(Image.open("picture.jpg").convert("RGB"), return_tensors="pt").pixel_values
print(tokenizer.decode(model.generate(pixel_values)[0], skip_special_tokens=True))
"#;

const PYTHON_WITH_PROMPT: &str = r#"import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer, VisionEncoderDecoderModel

folder = "FOLDER_OR_ID"
model = VisionEncoderDecoderModel.from_pretrained(folder)
processor = AutoImageProcessor.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)

pixel_values = processor(Image.open("picture.jpg").convert("RGB"), return_tensors="pt").pixel_values
prompt = tokenizer(PROMPT, add_special_tokens=False).input_ids
start = torch.tensor([[model.generation_config.decoder_start_token_id, *prompt]])
print(tokenizer.decode(model.generate(pixel_values, decoder_input_ids=start)[0], skip_special_tokens=True))
"#;

pub(super) const LAYOUT: Layout = Layout {
    model_type: "vision-encoder-decoder",
    class: "VisionEncoderDecoderModel",
    python: PYTHON,
    python_with_prompt: PYTHON_WITH_PROMPT,
    prompt_way: "`generate` takes the ids of the start token and of the prompt as `decoder_input_ids`",
    has_rivals: false,
    rival_parts: &[],
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
    modules,
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
    match encoder {
        EncoderConfig::BlipVision(blip) => Cow::Owned(EncoderConfig::Vit(blip.as_vit())),
        other => Cow::Borrowed(other),
    }
}

fn exported(shape: &CaptionerShape, tensors: Tensors) -> Result<Tensors> {
    if !matches!(shape.encoder, EncoderConfig::BlipVision(_)) {
        return Ok(tensors);
    }
    let (mut all, mut encoder) = (Tensors::new(), Tensors::new());
    for (name, tensor) in tensors {
        match name.strip_prefix(ENCODER).and_then(|inner| inner.strip_prefix('.')) {
            Some(inner) => drop(encoder.insert(inner.to_owned(), tensor)),
            None => drop(all.insert(name, tensor)),
        }
    }
    let vit = as_exported(&shape.encoder);
    let mut encoder = BlipVisionConfig::vit_tensors(encoder)?;
    for (name, shape) in vit.exported_zeros() {
        encoder.insert(name.to_owned(), Tensor::zeros(shape, DType::F32, &Device::Cpu)?);
    }
    all.extend(encoder.into_iter().map(|(name, tensor)| (format!("{ENCODER}.{name}"), tensor)));
    Ok(all)
}

/// Layers of BLIP's image encoder are those of a ViT, as it is exported.
fn modules(shape: &CaptionerShape, layer: &str) -> Result<Vec<String>> {
    match (&shape.encoder, layer.split_once('.')) {
        (EncoderConfig::BlipVision(_), Some((ENCODER, inner))) => {
            let (vit, layers) = (as_exported(&shape.encoder), BlipVisionConfig::vit_layers(inner)?);
            Ok(layers.iter().map(|layer| format!("{ENCODER}.{}", vit.module_path(layer))).collect())
        }
        _ => Ok(vec![shape.module_path(layer)]),
    }
}
