//! A whole captioner from a `VisionEncoderDecoderModel` folder: ViT or CLIP encoder and GPT-2 decoder.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use candle_core::Tensor;
use serde_json::Value;

use crate::model::captioner::CaptionerShape;
use crate::model::pretrained_decoder::decoder_shape_of_config;
use crate::model::pretrained_encoder::{PretrainedEncoder, encoder_from, is_captioner, shape_of_config};
use crate::model::weight_files::{read_config, read_tensors};
use crate::model::weight_names::{CaptionerParts, Renamed, rename_decoder, split_captioner};
use base::fault::fault;

/// A captioner as its folder describes it.
#[derive(Clone, Debug)]
pub struct PretrainedCaptioner {
    /// Its shape, for the wanted image size.
    pub shape: CaptionerShape,
    /// Its tensors by parameter name.
    pub tensors: BTreeMap<String, Tensor>,
    /// Names in the file that belong to nothing in it.
    pub unused: Vec<String>,
}

/// Reads shape and weights.
///
/// # Errors
/// A folder without `config.json` or weights; a model of another family.
pub fn read_captioner(folder: &Path, image_size: Option<usize>) -> anyhow::Result<PretrainedCaptioner> {
    let config = read_config(folder)?;
    if !is_captioner(&config) {
        let model_type = config.get("model_type").and_then(Value::as_str).unwrap_or("");
        return Err(fault(
            format!("{} holds a model of model_type {model_type:?}, not a vision-encoder-decoder", folder.display()),
            "an encoder alone goes into model.encoder.name, a GPT-2 alone into model.decoder.name",
        ));
    }
    let tensors = read_tensors(folder)?;
    assemble(&config, tensors, image_size).with_context(|| format!("cannot use the model in {}", folder.display()))
}

fn assemble(
    config: &Value,
    tensors: BTreeMap<String, Tensor>,
    image_size: Option<usize>,
) -> anyhow::Result<PretrainedCaptioner> {
    let decoder = decoder_shape_of_config(config.get("decoder").context("config.json has no decoder")?)?;
    let encoder = shape_of_config(config.get("encoder").context("config.json has no encoder")?)?;
    let CaptionerParts { encoder: of_encoder, decoder: of_decoder, projection: mut found, mut unused } =
        split_captioner(tensors);
    let PretrainedEncoder { shape: encoder, tensors, unused: more } = encoder_from(encoder, of_encoder, image_size)?;
    found.extend(tensors.into_iter().map(|(name, tensor)| (format!("encoder.{name}"), tensor)));
    unused.extend(more.into_iter().map(|name| format!("encoder.{name}")));
    let Renamed { tensors, unused: more } = rename_decoder(of_decoder, decoder.tie_word_embeddings)?;
    found.extend(tensors.into_iter().map(|(name, tensor)| (format!("decoder.{name}"), tensor)));
    unused.extend(more.into_iter().map(|name| format!("decoder.{name}")));
    Ok(PretrainedCaptioner { shape: CaptionerShape { encoder, decoder }, tensors: found, unused })
}
