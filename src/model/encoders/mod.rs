//! The families of image encoders. A new one is a file here and a line in the table below: its config and its layers,
//! how transformers describes it and names its weights, what it puts before the patches.

pub mod blip;
pub mod clip;
pub mod deit;
pub mod dinov2;
mod family;
pub mod names;
pub mod siglip;
pub mod timm;
pub mod vision_block;
pub mod vision_transformer;
pub mod vit;

use std::ops::{Deref, DerefMut};

use anyhow::Context as _;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::model::encoders::timm::Architecture;
use crate::model::hf_fields::model_type;
use crate::model::unfit;
use base::error::failure;

pub use family::{EncoderFamily, ImageEncoder, VisionSizes, fit_positions};

macro_rules! families {
    ($($(#[$doc:meta])* $variant:ident($config:ty) = $kind:literal, $name:literal);* $(;)?) => {
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

            /// The family's name in texts.
            pub fn family(&self) -> &'static str {
                match self { $(Self::$variant(_) => $name,)* }
            }

            /// Whether a `config.json` is that of an encoder of a family.
            pub fn is_known(config: &Value) -> bool {
                [$(<$config>::describes(config)),*].contains(&true)
            }

            fn from_family_hf(config: &Value) -> anyhow::Result<Self> {
                $(if <$config>::describes(config) {
                    return <$config>::from_hf(config).map(Self::$variant);
                })*
                Err(other_family(&[$(<$config>::MODEL_TYPES),*].concat(), config))
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
    Vit(vit::VitConfig) = "vit", "ViT";
    /// `CLIPVisionModel` of transformers.
    ClipVision(clip::ClipVisionConfig) = "clip_vision", "CLIP";
    /// `BlipVisionModel` of transformers.
    BlipVision(blip::BlipVisionConfig) = "blip_vision", "BLIP";
    /// `SiglipVisionModel` of transformers.
    Siglip(siglip::SiglipVisionConfig) = "siglip_vision", "SigLIP";
    /// `Dinov2Model` and `Dinov2WithRegistersModel` of transformers.
    Dinov2(dinov2::Dinov2Config) = "dinov2", "DINOv2";
    /// `DeiTModel` of transformers.
    Deit(deit::DeitConfig) = "deit", "DeiT";
}

/// The error about the config of an encoder of no family in the table.
fn other_family(taken: &[&str], config: &Value) -> anyhow::Error {
    let Some(architecture) = Architecture::of(config) else { return unfit::encoder(taken, config) };
    let name = architecture.name();
    failure(
        format!(
            "the timm architecture {name} is not read; of timm's those called vit_SIZE_patchN, alone or with clip, \
             dinov2 or reg4_dinov2, and deit_SIZE_patchN are"
        ),
        unfit::ENCODER_ADVICE,
    )
}

impl EncoderConfig {
    /// The encoder that a `config.json` describes, by itself or in a captioner, for the image size that it names.
    ///
    /// # Errors
    /// A model of another family; values of another type.
    pub fn from_hf(config: &Value) -> anyhow::Result<Self> {
        if model_type(config) == "vision-encoder-decoder" {
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
    use serde_json::json;

    use super::*;

    #[test]
    fn another_family_is_refused_by_name() {
        let error = EncoderConfig::from_hf(&serde_json::json!({ "model_type": "swin" })).unwrap_err();
        let text = base::error::describe(&error);
        assert!(
            text.contains("expected model_type \"vit\", \"vit_mae\",") && text.contains("or \"deit\", found \"swin\""),
            "{text}"
        );
    }

    #[test]
    fn each_config_goes_to_its_family_and_relatives_are_refused_by_name() {
        let found = |config: Value| EncoderConfig::from_hf(&config).map(|config| config.family());
        let timm = |name: &str| found(json!({ "architecture": name }));
        for (name, family) in [
            ("vit_tiny_patch16_224", "ViT"),
            ("deit_small_patch16_224", "ViT"),
            ("deit_small_distilled_patch16_224", "DeiT"),
            ("vit_base_patch32_clip_quickgelu_224", "CLIP"),
            ("vit_small_patch14_dinov2", "DINOv2"),
            ("vit_large_patch14_reg4_dinov2", "DINOv2"),
        ] {
            assert_eq!(timm(name).unwrap(), family, "{name}");
        }
        for name in ["vit_base_patch16_siglip_224", "vit_small_patch16_dinov3", "resnet50", "vit_base_patch16_gap_224"]
        {
            assert!(base::error::describe(&timm(name).unwrap_err()).contains(name), "{name}");
        }
        let open_clip = json!({ "model_cfg": { "vision_cfg": { "width": 128 } } });
        assert_eq!(found(open_clip).unwrap(), "CLIP");
        let of_type = |model_type: &str| found(json!({ "model_type": model_type, "vision_config": {} }));
        for (model_type, family) in [
            ("vit_mae", "ViT"),
            ("vit_msn", "ViT"),
            ("deit", "DeiT"),
            ("siglip", "SigLIP"),
            ("siglip_vision_model", "SigLIP"),
            ("dinov2_with_registers", "DINOv2"),
        ] {
            assert_eq!(of_type(model_type).unwrap(), family, "{model_type}");
        }
        for (model_type, hint) in [("siglip2", "siglip2-base-patch16-224"), ("dinov3_vit", "facebook/dinov2-base")] {
            assert!(base::error::describe(&of_type(model_type).unwrap_err()).contains(hint), "{model_type}");
        }
    }

    #[test]
    fn a_config_without_a_family_or_of_an_unknown_one_is_refused() {
        let text = |json: &str| serde_json::from_str::<EncoderConfig>(json).unwrap_err().to_string();
        assert!(text(r#"{"image_size": 3}"#).contains("missing field `kind`"));
        assert!(text(r#"{"kind": "swin"}"#).contains("expected one of `vit`, `clip_vision`,"));
    }
}
