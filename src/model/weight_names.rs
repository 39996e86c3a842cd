//! The only table of names: what encoders and decoders are called in the files people have, and the one spelling used
//! here.
//!
//! A name that belongs to something else (a classifier, CLIP's text tower) maps to nothing.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use candle_core::Tensor;

use crate::config::EncoderKind;
use base::fault::fault;

/// Tensors under the names used here, and what belongs to something else.
#[derive(Clone, Debug, Default)]
pub struct Renamed {
    /// The tensors that are wanted.
    pub tensors: BTreeMap<String, Tensor>,
    /// Names in the file that are not wanted.
    pub unused: Vec<String>,
}

impl Renamed {
    fn insert(&mut self, name: String, tensor: Tensor, source: &str) -> anyhow::Result<()> {
        if self.tensors.insert(name.clone(), tensor).is_some() {
            bail!("two tensors of the file are {name}, the second is called {source}");
        }
        Ok(())
    }
}

/// Renames the tensors of an encoder's file to the names of `model::encoder`; fused timm projections are split.
///
/// # Errors
/// A fused projection whose first dimension is no multiple of 3; two tensors of one name.
pub fn rename_encoder(tensors: BTreeMap<String, Tensor>, kind: EncoderKind) -> anyhow::Result<Renamed> {
    let mut renamed = Renamed::default();
    for (source, tensor) in tensors {
        let entries = match kind {
            EncoderKind::ClipVision => clip_name(&source).map(|name| vec![(name, tensor)]).unwrap_or_default(),
            EncoderKind::Vit => match vit_name(&source) {
                Some(name) => vec![(name, tensor)],
                None => timm_entries(&source, tensor)?,
            },
        };
        if entries.is_empty() {
            renamed.unused.push(source.clone());
        }
        for (name, tensor) in entries {
            renamed.insert(name, tensor, &source)?;
        }
    }
    Ok(renamed)
}

/// The tensors of a `VisionEncoderDecoderModel`, by part and without the part's prefix.
#[derive(Clone, Debug, Default)]
pub struct CaptionerParts {
    /// Under the names of some encoder's file.
    pub encoder: BTreeMap<String, Tensor>,
    /// Under the names of some decoder's file.
    pub decoder: BTreeMap<String, Tensor>,
    /// The projection between them, under its whole names.
    pub projection: BTreeMap<String, Tensor>,
    /// Names that belong to none of them.
    pub unused: Vec<String>,
}

/// Divides the file of a captioner.
pub fn split_captioner(tensors: BTreeMap<String, Tensor>) -> CaptionerParts {
    let mut parts = CaptionerParts::default();
    for (name, tensor) in tensors {
        if let Some(inner) = name.strip_prefix("encoder.") {
            parts.encoder.insert(inner.to_owned(), tensor);
        } else if let Some(inner) = name.strip_prefix("decoder.") {
            parts.decoder.insert(inner.to_owned(), tensor);
        } else if name.starts_with("enc_to_dec_proj.") {
            parts.projection.insert(name, tensor);
        } else {
            parts.unused.push(name);
        }
    }
    parts
}

/// Renames the tensors of a GPT-2's file, `h.0...` or `transformer.h.0...`, to the names of `model::caption_decoder`.
/// A head that is tied to the token embedding is not wanted, and neither are the masks that old files store.
///
/// # Errors
/// Two tensors of one name; a tied head that is not the token embedding.
pub fn rename_decoder(tensors: BTreeMap<String, Tensor>, tied: bool) -> anyhow::Result<Renamed> {
    const HEAD: &str = "lm_head.weight";
    let mut renamed = Renamed::default();
    let embedding = tensors.iter().find(|(name, _)| name.ends_with("wte.weight")).map(|(_, tensor)| tensor.clone());
    for (source, tensor) in tensors {
        let is_mask = ["attn.bias", "attn.masked_bias", "crossattention.bias", "crossattention.masked_bias"]
            .iter()
            .any(|end| source.ends_with(&format!(".{end}")));
        let inner = source.strip_prefix("transformer.").unwrap_or(&source);
        let is_body = ["wte.", "wpe.", "h.", "ln_f."].iter().any(|part| inner.starts_with(part));
        if source == HEAD && tied {
            if !embedding.as_ref().is_some_and(|embedding| is_equal(embedding, &tensor)) {
                return Err(fault(
                    format!("{HEAD} is not the token embedding, although config.json ties the two"),
                    "write \"tie_word_embeddings\": false for the decoder into its config.json",
                ));
            }
            continue;
        }
        if is_mask {
            continue;
        }
        if is_body {
            renamed.insert(format!("transformer.{inner}"), tensor, &source)?;
        } else if source == HEAD {
            renamed.insert(source.clone(), tensor, &source)?;
        } else {
            renamed.unused.push(source);
        }
    }
    Ok(renamed)
}

fn is_equal(a: &Tensor, b: &Tensor) -> bool {
    let values = |tensor: &Tensor| tensor.flatten_all().and_then(|flat| flat.to_vec1::<f32>()).ok();
    a.dims() == b.dims() && values(a).is_some_and(|values_of_a| Some(values_of_a) == values(b))
}

/// `vit.encoder.layer.0...`, `encoder.layer.0...`, and `encoder.encoder.layer.0...` of a `VisionEncoderDecoderModel`.
fn vit_name(source: &str) -> Option<String> {
    let name = ["vit.", "model.vit."].iter().find_map(|prefix| source.strip_prefix(prefix)).unwrap_or(source);
    let inner = name
        .strip_prefix("encoder.")
        .filter(|rest| ["embeddings.", "encoder.", "layernorm.", "pooler."].iter().any(|part| rest.starts_with(part)));
    let name = inner.unwrap_or(name);
    let known = ["embeddings.", "encoder.layer.", "layernorm.", "pooler.dense."];
    // The mask token belongs to masked pretraining; this model has no place for it.
    let wanted = known.iter().any(|part| name.starts_with(part)) && name != "embeddings.mask_token";
    wanted.then(|| name.to_owned())
}

/// `vision_model...` alone or inside a whole `CLIPModel`; also the names without the prefix.
fn clip_name(source: &str) -> Option<String> {
    let name = match source.find("vision_model.") {
        Some(position) => &source[position + "vision_model.".len()..],
        None => source,
    };
    let known = ["embeddings.", "pre_layrnorm.", "encoder.layers.", "post_layernorm."];
    let wanted = known.iter().any(|part| name.starts_with(part)) && !name.ends_with("position_ids");
    wanted.then(|| format!("vision_model.{name}"))
}

/// timm's `vision_transformer`.
fn timm_entries(source: &str, tensor: Tensor) -> anyhow::Result<Vec<(String, Tensor)>> {
    let fixed = match source {
        "cls_token" => Some("embeddings.cls_token".to_owned()),
        "pos_embed" => Some("embeddings.position_embeddings".to_owned()),
        _ => None,
    };
    if let Some(name) = fixed {
        return Ok(vec![(name, tensor)]);
    }
    if let Some(rest) = source.strip_prefix("patch_embed.proj.") {
        return Ok(vec![(format!("embeddings.patch_embeddings.projection.{rest}"), tensor)]);
    }
    if let Some(rest) = source.strip_prefix("norm.") {
        return Ok(vec![(format!("layernorm.{rest}"), tensor)]);
    }
    if source.starts_with("norm_pre.") {
        bail!("the tensor {source} belongs to a kind of ViT that is not supported");
    }
    let Some((index, part)) = source.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')) else {
        return Ok(Vec::new());
    };
    let block = format!("encoder.layer.{index}");
    if let Some(rest) = part.strip_prefix("attn.qkv.") {
        let rows = tensor.dim(0)?;
        if !rows.is_multiple_of(3) {
            bail!("{source}: {rows} rows are not query, key and value of one size");
        }
        let pieces = ["query", "key", "value"].iter().enumerate().map(|(index, name)| {
            let piece = tensor.narrow(0, index * rows / 3, rows / 3)?.contiguous()?;
            Ok((format!("{block}.attention.attention.{name}.{rest}"), piece))
        });
        return pieces.collect();
    }
    let parts = [
        ("norm1.", "layernorm_before."),
        ("norm2.", "layernorm_after."),
        ("attn.proj.", "attention.output.dense."),
        ("mlp.fc1.", "intermediate.dense."),
        ("mlp.fc2.", "output.dense."),
    ];
    let renamed = parts.iter().find_map(|(from, to)| part.strip_prefix(from).map(|rest| format!("{block}.{to}{rest}")));
    // Leaving out a part of a block (a layer scale, a query norm) would make another model of it.
    let name =
        renamed.with_context(|| format!("the tensor {source} belongs to a kind of ViT that is not supported"))?;
    Ok(vec![(name, tensor)])
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    fn names(kind: EncoderKind, sources: &[(&str, &[usize])]) -> Vec<String> {
        let tensors = sources
            .iter()
            .map(|(name, shape)| ((*name).to_owned(), Tensor::zeros(*shape, DType::F32, &Device::Cpu).unwrap()))
            .collect();
        rename_encoder(tensors, kind).unwrap().tensors.into_keys().collect()
    }

    #[test]
    fn vit_names_lose_their_prefix_and_the_classifier_is_left_out() {
        let wanted = ["encoder.layer.0.output.dense.bias", "layernorm.bias"];
        for prefix in ["", "vit.", "encoder."] {
            let layer = format!("{prefix}encoder.layer.0.output.dense.bias");
            let norm = format!("{prefix}layernorm.bias");
            let sources = [(layer.as_str(), [2].as_slice()), (norm.as_str(), &[2]), ("classifier.weight", &[2])];
            assert_eq!(names(EncoderKind::Vit, &sources), wanted, "with the prefix {prefix:?}");
        }
    }

    #[test]
    fn a_tied_head_is_left_out_when_it_is_the_embedding_and_refused_when_it_is_not() {
        let ones = Tensor::ones((3, 2), DType::F32, &Device::Cpu).unwrap();
        let with_head = |head: Tensor| {
            BTreeMap::from([("wte.weight".to_owned(), ones.clone()), ("lm_head.weight".to_owned(), head)])
        };
        let renamed = rename_decoder(with_head(ones.clone()), true).unwrap();
        assert_eq!(renamed.tensors.into_keys().collect::<Vec<_>>(), ["transformer.wte.weight"]);
        let other = (&ones * 2.0).unwrap();
        let error = rename_decoder(with_head(other.clone()), true).unwrap_err();
        assert!(base::fault::describe(&error).contains("although config.json ties the two"), "{error:?}");
        assert_eq!(rename_decoder(with_head(other), false).unwrap().tensors.len(), 2);
    }

    #[test]
    fn timm_projections_are_split_into_three() {
        let found = names(EncoderKind::Vit, &[("blocks.3.attn.qkv.weight", &[6, 2]), ("head.weight", &[2])]);
        let part = |name: &str| format!("encoder.layer.3.attention.attention.{name}.weight");
        assert_eq!(found, [part("key"), part("query"), part("value")]);
    }

    #[test]
    fn a_part_of_a_block_that_is_not_known_is_refused() {
        let tensor = Tensor::zeros(2, DType::F32, &Device::Cpu).unwrap();
        for name in ["blocks.0.ls1.gamma", "norm_pre.weight"] {
            let tensors = BTreeMap::from([(name.to_owned(), tensor.clone())]);
            assert!(rename_encoder(tensors, EncoderKind::Vit).unwrap_err().to_string().contains(name));
        }
    }

    #[test]
    fn the_text_tower_of_clip_is_left_out() {
        let sources: [(&str, &[usize]); 4] = [
            ("vision_model.encoder.layers.0.mlp.fc1.bias", &[2]),
            ("vision_model.embeddings.position_ids", &[1, 5]),
            ("text_model.encoder.layers.0.mlp.fc1.bias", &[2]),
            ("logit_scale", &[]),
        ];
        // Both towers end alike; only the image tower's prefix is known.
        assert_eq!(names(EncoderKind::ClipVision, &sources), ["vision_model.encoder.layers.0.mlp.fc1.bias"]);
    }
}
