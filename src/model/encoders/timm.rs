//! timm's configs, which name an architecture and no sizes but the input's: those of plain vision transformers follow
//! from the name.

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::model::hf_fields::model_type;

/// The name of an architecture, such as `vit_base_patch16_clip_224`, and the config that names it.
pub struct Architecture<'a> {
    name: &'a str,
    parts: Vec<&'a str>,
    config: &'a Value,
}

/// What follows from a name.
pub struct TimmSizes {
    pub image_size: usize,
    pub patch_size: usize,
    pub hidden_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
}

impl<'a> Architecture<'a> {
    /// That of timm's `config.json`; `None` for one of transformers.
    pub fn of(config: &'a Value) -> Option<Self> {
        let name = config.get("architecture").and_then(Value::as_str).filter(|_| model_type(config).is_empty())?;
        Some(Self { name, parts: name.split('_').collect(), config })
    }

    /// What timm calls it.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// Whether the name has this part.
    pub fn has(&self, part: &str) -> bool {
        self.parts.contains(&part)
    }

    /// A ViT or a DeiT: nothing in its name but a size, a patch, an input and how it was distilled.
    pub fn is_plain(&self) -> bool {
        matches!(self.parts.first(), Some(&("vit" | "deit"))) && self.only_has(&["distilled", "in21k", "dino"])
    }

    /// The image tower of a CLIP.
    pub fn is_clip(&self) -> bool {
        self.parts.first() == Some(&"vit") && self.has("clip") && self.only_has(&["clip", "quickgelu"])
    }

    /// A DINOv2, with registers or without.
    pub fn is_dinov2(&self) -> bool {
        self.parts.first() == Some(&"vit") && self.has("dinov2") && self.only_has(&["dinov2", "reg4"])
    }

    fn only_has(&self, words: &[&str]) -> bool {
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        self.parts
            .iter()
            .skip(2)
            .all(|part| words.contains(part) || is_number(part) || part.strip_prefix("patch").is_some_and(is_number))
    }

    /// Its sizes.
    ///
    /// # Errors
    /// A size that is not known by name; a name without a patch.
    pub fn sizes(&self) -> anyhow::Result<TimmSizes> {
        let (hidden_size, num_hidden_layers, num_attention_heads) = match self.parts.get(1).copied() {
            Some("tiny") => (192, 12, 3),
            Some("small") => (384, 12, 6),
            Some("base") => (768, 12, 12),
            Some("large") => (1024, 24, 16),
            Some("huge") => (1280, 32, 16),
            _ => bail!("the timm architecture {} has none of the sizes tiny, small, base, large, huge", self.name),
        };
        let number = |part: &&str| part.parse::<usize>().ok();
        let patch = self.parts.iter().find_map(|part| part.strip_prefix("patch").and_then(|text| text.parse().ok()));
        let input = self.config.pointer("/pretrained_cfg/input_size/2").and_then(Value::as_u64);
        let named = self.parts.iter().skip(2).find_map(number);
        Ok(TimmSizes {
            image_size: input.and_then(|size| usize::try_from(size).ok()).or(named).unwrap_or(224),
            patch_size: patch.context("the timm architecture names no patch size")?,
            hidden_size,
            num_hidden_layers,
            num_attention_heads,
        })
    }
}
