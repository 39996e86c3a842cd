//! Ids of tokens in the JSON files of a model's folder.

use anyhow::Context as _;
use serde_json::{Value, json};

/// The ids of the tokens around a caption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenIds {
    /// Precedes a caption.
    pub start: u32,
    /// Ends a caption.
    pub end: u32,
    /// Fills up a batch, where one is named.
    pub pad: Option<u32>,
}

impl TokenIds {
    /// As fields of a config. Where no token fills up a batch, the end token does.
    pub fn fields(self) -> Value {
        json!({
            "bos_token_id": self.start,
            "eos_token_id": self.end,
            "pad_token_id": self.pad.unwrap_or(self.end),
        })
    }
}

/// A token id; of several the first, as a list of end tokens may hold.
///
/// # Errors
/// Anything else.
pub fn token_id(source: &Value, name: &str) -> anyhow::Result<Option<u32>> {
    let value = match source.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Array(ids)) => ids.first().unwrap_or(&Value::Null),
        Some(value) => value,
    };
    let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
    id.map(Some).with_context(|| format!("{name}: expected a token id, found {value}"))
}

/// The first of `sources` that has a value decides. The start token is the decoder's where one is named, else the first
/// token of a text.
///
/// # Errors
/// A start or end token that nothing names; an id that is none.
pub fn first_named(sources: &[&Value]) -> anyhow::Result<TokenIds> {
    let find = |name: &str| sources.iter().find_map(|source| token_id(source, name).transpose()).transpose();
    let start = find("decoder_start_token_id")?.map_or_else(|| find("bos_token_id"), |id| Ok(Some(id)))?;
    Ok(TokenIds {
        start: start.context("config.json names neither decoder_start_token_id nor bos_token_id")?,
        end: find("eos_token_id")?.context("config.json names no eos_token_id")?,
        pad: find("pad_token_id")?,
    })
}
