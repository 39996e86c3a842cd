//! What the `tokenizers` crate takes for granted of a file, and panics without: checked before it is handed over.

use std::collections::HashMap;

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::base::fault::fault;

const ANEW: &str = "take the file anew from where it came from";
const BYTE_LEVEL: &str = "use a byte-level BPE tokenizer, such as GPT-2's, or let a new tokenizer be trained";

/// Makes sure that the text of a `tokenizer.json` describes a BPE that can be built and that encodes a caption always
/// in the same way.
///
/// # Errors
/// Text that is no tokenizer; a model of another kind, with a prefix or with dropout; merges of what is no token; a
/// table of SentencePiece.
pub(super) fn check(text: &str) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct File {
        #[serde(default)]
        normalizer: Value,
        #[serde(default)]
        post_processor: Value,
        model: Map<String, Value>,
    }
    let File { normalizer, post_processor, model } = serde_json::from_str(text).context("not a tokenizer")?;
    // Read without a look at its length, and walked without a look at its ends.
    if has_charsmap(&normalizer) {
        let message = "the tokenizer is not byte-level: its normalizer has a precompiled_charsmap of SentencePiece";
        return Err(fault(message, BYTE_LEVEL));
    }
    // Looked up in a list of as many texts as are encoded: one.
    if asks_for_second_text(&post_processor) {
        return Err(fault("the template of its post_processor for one text has a second one in it", ANEW));
    }
    let kind = model.get("type").map_or("BPE", |kind| kind.as_str().unwrap_or("unknown"));
    if kind != "BPE" {
        return Err(fault(
            format!("the tokenizer is not byte-level: expected the model BPE, found {kind}"),
            BYTE_LEVEL,
        ));
    }
    let is_set = |value: &&Value| !value.is_null() && value.as_str() != Some("") && value.as_f64() != Some(0.0);
    for key in ["continuing_subword_prefix", "dropout"] {
        if let Some(value) = model.get(key).filter(is_set) {
            let message = format!("the tokenizer is not byte-level: expected no {key} in its model, found {value}");
            return Err(fault(message, BYTE_LEVEL));
        }
    }
    let (Some(Value::Object(vocab)), Some(Value::Array(merges))) = (model.get("vocab"), model.get("merges")) else {
        return Err(fault("the tokenizer has no vocab and merges, which make a BPE", BYTE_LEVEL));
    };
    check_ids(vocab.iter().map(|(token, id)| (token.as_str(), id.as_u64())))?;
    for merge in merges {
        let pair = match merge {
            Value::String(pair) => pair.split_once(' '),
            pair => pair[0].as_str().zip(pair[1].as_str()),
        };
        let (left, right) = pair.with_context(|| format!("the merge {merge} is not a pair of tokens"))?;
        check_merge(left, right, |token| vocab.contains_key(token))?;
    }
    Ok(())
}

/// Makes sure that every token has an id of its own: of two with one id a text of the model would name either.
///
/// # Errors
/// An id that is none, or that two tokens have.
pub(super) fn check_ids<'a>(vocab: impl Iterator<Item = (&'a str, Option<u64>)>) -> anyhow::Result<()> {
    let mut seen = HashMap::new();
    for (token, id) in vocab {
        let id = id.with_context(|| format!("the id of the token {token:?} is no whole number"))?;
        if let Some(other) = seen.insert(id, token) {
            return Err(fault(format!("the tokens {other:?} and {token:?} have the same id, {id}"), ANEW));
        }
    }
    Ok(())
}

/// Whether there is a table of SentencePiece in it, or what calls itself one.
fn has_charsmap(value: &Value) -> bool {
    match value {
        Value::Object(table) => {
            table.contains_key("precompiled_charsmap")
                || table.get("type").is_some_and(|kind| kind == "Precompiled")
                || table.values().any(has_charsmap)
        }
        Value::Array(list) => list.iter().any(has_charsmap),
        _ => false,
    }
}

/// Whether a template for one text, somewhere in it, has a place for another.
fn asks_for_second_text(value: &Value) -> bool {
    let is_other = |piece: &Value| piece.pointer("/Sequence/id").is_some_and(|id| id != "A");
    match value {
        Value::Object(table) => {
            let single = table.get("single").and_then(Value::as_array);
            single.is_some_and(|pieces| pieces.iter().any(is_other)) || table.values().any(asks_for_second_text)
        }
        Value::Array(list) => list.iter().any(asks_for_second_text),
        _ => false,
    }
}

/// Makes sure that two tokens and what they merge to are in the vocabulary.
///
/// # Errors
/// One that is not.
pub(super) fn check_merge(left: &str, right: &str, is_token: impl Fn(&str) -> bool) -> anyhow::Result<()> {
    for token in [left, right, &format!("{left}{right}")] {
        if !is_token(token) {
            return Err(fault(format!("the merge of {left:?} and {right:?}: {token:?} is no token"), ANEW));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::base::fault::describe;

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
        assert!(text.contains("expected no continuing_subword_prefix in its model, found \"##\""), "{text}");
    }

    #[test]
    fn a_table_of_sentencepiece_is_refused_wherever_it_stands() {
        let table = json!({ "type": "Precompiled", "precompiled_charsmap": "AAAAAA==" });
        let empty = json!({ "type": "Precompiled" });
        for normalizer in
            [table.clone(), empty, json!({ "type": "Sequence", "normalizers": [{ "type": "NFC" }, table] })]
        {
            let text = json!({ "normalizer": normalizer, "model": { "vocab": {}, "merges": [] } }).to_string();
            assert!(describe(&check(&text).unwrap_err()).contains("precompiled_charsmap of SentencePiece"));
        }
    }

    #[test]
    fn a_template_for_one_text_with_a_place_for_another_is_refused() {
        let template = |id: &str| {
            let pieces = json!([{ "Sequence": { "id": id, "type_id": 0 } }]);
            let processor = json!({ "type": "TemplateProcessing", "single": pieces, "pair": [], "special_tokens": {} });
            let all = json!({ "type": "Sequence", "processors": [processor] });
            check(&json!({ "post_processor": all, "model": { "vocab": {}, "merges": [] } }).to_string())
        };
        template("A").unwrap();
        assert!(describe(&template("B").unwrap_err()).contains("has a second one in it"));
    }

    #[test]
    fn other_models_and_captions_at_random_are_refused() {
        assert!(refusal(|model| model["type"] = json!("Unigram")).contains("expected the model BPE, found Unigram"));
        assert!(refusal(|model| model["dropout"] = json!(0.1)).contains("expected no dropout"));
        assert!(refusal(|model| model["vocab"] = json!([])).contains("no vocab and merges"));
        assert!(check("{}").is_err());
    }
}
