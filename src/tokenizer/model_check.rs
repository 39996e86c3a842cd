//! What the `tokenizers` crate takes for granted of a file, and panics without, and what it would do without end: checked
//! before it is handed over.

use std::collections::HashMap;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::parts::KINDS;
use base::fault::fault;
use base::visible::quoted;

const ANEW: &str = "take the file anew from where it came from";
const BYTE_LEVEL: &str = "use a byte-level BPE tokenizer, such as GPT-2's, or let a new tokenizer be trained";
/// Bytes of a token: several times those of the longest in use.
const MOST_TOKEN_BYTES: usize = 1000;
/// Tokens beside the model's: three times those of the model with the most.
const MOST_ADDED: usize = 20_000;
/// Bytes of what is put at the end of each word.
const MOST_SUFFIX_BYTES: usize = 16;
/// Keys of the model.
const MODEL_KEYS: [&str; 10] = [
    "type",
    "dropout",
    "unk_token",
    "continuing_subword_prefix",
    "end_of_word_suffix",
    "fuse_unk",
    "byte_fallback",
    "ignore_merges",
    "vocab",
    "merges",
];

/// What is read of a `tokenizer.json`. A key that stands there twice is refused, so that what is checked is what is used.
#[derive(Deserialize, Serialize)]
struct File {
    #[serde(default)]
    version: Value,
    #[serde(default)]
    added_tokens: Value,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
    model: Map<String, Value>,
}

/// Makes sure that the text of a `tokenizer.json` describes a BPE that can be built, that encodes a caption always in the
/// same way and makes no more of it than it is long. Gives what was checked of it, as text.
///
/// # Errors
/// Text that is no tokenizer; a model of another kind, with a prefix or with dropout; merges of what is no token; parts
/// that no byte-level tokenizer needs.
pub(super) fn check(text: &str) -> anyhow::Result<String> {
    let mut file: File = serde_json::from_str(text).context("not a tokenizer")?;
    if file.version.is_null() {
        file.version = "1.0".into();
    }
    check_model(&file.model)?;
    check_added(&file.added_tokens)?;
    let parts = [&file.normalizer, &file.pre_tokenizer, &file.post_processor, &file.decoder];
    KINDS.iter().zip(parts).try_for_each(|(kind, part)| kind.check(part))?;
    serde_json::to_string(&file).context("cannot write the tokenizer as JSON")
}

fn check_model(model: &Map<String, Value>) -> anyhow::Result<()> {
    let kind = model.get("type").map_or("BPE", |kind| kind.as_str().unwrap_or("unknown"));
    if kind != "BPE" {
        let message = format!("the tokenizer is not byte-level: expected the model BPE, found {}", quoted(kind));
        return Err(fault(message, BYTE_LEVEL));
    }
    if let Some(key) = model.keys().find(|key| !MODEL_KEYS.contains(&key.as_str())) {
        return Err(fault(format!("the tokenizer's model has the unknown parameter {}", quoted(key)), BYTE_LEVEL));
    }
    let is_set = |value: &&Value| !value.is_null() && value.as_str() != Some("") && value.as_f64() != Some(0.0);
    for key in ["continuing_subword_prefix", "dropout"] {
        if let Some(value) = model.get(key).filter(is_set) {
            let found = quoted(&value.to_string());
            let message = format!("the tokenizer is not byte-level: expected no {key} in its model, found {found}");
            return Err(fault(message, BYTE_LEVEL));
        }
    }
    let suffix = model.get("end_of_word_suffix").and_then(Value::as_str).unwrap_or_default();
    if suffix.len() > MOST_SUFFIX_BYTES {
        let message =
            format!("expected an end_of_word_suffix of at most {MOST_SUFFIX_BYTES} bytes, found {}", quoted(suffix));
        return Err(fault(message, BYTE_LEVEL));
    }
    let (Some(Value::Object(vocab)), Some(Value::Array(merges))) = (model.get("vocab"), model.get("merges")) else {
        return Err(fault("the tokenizer has no vocab and merges, which make a BPE", BYTE_LEVEL));
    };
    check_tokens(vocab.iter().map(|(token, id)| (token.as_str(), id.as_u64())))?;
    for merge in merges {
        let pair = match merge {
            Value::String(pair) => pair.split_once(' '),
            pair => pair[0].as_str().zip(pair[1].as_str()),
        };
        let (left, right) =
            pair.with_context(|| format!("the merge {} is not a pair of tokens", quoted(&merge.to_string())))?;
        check_merge(left, right, |token| vocab.contains_key(token))?;
    }
    Ok(())
}

/// The tokens beside the model's.
fn check_added(tokens: &Value) -> anyhow::Result<()> {
    let Some(tokens) = tokens.as_array() else {
        return if tokens.is_null() { Ok(()) } else { Err(fault("the tokenizer's added_tokens are no list", ANEW)) };
    };
    if tokens.len() > MOST_ADDED {
        let message = format!("the tokenizer has {} added_tokens, at most {MOST_ADDED} are accepted", tokens.len());
        return Err(fault(message, ANEW));
    }
    tokens.iter().filter_map(|token| token["content"].as_str()).try_for_each(check_length)
}

/// A caption is made of tokens: their length bounds that of a caption.
fn check_length(token: &str) -> anyhow::Result<()> {
    if token.len() > MOST_TOKEN_BYTES {
        let message = format!("expected tokens of at most {MOST_TOKEN_BYTES} bytes, found {}", quoted(token));
        return Err(fault(message, ANEW));
    }
    Ok(())
}

/// Makes sure that no token is overlong and that each has an id of its own: of two with one id a text of the model would
/// name either.
///
/// # Errors
/// An overlong token, an id that is none, or that two tokens have.
pub(super) fn check_tokens<'a>(vocab: impl Iterator<Item = (&'a str, Option<u64>)>) -> anyhow::Result<()> {
    let mut seen = HashMap::new();
    for (token, id) in vocab {
        check_length(token)?;
        let id = id.with_context(|| format!("the id of the token {} is no whole number", quoted(token)))?;
        if let Some(other) = seen.insert(id, token) {
            let message = format!("the tokens {} and {} have the same id, {id}", quoted(other), quoted(token));
            return Err(fault(message, ANEW));
        }
    }
    Ok(())
}

/// Makes sure that two tokens and what they merge to are in the vocabulary.
///
/// # Errors
/// One that is not.
pub(super) fn check_merge(left: &str, right: &str, is_token: impl Fn(&str) -> bool) -> anyhow::Result<()> {
    for token in [left, right, &format!("{left}{right}")] {
        if !is_token(token) {
            let [left, right, token] = [left, right, token].map(quoted);
            return Err(fault(format!("the merge of {left} and {right}: {token} is no token"), ANEW));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use base::fault::describe;

    fn refusal(change: impl FnOnce(&mut Value)) -> String {
        let mut model = json!({ "type": "BPE", "vocab": { "a": 0, "b": 1, "ab": 2 }, "merges": [["a", "b"]] });
        change(&mut model);
        check(&json!({ "model": model }).to_string()).err().map_or_else(String::new, |error| describe(&error))
    }

    #[test]
    fn a_sound_model_passes_whatever_the_age_of_its_file() {
        assert_eq!(refusal(|_| {}), "");
        assert_eq!(refusal(|model| model["merges"] = json!(["a b"])), "");
        assert_eq!(refusal(|model| model["dropout"] = json!(null)), "");
        assert_eq!(refusal(|model| model["continuing_subword_prefix"] = json!("")), "");
    }

    /// `tokenizers` copies the text of a merge into a buffer as long as the longest token, and subtracts the length of
    /// a prefix that it does not look for.
    #[test]
    fn what_would_panic_is_refused() {
        for merge in [json!(["a", "c"]), json!(["c", "b"]), json!(["ab", "ab"]), json!("ab ab")] {
            let text = refusal(|model| model["merges"] = json!([merge]));
            assert!(text.contains("is no token") && text.contains("hint: "), "{text}");
        }
        let text = refusal(|model| model["vocab"]["ab"] = json!(1));
        assert!(text.contains("have the same id, 1"), "{text}");
        for merge in [json!("ab"), json!(["a"]), json!(3)] {
            let text = refusal(|model| model["merges"] = json!([merge]));
            assert!(text.contains("is not a pair of tokens"), "{text}");
        }
        let text = refusal(|model| model["continuing_subword_prefix"] = json!("##"));
        assert!(text.contains("expected no continuing_subword_prefix in its model, found \"\"##\"\""), "{text}");
    }

    #[test]
    fn what_a_token_may_be_is_bounded_and_a_message_quotes_a_part_of_it() {
        let long = "x".repeat(100_000);
        let added = |tokens: Value| {
            let model = json!({ "vocab": {}, "merges": [] });
            describe(&check(&json!({ "added_tokens": tokens, "model": model }).to_string()).unwrap_err())
        };
        for text in [
            refusal(|model| model["vocab"][&long] = json!(3)),
            refusal(|model| model["merges"] = json!([[long, "b"]])),
            refusal(|model| model["merges"] = json!([long])),
            refusal(|model| model["type"] = json!(long)),
            refusal(|model| model["dropout"] = json!(long)),
            refusal(|model| model["end_of_word_suffix"] = json!(long)),
            refusal(|model| model[&long] = json!(1)),
            added(json!([{ "id": 0, "content": long }])),
        ] {
            assert!(text.contains("xxx…\" (") && text.chars().count() < 600, "{text}");
        }
        assert!(added(json!(vec![json!({}); 20_001])).contains("20001 added_tokens"));
        assert!(added(json!("x")).contains("no list"));
    }

    #[test]
    fn parts_are_checked_wherever_they_stand_and_nothing_stands_twice() {
        let bomb = json!({ "type": "Replace", "pattern": { "String": "a" }, "content": "aaaa" });
        for key in ["normalizer", "pre_tokenizer", "post_processor", "decoder"] {
            let text = json!({ key: bomb, "model": { "vocab": {}, "merges": [] } }).to_string();
            assert!(describe(&check(&text).unwrap_err()).contains(key));
        }
        let twice = r#"{"normalizer":{"type":"Prepend"},"normalizer":null,"model":{"vocab":{},"merges":[]}}"#;
        assert!(describe(&check(twice).unwrap_err()).contains("duplicate field"));
        // What is handed over is what was checked.
        let hidden = r#"{"padding":{"strategy":{"Fixed":1000000000}},"model":{"dropout":0.5,"dropout":null,"vocab":{},"merges":[]}}"#;
        let checked = check(hidden).unwrap();
        assert!(!checked.contains("0.5") && !checked.contains("padding"), "{checked}");
    }

    #[test]
    fn other_models_and_captions_at_random_are_refused() {
        assert!(
            refusal(|model| model["type"] = json!("Unigram")).contains("expected the model BPE, found \"Unigram\"")
        );
        assert!(refusal(|model| model["dropout"] = json!(0.1)).contains("expected no dropout"));
        assert!(refusal(|model| model["vocab"] = json!([])).contains("no vocab and merges"));
        assert!(check("{}").is_err());
    }
}
