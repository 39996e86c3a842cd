//! Byte-level BPE, as GPT-2 has it: how one is trained, and which models and parts of a `tokenizer.json` keep to the
//! contract. The ids are those of Python's `tokenizers.ByteLevelBPETokenizer`.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use serde_json::{Map, Value};
use tokenizers::Tokenizer;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::models::{ModelWrapper, TrainerWrapper};
use tokenizers::normalizers::Lowercase;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use super::contract::{ANEW, KNOWN_KINDS, check_tokens, special_tokens};
use super::parts::{self, PartKind};
use crate::config::TokenizerConfig;
use base::error::{failure, usage_error};
use base::visible::quoted;

/// The model's type in a `tokenizer.json`.
pub(super) const MODEL: &str = "BPE";
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

/// Whether a tokenizer that was read is of this kind.
pub(super) fn is_kind_of(tokenizer: &Tokenizer) -> bool {
    matches!(tokenizer.get_model(), ModelWrapper::BPE(_))
}

/// Learns a vocabulary of at most `config.vocab_size` tokens: ids 0 to 3 are pad, start, end and unk (fewer where
/// two are the same text), then the bytes, then the merges. The same captions give the same file, byte for byte.
///
/// # Errors
/// No caption with text in it; a vocabulary too small for bytes and special tokens; a special token whose text
/// the vocabulary also makes from captions.
pub(super) fn train<'a>(
    captions: impl Iterator<Item = &'a str> + Send,
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
        if !caption.trim().is_empty() {
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
pub(super) fn around(model: BPE, lowercase: bool) -> anyhow::Result<Tokenizer> {
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
pub(super) fn check_model(model: &Map<String, Value>) -> anyhow::Result<()> {
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
pub(super) fn check_merge(left: &str, right: &str, is_token: impl Fn(&str) -> bool) -> anyhow::Result<()> {
    for token in [left, right, &format!("{left}{right}")] {
        if !is_token(token) {
            let [left, right, token] = [left, right, token].map(quoted);
            return Err(failure(format!("the merge of {left} and {right}: {token} is not a token"), ANEW));
        }
    }
    Ok(())
}
