//! The section `[decoding]`: how captions are written when they are scored.

use serde::{Deserialize, Serialize};

/// Section `[decoding]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DecodingConfig {
    /// Beginnings that a beam search keeps; 1: a greedy search.
    pub num_beams: usize,
    /// A caption's score is its log-probability over its length to this power.
    pub length_penalty: f64,
    /// When a beam search has found enough.
    pub early_stopping: EarlyStopping,
    /// Forbids repeated n-grams of this size; 0 allows them.
    pub no_repeat_ngram_size: usize,
    /// Tokens that a caption has at least, without the end token.
    pub min_new_tokens: usize,
    /// Tokens that a caption has at most, the end token included. Absent: as many as the decoder was trained with.
    pub max_new_tokens: Option<usize>,
    /// Which of the two numbers count a prompt: none in a config.
    #[serde(skip)]
    pub with_prompt: WithPrompt,
}

/// Which lengths of captions count the tokens of a prompt, as `min_length` and `max_length` of a model's folder do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WithPrompt {
    pub least: bool,
    pub most: bool,
}

impl WithPrompt {
    /// Whether neither does.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for DecodingConfig {
    fn default() -> Self {
        Self {
            num_beams: 1,
            length_penalty: 1.0,
            early_stopping: EarlyStopping::Heuristic,
            no_repeat_ngram_size: 0,
            min_new_tokens: 0,
            max_new_tokens: None,
            with_prompt: WithPrompt::default(),
        }
    }
}

/// When a beam search has found enough, written as transformers has it: `false`, `true` or `"never"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EarlyStopping {
    /// `false`: when no running beam is better than the worst caption found, were it to end now.
    Heuristic,
    /// `true`: when as many captions as beams have ended.
    First,
    /// `"never"`: when no running beam can become better than the worst caption found.
    Never,
}

impl Serialize for EarlyStopping {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Heuristic => serializer.serialize_bool(false),
            Self::First => serializer.serialize_bool(true),
            Self::Never => serializer.serialize_str("never"),
        }
    }
}

impl<'de> Deserialize<'de> for EarlyStopping {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Choice;
        impl serde::de::Visitor<'_> for Choice {
            type Value = EarlyStopping;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("false, true or \"never\"")
            }

            fn visit_bool<E: serde::de::Error>(self, first: bool) -> Result<EarlyStopping, E> {
                Ok(if first { EarlyStopping::First } else { EarlyStopping::Heuristic })
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<EarlyStopping, E> {
                match text {
                    "never" => Ok(EarlyStopping::Never),
                    other => Err(E::invalid_value(serde::de::Unexpected::Str(other), &self)),
                }
            }
        }
        deserializer.deserialize_any(Choice)
    }
}
