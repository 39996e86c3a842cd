//! The families of text decoders. A new one is a file here and a line in the table below: its config and its layers, how
//! transformers describes it and names its weights, what an update of it keeps in memory.

pub mod gpt2;
mod key_value_cache;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use candle_core::Tensor;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::model::builder::Builder;
use crate::model::hf_fields::model_type;
use crate::model::weight_names::Renamed;
use base::fault::fault;
use ops::Dropout;

pub use key_value_cache::KeyValueCache;

/// Whether the forward pass drops values.
#[derive(Clone, Copy, Debug)]
pub enum Mode {
    /// Training, with the masks of this update.
    Train(Dropout),
    /// Validation and decoding: nothing is dropped.
    Eval,
}

/// A decoder that writes a caption token by token, with cross-attention to the encoder's states.
pub trait TextDecoder: Debug + Send + Sync {
    /// Tokens of the longest caption.
    fn num_positions(&self) -> usize;

    /// Keys and values of the images for every block: (B, N, D) to one (B, N, 2 D) for each block.
    ///
    /// # Errors
    /// States of another width.
    fn cross_key_values(&self, encoder_hidden_states: &Tensor) -> candle_core::Result<Vec<Tensor>>;

    /// Hidden states before the head: `input_ids` (B, L) of u32 and the images' keys and values to (B, L, D).
    ///
    /// # Errors
    /// More positions than the table has; an id outside the vocabulary.
    fn hidden_states(&self, input_ids: &Tensor, key_values: &[Tensor], mode: Mode) -> candle_core::Result<Tensor>;

    /// How much each position of captions looks at each of the encoder's states, as a mean over the heads of all blocks:
    /// `input_ids` (B, L) of u32 and the images' keys and values to (B, L, N), of sum 1 over N. Position l writes the
    /// token after it.
    ///
    /// # Errors
    /// As [`Self::hidden_states`].
    fn cross_attention_weights(&self, input_ids: &Tensor, key_values: &[Tensor]) -> candle_core::Result<Tensor>;

    /// Hidden states of the next token of S captions of each image, whose past is in `cache`: `input_ids` (B, S) of u32
    /// to (B, S, D). The same numbers as [`Self::hidden_states`] of whole captions, up to rounding.
    ///
    /// # Errors
    /// More positions than the table has; an id outside the vocabulary; a cache of other captions.
    fn next_hidden_states(&self, input_ids: &Tensor, cache: &mut KeyValueCache) -> candle_core::Result<Tensor>;

    /// Logits of hidden states: (.., D) to (.., V).
    ///
    /// # Errors
    /// States of another width.
    fn logits(&self, hidden_states: &Tensor) -> candle_core::Result<Tensor>;
}

/// What a family's config says: everything that decides the decoder's parameters and arithmetic.
pub trait DecoderFamily {
    /// The family's name in texts.
    fn family(&self) -> &'static str;

    /// Number of tokens.
    fn vocab_size(&self) -> usize;

    /// Width.
    fn hidden_size(&self) -> usize;

    /// Number of blocks.
    fn num_layers(&self) -> usize;

    /// Number of attention heads.
    fn num_heads(&self) -> usize;

    /// Tokens of the longest caption.
    fn num_positions(&self) -> usize;

    /// Dropout while training.
    fn dropout(&self) -> f64;

    /// Changes what a pretrained decoder leaves free: dropout, and the deviation of the first weights that are new.
    fn set_training_options(&mut self, dropout: Option<f64>, initializer_range: Option<f64>);

    /// Checks what the layers rely on.
    ///
    /// # Errors
    /// A size of 0 or beyond any model; heads that do not divide the width; a dropout outside of 0 to below 1.
    fn validate(&self) -> anyhow::Result<()>;

    /// The decoder, on what `builder` hands out.
    ///
    /// # Errors
    /// As [`Builder::tensor`].
    fn build(&self, builder: &Builder<'_>) -> anyhow::Result<Arc<dyn TextDecoder>>;

    /// The `config.json` of transformers, as a part of a captioner's.
    fn to_hf(&self) -> Value;

    /// Translates the names of a pretrained file.
    ///
    /// # Errors
    /// Two tensors of one name; tensors that contradict the config.
    fn take_names(&self, tensors: BTreeMap<String, Tensor>) -> anyhow::Result<Renamed>;

    /// Values of one block that live when the backward pass begins, for so many tokens of captions and states of images.
    fn block_values(&self, tokens: usize, states: usize) -> usize;
}

macro_rules! families {
    ($($(#[$doc:meta])* $variant:ident($config:ty) = $kind:literal $(, $untagged:meta)?);* $(;)?) => {
        /// The config of a decoder of any family.
        #[derive(Clone, Debug, PartialEq, Serialize)]
        #[serde(tag = "kind")]
        pub enum DecoderConfig {
            $($(#[$doc])* #[serde(rename = $kind $(, $untagged)?)] $variant($config),)*
        }

        impl DecoderConfig {
            /// The names of the families in checkpoints.
            pub const KINDS: &'static [&'static str] = &[$($kind),*];

            fn of_kind<'de, D: Deserializer<'de>>(kind: &str, fields: D) -> Result<Self, D::Error> {
                match kind {
                    $($kind => <$config>::deserialize(fields).map(Self::$variant),)*
                    other => Err(D::Error::unknown_variant(other, Self::KINDS)),
                }
            }

            /// The decoder that a `config.json` describes.
            ///
            /// # Errors
            /// A model of another family; an option that changes its arithmetic and is not supported.
            pub fn from_hf(config: &Value) -> anyhow::Result<Self> {
                $(if <$config>::describes(config) {
                    return <$config>::from_hf(config).map(Self::$variant);
                })*
                let known: Vec<String> =
                    [$(<$config>::MODEL_TYPES),*].concat().iter().map(|name| format!("{name:?}")).collect();
                Err(fault(
                    format!(
                        "expected a decoder of model_type {}, found {:?}", known.join(" or "), model_type(config)
                    ),
                    "use a GPT-2, e.g. gpt2 or distilgpt2, or a captioner with one",
                ))
            }
        }

        impl Deref for DecoderConfig {
            type Target = dyn DecoderFamily;

            fn deref(&self) -> &Self::Target {
                match self { $(Self::$variant(config) => config,)* }
            }
        }

        impl DerefMut for DecoderConfig {
            fn deref_mut(&mut self) -> &mut Self::Target {
                match self { $(Self::$variant(config) => config,)* }
            }
        }
    };
}

families! {
    /// `GPT2LMHeadModel` of transformers, with cross-attention. Checkpoints do not name it: it was the first.
    Gpt2(gpt2::Gpt2Config) = "gpt2", untagged;
}

impl<'de> Deserialize<'de> for DecoderConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut fields = serde_json::Map::deserialize(deserializer)?;
        let kind = fields.remove("kind").unwrap_or_else(|| "gpt2".into());
        let kind = kind.as_str().ok_or_else(|| D::Error::custom("kind: expected a string"))?;
        Self::of_kind(kind, Value::Object(fields)).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_family_is_refused_by_name() {
        let error = DecoderConfig::from_hf(&serde_json::json!({ "model_type": "bert" })).unwrap_err();
        assert!(error.to_string().contains("expected a decoder of model_type \"gpt2\", found \"bert\""), "{error}");
    }

    #[test]
    fn a_gpt2_has_no_kind_in_a_checkpoint() {
        let config = DecoderConfig::from_hf(&serde_json::json!({ "model_type": "gpt2" })).unwrap();
        let json = serde_json::json!(config);
        assert!(json.get("kind").is_none() && json["num_positions"] == 1024);
        assert_eq!(serde_json::from_value::<DecoderConfig>(json).unwrap(), config);
    }
}
