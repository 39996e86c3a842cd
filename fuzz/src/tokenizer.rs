//! The files of a tokenizer.

use std::path::Path;
use std::sync::OnceLock;

use caption_train::config::TokenizerConfig;
use caption_train::tokenizer::{CaptionTokenizer, ModelTokenIds};
use serde_json::Value;

use super::{json, samples, scratch};

/// Of a model that any tokenizer fits.
const MOST_TOKENS: usize = 1_000_000;
const CAPTIONS: [&str; 5] = [
    "a man, two dogs",
    "",
    "  <end> wags\n\tand   <pad>\u{0}",
    "\u{dc}n\u{ee}c\u{f6}d\u{e9} \u{1f415}\u{200d}\u{130}",
    "don't't TWO 12's",
];

/// `tokenizer.json`, whole or as edits of a valid one; after a byte 16, `vocab.json` and, after an empty line,
/// `merges.txt`.
pub fn tokenizer(data: &[u8]) {
    static BASES: OnceLock<[Value; 2]> = OnceLock::new();
    let folder = scratch::folder("tokenizer");
    let [whole, vocab, merges] = ["tokenizer.json", "vocab.json", "merges.txt"].map(|name| folder.join(name));
    let ids = ModelTokenIds { start: 1, end: 2, pad: Some(0) };
    if let Some((16, text)) = data.split_first() {
        scratch::remove(&whole);
        let at = text.windows(2).position(|window| window == b"\n\n").unwrap_or(text.len());
        scratch::write(&vocab, &text[..at]);
        scratch::write(&merges, text.get(at + 2..).unwrap_or_default());
    } else {
        scratch::write(&whole, &json::document(data, BASES.get_or_init(|| [samples::tokenizer(), with_others()])));
    }
    // The four tokens of the config, for files that fit no model.
    let config = TokenizerConfig { lowercase: data.len() % 2 == 1, ..TokenizerConfig::default() };
    if let Ok(Some(tokenizer)) = CaptionTokenizer::from_directory(&folder, &config) {
        use_it(&tokenizer, &config);
        return;
    }
    if let Ok((tokenizer, config)) = CaptionTokenizer::from_model_folder(&folder, ids, MOST_TOKENS) {
        use_it(&tokenizer, &config);
        save(&tokenizer, &config, &scratch::folder("tokenizer/saved"));
    }
}

/// The valid tokenizer with parts that other tokenizers have.
fn with_others() -> Value {
    let mut other = samples::tokenizer();
    other["normalizer"] =
        serde_json::json!({ "type": "Sequence", "normalizers": [{ "type": "NFC" }, { "type": "Lowercase" }] });
    other["post_processor"] = serde_json::json!({
        "type": "TemplateProcessing",
        "single": [{ "SpecialToken": { "id": "<start>", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
        "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }],
        "special_tokens": { "<start>": { "id": "<start>", "ids": [1], "tokens": ["<start>"] } }
    });
    other["truncation"] =
        serde_json::json!({ "direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0 });
    other["padding"] = serde_json::json!({
        "strategy": { "Fixed": 8 }, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0,
        "pad_token": "<pad>"
    });
    other["model"]["merges"] = serde_json::json!(["\u{120} d", "o g"]);
    other
}

fn use_it(tokenizer: &CaptionTokenizer, config: &TokenizerConfig) {
    let text = tokenizer.to_json().expect("a tokenizer that was read can be written");
    let again = CaptionTokenizer::from_json(&text, config).expect("a tokenizer that was written can be read");
    assert_eq!(again.digest(), tokenizer.digest());
    let size = tokenizer.vocab_size() as u32;
    let specials = tokenizer.special_ids();
    assert!([specials.pad, specials.start, specials.end, specials.unk].iter().all(|&id| id < size));
    for caption in CAPTIONS {
        // A caption may have characters that are not in the vocabulary: an error, or left out.
        let Ok(ids) = tokenizer.encode(caption) else { continue };
        assert!(ids.iter().all(|&id| id < size), "{caption:?}: {ids:?}");
        tokenizer.decode(&ids).expect("what was encoded can be decoded");
    }
    let strange: Vec<u32> = [0, 7, 14, 14, 5, size, u32::MAX, 1, 2, 3, 4].to_vec();
    assert_eq!(tokenizer.decode(&strange).ok(), again.decode(&strange).ok());
    assert_eq!(tokenizer.encode(CAPTIONS[4]).ok(), again.encode(CAPTIONS[4]).ok(), "a tokenizer survives its own text");
}

fn save(tokenizer: &CaptionTokenizer, config: &TokenizerConfig, folder: &Path) {
    // Two files can express less than one; `save` then returns an error.
    if tokenizer.save(folder).is_ok() {
        let read = CaptionTokenizer::from_directory(folder, config).expect("a tokenizer that was saved can be read");
        assert_eq!(read.map(|read| read.digest()), Some(tokenizer.digest()));
    }
}
