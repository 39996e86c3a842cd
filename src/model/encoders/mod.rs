//! The families of image encoders. A new one is a file here and a line in the table below: its config and its layers,
//! how transformers describes it and names its weights, what it puts before the patches.

pub mod clip;
mod family;
pub mod vision_block;
pub mod vit;

use std::ops::{Deref, DerefMut};

use anyhow::Context as _;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::model::hf_fields::model_type;
use crate::model::unfit;

pub use family::{EncoderFamily, ImageEncoder, VisionSizes, fit_positions};

macro_rules! families {
    ($($(#[$doc:meta])* $variant:ident($config:ty) = $kind:literal),* $(,)?) => {
        /// The config of an encoder of any family.
        #[derive(Clone, Debug, PartialEq, Serialize)]
        #[serde(tag = "kind")]
        pub enum EncoderConfig {
            $($(#[$doc])* #[serde(rename = $kind)] $variant($config),)*
        }

        impl EncoderConfig {
            /// The names of the families in configs and checkpoints.
            pub const KINDS: &'static [&'static str] = &[$($kind),*];

            /// The config of the family `kind`, out of its fields.
            ///
            /// # Errors
            /// An unknown kind; unknown, missing and mistyped fields.
            pub fn of_kind<'de, D: Deserializer<'de>>(kind: &str, fields: D) -> Result<Self, D::Error> {
                match kind {
                    $($kind => <$config>::deserialize(fields).map(Self::$variant),)*
                    other => Err(D::Error::unknown_variant(other, Self::KINDS)),
                }
            }

            /// The family's name in messages.
            pub fn family(&self) -> &'static str {
                match self { $(Self::$variant(_) => stringify!($variant),)* }
            }

            fn from_family_hf(config: &Value) -> anyhow::Result<Self> {
                $(if <$config>::describes(config) {
                    return <$config>::from_hf(config).map(Self::$variant);
                })*
                Err(unfit::encoder(&[$(<$config>::MODEL_TYPES),*].concat(), config))
            }
        }

        impl Deref for EncoderConfig {
            type Target = dyn EncoderFamily;

            fn deref(&self) -> &Self::Target {
                match self { $(Self::$variant(config) => config,)* }
            }
        }

        impl DerefMut for EncoderConfig {
            fn deref_mut(&mut self) -> &mut Self::Target {
                match self { $(Self::$variant(config) => config,)* }
            }
        }
    };
}

families! {
    /// `ViTModel` of transformers.
    Vit(vit::VitConfig) = "vit",
    /// `CLIPVisionModel` of transformers.
    ClipVision(clip::ClipVisionConfig) = "clip_vision",
}

impl EncoderConfig {
    /// The encoder that a `config.json` describes, by itself or in a captioner, for the image size that it names.
    ///
    /// # Errors
    /// A model of another family; values of another type.
    pub fn from_hf(config: &Value) -> anyhow::Result<Self> {
        let is_named_otherwise = config.get("architecture").and_then(Value::as_str).is_some();
        if !is_named_otherwise && model_type(config) == "vision-encoder-decoder" {
            let encoder = config.get("encoder").context("a vision-encoder-decoder config without encoder")?;
            return Self::from_hf(encoder);
        }
        Self::from_family_hf(config)
    }
}

impl EncoderConfig {
    /// The config as it is part of the names of caches.
    pub fn cache_identity(&self) -> Value {
        let mut identity = serde_json::json!(self);
        if let (Some(identity), Value::Object(retired)) = (identity.as_object_mut(), self.retired_fields()) {
            identity.extend(retired);
        }
        identity
    }
}

impl<'de> Deserialize<'de> for EncoderConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut fields = serde_json::Map::deserialize(deserializer)?;
        let kind = fields.remove("kind").ok_or_else(|| D::Error::missing_field("kind"))?;
        let kind = kind.as_str().ok_or_else(|| D::Error::custom("kind: expected a string"))?;
        Self::of_kind(kind, Value::Object(fields)).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_family_is_refused_by_name() {
        let error = EncoderConfig::from_hf(&serde_json::json!({ "model_type": "swin" })).unwrap_err();
        let text = base::error::describe(&error);
        assert!(
            text.contains("expected model_type \"vit\", \"clip\" or \"clip_vision_model\", found \"swin\""),
            "{text}"
        );
    }

    #[test]
    fn a_config_without_a_family_or_of_an_unknown_one_is_refused() {
        let text = |json: &str| serde_json::from_str::<EncoderConfig>(json).unwrap_err().to_string();
        assert!(text(r#"{"image_size": 3}"#).contains("missing field `kind`"));
        assert!(text(r#"{"kind": "swin"}"#).contains("expected `vit` or `clip_vision`"));
    }
}
