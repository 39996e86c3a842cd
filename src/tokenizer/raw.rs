//! A tokenizer out of the text of a file, which is checked before it is handed to the `tokenizers` crate.

use anyhow::Context as _;
use tokenizers::Tokenizer;

use super::kind::Kind;
use super::model_check;
use base::visible;

/// Length in characters to which an error of the tokenizers crate is cut.
const MAX_QUOTED: usize = 200;

/// A tokenizer of a known kind, not yet compared with a config.
pub(super) struct Raw {
    pub(super) inner: Tokenizer,
    pub(super) kind: &'static Kind,
}

/// Reads the text of a `tokenizer.json`.
///
/// # Errors
/// What the check refuses; text that is not a tokenizer.
pub(super) fn raw_from_json(text: &str) -> anyhow::Result<Raw> {
    let (kind, text) = model_check::check(text)?;
    let inner = Tokenizer::from_bytes(text).map_err(quoted_error).context("not a tokenizer")?;
    // A file that names no model is read as whichever fits.
    anyhow::ensure!((kind.is_kind_of)(&inner), "expected a tokenizer with the model {}", kind.model);
    Ok(Raw { inner, kind })
}

/// An error of the crate, which may quote the whole file.
fn quoted_error(error: tokenizers::Error) -> anyhow::Error {
    anyhow::anyhow!("{}", visible::cut(&error.to_string(), MAX_QUOTED))
}
