//! What the `tokenizers` crate takes for granted of a file, and panics without, and what it would do without end:
//! checked before it is handed over.

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::contract::{ANEW, check_length};
use super::kind::{KNOWN_KINDS, Kind};
use super::kinds::KINDS;
use base::error::failure;
use base::visible::quoted;

/// Tokens beside the model's: three times those of the model with the most.
const MAX_ADDED: usize = 20_000;

/// What is read of a `tokenizer.json`. A key that occurs twice is refused, so that what is checked is what is used.
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

/// Makes sure that the text of a `tokenizer.json` describes a tokenizer of a known kind that can be built. Returns its
/// kind and what was checked, as text.
///
/// # Errors
/// Text that is not a tokenizer; a model of another kind, with a prefix or with dropout; merges of something other than
/// tokens; parts that its kind does not list.
pub(super) fn check(text: &str) -> anyhow::Result<(&'static Kind, String)> {
    let mut file: File = serde_json::from_str(text).context("not a tokenizer")?;
    if file.version.is_null() {
        file.version = "1.0".into();
    }
    let kind = kind_of(&file.model)?;
    (kind.check_model)(&file.model, &file.decoder)?;
    check_added(&file.added_tokens)?;
    let parts = [&file.normalizer, &file.pre_tokenizer, &file.post_processor, &file.decoder];
    kind.parts.iter().zip(parts).try_for_each(|(kind, part)| kind.check(part))?;
    Ok((kind, serde_json::to_string(&file).context("cannot write the tokenizer as JSON")?))
}

/// A file that names no model is read as whichever fits; it must then be a BPE.
fn kind_of(model: &Map<String, Value>) -> anyhow::Result<&'static Kind> {
    let Some(named) = model.get("type") else { return Ok(KINDS[0]) };
    let found = named.as_str().unwrap_or("unknown");
    KINDS.into_iter().find(|kind| kind.model == found).ok_or_else(|| {
        let known = KINDS.map(|kind| kind.model).join(" or ");
        failure(
            format!("the tokenizer is of no known kind: expected the model {known}, found {}", quoted(found)),
            KNOWN_KINDS,
        )
    })
}

/// The tokens beside the model's.
fn check_added(tokens: &Value) -> anyhow::Result<()> {
    let Some(tokens) = tokens.as_array() else {
        return if tokens.is_null() {
            Ok(())
        } else {
            Err(failure("the tokenizer's added_tokens are not a list", ANEW))
        };
    };
    if tokens.len() > MAX_ADDED {
        let message = format!("the tokenizer has {} added_tokens, at most {MAX_ADDED} are accepted", tokens.len());
        return Err(failure(message, ANEW));
    }
    tokens.iter().filter_map(|token| token["content"].as_str()).try_for_each(check_length)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use base::error::describe;

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
            assert!(text.contains("is not a token") && text.contains("hint: "), "{text}");
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
        assert!(added(json!("x")).contains("not a list"));
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
        let (_, checked) = check(hidden).unwrap();
        assert!(!checked.contains("0.5") && !checked.contains("padding"), "{checked}");
    }

    #[test]
    fn other_models_and_captions_at_random_are_refused() {
        assert!(
            refusal(|model| model["type"] = json!("Unigram"))
                .contains("expected the model BPE or WordPiece, found \"Unigram\"")
        );
        assert!(refusal(|model| model["dropout"] = json!(0.1)).contains("expected no dropout"));
        assert!(refusal(|model| model["vocab"] = json!([])).contains("no vocab and merges"));
        assert!(check("{}").is_err());
    }
}
