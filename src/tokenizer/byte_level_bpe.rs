//! Byte-level BPE, as GPT-2 has it: how one is trained, which models and parts of a `tokenizer.json` keep to the
//! contract, and `vocab.json` with `merges.txt`. The ids are those of Python's `tokenizers.ByteLevelBPETokenizer`.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use serde_json::{Map, Value, json};
use tokenizers::Tokenizer;
use tokenizers::models::bpe::{BPE, BpeTrainer, Vocab};
use tokenizers::models::{ModelWrapper, TrainerWrapper};
use tokenizers::normalizers::Lowercase;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use super::contract::{ANEW, check_tokens, decode, encode, is_there, read, special_tokens, vocab_of};
use super::kind::{KNOWN_KINDS, Kind, PartKind};
use super::parts;
use crate::config::{TokenizerConfig, TokenizerKind};
use base::error::{WithHint as _, failure, usage_error};
use base::visible::quoted;

/// Every byte is a token.
const BYTES: usize = 256;
/// Bytes of what is put at the end of each word.
const MAX_SUFFIX_BYTES: usize = 16;
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

const BYTE_LEVEL: (&str, &[&str]) = (parts::BYTE_LEVEL, &["add_prefix_space", "trim_offsets", "use_regex"]);

const VOCAB: &str = "vocab.json";
const MERGES: &str = "merges.txt";
/// What the first line of `merges.txt` begins with.
const MERGES_VERSION: &str = "#version: 0.2";

pub(super) const KIND: Kind = Kind {
    name: TokenizerKind::ByteLevelBpe,
    model: "BPE",
    parts: PARTS,
    is_kind_of: |tokenizer| matches!(tokenizer.get_model(), ModelWrapper::BPE(_)),
    check_model: |model, _| check_model(model),
    check_text: check_text_survives,
    clean_up: |_, text| text,
    unk_token: |tokenizer| {
        ["<unk>", "<|endoftext|>"].into_iter().find(|token| tokenizer.token_to_id(token).is_some()).map(str::to_owned)
    },
    start_token: "<start>",
    special_tokens: &[],
    files: &[VOCAB, MERGES],
    read_files,
    write_files,
    // A class for one model would build its own normaliser, and captions would no longer be lower-cased.
    tokenizer_config: |_| json!({ "tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": false }),
};

/// The parts around the model that byte-level tokenizers have.
pub(super) const PARTS: [PartKind; 4] = [
    PartKind {
        key: "normalizer",
        list: "normalizers",
        types: &[
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
            BYTE_LEVEL,
            ("Split", &["pattern", "behavior", "invert"]),
            ("Digits", &["individual_digits"]),
            ("Punctuation", &["behavior"]),
        ],
    },
    PartKind {
        key: "post_processor",
        list: "processors",
        types: &[
            BYTE_LEVEL,
            ("TemplateProcessing", &["single", "pair", "special_tokens"]),
            ("RobertaProcessing", &["sep", "cls", "trim_offsets", "add_prefix_space"]),
            ("BertProcessing", &["sep", "cls"]),
        ],
    },
    PartKind { key: "decoder", list: "decoders", types: &[BYTE_LEVEL, ("Fuse", &[])] },
];

/// Learns a vocabulary of at most `config.vocab_size` tokens: ids 0 to 3 are pad, start, end and unk (fewer where
/// two are the same text), then the bytes, then the merges. The same captions give the same file, byte for byte.
///
/// # Errors
/// No caption with text in it; a vocabulary too small for bytes and special tokens; a special token whose text
/// the vocabulary also makes from captions.
pub(super) fn train<T: AsRef<str> + Send>(
    captions: impl Iterator<Item = T> + Send,
    config: &TokenizerConfig,
) -> anyhow::Result<Tokenizer> {
    let specials = special_tokens(config);
    let smallest = BYTES + specials.len();
    if config.vocab_size < smallest {
        return Err(usage_error(
            format!(
                "tokenizer.vocab_size must be {smallest} or more to include every byte and the special tokens, found \
                 {}",
                config.vocab_size
            ),
            "a few thousand tokens suit a caption data set",
        ));
    }
    let mut inner = around(BPE::default(), config.lowercase)?;
    let mut trainer = TrainerWrapper::BpeTrainer(
        BpeTrainer::builder()
            .show_progress(false)
            .vocab_size(config.vocab_size)
            .min_frequency(config.min_frequency)
            .special_tokens(specials)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect::<HashSet<char>>())
            .build(),
    );
    let any_text = AtomicBool::new(false);
    let seen = captions.inspect(|caption| {
        if !caption.as_ref().trim().is_empty() {
            any_text.store(true, Ordering::Relaxed);
        }
    });
    inner.train(&mut trainer, seen).map_err(anyhow::Error::from_boxed).context("cannot train the tokenizer")?;
    if !any_text.into_inner() {
        return Err(failure(
            "there are no captions to train the tokenizer on",
            "check that the data set has training images with captions",
        ));
    }
    Ok(inner)
}

/// What `ByteLevelBPETokenizer` of Python's `tokenizers` puts around a model.
///
/// # Errors
/// Parts that do not fit together.
fn around(model: BPE, lowercase: bool) -> anyhow::Result<Tokenizer> {
    let mut inner = Tokenizer::new(model);
    if lowercase {
        inner.with_normalizer(Some(Lowercase)).map_err(anyhow::Error::from_boxed)?;
    }
    // As Python's defaults: no space before the first word, offsets untrimmed.
    let bytes = ByteLevel::default().add_prefix_space(false);
    inner.with_pre_tokenizer(Some(bytes));
    inner.with_decoder(Some(ByteLevel::default()));
    inner.with_post_processor(Some(ByteLevel::default().trim_offsets(false)));
    Ok(inner)
}

/// Checks that a model can be built, and that it always encodes a caption in the same way.
///
/// # Errors
/// An unknown parameter, a prefix, dropout, an overlong suffix; merges of something other than tokens.
fn check_model(model: &Map<String, Value>) -> anyhow::Result<()> {
    if let Some(key) = model.keys().find(|key| !MODEL_KEYS.contains(&key.as_str())) {
        return Err(failure(format!("the tokenizer's model has the unknown parameter {}", quoted(key)), KNOWN_KINDS));
    }
    let is_set = |value: &&Value| !value.is_null() && value.as_str() != Some("") && value.as_f64() != Some(0.0);
    for key in ["continuing_subword_prefix", "dropout"] {
        if let Some(value) = model.get(key).filter(is_set) {
            let found = quoted(&value.to_string());
            let message = format!("the tokenizer is not byte-level: expected no {key} in its model, found {found}");
            return Err(failure(message, KNOWN_KINDS));
        }
    }
    let suffix = model.get("end_of_word_suffix").and_then(Value::as_str).unwrap_or_default();
    if suffix.len() > MAX_SUFFIX_BYTES {
        let message =
            format!("expected an end_of_word_suffix of at most {MAX_SUFFIX_BYTES} bytes, found {}", quoted(suffix));
        return Err(failure(message, KNOWN_KINDS));
    }
    let (Some(Value::Object(vocab)), Some(Value::Array(merges))) = (model.get("vocab"), model.get("merges")) else {
        return Err(failure("the tokenizer has no vocab and merges, which a BPE needs", KNOWN_KINDS));
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

/// Checks that two tokens and what they merge to are in the vocabulary.
///
/// # Errors
/// One that is not.
fn check_merge(left: &str, right: &str, is_token: impl Fn(&str) -> bool) -> anyhow::Result<()> {
    for token in [left, right, &format!("{left}{right}")] {
        if !is_token(token) {
            let [left, right, token] = [left, right, token].map(quoted);
            return Err(failure(format!("the merge of {left} and {right}: {token} is not a token"), ANEW));
        }
    }
    Ok(())
}

/// A vocabulary of words, for instance, would lose the spaces.
fn check_text_survives(inner: &Tokenizer) -> anyhow::Result<()> {
    let text = "a man, two dogs";
    let decoded = decode(inner, &encode(inner, text)?)?;
    if decoded != text {
        return Err(failure(
            format!("the tokenizer is not byte-level: it turns {text:?} into {}", quoted(&decoded)),
            KNOWN_KINDS,
        ));
    }
    Ok(())
}

/// Reads `vocab.json` and `merges.txt`. They say nothing about lower-casing.
fn read_files(folder: &Path, lowercase: bool) -> anyhow::Result<Option<String>> {
    let (vocab, merges) = (folder.join(VOCAB), folder.join(MERGES));
    match (is_there(&vocab)?, is_there(&merges)?) {
        (false, false) => Ok(None),
        (true, true) => {
            let inner = from_two_files(&vocab, &merges, lowercase)?;
            Ok(Some(inner.to_string(false).map_err(anyhow::Error::from_boxed)?))
        }
        (has_vocab, _) => {
            let (there, absent) = if has_vocab { (vocab, MERGES) } else { (merges, VOCAB) };
            Err(failure(
                format!("{} is there, but {absent} is missing", there.display()),
                format!("put {absent} beside it, or choose another folder to have a tokenizer trained there"),
            ))
        }
    }
}

fn from_two_files(vocab: &Path, merges: &Path, lowercase: bool) -> anyhow::Result<Tokenizer> {
    let ids: HashMap<String, u32> = serde_json::from_str(&read(vocab)?)
        .with_context(|| format!("{} is not a table from tokens to ids", vocab.display()))
        .hint(|| "expected {\"token\": id, ...}, as GPT-2's vocab.json")?;
    check_tokens(ids.iter().map(|(token, &id)| (token.as_str(), Some(u64::from(id)))))
        .with_context(|| format!("{} cannot be used", vocab.display()))?;
    let text = read(merges)?;
    let unfit = || format!("{} and {} do not fit together", vocab.display(), merges.display());
    let mut pairs = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.is_empty() || (index == 0 && line.starts_with("#version")) {
            continue;
        }
        let pair = line.split_once(' ').filter(|(_, right)| !right.is_empty() && !right.contains(' '));
        let (left, right) = pair.ok_or_else(|| {
            failure(
                format!(
                    "{} line {}: expected two tokens with a space between, found {}",
                    merges.display(),
                    index + 1,
                    quoted(line)
                ),
                "download the file again from its source",
            )
        })?;
        check_merge(left, right, |token| ids.contains_key(token)).with_context(unfit)?;
        pairs.push((left.to_owned(), right.to_owned()));
    }
    let model = BPE::builder()
        .vocab_and_merges(ids.into_iter().collect::<Vocab>(), pairs)
        .build()
        .map_err(anyhow::Error::from_boxed)
        .with_context(unfit)?;
    around(model, lowercase)
}

/// `vocab.json`, ordered by id, and `merges.txt`, ordered by rank.
fn write_files(whole: &Value) -> anyhow::Result<Vec<(&'static str, String)>> {
    let model = &whole["model"];
    let Some(merges) = model["merges"].as_array() else {
        return Err(failure("the tokenizer is not a BPE: it has no merges", "use a byte-level BPE tokenizer"));
    };
    let mut table = Vec::new();
    for (text, id) in vocab_of(model) {
        table.push(format!("{}:{id}", serde_json::to_string(text)?));
    }
    let mut lines = format!("{MERGES_VERSION}\n");
    for pair in merges {
        let (Some(left), Some(right)) = (pair[0].as_str(), pair[1].as_str()) else {
            anyhow::bail!("the merge {pair} is not a pair of tokens");
        };
        lines.push_str(&format!("{left} {right}\n"));
    }
    Ok(vec![(VOCAB, format!("{{{}}}", table.join(","))), (MERGES, lines)])
}
