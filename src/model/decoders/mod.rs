//! The families of text decoders. A new one is a file here and a line in the table below: its config and its layers,
//! how transformers describes it and names its weights, what an update of it keeps in memory.

pub mod bert;
mod block;
mod family;
pub mod gpt2;
mod key_value_cache;

use std::ops::{Deref, DerefMut};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::model::unfit;

pub use family::{Captions, DecoderFamily, DecoderSizes, Mode, TextDecoder};
pub use key_value_cache::KeyValueCache;

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

            /// Whether a `config.json` is that of a decoder of a family.
            pub fn is_known(config: &Value) -> bool {
                [$(<$config>::describes(config)),*].contains(&true)
            }

            /// The decoder that a `config.json` describes.
            ///
            /// # Errors
            /// A model of another family; an option that changes its arithmetic and is not supported.
            pub fn from_hf(config: &Value) -> anyhow::Result<Self> {
                $(if <$config>::describes(config) {
                    return <$config>::from_hf(config).map(Self::$variant);
                })*
                Err(unfit::decoder(&[$(<$config>::MODEL_TYPES),*].concat(), config))
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
    /// `BertLMHeadModel` of transformers with cross-attention, and BLIP's text decoder.
    Bert(bert::BertConfig) = "bert";
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
        let error = DecoderConfig::from_hf(&serde_json::json!({ "model_type": "roberta" })).unwrap_err();
        let expected = "of model_type \"bert\", \"blip_text_model\" or \"gpt2\", found \"roberta\"";
        assert!(base::error::describe(&error).contains(expected), "{error}");
    }

    #[test]
    fn a_gpt2_has_no_kind_in_a_checkpoint() {
        let config = DecoderConfig::from_hf(&serde_json::json!({ "model_type": "gpt2" })).unwrap();
        let json = serde_json::json!(config);
        assert!(json.get("kind").is_none() && json["num_positions"] == 1024);
        assert_eq!(serde_json::from_value::<DecoderConfig>(json).unwrap(), config);
    }
}
