//! The tokenizer that was trained on millions of captions is kept beside the data set, for the runs after the first.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::config::TokenizerConfig;
use crate::tokenizer::CaptionTokenizer;
use base::bounded_file::{self, MAX_TABLE_BYTES};
use base::error::WithHint as _;
use base::{atomic_file, digest, terminal};

/// Raise it after any change to what a training makes of the same captions.
const VERSION: u32 = 1;

/// The tokenizer that `config` makes of the captions that `captions` names: that in a file below `folder`, or else what
/// `train` returns, which is kept there.
///
/// # Errors
/// Those of `train`; a file that is damaged.
pub(super) fn kept_tokenizer(
    folder: &Path,
    captions: &str,
    config: &TokenizerConfig,
    train: impl FnOnce() -> Result<CaptionTokenizer>,
) -> Result<CaptionTokenizer> {
    let config_alone = TokenizerConfig { directory: None, ..config.clone() };
    let content = json!({ "version": VERSION, "captions": captions, "config": config_alone }).to_string();
    let path = folder.join(format!("tokenizer-{}.json", &digest::sha256(content.as_bytes())[..16]));
    if path.exists() {
        return bounded_file::read_text(&path, MAX_TABLE_BYTES)
            .map_err(anyhow::Error::from)
            .and_then(|text| CaptionTokenizer::from_json(&text, config))
            .with_context(|| format!("cannot use {}", path.display()))
            .hint(|| "remove that file: the tokenizer is trained again");
    }
    let tokenizer = train()?;
    let json = tokenizer.to_json()?;
    let written = fs::create_dir_all(folder).and_then(|()| atomic_file::write(&path, json.as_bytes()));
    if let Err(error) = written {
        let path = path.display();
        terminal::warning(&format!("the tokenizer is trained again at the next start: cannot write {path}: {error}"));
    }
    Ok(tokenizer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tokenizer_is_trained_once_for_the_same_captions_and_config() {
        let folder = tempfile::tempdir().unwrap();
        let config = TokenizerConfig { vocab_size: 270, min_frequency: 1, ..TokenizerConfig::default() };
        let train = || CaptionTokenizer::train(["a dog and a dog"].into_iter(), &config);
        let first = kept_tokenizer(folder.path(), "one", &config, train).unwrap();
        let again = kept_tokenizer(folder.path(), "one", &config, || panic!("it is there")).unwrap();
        assert_eq!(first.digest(), again.digest());
        let mut num_trained = 0;
        for (captions, config) in
            [("two", config.clone()), ("one", TokenizerConfig { lowercase: false, ..config.clone() })]
        {
            kept_tokenizer(folder.path(), captions, &config, || {
                num_trained += 1;
                train()
            })
            .unwrap();
        }
        assert_eq!(num_trained, 2);
    }
}
