//! The `config.json` of a model as transformers reads it: what `pretrained_encoder` and `pretrained_decoder` read, written.

use serde_json::{Value, json};

use crate::config::EncoderKind;
use crate::model::caption_decoder::DecoderShape;
use crate::model::encoder::EncoderShape;

/// As `ViTConfig` or `CLIPVisionConfig` writes itself.
pub fn encoder_config(shape: &EncoderShape) -> Value {
    let mut config = json!({
        "hidden_act": shape.hidden_act,
        "hidden_size": shape.hidden_size,
        "image_size": shape.image_size,
        "initializer_range": shape.initializer_range,
        "intermediate_size": shape.intermediate_size,
        "layer_norm_eps": shape.layer_norm_eps,
        "num_attention_heads": shape.num_attention_heads,
        "num_channels": 3,
        "num_hidden_layers": shape.num_hidden_layers,
        "patch_size": shape.patch_size,
    });
    match shape.kind {
        EncoderKind::Vit => {
            config["model_type"] = "vit".into();
            config["qkv_bias"] = shape.qkv_bias.into();
            // Dropout that transformers has for an encoder and this program does not.
            config["hidden_dropout_prob"] = 0.0.into();
            config["attention_probs_dropout_prob"] = 0.0.into();
        }
        EncoderKind::ClipVision => {
            config["model_type"] = "clip_vision_model".into();
            config["attention_dropout"] = 0.0.into();
        }
    }
    config
}

/// As `GPT2Config` writes itself, with cross-attention.
pub fn decoder_config(shape: &DecoderShape) -> Value {
    json!({
        "model_type": "gpt2",
        "is_decoder": true,
        "add_cross_attention": true,
        "activation_function": shape.hidden_act,
        "vocab_size": shape.vocab_size,
        "n_positions": shape.num_positions,
        "n_embd": shape.hidden_size,
        "n_layer": shape.num_layers,
        "n_head": shape.num_heads,
        "n_inner": shape.intermediate_size,
        "embd_pdrop": shape.dropout,
        "attn_pdrop": shape.dropout,
        "resid_pdrop": shape.dropout,
        "layer_norm_epsilon": shape.layer_norm_eps,
        "initializer_range": shape.initializer_range,
        "tie_word_embeddings": shape.tie_word_embeddings,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EncoderArchitecture;
    use crate::model::encoder::HiddenActivation;
    use crate::model::pretrained_decoder::decoder_shape_of_config;
    use crate::model::pretrained_encoder::shape_of_config;

    #[test]
    fn what_is_written_is_read_back_as_the_same_shape() {
        for kind in [EncoderKind::Vit, EncoderKind::ClipVision] {
            let encoder = EncoderShape::from_architecture(&EncoderArchitecture {
                kind,
                image_size: 42,
                patch_size: 14,
                hidden_size: 12,
                num_hidden_layers: 3,
                num_attention_heads: 4,
                intermediate_size: 10,
                initializer_range: 0.05,
            });
            assert_eq!(shape_of_config(&encoder_config(&encoder)).unwrap(), encoder);
        }
        let decoder = DecoderShape {
            vocab_size: 99,
            hidden_size: 6,
            num_layers: 2,
            num_heads: 3,
            intermediate_size: 11,
            num_positions: 17,
            hidden_act: HiddenActivation::Gelu,
            dropout: 0.2,
            layer_norm_eps: 1e-6,
            initializer_range: 0.03,
            tie_word_embeddings: false,
        };
        assert_eq!(decoder_shape_of_config(&decoder_config(&decoder)).unwrap(), decoder);
    }
}
