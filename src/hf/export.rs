//! A model as the folder of a `VisionEncoderDecoderModel`, which Python's transformers loads as it is.
//!
//! Parameter names and layouts in memory are those of such a folder, so that the weights are written as they are.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};

use crate::config::DecodingConfig;
use crate::hf::generation_config::generation_config;
use crate::model::captioner::{CaptionerShape, ENCODER};
use crate::model::parameters::Parameters;
use crate::model::tensor_file::write_tensors;
use crate::tokenizer::CaptionTokenizer;
use base::error::{WithHint as _, failure};
use base::{atomic_file, place};
use pixels::image_processor::ImageProcessor;

/// The parts of a model's folder.
#[derive(Clone, Copy)]
pub struct Export<'a> {
    /// The model's shape.
    pub shape: &'a CaptionerShape,
    pub parameters: &'a Parameters,
    pub tokenizer: &'a CaptionTokenizer,
    /// How pixels become its input.
    pub processor: &'a ImageProcessor,
    /// How it writes captions.
    pub decoding: &'a DecodingConfig,
    /// The text of its `README.md`.
    pub card: &'a str,
}

/// Writes the folder. It is complete when `config.json` is there, which is written last.
///
/// # Errors
/// A folder that is not empty; a disk that cannot be written.
pub fn write(model: Export<'_>, folder: &Path) -> Result<()> {
    make_empty(folder)?;
    let tokens = Tokens::of(model.tokenizer)?;
    let hint = || "free some disk space or choose another folder; remove the unfinished one first";
    let weights = folder.join("model.safetensors");
    write_tensors(
        &weights,
        &tensors(model.shape, model.parameters)?,
        HashMap::from([("format".to_owned(), "pt".to_owned())]),
    )
    .with_context(|| format!("cannot write {}", weights.display()))
    .hint(hint)?;
    model.tokenizer.save(folder).hint(hint)?;
    let texts = [
        ("README.md", model.card.to_owned()),
        ("tokenizer_config.json", pretty(&tokens.tokenizer_config())?),
        ("special_tokens_map.json", pretty(&tokens.texts())?),
        ("preprocessor_config.json", pretty(&model.processor.to_preprocessor_config())?),
        ("generation_config.json", pretty(&generation_config(tokens.ids(), model.decoding))?),
        ("config.json", pretty(&model_config(model.shape, &tokens))?),
    ];
    for (name, text) in texts {
        let path = folder.join(name);
        let written = atomic_file::write(&path, text.as_bytes());
        written.with_context(|| format!("cannot write {}", path.display())).hint(hint)?;
    }
    Ok(())
}

pub(super) fn make_empty(folder: &Path) -> Result<()> {
    match place::users_own(folder, |path| path.ends_with(".git"))
        .with_context(|| format!("cannot use the folder {}", folder.display()))?
    {
        None => fs::create_dir_all(folder)
            .with_context(|| format!("cannot create the folder {}", folder.display()))
            .hint(|| "choose a writable folder"),
        Some(entry) => Err(failure(
            format!("the folder {} is not empty: it contains {}", folder.display(), entry.display()),
            "nothing is overwritten: choose a new folder with --output, or empty this one",
        )),
    }
}

/// Every parameter under its own name, and zeros for what transformers would otherwise draw at random at every load.
fn tensors(shape: &CaptionerShape, parameters: &Parameters) -> Result<Vec<(String, Tensor)>> {
    let mut tensors: Vec<(String, Tensor)> =
        parameters.iter().map(|(name, parameter)| (name.to_owned(), parameter.var.as_detached_tensor())).collect();
    for (name, shape) in shape.encoder.exported_zeros() {
        tensors.push((format!("{ENCODER}.{name}"), Tensor::zeros(shape, DType::F32, &Device::Cpu)?));
    }
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(tensors)
}

/// The special tokens, as ids and as texts.
struct Tokens {
    start: (u32, String),
    end: (u32, String),
    pad: (u32, String),
    unk: String,
}

impl Tokens {
    fn of(tokenizer: &CaptionTokenizer) -> Result<Self> {
        let ids = tokenizer.special_ids();
        let text = |id: u32| tokenizer.token(id).with_context(|| format!("the tokenizer has no token {id}"));
        Ok(Self {
            start: (ids.start, text(ids.start)?),
            end: (ids.end, text(ids.end)?),
            pad: (ids.pad, text(ids.pad)?),
            unk: text(ids.unk)?,
        })
    }

    fn texts(&self) -> Value {
        json!({ "bos_token": self.start.1, "eos_token": self.end.1, "pad_token": self.pad.1, "unk_token": self.unk })
    }

    /// `PreTrainedTokenizerFast` takes `tokenizer.json` as it is; a class for one model would build its own
    /// normaliser, and captions would no longer be lower-cased.
    fn tokenizer_config(&self) -> Value {
        let mut config = self.texts();
        config["tokenizer_class"] = "PreTrainedTokenizerFast".into();
        config["clean_up_tokenization_spaces"] = false.into();
        config
    }

    fn ids(&self) -> Value {
        json!({
            "decoder_start_token_id": self.start.0,
            "bos_token_id": self.start.0,
            "eos_token_id": self.end.0,
            "pad_token_id": self.pad.0,
        })
    }
}

fn model_config(shape: &CaptionerShape, tokens: &Tokens) -> Value {
    let mut config = tokens.ids();
    config["model_type"] = "vision-encoder-decoder".into();
    config["architectures"] = json!(["VisionEncoderDecoderModel"]);
    config["is_encoder_decoder"] = true.into();
    // Of encoder and decoder; the decoder's own head is in its own config.
    config["tie_word_embeddings"] = false.into();
    config["dtype"] = "float32".into();
    config["encoder"] = shape.encoder.to_hf();
    config["decoder"] = shape.decoder.to_hf();
    // The defaults of the decoder's class may be outside of a smaller vocabulary.
    for name in ["bos_token_id", "eos_token_id", "pad_token_id"] {
        config["decoder"][name] = config[name].clone();
    }
    config
}

pub(super) fn pretty(value: &Value) -> Result<String> {
    Ok(serde_json::to_string_pretty(value).context("cannot write JSON")? + "\n")
}
