//! `BlipForConditionalGeneration`: the image encoder in `vision_config` and `vision_model`, a BERT in `text_config` and
//! `text_decoder`.

use anyhow::Result;
use serde_json::{Value, json};

use super::layout::Layout;
use crate::hf::token_ids::{TokenIds, token_id};
use crate::model::captioner::{CaptionerShape, DECODER, ENCODER};
use crate::model::decoders::DecoderConfig;
use crate::model::decoders::bert::BertConfig;
use crate::model::encoders::EncoderConfig;

/// What `BlipTextConfig` has where `text_config` names no ids: `[DEC]`, `[SEP]` and `[PAD]`.
const DEFAULT_IDS: TokenIds = TokenIds { start: 30_522, end: 102, pad: Some(0) };

/// With a prompt, the processor puts it between a first and a last token; `generate` makes the first that of captions
/// and drops the last.
const PYTHON_WITH_PROMPT: &str = r#"from PIL import Image
from transformers import BlipForConditionalGeneration, BlipProcessor

folder = "FOLDER_OR_ID"
model = BlipForConditionalGeneration.from_pretrained(folder)
processor = BlipProcessor.from_pretrained(folder)

inputs = processor(images=Image.open("picture.jpg").convert("RGB"), text=PROMPT, return_tensors="pt")
tokens = model.generate(**inputs, generation_config=model.generation_config)[0]
print(processor.decode(tokens, skip_special_tokens=True))
"#;

/// `generate` of a BLIP does not look into `generation_config.json` by itself.
const PYTHON: &str = r#"from PIL import Image
from transformers import BlipForConditionalGeneration, BlipProcessor

folder = "FOLDER_OR_ID"
model = BlipForConditionalGeneration.from_pretrained(folder)
processor = BlipProcessor.from_pretrained(folder)

inputs = processor(images=Image.open("picture.jpg").convert("RGB"), return_tensors="pt")
tokens = model.generate(**inputs, generation_config=model.generation_config)[0]
print(processor.decode(tokens, skip_special_tokens=True))
"#;

pub(super) const LAYOUT: Layout = Layout {
    model_type: "blip",
    class: "BlipForConditionalGeneration",
    python: PYTHON,
    python_with_prompt: PYTHON_WITH_PROMPT,
    prompt_way: "the processor takes the prompt as `text`",
    has_rivals: true,
    rival_parts: &["text_encoder."],
    prefixes: &[("vision_model", ENCODER), ("text_decoder", DECODER)],
    encoder: EncoderConfig::from_hf,
    decoder: |config| Ok(DecoderConfig::Bert(BertConfig::from_blip(config)?)),
    token_ids,
    has_eos: false,
    decoder_key: "text_config",
    takes,
    config,
    exported: |_, tensors| Ok(tensors),
    modules: |shape, layer| Ok(vec![shape.module_path(layer)]),
};

/// As `generate` has them: a caption begins with `bos_token_id` and ends with `sep_token_id`. No `eos_token_id`, be it
/// that of `generation_config.json`, ends one, and the first token of the tokenizer's template is not used.
fn token_ids(_generation: &Value, config: &Value) -> Result<TokenIds> {
    let text = &config["text_config"];
    Ok(TokenIds {
        start: token_id(text, "bos_token_id")?.unwrap_or(DEFAULT_IDS.start),
        end: token_id(text, "sep_token_id")?.unwrap_or(DEFAULT_IDS.end),
        pad: token_id(text, "pad_token_id")?.or(DEFAULT_IDS.pad),
    })
}

fn takes(shape: &CaptionerShape) -> bool {
    let is_blip = matches!(&shape.decoder, DecoderConfig::Bert(bert) if bert.is_blip());
    is_blip && matches!(shape.encoder, EncoderConfig::BlipVision(_)) && !shape.has_projection()
}

fn config(shape: &CaptionerShape, ids: TokenIds) -> Value {
    let (mut text, vision) = (shape.decoder.to_hf(), shape.encoder.to_hf());
    if let (Some(text), Value::Object(ids)) = (text.as_object_mut(), ids.fields()) {
        text.extend(ids);
    }
    text["sep_token_id"] = ids.end.into();
    json!({
        "tie_word_embeddings": text["tie_word_embeddings"],
        "text_config": text,
        "vision_config": vision,
    })
}
