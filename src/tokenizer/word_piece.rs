//! WordPiece, as BERT has it: which models and parts of a `tokenizer.json` keep to the contract, and `vocab.txt`. Ids and
//! texts are those of `BertTokenizerFast` of transformers, with its cleaning up of spaces.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Context as _;
use serde_json::{Map, Value, json};
use tokenizers::Tokenizer;
use tokenizers::decoders::DecoderWrapper;
use tokenizers::models::ModelWrapper;

use super::contract::{ANEW, check_length, check_tokens, is_there, read, vocab_of};
use super::kind::{KNOWN_KINDS, Kind, PartKind};
use crate::config::TokenizerKind;
use base::error::{WithHint as _, failure};
use base::visible::quoted;

const VOCAB: &str = "vocab.txt";
const ADDED: &str = "added_tokens.json";
const CONFIG: &str = "tokenizer_config.json";
/// Marks a token that continues a word.
const PREFIX: &str = "##";
/// Bytes of such a mark.
const MAX_PREFIX_BYTES: usize = 16;
/// Characters of a word that BERT's tokenizer looks into; a longer one is unknown.
const MAX_WORD: u64 = 100;
/// The most that a file may say: a word takes time with the third power of it.
const LONGEST_MAX_WORD: u64 = 200;
/// Tokens beside those of `vocab.txt`.
const MAX_ADDED: usize = 1000;
/// Keys of the model.
const MODEL_KEYS: [&str; 5] = ["type", "unk_token", "continuing_subword_prefix", "max_input_chars_per_word", "vocab"];
/// The tokens of BERT that are no text: the key in `tokenizer_config.json` and the usual text.
const SPECIAL: [(&str, &str); 5] = [
    ("pad_token", "[PAD]"),
    ("unk_token", "[UNK]"),
    ("cls_token", "[CLS]"),
    ("sep_token", "[SEP]"),
    ("mask_token", "[MASK]"),
];
/// Classes of transformers whose `vocab.txt` is BERT's.
const BERT_CLASSES: [&str; 8] = [
    "BertTokenizer",
    "BertTokenizerFast",
    "BlipTokenizer",
    "DistilBertTokenizer",
    "DistilBertTokenizerFast",
    "ElectraTokenizer",
    "ElectraTokenizerFast",
    "PreTrainedTokenizerFast",
];
const JAPANESE_CLASS: &str = "BertJapaneseTokenizer";

pub(super) const KIND: Kind = Kind {
    name: TokenizerKind::WordPiece,
    model: "WordPiece",
    parts: PARTS,
    is_kind_of: |tokenizer| matches!(tokenizer.get_model(), ModelWrapper::WordPiece(_)),
    check_model,
    // What becomes of a text depends on the vocabulary.
    check_text: |_| Ok(()),
    clean_up,
    unk_token: |tokenizer| match tokenizer.get_model() {
        ModelWrapper::WordPiece(model) => Some(model.unk_token.clone()),
        _ => None,
    },
    // As BLIP's authors call it.
    start_token: "[DEC]",
    special_tokens: &["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
    files: &[VOCAB],
    read_files,
    write_files,
    tokenizer_config,
};

/// The parts around the model that BERT's tokenizers have.
const PARTS: [PartKind; 4] = [
    PartKind {
        key: "normalizer",
        list: "normalizers",
        types: &[
            ("BertNormalizer", &["clean_text", "handle_chinese_chars", "strip_accents", "lowercase"]),
            ("Lowercase", &[]),
            ("NFC", &[]),
            ("NFD", &[]),
            ("NFKC", &[]),
            ("NFKD", &[]),
            ("StripAccents", &[]),
            ("Strip", &["strip_left", "strip_right"]),
            ("Replace", &["pattern", "content"]),
        ],
    },
    PartKind {
        key: "pre_tokenizer",
        list: "pretokenizers",
        types: &[
            ("BertPreTokenizer", &[]),
            ("Whitespace", &[]),
            ("WhitespaceSplit", &[]),
            ("Split", &["pattern", "behavior", "invert"]),
            ("Digits", &["individual_digits"]),
            ("Punctuation", &["behavior"]),
        ],
    },
    PartKind {
        key: "post_processor",
        list: "processors",
        types: &[("TemplateProcessing", &["single", "pair", "special_tokens"]), ("BertProcessing", &["sep", "cls"])],
    },
    PartKind { key: "decoder", list: "decoders", types: &[("WordPiece", &["prefix", "cleanup"]), ("Fuse", &[])] },
];

/// Checks that a model can be built, that it has a token for what is unknown, and that a long word takes no long time.
///
/// # Errors
/// An unknown parameter; a token for the unknown that is not in the vocabulary; a prefix or a length of words that is
/// not BERT's kind; a decoder that leaves the prefix in captions.
fn check_model(model: &Map<String, Value>, decoder: &Value) -> anyhow::Result<()> {
    if let Some(key) = model.keys().find(|key| !MODEL_KEYS.contains(&key.as_str())) {
        return Err(failure(format!("the tokenizer's model has the unknown parameter {}", quoted(key)), KNOWN_KINDS));
    }
    let Some(Value::Object(vocab)) = model.get("vocab") else {
        return Err(failure("the tokenizer has no vocab, which a WordPiece needs", KNOWN_KINDS));
    };
    check_tokens(vocab.iter().map(|(token, id)| (token.as_str(), id.as_u64())))?;
    let unk = model.get("unk_token").and_then(Value::as_str).unwrap_or_default();
    if !vocab.contains_key(unk) {
        let message =
            format!("the token {} for unknown words, the model's unk_token, is not in its vocab", quoted(unk));
        return Err(failure(message, ANEW));
    }
    let prefix = model.get("continuing_subword_prefix").and_then(Value::as_str).unwrap_or_default();
    if prefix.is_empty() || prefix.len() > MAX_PREFIX_BYTES {
        let message = format!(
            "expected a continuing_subword_prefix of 1 to {MAX_PREFIX_BYTES} bytes, such as {PREFIX}, found {}",
            quoted(prefix)
        );
        return Err(failure(message, KNOWN_KINDS));
    }
    let longest = model.get("max_input_chars_per_word").unwrap_or(&Value::Null);
    if longest.as_u64().is_none_or(|longest| !(1..=LONGEST_MAX_WORD).contains(&longest)) {
        let found = quoted(&longest.to_string());
        let message = format!("expected a max_input_chars_per_word of 1 to {LONGEST_MAX_WORD}, found {found}");
        return Err(failure(message, KNOWN_KINDS));
    }
    match decoder["type"].as_str() {
        Some("Fuse") => Ok(()),
        Some("WordPiece") if decoder["prefix"] == prefix => Ok(()),
        found => {
            let found = quoted(found.unwrap_or("none"));
            let message =
                format!("expected the decoder WordPiece with the prefix {prefix} of the model, found {found}");
            Err(failure(message, KNOWN_KINDS))
        }
    }
}

/// As `clean_up_tokenization` of transformers: no space before punctuation nor within contractions.
fn clean_up(tokenizer: &Tokenizer, text: String) -> String {
    const CHANGES: [(&str, &str); 10] = [
        (" .", "."),
        (" ?", "?"),
        (" !", "!"),
        (" ,", ","),
        (" ' ", "'"),
        (" n't", "n't"),
        (" 'm", "'m"),
        (" 's", "'s"),
        (" 've", "'ve"),
        (" 're", "'re"),
    ];
    match tokenizer.get_decoder() {
        Some(DecoderWrapper::WordPiece(decoder)) if decoder.cleanup => {
            CHANGES.iter().fold(text, |text, (from, to)| text.replace(from, to))
        }
        _ => text,
    }
}

/// Reads `vocab.txt`, and what `tokenizer_config.json` and `added_tokens.json` say about it.
fn read_files(folder: &Path, _lowercase: bool) -> anyhow::Result<Option<String>> {
    let path = folder.join(VOCAB);
    if !is_there(&path)? {
        return Ok(None);
    }
    let config = read_json(&folder.join(CONFIG))?.unwrap_or_default();
    let vocab = read_vocab(&path)?;
    let around = Around::of(&config).with_context(|| format!("cannot use {}", path.display()))?;
    let added = added_tokens(folder, &config)?;
    let whole = around.tokenizer(&vocab, &added).with_context(|| format!("cannot use {}", path.display()))?;
    Ok(Some(whole.to_string()))
}

/// A line for each token, in the order of the ids.
fn read_vocab(path: &Path) -> anyhow::Result<HashMap<String, usize>> {
    let text = read(path)?;
    let mut vocab = HashMap::new();
    for (id, token) in text.lines().enumerate() {
        if let Some(other) = vocab.insert(token.to_owned(), id) {
            let (path, token, first, second) = (path.display(), quoted(token), other + 1, id + 1);
            return Err(failure(format!("{path} has the token {token} in line {first} and in line {second}"), ANEW));
        }
    }
    Ok(vocab)
}

fn read_json(path: &Path) -> anyhow::Result<Option<Value>> {
    if !is_there(path)? {
        return Ok(None);
    }
    let found = serde_json::from_str(&read(path)?).with_context(|| format!("{} is not valid JSON", path.display()));
    found.hint(|| ANEW).map(Some)
}

/// The tokens that a folder has beside `vocab.txt`, with their ids, in the order of these.
fn added_tokens(folder: &Path, config: &Value) -> anyhow::Result<Vec<(u64, String)>> {
    let mut added: Vec<(u64, String)> = match config["added_tokens_decoder"].as_object() {
        Some(tokens) => tokens
            .iter()
            .filter_map(|(id, token)| Some((id.parse().ok()?, token["content"].as_str()?.to_owned())))
            .collect(),
        None => {
            let tokens = read_json(&folder.join(ADDED))?.unwrap_or_default();
            let tokens = tokens.as_object().into_iter().flatten();
            tokens.filter_map(|(token, id)| Some((id.as_u64()?, token.clone()))).collect()
        }
    };
    if added.len() > MAX_ADDED {
        let message = format!("{} adds {} tokens, at most {MAX_ADDED} are accepted", folder.display(), added.len());
        return Err(failure(message, ANEW));
    }
    added.sort();
    Ok(added)
}

/// What stands around the vocabulary.
struct Around {
    /// Texts of the tokens in [`SPECIAL`].
    special: [String; SPECIAL.len()],
    normalizer: Value,
    pre_tokenizer: Value,
    decoder: Value,
}

impl Around {
    /// What a `tokenizer_config.json` says.
    fn of(config: &Value) -> anyhow::Result<Self> {
        let special = SPECIAL.map(|(key, usual)| {
            let text = config[key].as_str().or_else(|| config[key]["content"].as_str());
            text.unwrap_or(usual).to_owned()
        });
        let flag = |name: &str, default: bool| config[name].as_bool().unwrap_or(default);
        match config["tokenizer_class"].as_str() {
            Some(JAPANESE_CLASS) => Self::of_japanese(config, special),
            Some(class) if !BERT_CLASSES.contains(&class) => Err(failure(
                format!("its tokenizer is of the class {}, expected {}", quoted(class), BERT_CLASSES[0]),
                "save it with a tokenizer.json (use_fast=True), or choose another model",
            )),
            _ => Ok(Self {
                special,
                normalizer: json!({
                    "type": "BertNormalizer",
                    "clean_text": true,
                    "handle_chinese_chars": flag("tokenize_chinese_chars", true),
                    "strip_accents": config["strip_accents"].as_bool(),
                    "lowercase": flag("do_lower_case", true),
                }),
                pre_tokenizer: json!({ "type": "BertPreTokenizer" }),
                decoder: json!({ "type": "WordPiece", "prefix": PREFIX, "cleanup": true }),
            }),
        }
    }

    /// A token for each character. The words that the morphological analysis finds first have no influence on them,
    /// except that it drops white space.
    fn of_japanese(config: &Value, special: [String; SPECIAL.len()]) -> anyhow::Result<Self> {
        let named = |name: &str, default: &'static str| config[name].as_str().unwrap_or(default).to_owned();
        let (words, pieces) = (named("word_tokenizer_type", "basic"), named("subword_tokenizer_type", "wordpiece"));
        if pieces != "character" || !["basic", "mecab"].contains(&words.as_str()) {
            return Err(failure(
                format!(
                    "its tokenizer is a {JAPANESE_CLASS} with word_tokenizer_type {} and subword_tokenizer_type {}, \
                     expected mecab and character",
                    quoted(&words),
                    quoted(&pieces)
                ),
                "the words of Japanese need a dictionary: choose a model whose tokens are characters, such as manga-ocr's",
            ));
        }
        let lowercase = config["do_lower_case"] == true;
        let normalizers: Vec<Value> =
            ["NFKC"].into_iter().chain(lowercase.then_some("Lowercase")).map(|kind| json!({ "type": kind })).collect();
        let character = json!({
            "type": "Split", "pattern": { "Regex": "." }, "behavior": "Isolated", "invert": false
        });
        Ok(Self {
            special,
            normalizer: json!({ "type": "Sequence", "normalizers": normalizers }),
            pre_tokenizer: json!({
                "type": "Sequence", "pretokenizers": [json!({ "type": "WhitespaceSplit" }), character]
            }),
            decoder: json!({ "type": "Fuse" }),
        })
    }

    /// The `tokenizer.json` of this vocabulary.
    fn tokenizer(&self, vocab: &HashMap<String, usize>, added: &[(u64, String)]) -> anyhow::Result<Value> {
        let entry = |id: u64, token: &str| {
            json!({
                "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true
            })
        };
        let mut entries: Vec<(u64, Value)> = Vec::new();
        for token in &self.special {
            if let Some(&id) = vocab.get(token) {
                entries.push((id as u64, entry(id as u64, token)));
            }
        }
        let mut next = vocab.len() as u64;
        for (id, token) in added {
            check_length(token)?;
            if vocab.get(token).is_some_and(|&known| known as u64 == *id) {
                continue;
            }
            if *id != next || vocab.contains_key(token) {
                let message = format!("the added token {} has the id {id}, expected {next}", quoted(token));
                return Err(failure(message, ANEW));
            }
            entries.push((next, entry(next, token)));
            next += 1;
        }
        entries.sort_by_key(|&(id, _)| id);
        entries.dedup_by_key(|&mut (id, _)| id);
        let added: Vec<Value> = entries.into_iter().map(|(_, entry)| entry).collect();
        let [_, unk, cls, sep, _] = &self.special;
        let mut whole = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": self.normalizer,
            "pre_tokenizer": self.pre_tokenizer,
            "post_processor": null,
            "decoder": self.decoder,
            "model": {
                "type": KIND.model,
                "unk_token": unk,
                "continuing_subword_prefix": PREFIX,
                "max_input_chars_per_word": MAX_WORD,
                "vocab": vocab,
            },
        });
        if let (Some(first), Some(last)) = (vocab.get(cls), vocab.get(sep)) {
            whole["post_processor"] = json!({ "type": "BertProcessing", "cls": [cls, first], "sep": [sep, last] });
        }
        Ok(whole)
    }
}

/// `vocab.txt`, where a line for each token can give the ids.
fn write_files(whole: &Value) -> anyhow::Result<Vec<(&'static str, String)>> {
    let vocab = vocab_of(&whole["model"]);
    let has_line = |(line, (token, id)): (usize, &(&str, u64))| line as u64 == *id && !token.contains(['\n', '\r']);
    if !vocab.iter().enumerate().all(has_line) {
        return Ok(Vec::new());
    }
    Ok(vec![(VOCAB, vocab.iter().map(|(token, _)| format!("{token}\n")).collect())])
}

/// `BertTokenizer` builds everything around the vocabulary itself; a tokenizer that has other things around it is taken
/// as it is by `PreTrainedTokenizerFast`.
fn tokenizer_config(whole: &Value) -> Value {
    let (normalizer, model) = (&whole["normalizer"], &whole["model"]);
    let is_bert = normalizer["type"] == "BertNormalizer"
        && normalizer["clean_text"] == true
        && whole["pre_tokenizer"]["type"] == "BertPreTokenizer"
        && whole["decoder"]["type"] == "WordPiece"
        && model["continuing_subword_prefix"] == PREFIX
        && model["max_input_chars_per_word"] == MAX_WORD;
    let mut config = json!({ "clean_up_tokenization_spaces": whole["decoder"]["cleanup"] == true });
    if is_bert {
        config["tokenizer_class"] = "BertTokenizer".into();
        config["do_lower_case"] = normalizer["lowercase"].clone();
        config["strip_accents"] = normalizer["strip_accents"].clone();
        config["tokenize_chinese_chars"] = normalizer["handle_chinese_chars"].clone();
    } else {
        config["tokenizer_class"] = "PreTrainedTokenizerFast".into();
    }
    let has = |token: &str| model["vocab"].get(token).is_some();
    for (key, usual) in
        SPECIAL.into_iter().filter(|&(key, usual)| key != "unk_token" && key != "pad_token" && has(usual))
    {
        config[key] = usual.into();
    }
    config
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::pretrained::ModelTokenIds;
    use super::super::{CaptionTokenizer, SpecialIds, model_check};
    use super::*;
    use crate::config::TokenizerConfig;
    use base::error::describe;

    #[derive(serde::Deserialize)]
    struct Rows {
        ids: Vec<Vec<u32>>,
        texts: Vec<String>,
    }

    fn fixture(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/word_piece").join(name)
    }

    fn expected(name: &str) -> (Vec<String>, Rows) {
        let path = fixture("expected.json");
        let text = fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}; tests/reference/word_piece.py makes it", path.display()));
        let mut all: Value = serde_json::from_str(&text).unwrap();
        let rows = all[name].take();
        let captions = if rows["captions"].is_null() { all["captions"].take() } else { rows["captions"].clone() };
        (serde_json::from_value(captions).unwrap(), serde_json::from_value(rows).unwrap())
    }

    /// A copy of a fixture's folder, of which a test may change the files.
    fn copy(name: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(fixture(name)).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
        folder
    }

    fn number_of_tokens(folder: &Path) -> usize {
        fs::read_to_string(folder.join(VOCAB)).unwrap().lines().count()
    }

    /// As of a BLIP: the start token is the first id beyond the vocabulary, and the model has one more.
    fn open(folder: &Path) -> anyhow::Result<(CaptionTokenizer, TokenizerConfig)> {
        let count = number_of_tokens(folder);
        let ids = ModelTokenIds { start: count as u32, end: 3, pad: Some(0) };
        CaptionTokenizer::from_model_folder(folder, ids, count + 2)
    }

    fn refusal(folder: &Path) -> String {
        describe(&open(folder).err().unwrap())
    }

    #[test]
    fn ids_and_texts_are_those_of_transformers_from_either_file() {
        for name in ["uncased", "cased", "accents"] {
            let (captions, rows) = expected(name);
            let parts = copy(name);
            fs::remove_file(parts.path().join("tokenizer.json")).unwrap();
            for folder in [&fixture(name), parts.path()] {
                let (tokenizer, config) = open(folder).unwrap();
                assert_eq!(config.lowercase, name != "cased");
                assert_eq!((config.kind, config.unk_token.as_str()), (TokenizerKind::WordPiece, "[UNK]"));
                for ((caption, ids), text) in captions.iter().zip(&rows.ids).zip(&rows.texts) {
                    assert_eq!(&tokenizer.encode(caption).unwrap(), ids, "{name}: {caption}");
                    assert_eq!(&tokenizer.decode(ids).unwrap(), text, "{name}: {caption}");
                }
            }
        }
    }

    #[test]
    fn a_japanese_character_is_a_token_and_no_space_is_written_between_two() {
        let (captions, rows) = expected("japanese");
        let (tokenizer, config) = open(&fixture("japanese")).unwrap();
        assert!(!config.lowercase);
        for ((caption, ids), text) in captions.iter().zip(&rows.ids).zip(&rows.texts) {
            assert_eq!(&tokenizer.encode(caption).unwrap(), ids, "{caption}");
            assert_eq!(&tokenizer.decode(ids).unwrap(), text, "{caption}");
        }
        let folder = copy("japanese");
        let path = folder.path().join(CONFIG);
        let words = fs::read_to_string(&path).unwrap().replace("\"character\"", "\"wordpiece\"");
        fs::write(&path, words).unwrap();
        let text = refusal(folder.path());
        assert!(text.contains("subword_tokenizer_type \"wordpiece\", expected mecab and character"), "{text}");
    }

    /// BLIP's vocabulary ends before its `[DEC]`. The template's `[CLS]` begins nothing.
    #[test]
    fn a_start_token_without_a_text_gets_one_and_no_caption_makes_it() {
        let folder = fixture("uncased");
        let count = number_of_tokens(&folder) as u32;
        let (tokenizer, config) = open(&folder).unwrap();
        assert_eq!(tokenizer.special_ids(), SpecialIds { pad: 0, start: count, end: 3, unk: 1 });
        assert_eq!((config.start_token.as_str(), tokenizer.vocab_size()), ("[DEC]", count as usize + 1));
        let ids = tokenizer.encode("[DEC] a man [SEP] [CLS]").unwrap();
        assert!(ids.iter().all(|id| ![0, 2, 3, 4, count].contains(id)), "{ids:?}");
        assert_eq!(tokenizer.decode(&[count, 2, 5, 8, 4, 3, 0, count + 1]).unwrap(), "a man");
        let again = CaptionTokenizer::from_json(&tokenizer.to_json().unwrap(), &config).unwrap();
        assert_eq!((again.digest(), again.special_ids()), (tokenizer.digest(), tokenizer.special_ids()));
        assert_eq!(again.encode("[DEC] a man [SEP] [CLS]").unwrap(), ids);
    }

    #[test]
    fn ids_between_the_vocabulary_and_the_start_token_have_no_text() {
        let folder = fixture("uncased");
        let count = number_of_tokens(&folder) as u32;
        let ids = ModelTokenIds { start: count + 3, end: 3, pad: Some(0) };
        let (tokenizer, _) = CaptionTokenizer::from_model_folder(&folder, ids, count as usize + 4).unwrap();
        assert_eq!(tokenizer.special_ids().start, count + 3);
        assert_eq!(tokenizer.decode(&[5, count, count + 1, count + 3, 8]).unwrap(), "a man");
        for (start, vocab_size, expected) in [
            (count + 4, count as usize + 4, "it has no token with the id"),
            (count, count as usize, "it has no token with the id"),
            (2, count as usize - 1, "tokens, but the model has"),
            (count + 5000, count as usize + 9000, "it has no token with the id"),
        ] {
            let ids = ModelTokenIds { start, ..ids };
            let text = describe(&CaptionTokenizer::from_model_folder(&folder, ids, vocab_size).err().unwrap());
            assert!(text.contains(expected) && text.contains("hint: "), "{text}");
        }
    }

    #[test]
    fn added_tokens_of_old_folders_are_read() {
        for in_config in [false, true] {
            let folder = copy("uncased");
            fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
            let count = number_of_tokens(folder.path());
            if in_config {
                let added = json!({ "0": { "content": "[PAD]" }, count.to_string(): { "content": "[BOS]" } });
                let config = json!({ "added_tokens_decoder": added, "do_lower_case": true });
                fs::write(folder.path().join(CONFIG), config.to_string()).unwrap();
            } else {
                let added = json!({ "[ENC]": count + 1, "[BOS]": count });
                fs::write(folder.path().join(ADDED), added.to_string()).unwrap();
            }
            let (tokenizer, config) = open(folder.path()).unwrap();
            assert_eq!(config.start_token, "[BOS]");
            assert_eq!(tokenizer.vocab_size(), count + if in_config { 1 } else { 2 });
        }
        let folder = copy("uncased");
        fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
        fs::write(folder.path().join(ADDED), r#"{"[BOS]": 7}"#).unwrap();
        assert!(refusal(folder.path()).contains("the added token \"[BOS]\" has the id 7, expected"));
    }

    #[test]
    fn a_folder_gives_back_the_tokenizer_that_was_saved_in_it() {
        for (name, class) in
            [("uncased", "BertTokenizer"), ("accents", "BertTokenizer"), ("japanese", "PreTrainedTokenizerFast")]
        {
            let folder = tempfile::tempdir().unwrap();
            let (tokenizer, config) = open(&fixture(name)).unwrap();
            tokenizer.save(folder.path()).unwrap();
            let again = CaptionTokenizer::from_directory(folder.path(), &config).unwrap().unwrap();
            assert_eq!(again.digest(), tokenizer.digest());
            assert_eq!(fs::read(folder.path().join(VOCAB)).unwrap(), fs::read(fixture(name).join(VOCAB)).unwrap());
            let written = tokenizer.tokenizer_config().unwrap();
            assert_eq!(written["tokenizer_class"], class);
            assert_eq!(written["clean_up_tokenization_spaces"], name != "japanese");
            if class == "BertTokenizer" {
                assert_eq!(written["do_lower_case"], true);
                assert_eq!(written["strip_accents"], if name == "accents" { json!(false) } else { Value::Null });
            }
        }
    }

    #[test]
    fn another_kind_than_that_of_the_config_is_a_usage_error() {
        let (tokenizer, config) = open(&fixture("uncased")).unwrap();
        let other = TokenizerConfig { kind: TokenizerKind::ByteLevelBpe, ..config };
        let error = CaptionTokenizer::from_json(&tokenizer.to_json().unwrap(), &other).err().unwrap();
        assert!(base::error::is_usage_error(&error));
        insta::assert_snapshot!(describe(&error), @r#"
        tokenizer.kind is "byte_level_bpe" in the config, but the tokenizer is of the kind "word_piece"
          hint: write tokenizer.kind = "word_piece", or give the folder of another tokenizer
        "#);
    }

    #[test]
    fn a_damaged_vocabulary_and_another_class_are_errors_that_say_where() {
        let folder = copy("uncased");
        fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
        let vocab = folder.path().join(VOCAB);
        let whole = fs::read_to_string(&vocab).unwrap();
        fs::write(&vocab, format!("{whole}man\n")).unwrap();
        let text = refusal(folder.path());
        assert!(text.contains("vocab.txt has the token \"man\" in line 9 and in line"), "{text}");
        fs::write(&vocab, whole.replace("[UNK]", "unk")).unwrap();
        assert!(refusal(folder.path()).contains("the token \"[UNK]\" for unknown words"));
        fs::write(&vocab, &whole).unwrap();
        fs::write(folder.path().join(CONFIG), r#"{"tokenizer_class": "BertweetTokenizer"}"#).unwrap();
        let text = refusal(folder.path());
        assert!(text.contains("of the class \"BertweetTokenizer\", expected BertTokenizer"), "{text}");
        fs::write(folder.path().join(CONFIG), "{").unwrap();
        assert!(refusal(folder.path()).contains("tokenizer_config.json is not valid JSON"));
    }

    fn file() -> Value {
        json!({
            "normalizer": { "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                "strip_accents": null, "lowercase": true },
            "pre_tokenizer": { "type": "BertPreTokenizer" },
            "decoder": { "type": "WordPiece", "prefix": "##", "cleanup": true },
            "model": { "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100, "vocab": { "[UNK]": 0, "a": 1, "##b": 2 } },
        })
    }

    #[test]
    fn what_would_panic_take_long_or_leave_marks_in_captions_is_refused() {
        let refusal = |place: &str, value: Value| {
            let mut file = file();
            *file.pointer_mut(place).unwrap() = value;
            model_check::check(&file.to_string()).err().map_or_else(String::new, |error| describe(&error))
        };
        assert_eq!(refusal("/model/max_input_chars_per_word", json!(200)), "");
        for (place, value, expected) in [
            ("/model/max_input_chars_per_word", json!(201), "max_input_chars_per_word of 1 to 200, found \"201\""),
            ("/model/max_input_chars_per_word", json!("x".repeat(100_000)), "max_input_chars_per_word of 1 to 200"),
            ("/model/max_input_chars_per_word", json!(0), "max_input_chars_per_word of 1 to 200"),
            ("/model/continuing_subword_prefix", json!(""), "continuing_subword_prefix of 1 to 16 bytes"),
            ("/model/continuing_subword_prefix", json!("x".repeat(17)), "continuing_subword_prefix of 1 to 16 bytes"),
            ("/model/continuing_subword_prefix", json!("@@"), "the decoder WordPiece with the prefix @@"),
            ("/model/unk_token", json!("[unk]"), "the token \"[unk]\" for unknown words"),
            ("/model/unk_token", Value::Null, "for unknown words"),
            ("/model/vocab/a", json!(2), "have the same id, 2"),
            ("/model/vocab", json!([]), "no vocab, which a WordPiece needs"),
            ("/decoder", Value::Null, "expected the decoder WordPiece with the prefix ##"),
            ("/decoder", json!({ "type": "ByteLevel" }), "expected the decoder WordPiece with the prefix ##"),
            ("/normalizer", json!({ "type": "Prepend", "prepend": "x" }), "has a part of the type \"Prepend\""),
            ("/normalizer", json!({ "type": "BertNormalizer", "x": 1 }), "with the unknown parameter \"x\""),
            ("/normalizer", json!({ "type": "Replace", "pattern": { "String": "a" }, "content": "aa" }), "longer"),
            ("/pre_tokenizer", json!({ "type": "Metaspace" }), "has a part of the type \"Metaspace\""),
        ] {
            let text = refusal(place, value);
            assert!(text.contains(expected) && text.contains("hint: ") && text.len() < 800, "{place}: {text}");
        }
        let mut other = file();
        other["model"]["dropout"] = json!(0.5);
        assert!(
            describe(&model_check::check(&other.to_string()).unwrap_err()).contains("unknown parameter \"dropout\"")
        );
    }
}
