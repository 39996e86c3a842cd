//! What a form of a captioner's folder says.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use candle_core::Tensor;
use serde_json::Value;

use crate::hf::token_ids::TokenIds;
use crate::model::captioner::CaptionerShape;
use crate::model::decoders::DecoderConfig;
use crate::model::encoders::EncoderConfig;
use crate::model::hf_fields::{class_name, model_type};

/// Tensors by name.
pub(super) type Tensors = BTreeMap<String, Tensor>;

pub struct Layout {
    /// The `model_type` of its `config.json`.
    pub model_type: &'static str,
    /// The class of transformers.
    pub class: &'static str,
    /// How a picture is captioned in Python with the folder `FOLDER_OR_ID`.
    pub python: &'static str,
    /// The same with the prompt `PROMPT`, a Python string.
    pub python_with_prompt: &'static str,
    /// How transformers takes a prompt, as a part of a sentence.
    pub prompt_way: &'static str,
    /// Whether there are models of other kinds with the same `model_type`, which only the class tells apart.
    pub(super) has_rivals: bool,
    /// What the names of tensors begin with that only those have.
    pub(super) rival_parts: &'static [&'static str],
    /// What the names of tensors begin with in a file, and in the model.
    pub(super) prefixes: &'static [(&'static str, &'static str)],
    /// The config of the encoder, out of `config.json`.
    pub(super) encoder: fn(&Value) -> Result<EncoderConfig>,
    /// The config of the decoder.
    pub(super) decoder: fn(&Value) -> Result<DecoderConfig>,
    /// The ids of tokens around a caption: out of `generation_config.json`, which may be null, and `config.json`.
    pub(super) token_ids: fn(&Value, &Value) -> Result<TokenIds>,
    /// Whether its `eos_token_id` ends a caption.
    pub has_eos: bool,
    /// The key in `config.json` of what may name settings of the search too.
    pub decoder_key: &'static str,
    /// Whether a model has this form when it is exported.
    pub(super) takes: fn(&CaptionerShape) -> bool,
    /// `config.json`, without the class.
    pub(super) config: fn(&CaptionerShape, TokenIds) -> Value,
    /// Changes what differs in a file from what is in memory, beside the prefixes; the names are those of the model.
    pub(super) exported: fn(&CaptionerShape, Tensors) -> Result<Tensors>,
    /// The paths of the layers in the memory of transformers that a layer is, before the prefixes.
    pub(super) modules: fn(&CaptionerShape, &str) -> Result<Vec<String>>,
}

impl Layout {
    /// Whether a `config.json` is of this layout.
    pub(super) fn describes(&self, config: &Value) -> bool {
        let is_of_class = || class_name(config).is_none_or(|class| class.ends_with(self.class));
        model_type(config) == self.model_type && (!self.has_rivals || is_of_class())
    }

    /// The first tensor that only a model of another kind has.
    pub fn rival_part<'a>(&self, mut names: impl Iterator<Item = &'a String>) -> Option<&'a String> {
        names.find(|name| self.rival_parts.iter().any(|part| name.starts_with(part)))
    }

    /// The config of the encoder.
    ///
    /// # Errors
    /// A config without one; a model of another family.
    pub fn encoder(&self, config: &Value) -> Result<EncoderConfig> {
        (self.encoder)(config)
    }

    /// The config of the decoder.
    ///
    /// # Errors
    /// As [`Self::encoder`].
    pub fn decoder(&self, config: &Value) -> Result<DecoderConfig> {
        (self.decoder)(config)
    }

    /// The ids of the tokens around a caption.
    ///
    /// # Errors
    /// A token that nothing names; an id that is none.
    pub fn token_ids(&self, generation: &Value, config: &Value) -> Result<TokenIds> {
        (self.token_ids)(generation, config)
    }

    /// The tensors of a file by the part of the model that they belong to, under the names that they have in it, and the
    /// names of those that belong to none.
    pub fn split(&self, tensors: Tensors) -> (BTreeMap<&'static str, Tensors>, Vec<String>) {
        let mut parts: BTreeMap<&'static str, Tensors> = BTreeMap::new();
        let mut unused = Vec::new();
        for (name, tensor) in tensors {
            let found = self
                .prefixes
                .iter()
                .find_map(|(prefix, part)| Some((*part, name.strip_prefix(prefix)?.strip_prefix('.')?.to_owned())));
            match found {
                Some((part, inner)) => drop(parts.entry(part).or_default().insert(inner, tensor)),
                None => unused.push(name),
            }
        }
        (parts, unused)
    }

    /// The content of `model.safetensors`, out of the model's parameters under their own names.
    ///
    /// # Errors
    /// A parameter of no part.
    pub fn file_tensors(&self, shape: &CaptionerShape, parameters: Tensors) -> Result<Tensors> {
        let renamed = (self.exported)(shape, parameters)?
            .into_iter()
            .map(|(name, tensor)| Ok((self.with_prefix(&name)?, tensor)));
        renamed.collect()
    }

    /// The path of a layer of a model in the memory of transformers, by its own name; of one that makes query, key and
    /// value the paths of the three where they are apart there.
    ///
    /// # Errors
    /// A layer of no part.
    pub fn module_paths(&self, shape: &CaptionerShape, layer: &str) -> Result<Vec<String>> {
        (self.modules)(shape, layer)?.iter().map(|module| self.with_prefix(module)).collect()
    }

    fn with_prefix(&self, name: &str) -> Result<String> {
        let (part, inner) = name.split_once('.').unwrap_or((name, ""));
        let prefix = self.prefixes.iter().find(|(_, known)| *known == part);
        let (prefix, _) = prefix.with_context(|| format!("{name} belongs to no part of a {}", self.class))?;
        Ok(if inner.is_empty() { (*prefix).to_owned() } else { format!("{prefix}.{inner}") })
    }

    /// `config.json` of a model.
    pub fn config(&self, shape: &CaptionerShape, ids: TokenIds) -> Value {
        let mut config = (self.config)(shape, ids);
        config["model_type"] = self.model_type.into();
        config["architectures"] = Value::from(vec![self.class]);
        config["dtype"] = "float32".into();
        config
    }
}
