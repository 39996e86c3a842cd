//! What a kind of tokenizer provides. A new kind is a file with its `KIND` and a line in `kinds.rs`.

use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::Tokenizer;

use crate::config::TokenizerKind;

/// What to do about a tokenizer of a kind that is not known.
pub(super) const KNOWN_KINDS: &str = "use a byte-level BPE tokenizer, such as GPT-2's, or a \
                                      WordPiece, such as BERT's, or let a new tokenizer be trained";

/// The parts of one kind.
#[derive(Debug)]
pub(super) struct PartKind {
    /// Its key in the file.
    pub(super) key: &'static str,
    /// Where a sequence of this kind has its parts.
    pub(super) list: &'static str,
    /// Types with their parameters.
    pub(super) types: &'static [(&'static str, &'static [&'static str])],
}

/// Contents of files by their names.
pub(super) type NamedFiles = Vec<(&'static str, String)>;

#[derive(Debug)]
pub(super) struct Kind {
    /// Its name in the config.
    pub(super) name: TokenizerKind,
    /// The model's type in a `tokenizer.json`.
    pub(super) model: &'static str,
    /// The parts around the model that such tokenizers have: normalizer, pre-tokenizer, post-processor and decoder.
    pub(super) parts: [PartKind; 4],
    /// Whether a tokenizer that was read is of this kind.
    pub(super) is_kind_of: fn(&Tokenizer) -> bool,
    /// Checks that the model of a file can be built and always encodes a caption in the same way, given the file's
    /// decoder.
    pub(super) check_model: fn(model: &Map<String, Value>, decoder: &Value) -> anyhow::Result<()>,
    /// Checks what a tokenizer makes of a text.
    pub(super) check_text: fn(&Tokenizer) -> anyhow::Result<()>,
    /// Turns the text of tokens into that of a caption.
    pub(super) clean_up: fn(&Tokenizer, String) -> String,
    /// The token for the unknown that such tokenizers have.
    pub(super) unk_token: fn(&Tokenizer) -> Option<String>,
    /// What a start token is called to which the files give no text.
    pub(super) start_token: &'static str,
    /// Tokens that are no text, beside those that the config names.
    pub(super) special_tokens: &'static [&'static str],
    /// The files beside `tokenizer.json` for tools that do not know it.
    pub(super) files: &'static [&'static str],
    /// The `tokenizer.json` that says what these files say, where a folder has them; the truth value is whether to
    /// lower-case captions if the files do not say so.
    pub(super) read_files: fn(&Path, bool) -> anyhow::Result<Option<String>>,
    /// These files, by name, out of a `tokenizer.json`.
    pub(super) write_files: fn(&Value) -> anyhow::Result<NamedFiles>,
    /// What `tokenizer_config.json` of transformers says of such a tokenizer, out of a `tokenizer.json`.
    pub(super) tokenizer_config: fn(&Value) -> Value,
}
