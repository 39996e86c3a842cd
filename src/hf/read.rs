//! An encoder, a decoder or a whole captioner from a folder: its config and its tensors.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use candle_core::Tensor;
use serde_json::Value;

use crate::hf::folder::read_config;
use crate::hf::layouts::{self, Layout};
use crate::hf::weights::read_tensors;
use crate::model::captioner::{CaptionerShape, DECODER, ENCODER, PROJECTION};
use crate::model::decoders::DecoderConfig;
use crate::model::encoders::{EncoderConfig, fit_positions};
use crate::model::hf_fields::{class_name, model_type};
use crate::model::unfit;
use crate::model::weight_names::Renamed;
use base::error::failure;
use base::visible;
use pixels::image_processor::ImageProcessor;

/// What to do about a captioner that is not taken.
const CAPTIONERS: &str = "use the checkpoint of a run, a BLIP for captions, e.g. \
                          Salesforce/blip-image-captioning-base, or a VisionEncoderDecoderModel with a GPT-2 or a BERT, e.g. \
                          nlpconnect/vit-gpt2-image-captioning";
/// Characters of a class that are shown.
const MAX_NAME: usize = 60;

/// A model or a part of one, as its folder describes it.
#[derive(Clone, Debug)]
pub struct Pretrained<C> {
    /// Its config; of an encoder for the wanted image size.
    pub config: C,
    /// Its tensors, under the names that they have in the part of the model.
    pub tensors: BTreeMap<String, Tensor>,
    /// Names in the file that belong to something else, such as a classifier.
    pub unused: Vec<String>,
}

impl<C> Pretrained<C> {
    /// The tensors under the names of a captioner's part.
    pub fn into_part(self, part: &str) -> impl Iterator<Item = (String, Tensor)> {
        self.tensors.into_iter().map(move |(name, tensor)| (format!("{part}.{name}"), tensor))
    }
}

/// Reads an encoder, alone or out of a captioner.
///
/// # Errors
/// A folder without `config.json` or weights; a model of another family; a position table that does not fit the config.
pub fn read_encoder(folder: &Path, image_size: Option<usize>) -> anyhow::Result<Pretrained<EncoderConfig>> {
    let config = read_encoder_config(folder)?;
    let image_size = image_size_for(folder, &config, image_size);
    let mut tensors = read_tensors(folder)?;
    let mut others = Vec::new();
    if let Some(layout) = layouts::of_config(&read_config(folder)?) {
        let (mut parts, unused) = layout.split(tensors);
        tensors = parts.remove(ENCODER).unwrap_or_default();
        let of_others =
            parts.iter().flat_map(|(part, tensors)| tensors.keys().map(move |name| format!("{part}.{name}")));
        others.extend(of_others.chain(unused));
    }
    let mut found = encoder_from(config, tensors, image_size)
        .with_context(|| format!("cannot use the encoder in {}", folder.display()))?;
    found.unused.extend(others);
    Ok(found)
}

/// The side of the pictures for an encoder of a folder: what was asked for, else what its image processor gives where
/// transformers resamples for that unasked; `None` for what its config says. A processor that cannot be used says so
/// when it is read.
pub fn image_size_for(folder: &Path, config: &EncoderConfig, asked: Option<usize>) -> Option<usize> {
    if asked.is_some() || !config.takes_any_image_size() {
        return asked;
    }
    let (height, width) = ImageProcessor::from_folder(folder).ok()??.processor.output_size();
    (height == width && height != config.image_size()).then_some(height)
}

/// Reads only the config of an encoder.
///
/// # Errors
/// A folder without `config.json`; a model of another family.
pub fn read_encoder_config(folder: &Path) -> anyhow::Result<EncoderConfig> {
    let config = read_config(folder)?;
    let found = match layouts::of_config(&config) {
        Some(layout) => layout.encoder(&config),
        None => EncoderConfig::from_hf(&config),
    };
    found.with_context(|| format!("cannot use {}", folder.join("config.json").display()))
}

/// Reads a decoder, with or without cross-attention.
///
/// # Errors
/// A folder without `config.json` or weights; a model of another family.
pub fn read_decoder(folder: &Path) -> anyhow::Result<Pretrained<DecoderConfig>> {
    let config = DecoderConfig::from_hf(&read_config(folder)?)
        .with_context(|| format!("cannot use {}", folder.join("config.json").display()))?;
    let Renamed { tensors, unused } = config
        .take_names(read_tensors(folder)?)
        .with_context(|| format!("cannot use the decoder in {}", folder.display()))?;
    Ok(Pretrained { config, tensors, unused })
}

/// Reads a captioner.
///
/// # Errors
/// A folder without `config.json` or weights; a model that is not a captioner, or has parts of other families.
pub fn read_captioner(folder: &Path, image_size: Option<usize>) -> anyhow::Result<Pretrained<CaptionerShape>> {
    let config = read_config(folder)?;
    let Some(layout) = layouts::of_config(&config) else { return Err(no_captioner(folder, &config)) };
    let tensors = read_tensors(folder)?;
    assemble(folder, layout, &config, tensors, image_size)
        .with_context(|| format!("cannot use the model in {}", folder.display()))
}

/// The error about a model that is not a captioner, or none of those that are taken.
fn no_captioner(folder: &Path, config: &Value) -> anyhow::Error {
    let (found, known) = (unfit::described(model_type(config)), layouts::known());
    let message = format!("{} contains a model of model_type {found}", folder.display());
    let message = match class_name(config) {
        // Another class of a known type.
        Some(class) if known.contains(&found) => {
            format!("{message} and of the class {}, expected {}", visible::cut(class, MAX_NAME), layouts::classes())
        }
        _ => format!("{message}, expected {known}"),
    };
    let part = match (EncoderConfig::is_known(config), DecoderConfig::is_known(config)) {
        (true, _) => "; for the image encoder alone set model.encoder.name",
        (false, true) => "; for the decoder alone set model.decoder.name",
        (false, false) => "",
    };
    failure(message, format!("{CAPTIONERS}{part}"))
}

fn assemble(
    folder: &Path,
    layout: &Layout,
    config: &Value,
    tensors: BTreeMap<String, Tensor>,
    image_size: Option<usize>,
) -> anyhow::Result<Pretrained<CaptionerShape>> {
    let (decoder, encoder) = (layout.decoder(config)?, layout.encoder(config)?);
    if let Some(name) = layout.rival_part(tensors.keys()) {
        return Err(failure(format!("it has the tensor {name}, which a {} does not have", layout.class), CAPTIONERS));
    }
    let (mut parts, mut unused) = layout.split(tensors);
    let mut part = |name: &str| parts.remove(name).unwrap_or_default();
    let image_size = image_size_for(folder, &encoder, image_size);
    let found = encoder_from(encoder, part(ENCODER), image_size)?;
    let encoder = found.config.clone();
    unused.extend(found.unused.iter().map(|name| format!("{ENCODER}.{name}")));
    let mut tensors: BTreeMap<String, Tensor> = found.into_part(ENCODER).collect();
    let Renamed { tensors: of_decoder, unused: others } = decoder.take_names(part(DECODER))?;
    unused.extend(others.into_iter().map(|name| format!("{DECODER}.{name}")));
    tensors.extend(of_decoder.into_iter().map(|(name, tensor)| (format!("{DECODER}.{name}"), tensor)));
    tensors.extend(part(PROJECTION).into_iter().map(|(name, tensor)| (format!("{PROJECTION}.{name}"), tensor)));
    Ok(Pretrained { config: CaptionerShape { encoder, decoder }, tensors, unused })
}

/// An encoder of tensors under the names of some file.
fn encoder_from(
    mut config: EncoderConfig,
    tensors: BTreeMap<String, Tensor>,
    image_size: Option<usize>,
) -> anyhow::Result<Pretrained<EncoderConfig>> {
    let Renamed { mut tensors, unused } = config.take_names(tensors)?;
    config.validate()?;
    if let Some(image_size) = image_size {
        let source = config.clone();
        config.set_image_size(image_size);
        config.validate()?;
        fit_positions(&*source, &*config, &mut tensors)?;
    }
    Ok(Pretrained { config, tensors, unused })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_config_or_weights_is_an_error_with_a_hint() {
        let folder = tempfile::tempdir().unwrap();
        let text = base::error::describe(&read_encoder(folder.path(), None).unwrap_err());
        assert!(text.contains("config.json") && text.contains("hint:"), "{text}");
        std::fs::write(folder.path().join("config.json"), r#"{"model_type": "vit"}"#).unwrap();
        std::fs::write(folder.path().join("pytorch_model.bin"), "x").unwrap();
        let text = base::error::describe(&read_encoder(folder.path(), None).unwrap_err());
        assert!(text.contains("pickle") && text.contains("AutoModel.from_pretrained"), "{text}");
    }

    #[test]
    fn what_is_no_captioner_says_which_are_taken_and_which_part_can_be_used() {
        for (model_type, part) in
            [("florence2", None), ("vit", Some("model.encoder.name")), ("gpt2", Some("model.decoder.name"))]
        {
            let config = serde_json::json!({ "model_type": model_type });
            let text = base::error::describe(&no_captioner(Path::new("x"), &config));
            assert!(
                text.contains("expected \"blip\" or") && text.contains("VisionEncoderDecoderModel with a"),
                "{text}"
            );
            for key in ["model.encoder.name", "model.decoder.name"] {
                assert_eq!(text.contains(key), part == Some(key), "{text}");
            }
        }
    }
}
