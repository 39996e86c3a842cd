//! A model as the folder of a `VisionEncoderDecoderModel`, which Python's transformers loads as it is.
//!
//! Parameter names and layouts in memory are those of such a folder, so that the weights are written as they are.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};

use crate::config::EncoderKind;
use crate::model::export_config::{decoder_config, encoder_config};
use crate::run::captioning_model::CaptioningModel;
use crate::run::model_card::{self, Card};
use crate::run::tensor_file::write_tensors;
use base::fault::{WithHint as _, fault};
use base::{atomic_file, place};

/// Writes the folder. It is complete when `config.json` is there, which is written last.
///
/// # Errors
/// A folder that holds something already; a disk that cannot be written.
pub fn write(model: &CaptioningModel, folder: &Path, card: &Card) -> Result<()> {
    make_empty(folder)?;
    let tokens = Tokens::of(model)?;
    let hint = || "free some disk space or name another folder; remove the unfinished one first";
    let weights = folder.join("model.safetensors");
    write_tensors(&weights, &tensors(model)?, HashMap::from([("format".to_owned(), "pt".to_owned())]))
        .with_context(|| format!("cannot write {}", weights.display()))
        .hint(hint)?;
    model.tokenizer.save(folder).hint(hint)?;
    let texts = [
        ("README.md", model_card::render(model, card)),
        ("tokenizer_config.json", pretty(&tokens.tokenizer_config())?),
        ("special_tokens_map.json", pretty(&tokens.texts())?),
        ("preprocessor_config.json", pretty(&model.processor.to_preprocessor_config())?),
        ("generation_config.json", pretty(&generation_config(model, &tokens))?),
        ("config.json", pretty(&model_config(model, &tokens))?),
    ];
    for (name, text) in texts {
        let path = folder.join(name);
        let written = atomic_file::write(&path, text.as_bytes());
        written.with_context(|| format!("cannot write {}", path.display())).hint(hint)?;
    }
    Ok(())
}

fn make_empty(folder: &Path) -> Result<()> {
    match place::somebodys(folder, |path| path.ends_with(".git"))
        .with_context(|| format!("cannot use the folder {}", folder.display()))?
    {
        None => fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))
            .hint(|| "name a folder that can be written"),
        Some(entry) => Err(fault(
            format!("the folder {} is not empty: it holds {}", folder.display(), entry.display()),
            "nothing is overwritten: name a new folder with --output, or empty this one",
        )),
    }
}

/// Every parameter under its own name. transformers builds a ViT with a pooler and has no config to say otherwise: one
/// that the source lacks is written as zeros, since it would be drawn at random at every load.
fn tensors(model: &CaptioningModel) -> Result<Vec<(String, Tensor)>> {
    let parameters = model.parameters.iter();
    let mut tensors: Vec<(String, Tensor)> =
        parameters.map(|(name, parameter)| (name.to_owned(), parameter.var.as_detached_tensor())).collect();
    let encoder = &model.shape.encoder;
    if encoder.kind == EncoderKind::Vit && !encoder.pooler {
        let hidden = encoder.hidden_size;
        let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu);
        tensors.push(("encoder.pooler.dense.weight".to_owned(), zeros(&[hidden, hidden])?));
        tensors.push(("encoder.pooler.dense.bias".to_owned(), zeros(&[hidden])?));
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
    fn of(model: &CaptioningModel) -> Result<Self> {
        let ids = model.tokenizer.special_ids();
        let text = |id: u32| model.tokenizer.token(id).with_context(|| format!("the tokenizer has no token {id}"));
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

fn generation_config(model: &CaptioningModel, tokens: &Tokens) -> Value {
    let mut config = tokens.ids();
    let decoding = &model.decoding;
    config["max_new_tokens"] = decoding.max_new_tokens.into();
    config["do_sample"] = false.into();
    config["num_beams"] = decoding.num_beams.into();
    if decoding.num_beams > 1 {
        config["length_penalty"] = decoding.length_penalty.into();
        config["early_stopping"] = json!(decoding.early_stopping);
    }
    if decoding.no_repeat_ngram_size > 0 {
        config["no_repeat_ngram_size"] = decoding.no_repeat_ngram_size.into();
    }
    if decoding.min_new_tokens > 0 {
        config["min_new_tokens"] = decoding.min_new_tokens.into();
    }
    config
}

fn model_config(model: &CaptioningModel, tokens: &Tokens) -> Value {
    let mut config = tokens.ids();
    config["model_type"] = "vision-encoder-decoder".into();
    config["architectures"] = json!(["VisionEncoderDecoderModel"]);
    config["is_encoder_decoder"] = true.into();
    // Of encoder and decoder; the decoder's own head is in its own config.
    config["tie_word_embeddings"] = false.into();
    config["dtype"] = "float32".into();
    config["encoder"] = encoder_config(&model.shape.encoder);
    config["decoder"] = decoder_config(&model.shape.decoder);
    // GPT-2's own are outside of a smaller vocabulary.
    for name in ["bos_token_id", "eos_token_id", "pad_token_id"] {
        config["decoder"][name] = config[name].clone();
    }
    config
}

fn pretty(value: &Value) -> Result<String> {
    Ok(serde_json::to_string_pretty(value).context("cannot write JSON")? + "\n")
}
