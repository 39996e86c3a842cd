//! A model as a folder that Python's transformers loads as it is, in the layout that fits it.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};

use crate::config::DecodingConfig;
use crate::hf::generation_config::generation_config;
use crate::hf::layouts::Layout;
use crate::hf::token_ids::TokenIds;
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
    /// Its form on disk.
    pub layout: &'a Layout,
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
    let layout = model.layout;
    make_empty(folder)?;
    let tokens = Tokens::of(model.tokenizer)?;
    let hint = || "free some disk space or choose another folder; remove the unfinished one first";
    let weights = folder.join("model.safetensors");
    write_tensors(
        &weights,
        &tensors(layout, model.shape, model.parameters)?,
        HashMap::from([("format".to_owned(), "pt".to_owned())]),
    )
    .with_context(|| format!("cannot write {}", weights.display()))
    .hint(hint)?;
    model.tokenizer.save(folder).hint(hint)?;
    let texts = [
        ("README.md", model.card.to_owned()),
        ("tokenizer_config.json", pretty(&tokens.tokenizer_config(model.tokenizer)?)?),
        ("special_tokens_map.json", pretty(&tokens.texts())?),
        ("preprocessor_config.json", pretty(&model.processor.to_preprocessor_config())?),
        ("generation_config.json", pretty(&generation_config(tokens.ids(), model.decoding))?),
        ("config.json", pretty(&layout.config(model.shape, tokens.ids()))?),
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

/// Every parameter under its name in the file, and zeros for what transformers would otherwise draw at random at every
/// load.
fn tensors(layout: &Layout, shape: &CaptionerShape, parameters: &Parameters) -> Result<Vec<(String, Tensor)>> {
    let mut tensors: BTreeMap<String, Tensor> =
        parameters.iter().map(|(name, parameter)| (name.to_owned(), parameter.var.as_detached_tensor())).collect();
    for (name, shape) in shape.encoder.exported_zeros() {
        tensors.insert(format!("{ENCODER}.{name}"), Tensor::zeros(shape, DType::F32, &Device::Cpu)?);
    }
    Ok(layout.file_tensors(shape, tensors)?.into_iter().collect())
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

    fn tokenizer_config(&self, tokenizer: &CaptionTokenizer) -> Result<Value> {
        let mut config = tokenizer.tokenizer_config()?;
        for (key, text) in self.texts().as_object().into_iter().flatten() {
            config[key] = text.clone();
        }
        Ok(config)
    }

    fn ids(&self) -> TokenIds {
        TokenIds { start: self.start.0, end: self.end.0, pad: Some(self.pad.0) }
    }
}

pub(super) fn pretty(value: &Value) -> Result<String> {
    Ok(serde_json::to_string_pretty(value).context("cannot write JSON")? + "\n")
}
