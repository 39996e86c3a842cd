//! A GPT-2, plain or with cross-attention, from a folder in the Hub's format: its shape and its tensors.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use candle_core::Tensor;
use serde_json::Value;

use crate::model::caption_decoder::DecoderShape;
use crate::model::encoder::HiddenActivation;
use crate::model::weight_files::{boolean, read_config, read_tensors, real_number, whole_number};
use crate::model::weight_names::{Renamed, rename_decoder};
use base::fault::fault;

/// A decoder as its folder describes it.
#[derive(Clone, Debug)]
pub struct PretrainedDecoder {
    /// Its shape.
    pub shape: DecoderShape,
    /// Its tensors, under the names of `model::caption_decoder`.
    pub tensors: BTreeMap<String, Tensor>,
    /// Names in the file that belong to something else.
    pub unused: Vec<String>,
}

/// Whether a parameter of the decoder belongs to the cross-attention, which a plain GPT-2 lacks.
pub fn is_cross_attention(name: &str) -> bool {
    name.contains(".crossattention.") || name.contains(".ln_cross_attn.")
}

/// Reads shape and weights.
///
/// # Errors
/// A folder without `config.json` or weights; a model of another family.
pub fn read_decoder(folder: &Path) -> anyhow::Result<PretrainedDecoder> {
    let config = read_config(folder)?;
    let shape = decoder_shape_of_config(&config)
        .with_context(|| format!("cannot use {}", folder.join("config.json").display()))?;
    let Renamed { tensors, unused } = rename_decoder(read_tensors(folder)?, shape.tie_word_embeddings)
        .with_context(|| format!("cannot use the decoder in {}", folder.display()))?;
    Ok(PretrainedDecoder { shape, tensors, unused })
}

/// The shape that a `config.json` describes.
///
/// Absent fields take the defaults of `GPT2Config`.
///
/// # Errors
/// A model of another family, or a GPT-2 with an option that changes its arithmetic and is not supported.
pub fn decoder_shape_of_config(config: &Value) -> anyhow::Result<DecoderShape> {
    let model_type = config.get("model_type").and_then(Value::as_str).unwrap_or("");
    if model_type != "gpt2" {
        return Err(fault(
            format!("expected a decoder of model_type \"gpt2\", found {model_type:?}"),
            "use a GPT-2, e.g. gpt2 or distilgpt2, or a captioner with one",
        ));
    }
    if !boolean(config, "scale_attn_weights", true)? || boolean(config, "scale_attn_by_inverse_layer_idx", false)? {
        return Err(fault(
            "a GPT-2 with scale_attn_weights = false or scale_attn_by_inverse_layer_idx = true is not supported",
            "use one with the ordinary attention, as gpt2 and distilgpt2 are",
        ));
    }
    let activation = config.get("activation_function").cloned().unwrap_or_else(|| Value::from("gelu_new"));
    let hidden_act: HiddenActivation = serde_json::from_value(activation.clone())
        .with_context(|| format!("activation_function {activation} is not one of gelu, gelu_new, quick_gelu"))?;
    let hidden_size = whole_number(config, "n_embd", 768)?;
    let shape = DecoderShape {
        vocab_size: whole_number(config, "vocab_size", 50_257)?,
        hidden_size,
        num_layers: whole_number(config, "n_layer", 12)?,
        num_heads: whole_number(config, "n_head", 12)?,
        intermediate_size: whole_number(config, "n_inner", hidden_size.saturating_mul(4))?,
        num_positions: whole_number(config, "n_positions", 1024)?,
        hidden_act,
        dropout: real_number(config, "resid_pdrop", 0.1)?,
        layer_norm_eps: real_number(config, "layer_norm_epsilon", 1e-5)?,
        initializer_range: real_number(config, "initializer_range", 0.02)?,
        tie_word_embeddings: boolean(config, "tie_word_embeddings", true)?,
    };
    shape.validate()?;
    Ok(shape)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sizes_that_no_model_has_are_errors() {
        let text = |name: &str, size: u64| {
            decoder_shape_of_config(&json!({ "model_type": "gpt2", name: size })).unwrap_err().to_string()
        };
        assert!(text("n_embd", u64::MAX).contains("width is 18446744073709551615"));
        assert!(text("n_embd", (1 << 62) + 1).contains("width is 4611686018427387905"), "its quadruple is no number");
        assert!(text("n_layer", 1025).contains("number of layers is 1025; expected 1 to 1024"));
    }
}
