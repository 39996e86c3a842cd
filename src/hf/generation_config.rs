//! What a captioner's folder says about the tokens around a caption and about its length, as `generate` of
//! transformers reads it: `generation_config.json`, then `config.json`, then the decoder's part of it. And the first of
//! them, written. Which tokens these are depends on the layout of the folder.

use std::borrow::Cow;
use std::path::Path;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::config::{DecodingConfig, WithPrompt, check_decoding};
use crate::hf::folder::read_json;
use crate::hf::layouts::{self, Layout};
use crate::hf::token_ids::{TokenIds, first_named};
use crate::model::hf_fields::{model_type, real_number, whole_number};
use crate::tokenizer::CaptionTokenizer;
use base::error::WithHint as _;

/// Settings that change captions and are not known here, and the values that change nothing.
const CHANGING: [(&str, &[f64]); 12] = [
    ("do_sample", &[0.0]),
    ("num_beam_groups", &[1.0]),
    ("repetition_penalty", &[1.0]),
    ("forced_bos_token_id", &[]),
    ("forced_decoder_ids", &[]),
    ("forced_eos_token_id", &[]),
    ("suppress_tokens", &[]),
    ("begin_suppress_tokens", &[]),
    ("bad_words_ids", &[]),
    ("sequence_bias", &[]),
    ("exponential_decay_length_penalty", &[]),
    ("renormalize_logits", &[0.0]),
];

/// New tokens where a folder names no length. A `max_length` that it names counts the start token, also one of 20; the
/// default of 20 does not (transformers 4.50 and later).
const MAX_NEW_TOKENS: usize = 20;

/// The default way in which a captioner writes.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerationDefaults {
    /// The tokens around a caption.
    pub tokens: TokenIds,
    /// How captions are written, their longest length included.
    pub decoding: DecodingConfig,
    /// Settings of the folder that change captions and are not followed, as `name = value`.
    pub not_followed: Vec<String>,
}

impl GenerationDefaults {
    /// Reads them; `config` is the folder's `config.json`, of a captioner or of a plain decoder.
    ///
    /// # Errors
    /// A `generation_config.json` that is damaged; a start or end token that nothing names; values of another type.
    pub fn read(folder: &Path, config: &Value) -> anyhow::Result<Self> {
        let path = folder.join("generation_config.json");
        let generation = if path.exists() { read_json(&path)? } else { Value::Null };
        let config = with_tokens_of_bert(folder, config)?;
        Self::of(&generation, &config)
            .with_context(|| {
                format!("cannot determine how the model in {} begins and ends a caption", folder.display())
            })
            .hint(|| "write decoder_start_token_id, eos_token_id and pad_token_id into its config.json")
    }

    fn of(generation: &Value, config: &Value) -> anyhow::Result<Self> {
        let layout = layouts::of_config(config);
        let decoder = layout.and_then(|layout| config.get(layout.decoder_key)).unwrap_or(&Value::Null);
        let tokens = match layout {
            Some(layout) => layout.token_ids(generation, config)?,
            None => first_named(&[generation, config])?,
        };
        // The search is that of generation_config.json where there is one, whatever the other files say.
        let (first, others) = ([generation], [config, decoder]);
        let sources: &[&Value] = if generation.is_null() { &others } else { &first };
        Ok(Self { tokens, decoding: decoding(sources)?, not_followed: not_followed(sources, layout) })
    }
}

/// `config` with the first and the last token of a text of a plain BERT, whose files name them in the tokenizer only.
fn with_tokens_of_bert<'a>(folder: &Path, config: &'a Value) -> anyhow::Result<Cow<'a, Value>> {
    let (Some(fields), "bert") = (config.as_object(), model_type(config)) else { return Ok(Cow::Borrowed(config)) };
    let mut fields = fields.clone();
    for (name, token) in [("bos_token_id", "[CLS]"), ("eos_token_id", "[SEP]")] {
        if fields.get(name).is_none_or(Value::is_null)
            && let Some(id) = CaptionTokenizer::id_in_model_folder(folder, token)?
        {
            fields.insert(name.to_owned(), id.into());
        }
    }
    Ok(Cow::Owned(Value::Object(fields)))
}

fn decoding(sources: &[&Value]) -> anyhow::Result<DecodingConfig> {
    let named = |name: &str| sources.iter().find(|source| source.get(name).is_some_and(|value| !value.is_null()));
    let number = |name: &str| named(name).map(|source| whole_number(source, name, 0)).transpose();
    // What is called a length counts the start token, and the prompt; a number of new tokens goes first.
    let count = |tokens: &str, length: &str| match (number(tokens)?, number(length)?) {
        (Some(count), _) => anyhow::Ok((Some(count), false)),
        (None, length) => Ok((length.map(|length| length.saturating_sub(1)), length.is_some())),
    };
    let (least, counts_least) = count("min_new_tokens", "min_length")?;
    let (most, counts_most) = count("max_new_tokens", "max_length")?;
    let defaults = DecodingConfig::default();
    let mut decoding = DecodingConfig {
        num_beams: number("num_beams")?.unwrap_or(defaults.num_beams),
        no_repeat_ngram_size: number("no_repeat_ngram_size")?.unwrap_or(defaults.no_repeat_ngram_size),
        min_new_tokens: least.unwrap_or(defaults.min_new_tokens),
        max_new_tokens: Some(most.unwrap_or(MAX_NEW_TOKENS).max(1)),
        with_prompt: WithPrompt { least: counts_least, most: counts_most },
        ..defaults.clone()
    };
    if let Some(source) = named("length_penalty") {
        decoding.length_penalty = real_number(source, "length_penalty", defaults.length_penalty)?;
    }
    if let Some(value) = named("early_stopping").map(|source| &source["early_stopping"]) {
        decoding.early_stopping = serde_json::from_value(value.clone()).context("early_stopping")?;
    }
    check_decoding(&decoding)?;
    Ok(decoding)
}

fn not_followed(sources: &[&Value], layout: Option<&Layout>) -> Vec<String> {
    let value_of = |name: &str| sources.iter().filter_map(|source| source.get(name)).find(|value| !value.is_null());
    let number = |value: &Value| value.as_f64().or(value.as_bool().map(|value| f64::from(u8::from(value))));
    let mut found: Vec<String> = CHANGING
        .iter()
        .filter_map(|(name, neutral)| value_of(name).map(|value| (name, neutral, value)))
        .filter(|(_, _, value)| value.as_array().is_none_or(|values| !values.is_empty()))
        .filter(|(_, neutral, value)| number(value).is_none_or(|number| !neutral.contains(&number)))
        .map(|(name, _, value)| format!("{name} = {value}"))
        .collect();
    let end = value_of("eos_token_id").filter(|_| layout.is_none_or(|layout| layout.has_eos));
    if let Some(ids) = end.and_then(Value::as_array).filter(|ids| ids.len() > 1) {
        found.push(format!("eos_token_id = {}, of which the first is taken", Value::from(ids.clone())));
    }
    found
}

/// The `generation_config.json` of a model with these ids of special tokens.
pub(super) fn generation_config(token_ids: TokenIds, decoding: &DecodingConfig) -> Value {
    let mut config = token_ids.fields();
    config["decoder_start_token_id"] = token_ids.start.into();
    match decoding.max_new_tokens {
        Some(count) if decoding.with_prompt.most => config["max_length"] = (count + 1).into(),
        count => config["max_new_tokens"] = count.into(),
    }
    config["do_sample"] = false.into();
    config["num_beams"] = decoding.num_beams.into();
    if decoding.num_beams > 1 {
        config["length_penalty"] = decoding.length_penalty.into();
        config["early_stopping"] = json!(decoding.early_stopping);
    }
    if decoding.no_repeat_ngram_size > 0 {
        config["no_repeat_ngram_size"] = decoding.no_repeat_ngram_size.into();
    }
    if decoding.min_new_tokens > 0 {
        match decoding.with_prompt.least {
            true => config["min_length"] = (decoding.min_new_tokens + 1).into(),
            false => config["min_new_tokens"] = decoding.min_new_tokens.into(),
        }
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EarlyStopping;

    /// Of a `VisionEncoderDecoderModel` whose decoder has this config.
    fn of_whole(generation: &Value, config: &Value, decoder: &Value) -> anyhow::Result<GenerationDefaults> {
        let mut config = config.clone();
        config["model_type"] = "vision-encoder-decoder".into();
        config["decoder"] = decoder.clone();
        GenerationDefaults::of(generation, &config)
    }

    #[test]
    fn the_first_source_that_names_a_value_gives_it() {
        let generation = json!({ "eos_token_id": [7, 8], "max_length": 16, "pad_token_id": null });
        let config = json!({ "decoder_start_token_id": 3, "eos_token_id": 9, "pad_token_id": 5 });
        let decoder = json!({ "bos_token_id": 1 });
        let found = of_whole(&generation, &config, &decoder).unwrap();
        let not_followed = vec!["eos_token_id = [7,8], of which the first is taken".to_owned()];
        let with_prompt = WithPrompt { least: false, most: true };
        let decoding = DecodingConfig { max_new_tokens: Some(15), with_prompt, ..DecodingConfig::default() };
        let tokens = TokenIds { start: 3, end: 7, pad: Some(5) };
        assert_eq!(found, GenerationDefaults { tokens, decoding, not_followed });
    }

    #[test]
    fn a_plain_gpt2_begins_with_its_bos_and_has_the_length_of_transformers() {
        let config = json!({ "bos_token_id": 50256, "eos_token_id": 50256 });
        let found = GenerationDefaults::of(&Value::Null, &config).unwrap();
        assert_eq!(found.tokens, TokenIds { start: 50256, end: 50256, pad: None });
        assert_eq!(found.decoding, DecodingConfig { max_new_tokens: Some(20), ..DecodingConfig::default() });
    }

    /// What transformers 5.24 writes at most: `generation_config.json`, `config.json`, the decoder's part of it, and
    /// the new tokens, the end token included.
    #[test]
    fn the_longest_caption_is_that_of_generate() {
        let none = || Value::Null;
        let cases = [
            (json!({}), json!({}), json!({}), 20),
            (json!({ "max_length": null, "max_new_tokens": null }), json!({}), json!({}), 20),
            (json!({ "max_length": 20 }), json!({}), json!({}), 19),
            (json!({ "max_length": 12 }), json!({}), json!({}), 11),
            (json!({ "max_new_tokens": 12 }), json!({}), json!({}), 12),
            (json!({ "max_length": 9, "max_new_tokens": 12 }), json!({}), json!({}), 12),
            (json!({ "forced_bos_token_id": 5 }), json!({}), json!({}), 20),
            // Where there is the one file, the search of the other does not count.
            (json!({}), json!({ "max_length": 12 }), json!({}), 20),
            (json!({}), json!({}), json!({ "max_length": 12 }), 20),
            (none(), json!({}), json!({}), 20),
            (none(), json!({ "max_length": 12 }), json!({}), 11),
            (none(), json!({ "max_length": 20 }), json!({}), 19),
            (none(), json!({ "max_new_tokens": 12 }), json!({}), 12),
            (none(), json!({}), json!({ "max_length": 20 }), 19),
            (none(), json!({}), json!({ "max_new_tokens": 12 }), 12),
            (none(), json!({ "max_length": 9 }), json!({ "max_length": 12 }), 8),
            (none(), json!({ "max_length": 20 }), json!({ "max_length": 12 }), 19),
            (none(), json!({ "max_new_tokens": 9 }), json!({ "max_length": 12 }), 9),
        ];
        for (generation, mut config, decoder, expected) in cases {
            config["bos_token_id"] = 1.into();
            config["eos_token_id"] = 2.into();
            let found = of_whole(&generation, &config, &decoder).unwrap();
            assert_eq!(found.decoding.max_new_tokens, Some(expected), "{generation} {config} {decoder}");
        }
    }

    #[test]
    fn settings_that_change_captions_are_named_and_neutral_ones_are_not() {
        let tokens = json!({ "bos_token_id": 1, "eos_token_id": 2 });
        let named = |settings: Value| GenerationDefaults::of(&settings, &tokens).unwrap().not_followed;
        let settings = json!({ "repetition_penalty": 1.2, "do_sample": true, "num_beams": 4 });
        assert_eq!(named(settings), ["do_sample = true", "repetition_penalty = 1.2"]);
        let settings = json!({ "forced_decoder_ids": [[1, 7]], "bad_words_ids": [[3]], "suppress_tokens": [] });
        assert_eq!(named(settings), ["forced_decoder_ids = [[1,7]]", "bad_words_ids = [[3]]"]);
        let neutral = json!({ "do_sample": false, "repetition_penalty": 1.0, "renormalize_logits": false });
        assert!(named(neutral).is_empty());
    }

    #[test]
    fn the_search_that_a_folder_names_is_taken_over() {
        let tokens = json!({ "bos_token_id": 1, "eos_token_id": 2 });
        let found = |settings: Value| GenerationDefaults::of(&settings, &tokens).map(|defaults| defaults.decoding);
        let settings = json!({
            "num_beams": 4, "length_penalty": 0.5, "early_stopping": "never", "no_repeat_ngram_size": 3,
            "min_length": 6, "max_new_tokens": 20
        });
        let expected = DecodingConfig {
            num_beams: 4,
            length_penalty: 0.5,
            early_stopping: EarlyStopping::Never,
            no_repeat_ngram_size: 3,
            min_new_tokens: 5,
            max_new_tokens: Some(20),
            with_prompt: WithPrompt { least: true, most: false },
        };
        assert_eq!(found(settings).unwrap(), expected);
        for wrong in [json!({ "num_beams": 0 }), json!({ "num_beams": 1e9 }), json!({ "early_stopping": "soon" })] {
            assert!(found(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn lengths_that_count_a_prompt_are_written_as_such() {
        let tokens = TokenIds { start: 1, end: 2, pad: None };
        let source = json!({ "bos_token_id": 1, "eos_token_id": 2, "max_length": 12, "min_length": 8 });
        let found = GenerationDefaults::of(&source, &json!({})).unwrap();
        let written = generation_config(tokens, &found.decoding);
        assert_eq!((&written["max_length"], &written["min_length"]), (&json!(12), &json!(8)));
        assert_eq!((written.get("max_new_tokens"), written.get("min_new_tokens")), (None, None));
        assert_eq!(GenerationDefaults::of(&written, &json!({})).unwrap().decoding, found.decoding);
    }

    #[test]
    fn what_is_not_a_token_id_and_what_is_not_named_are_errors() {
        let text = |config: Value| GenerationDefaults::of(&Value::Null, &config).unwrap_err().to_string();
        assert!(text(json!({ "bos_token_id": 1 })).contains("no eos_token_id"));
        assert!(text(json!({ "eos_token_id": 1 })).contains("neither decoder_start_token_id"));
        assert!(text(json!({ "bos_token_id": -1 })).contains("bos_token_id: expected a token id, found -1"));
    }

    /// `generate` of a BLIP hands its text decoder the ids of `text_config`, and `[SEP]` as the end.
    #[test]
    fn a_blip_begins_with_the_bos_and_ends_with_the_sep_of_its_text_config() {
        let config = |text: Value| json!({ "model_type": "blip", "text_config": text, "eos_token_id": 9 });
        let generation = json!({ "bos_token_id": 5, "eos_token_id": [2, 7], "pad_token_id": 3, "num_beams": 3 });
        let found = GenerationDefaults::of(&generation, &config(json!({ "eos_token_id": 2 }))).unwrap();
        assert_eq!(found.tokens, TokenIds { start: 30_522, end: 102, pad: Some(0) });
        assert_eq!((found.decoding.num_beams, found.not_followed), (3, Vec::new()));
        let text =
            json!({ "bos_token_id": 60, "sep_token_id": 3, "pad_token_id": 1, "max_length": 12, "num_beams": 2 });
        let found = GenerationDefaults::of(&Value::Null, &config(text)).unwrap();
        assert_eq!(found.tokens, TokenIds { start: 60, end: 3, pad: Some(1) });
        assert_eq!((found.decoding.num_beams, found.decoding.max_new_tokens), (2, Some(11)));
    }
}
