//! A tokenizer that comes with a pretrained model: what the config would have said is read off it.

use std::path::Path;

use anyhow::Context as _;
use tokenizers::AddedToken;

use super::CaptionTokenizer;
use super::contract::lowercases;
use super::raw::Raw;
use crate::config::TokenizerConfig;
use base::error::{WithHint as _, failure};

/// The ids that a model's config names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelTokenIds {
    /// Precedes a caption.
    pub start: u32,
    /// Ends a caption.
    pub end: u32,
    /// Fills up a batch. Absent: the end token, as transformers does.
    pub pad: Option<u32>,
}

/// Tokens between those of the files and a start token without a text: such tokens have no text either.
const MAX_UNNAMED: usize = 1000;

impl CaptionTokenizer {
    /// Reads the tokenizer of a model's folder, and returns the config that describes it. The token for the unknown is
    /// the model's own where it has one, else the end token, as GPT-2's. The start token may be an id without a text, as
    /// BLIP's: it gets one. `vocab_size` is that of the model.
    ///
    /// # Errors
    /// A folder without a tokenizer, a damaged one, one of no known kind, one with more tokens than the model, an id
    /// that neither has.
    pub fn from_model_folder(
        folder: &Path,
        ids: ModelTokenIds,
        vocab_size: usize,
    ) -> anyhow::Result<(Self, TokenizerConfig)> {
        let mut raw = Self::raw_from_directory(folder)?.ok_or_else(|| {
            failure(
                format!("{} contains no tokenizer", folder.display()),
                "a captioner's folder contains tokenizer.json, or vocab.json and merges.txt, or vocab.txt",
            )
        })?;
        let config = name_start(&mut raw, ids.start, vocab_size)
            .and_then(|()| describe(&raw, ids))
            .with_context(|| format!("the tokenizer in {} does not fit the model", folder.display()))
            .hint(|| "download tokenizer and config.json again from the same source")?;
        let tokenizer =
            Self::checked(raw, &config).with_context(|| format!("cannot use the tokenizer in {}", folder.display()))?;
        Ok((tokenizer, config))
    }

    /// The id of a token in the tokenizer of a model's folder.
    ///
    /// # Errors
    /// A damaged tokenizer, one of no known kind.
    pub fn id_in_model_folder(folder: &Path, token: &str) -> anyhow::Result<Option<u32>> {
        Ok(Self::raw_from_directory(folder)?.and_then(|raw| raw.inner.token_to_id(token)))
    }
}

/// Gives a start token that is beyond the tokenizer's ids, and not beyond the model's, a text.
fn name_start(raw: &mut Raw, start: u32, vocab_size: usize) -> anyhow::Result<()> {
    let Raw { inner, kind } = raw;
    let found = inner.get_vocab_size(true);
    anyhow::ensure!(found <= vocab_size, "it has {found} tokens, but the model has {vocab_size}");
    if inner.id_to_token(start).is_some() {
        return Ok(());
    }
    anyhow::ensure!(
        (found..vocab_size.min(found.saturating_add(MAX_UNNAMED))).contains(&(start as usize)),
        "it has no token with the id {start}, which is the start token: its ids end with {}, and those of the model with \
         {}",
        found.saturating_sub(1),
        vocab_size.saturating_sub(1)
    );
    let is_free = |text: &String| inner.token_to_id(text).is_none();
    let text = Some(kind.start_token.to_owned()).filter(is_free).unwrap_or_else(|| format!("[start {start}]"));
    let unnamed = (found..start as usize).map(|id| format!("[unnamed {id}]"));
    let added = unnamed.chain([text.clone()]).map(|text| AddedToken::from(text, true));
    inner.add_special_tokens(added).map_err(anyhow::Error::from_boxed)?;
    anyhow::ensure!(inner.token_to_id(&text) == Some(start), "its ids are not 0 to {}", found.saturating_sub(1));
    Ok(())
}

fn describe(raw: &Raw, ids: ModelTokenIds) -> anyhow::Result<TokenizerConfig> {
    let Raw { inner, kind } = raw;
    let text = |id: u32| inner.id_to_token(id).with_context(|| format!("it has no token with the id {id}"));
    let end_token = text(ids.end)?;
    Ok(TokenizerConfig {
        kind: kind.name,
        directory: None,
        vocab_size: inner.get_vocab_size(true),
        lowercase: lowercases(inner)?,
        pad_token: text(ids.pad.unwrap_or(ids.end))?,
        start_token: text(ids.start)?,
        unk_token: (kind.unk_token)(inner).unwrap_or_else(|| end_token.clone()),
        end_token,
        ..TokenizerConfig::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Facts {
        captions: Vec<String>,
        ids: Vec<Vec<u32>>,
        greedy: Vec<Vec<u32>>,
        texts: Vec<String>,
    }

    fn fixtures() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models")
    }

    #[test]
    fn ids_and_texts_are_those_of_python_also_where_one_token_is_start_end_and_pad() {
        for (name, ids) in [
            ("vit_gpt2", ModelTokenIds { start: 301, end: 301, pad: Some(301) }),
            ("clip_gpt2", ModelTokenIds { start: 1, end: 2, pad: Some(0) }),
        ] {
            let (tokenizer, config) = CaptionTokenizer::from_model_folder(&fixtures().join(name), ids, 330).unwrap();
            assert_eq!(config.lowercase, name == "clip_gpt2");
            let text = std::fs::read_to_string(fixtures().join(format!("expected_{name}.json"))).unwrap();
            let facts: Facts = serde_json::from_str(&text).unwrap();
            for (caption, ids) in facts.captions.iter().zip(&facts.ids) {
                assert_eq!(&tokenizer.encode(caption).unwrap(), ids, "{name}: {caption}");
            }
            for (ids, text) in facts.greedy.iter().zip(&facts.texts) {
                assert_eq!(tokenizer.decode(ids).unwrap(), text.trim(), "{name}");
            }
        }
    }

    #[test]
    fn vocab_and_merges_alone_give_the_tokenizer_of_the_whole_file() {
        let ids = ModelTokenIds { start: 301, end: 301, pad: None };
        let (whole, _) = CaptionTokenizer::from_model_folder(&fixtures().join("vit_gpt2"), ids, 302).unwrap();
        let (parts, config) = CaptionTokenizer::from_model_folder(&fixtures().join("gpt2"), ids, 302).unwrap();
        assert_eq!(config.pad_token, "<|endoftext|>");
        for caption in ["A kite hangs over the harbour wall .", "<|endoftext|> is text"] {
            assert_eq!(parts.encode(caption).unwrap(), whole.encode(caption).unwrap());
        }
        assert_eq!((parts.special_ids(), parts.vocab_size()), (whole.special_ids(), 302));
    }

    #[test]
    fn an_id_that_the_tokenizer_lacks_and_a_folder_without_one_are_errors() {
        let lacking = ModelTokenIds { start: 302, end: 301, pad: None };
        let error = CaptionTokenizer::from_model_folder(&fixtures().join("gpt2"), lacking, 302).err().unwrap();
        assert!(format!("{error:#}").contains("no token with the id 302"), "{error:#}");
        let error = CaptionTokenizer::from_model_folder(&fixtures().join("clip"), lacking, 302).err().unwrap();
        assert!(format!("{error:#}").contains("contains no tokenizer"), "{error:#}");
    }
}
