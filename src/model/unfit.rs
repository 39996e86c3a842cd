//! Models that do not fit, by their `model_type` in `config.json`: the error says what is taken, which is in the tables
//! of the families, and for models that people try, why this one is not.

use serde_json::Value;

use crate::model::hf_fields::model_type;
use base::error::failure;
use base::visible;

/// Characters of a `model_type` that are shown.
const MAX_NAME: usize = 60;

/// Its text goes into its decoder together with tokens of the image, without cross-attention.
const PREFIX: &str = "its decoder takes the image as tokens before the text, not by cross-attention";
/// Between encoder and decoder is another model.
const Q_FORMER: &str = "a Q-Former turns the image into tokens for a language model";
/// A decoder of another architecture.
const OTHER_DECODER: &str = "its decoder has another architecture";
/// An encoder of another architecture.
const OTHER_ENCODER: &str = "its blocks are not those of a plain vision transformer";

/// What to do about an encoder that is not taken.
pub const ENCODER_ADVICE: &str = "use a ViT, CLIP, SigLIP or DINOv2 checkpoint, e.g. google/vit-base-patch16-224-in21k, \
                                  openai/clip-vit-base-patch32, google/siglip2-base-patch16-224 or facebook/dinov2-base";

/// Models that people try, and why they do not fit.
const KNOWN: [(&str, &str, &str); 38] = [
    ("florence2", "Florence-2", "the image goes through a text encoder together with the task's words"),
    ("paligemma", "PaliGemma", PREFIX),
    ("git", "GIT", PREFIX),
    ("blip-2", "BLIP-2", Q_FORMER),
    ("instructblip", "InstructBLIP", Q_FORMER),
    ("instructblipvideo", "InstructBLIP for videos", Q_FORMER),
    ("llava", "LLaVA", PREFIX),
    ("llava_next", "LLaVA-NeXT", PREFIX),
    ("llava_onevision", "LLaVA-OneVision", PREFIX),
    ("qwen2_vl", "Qwen2-VL", PREFIX),
    ("qwen2_5_vl", "Qwen2.5-VL", PREFIX),
    ("qwen3_vl", "Qwen3-VL", PREFIX),
    ("idefics", "Idefics", "its decoder is a LLaMA with gated cross-attention"),
    ("idefics2", "Idefics2", PREFIX),
    ("idefics3", "Idefics3", PREFIX),
    ("smolvlm", "SmolVLM", PREFIX),
    ("kosmos-2", "Kosmos-2", PREFIX),
    ("gemma3", "Gemma 3", PREFIX),
    ("mllama", "Llama 3.2 Vision", "its decoder is a LLaMA with gated cross-attention"),
    ("pix2struct", "Pix2Struct", "its encoder takes patches of any number, its decoder is a T5"),
    ("mbart", "MBart", OTHER_DECODER),
    ("bart", "BART", OTHER_DECODER),
    ("t5", "T5", OTHER_DECODER),
    ("mt5", "mT5", OTHER_DECODER),
    ("opt", "OPT", OTHER_DECODER),
    ("llama", "LLaMA", OTHER_DECODER),
    ("roberta", "RoBERTa", OTHER_DECODER),
    ("xlm-roberta", "XLM-RoBERTa", OTHER_DECODER),
    ("trocr", "TrOCR", OTHER_DECODER),
    ("siglip2", "SigLIP 2 in its NaFlex form", "it takes images of any shape; the forms of one resolution fit"),
    (
        "siglip2_vision_model",
        "SigLIP 2 in its NaFlex form",
        "it takes images of any shape; those of one resolution fit",
    ),
    ("dinov3_vit", "DINOv3", "its positions are rotations of queries and keys"),
    ("dinov3_convnext", "DINOv3 as a ConvNeXt", OTHER_ENCODER),
    ("swin", "Swin", OTHER_ENCODER),
    ("swinv2", "Swin V2", OTHER_ENCODER),
    ("donut-swin", "the Swin of Donut", OTHER_ENCODER),
    ("beit", "BEiT", "its positions are biases of the attention"),
    ("data2vec-vision", "data2vec for images", "its positions are biases of the attention"),
];

/// The error about the config of a model that is no image encoder of a family here.
pub fn encoder(taken: &[&str], config: &Value) -> anyhow::Error {
    failure(format!("expected model_type {}, found {}", listed(taken), described(model_type(config))), ENCODER_ADVICE)
}

/// The error about the config of a model that is no text decoder of a family here.
pub fn decoder(taken: &[&str], config: &Value) -> anyhow::Error {
    failure(
        format!("expected a decoder of model_type {}, found {}", listed(taken), described(model_type(config))),
        "use one of these, e.g. gpt2 or distilgpt2, or a captioner with one",
    )
}

/// The quoted `model_type`, and what is known about it.
pub fn described(model_type: &str) -> String {
    let shown = visible::cut(model_type, MAX_NAME);
    match KNOWN.iter().find(|(known, ..)| *known == model_type) {
        Some((_, name, reason)) => format!("\"{shown}\" ({name}: {reason})"),
        None => format!("\"{shown}\""),
    }
}

/// `"a", "b" or "c"`.
fn listed(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::json;

    use super::*;
    use crate::model::decoders::DecoderConfig;
    use crate::model::encoders::EncoderConfig;
    use base::error::describe;

    #[test]
    fn each_known_model_is_refused_with_its_name_and_what_is_taken() {
        for (model_type, name, reason) in KNOWN {
            let config = json!({ "model_type": model_type });
            let found = format!("found \"{model_type}\" ({name}: {reason})");
            for (error, taken) in [
                (EncoderConfig::from_hf(&config).map(drop).unwrap_err(), "\"vit\""),
                (DecoderConfig::from_hf(&config).map(drop).unwrap_err(), "\"gpt2\""),
            ] {
                let text = describe(&error);
                assert!(text.contains(&found) && text.contains(taken) && text.contains("hint:"), "{text}");
            }
        }
        assert_eq!(KNOWN.iter().map(|(known, ..)| known).collect::<HashSet<_>>().len(), KNOWN.len());
    }

    #[test]
    fn names_are_listed_as_a_sentence_has_them() {
        for (names, text) in
            [(&["a"][..], "\"a\""), (&["a", "b"], "\"a\" or \"b\""), (&["a", "b", "c"], "\"a\", \"b\" or \"c\"")]
        {
            assert_eq!(listed(names), text);
        }
    }
}
