//! What a captioner's folder says about the tokens around a caption and about its length, as `generate` of
//! transformers reads it: `generation_config.json`, then `config.json`, then the decoder's part of it.

use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;

use crate::model::weight_files::{read_json, whole_number};

/// New tokens where a folder names no length: transformers' `max_length` of 20 counts the start token.
const MAX_NEW_TOKENS: usize = 19;

/// How a captioner writes unless it is told otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GenerationDefaults {
    /// Stands before a caption.
    pub start: u32,
    /// Ends a caption.
    pub end: u32,
    /// Fills up a batch, where one is named.
    pub pad: Option<u32>,
    /// Longest caption in tokens, the end token included.
    pub max_new_tokens: usize,
}

impl GenerationDefaults {
    /// Reads them; `config` is the folder's `config.json`, of a captioner or of a plain GPT-2.
    ///
    /// # Errors
    /// A `generation_config.json` that is damaged; a start or end token that nothing names; values of another type.
    pub fn read(folder: &Path, config: &Value) -> anyhow::Result<Self> {
        let path = folder.join("generation_config.json");
        let generation = if path.is_file() { read_json(&path)? } else { Value::Null };
        Self::of(&[&generation, config, config.get("decoder").unwrap_or(&Value::Null)])
            .with_context(|| format!("cannot tell how the model in {} begins and ends a caption", folder.display()))
    }

    /// `sources`: the first that names a value gives it.
    fn of(sources: &[&Value]) -> anyhow::Result<Self> {
        let find = |name: &str| sources.iter().find_map(|source| token_id(source, name).transpose()).transpose();
        let start = find("decoder_start_token_id")?.map_or_else(|| find("bos_token_id"), |id| Ok(Some(id)))?;
        let length = |name: &str| {
            let named = sources.iter().find(|source| source.get(name).is_some_and(|value| !value.is_null()));
            named.map(|source| whole_number(source, name, 0)).transpose()
        };
        let max_new_tokens = match (length("max_new_tokens")?, length("max_length")?) {
            (Some(count), _) => count,
            (None, Some(count)) => count.saturating_sub(1),
            (None, None) => MAX_NEW_TOKENS,
        };
        Ok(Self {
            start: start.context("config.json names neither decoder_start_token_id nor bos_token_id")?,
            end: find("eos_token_id")?.context("config.json names no eos_token_id")?,
            pad: find("pad_token_id")?,
            max_new_tokens: max_new_tokens.max(1),
        })
    }
}

/// A token id; of several the first, as a list of end tokens may hold.
fn token_id(source: &Value, name: &str) -> anyhow::Result<Option<u32>> {
    let value = match source.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Array(ids)) => ids.first().unwrap_or(&Value::Null),
        Some(value) => value,
    };
    let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
    id.map(Some).with_context(|| format!("{name}: expected a token id, found {value}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_source_that_names_a_value_gives_it() {
        let generation = json!({ "eos_token_id": [7, 8], "max_length": 16, "pad_token_id": null });
        let config = json!({ "decoder_start_token_id": 3, "eos_token_id": 9, "pad_token_id": 5 });
        let decoder = json!({ "bos_token_id": 1 });
        let found = GenerationDefaults::of(&[&generation, &config, &decoder]).unwrap();
        assert_eq!(found, GenerationDefaults { start: 3, end: 7, pad: Some(5), max_new_tokens: 15 });
    }

    #[test]
    fn a_plain_gpt2_begins_with_its_bos_and_has_the_length_of_transformers() {
        let config = json!({ "bos_token_id": 50256, "eos_token_id": 50256 });
        let found = GenerationDefaults::of(&[&Value::Null, &config, &Value::Null]).unwrap();
        assert_eq!(found, GenerationDefaults { start: 50256, end: 50256, pad: None, max_new_tokens: 19 });
    }

    #[test]
    fn what_is_no_token_id_and_what_is_not_named_are_errors() {
        let text = |config: Value| GenerationDefaults::of(&[&config]).unwrap_err().to_string();
        assert!(text(json!({ "bos_token_id": 1 })).contains("no eos_token_id"));
        assert!(text(json!({ "eos_token_id": 1 })).contains("neither decoder_start_token_id"));
        assert!(text(json!({ "bos_token_id": -1 })).contains("bos_token_id: expected a token id, found -1"));
    }
}
