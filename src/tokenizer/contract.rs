//! What is required of a tokenizer, whatever its kind.
//!
//! - Its ids are 0 to n - 1, each token has one of its own, and n is at most `tokenizer.vocab_size`.
//! - It has the special tokens that the config names, and no text of a caption makes one of them.
//! - A caption that is encoded and decoded by a byte-level BPE is the same text, lower-cased if the config says so. A
//!   WordPiece loses accents and unknown words, as BERT does.
//! - A caption is always encoded in the same way, and to no more than its length. This is not seen from outside: each
//!   kind says which models and parts of a `tokenizer.json` keep to it.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;
use tokenizers::{AddedToken, NormalizedString, Normalizer as _, Tokenizer};

use super::kind::Kind;
use crate::config::TokenizerConfig;
use base::bounded_file::{self, MAX_TABLE_BYTES};
use base::error::{failure, usage_error};
use base::visible::quoted;

/// What to do about a damaged file.
pub(super) const ANEW: &str = "download the file again from its source";
/// Bytes of a token: several times those of the longest in use.
const MAX_TOKEN_BYTES: usize = 1000;

/// Ids of the special tokens. Two are equal where a loaded tokenizer uses one token for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpecialIds {
    /// Fills up a batch.
    pub pad: u32,
    /// Precedes every caption.
    pub start: u32,
    /// Follows every caption.
    pub end: u32,
    /// Replaces what cannot be encoded.
    pub unk: u32,
}

/// A tokenizer that keeps to the contract.
pub(super) struct Accepted {
    pub(super) inner: Tokenizer,
    pub(super) special_ids: SpecialIds,
    pub(super) vocab_size: usize,
}

/// Checks that a tokenizer is what the config says, and marks the special tokens.
///
/// # Errors
/// The first requirement that it does not meet.
pub(super) fn accept(mut inner: Tokenizer, kind: &Kind, config: &TokenizerConfig) -> anyhow::Result<Accepted> {
    if kind.name != config.kind {
        let (written, found) = (config.kind.as_str(), kind.name.as_str());
        return Err(usage_error(
            format!("tokenizer.kind is {written:?} in the config, but the tokenizer is of the kind {found:?}"),
            format!("write tokenizer.kind = {found:?}, or give the folder of another tokenizer"),
        ));
    }
    let id_of = |key: &str, text: &str| {
        inner.token_to_id(text).ok_or_else(|| {
            usage_error(
                format!("the tokenizer has no token {text}, which is tokenizer.{key} in the config"),
                format!("set tokenizer.{key} to a token that it has, or let a new tokenizer be trained"),
            )
        })
    };
    let special_ids = SpecialIds {
        pad: id_of("pad_token", &config.pad_token)?,
        start: id_of("start_token", &config.start_token)?,
        end: id_of("end_token", &config.end_token)?,
        unk: id_of("unk_token", &config.unk_token)?,
    };
    let of_kind = kind.special_tokens.iter().filter(|text| inner.token_to_id(text).is_some());
    let of_kind: Vec<AddedToken> = of_kind.map(|&text| AddedToken::from(text, true)).collect();
    let specials = special_tokens(config).into_iter().chain(of_kind);
    inner.add_special_tokens(specials).map_err(anyhow::Error::from_boxed)?;
    inner.set_encode_special_tokens(true);
    let vocab_size = dense_vocab_size(&inner)?;
    if vocab_size > config.vocab_size {
        return Err(usage_error(
            format!(
                "tokenizer.vocab_size is {} in the config, but the tokenizer has {vocab_size} tokens",
                config.vocab_size
            ),
            format!("write tokenizer.vocab_size = {vocab_size}, or let a new tokenizer be trained"),
        ));
    }
    let lowercase = lowercases(&inner)?;
    if lowercase != config.lowercase {
        let does = if lowercase { "lower-cases" } else { "does not lower-case" };
        return Err(usage_error(
            format!("tokenizer.lowercase is {} in the config, but the tokenizer {does} captions", config.lowercase),
            format!("write tokenizer.lowercase = {lowercase}, or let a new tokenizer be trained"),
        ));
    }
    check_captions_make_no_special_token(&inner, special_ids, config)?;
    (kind.check_text)(&inner)?;
    Ok(Accepted { inner, special_ids, vocab_size })
}

/// A special token such as `end` without brackets could also be the last merge of a word.
fn check_captions_make_no_special_token(
    inner: &Tokenizer,
    special_ids: SpecialIds,
    config: &TokenizerConfig,
) -> anyhow::Result<()> {
    let SpecialIds { pad, start, end, .. } = special_ids;
    for text in [&config.pad_token, &config.start_token, &config.end_token] {
        if encode(inner, text)?.iter().any(|id| [pad, start, end].contains(id)) {
            return Err(usage_error(
                format!("the special token {text} can also result from the words of a caption"),
                "write special tokens with brackets, such as <end>",
            ));
        }
    }
    Ok(())
}

/// The ids of a caption, without special tokens before, after or in it.
///
/// # Errors
/// A text that the tokenizer cannot encode.
pub(super) fn encode(inner: &Tokenizer, caption: &str) -> anyhow::Result<Vec<u32>> {
    let encoding = inner
        .encode_fast(caption, false)
        .map_err(anyhow::Error::from_boxed)
        .with_context(|| format!("cannot encode the caption {caption:?}"))?;
    Ok(encoding.get_ids().to_vec())
}

/// The text of `ids`, special tokens left out, without white space at its ends.
///
/// # Errors
/// Ids that the tokenizer cannot decode.
pub(super) fn decode(inner: &Tokenizer, ids: &[u32]) -> anyhow::Result<String> {
    let text = inner.decode(ids, true).map_err(anyhow::Error::from_boxed).context("cannot decode token ids")?;
    Ok(text.trim().to_owned())
}

/// The special tokens in the order of their ids, each text once.
pub(super) fn special_tokens(config: &TokenizerConfig) -> Vec<AddedToken> {
    let mut texts: Vec<&str> = Vec::new();
    for text in [&config.pad_token, &config.start_token, &config.end_token, &config.unk_token] {
        if !texts.contains(&text.as_str()) {
            texts.push(text);
        }
    }
    texts.into_iter().map(|text| AddedToken::from(text, true)).collect()
}

/// Whether it lower-cases captions.
///
/// # Errors
/// A normaliser that fails.
pub(super) fn lowercases(tokenizer: &Tokenizer) -> anyhow::Result<bool> {
    let mut text = NormalizedString::from("ABC");
    if let Some(normalizer) = tokenizer.get_normalizer() {
        normalizer.normalize(&mut text).map_err(anyhow::Error::from_boxed)?;
    }
    Ok(text.get().contains("abc"))
}

/// The number of tokens, which is one more than the highest id.
fn dense_vocab_size(tokenizer: &Tokenizer) -> anyhow::Result<usize> {
    let vocab = tokenizer.get_vocab(true);
    let ids: HashSet<u32> = vocab.values().copied().collect();
    match (0..ids.len() as u32).find(|id| !ids.contains(id)) {
        None => Ok(ids.len()),
        Some(gap) => Err(failure(
            format!("the tokenizer's {} ids are not 0 to {}: {gap} is missing", ids.len(), ids.len() - 1),
            "let a new tokenizer be trained",
        )),
    }
}

/// A caption is made of tokens: their length bounds that of a caption.
pub(super) fn check_length(token: &str) -> anyhow::Result<()> {
    if token.len() > MAX_TOKEN_BYTES {
        let message = format!("expected tokens of at most {MAX_TOKEN_BYTES} bytes, found {}", quoted(token));
        return Err(failure(message, ANEW));
    }
    Ok(())
}

/// Makes sure that no token is overlong and that each has an id of its own: of two with one id a text of the model
/// would name either.
///
/// # Errors
/// An overlong token, an invalid id, or one that two tokens have.
pub(super) fn check_tokens<'a>(vocab: impl Iterator<Item = (&'a str, Option<u64>)>) -> anyhow::Result<()> {
    let mut seen = HashMap::new();
    for (token, id) in vocab {
        check_length(token)?;
        let id = id.with_context(|| format!("the id of the token {} is not a whole number", quoted(token)))?;
        if let Some(other) = seen.insert(id, token) {
            let message = format!("the tokens {} and {} have the same id, {id}", quoted(other), quoted(token));
            return Err(failure(message, ANEW));
        }
    }
    Ok(())
}

/// The tokens of a model in a `tokenizer.json`, in the order of their ids.
pub(super) fn vocab_of(model: &Value) -> Vec<(&str, u64)> {
    let vocab = model["vocab"].as_object().into_iter().flatten();
    let mut entries: Vec<(&str, u64)> = vocab.filter_map(|(text, id)| Some((text.as_str(), id.as_u64()?))).collect();
    entries.sort_by_key(|&(_, id)| id);
    entries
}

/// Whether there is such a name, be it that of a link that leads nowhere: it is not to be replaced.
pub(super) fn is_there(path: &Path) -> anyhow::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot look for {}", path.display())),
    }
}

/// The text of a file of a tokenizer.
///
/// # Errors
/// A file that cannot be read or is larger than any such file.
pub(super) fn read(path: &Path) -> anyhow::Result<String> {
    bounded_file::read_text(path, MAX_TABLE_BYTES).with_context(|| format!("cannot read {}", path.display()))
}
