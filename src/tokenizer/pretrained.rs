//! A tokenizer that comes with a pretrained model: what the config would have said is read off it.

use std::path::Path;

use anyhow::Context as _;
use tokenizers::Tokenizer;

use super::CaptionTokenizer;
use super::contract::lowercases;
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

impl CaptionTokenizer {
    /// Reads the tokenizer of a model's folder, and returns the config that describes it. The token for the unknown is
    /// the model's own where it has one, else the end token, as GPT-2's.
    ///
    /// # Errors
    /// A folder without a tokenizer, a damaged one, one that is not byte-level, an id that it does not have.
    pub fn from_model_folder(folder: &Path, ids: ModelTokenIds) -> anyhow::Result<(Self, TokenizerConfig)> {
        let inner = Self::raw_from_directory(folder)?.ok_or_else(|| {
            failure(
                format!("{} contains no tokenizer", folder.display()),
                "a captioner's folder contains tokenizer.json, or vocab.json and merges.txt",
            )
        })?;
        let config = describe(&inner, ids)
            .with_context(|| format!("the tokenizer in {} does not fit the model", folder.display()))
            .hint(|| "download tokenizer and config.json again from the same source")?;
        let tokenizer = Self::checked(inner, &config)
            .with_context(|| format!("cannot use the tokenizer in {}", folder.display()))?;
        Ok((tokenizer, config))
    }
}

fn describe(inner: &Tokenizer, ids: ModelTokenIds) -> anyhow::Result<TokenizerConfig> {
    let text = |id: u32| inner.id_to_token(id).with_context(|| format!("it has no token with the id {id}"));
    let end_token = text(ids.end)?;
    let unk_token = ["<unk>", "<|endoftext|>"].into_iter().find(|token| inner.token_to_id(token).is_some());
    Ok(TokenizerConfig {
        directory: None,
        vocab_size: inner.get_vocab_size(true),
        lowercase: lowercases(inner)?,
        pad_token: text(ids.pad.unwrap_or(ids.end))?,
        start_token: text(ids.start)?,
        unk_token: unk_token.map_or_else(|| end_token.clone(), str::to_owned),
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
            let (tokenizer, config) = CaptionTokenizer::from_model_folder(&fixtures().join(name), ids).unwrap();
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
        let (whole, _) = CaptionTokenizer::from_model_folder(&fixtures().join("vit_gpt2"), ids).unwrap();
        let (parts, config) = CaptionTokenizer::from_model_folder(&fixtures().join("gpt2"), ids).unwrap();
        assert_eq!(config.pad_token, "<|endoftext|>");
        for caption in ["A kite hangs over the harbour wall .", "<|endoftext|> is text"] {
            assert_eq!(parts.encode(caption).unwrap(), whole.encode(caption).unwrap());
        }
        assert_eq!((parts.special_ids(), parts.vocab_size()), (whole.special_ids(), 302));
    }

    #[test]
    fn an_id_that_the_tokenizer_lacks_and_a_folder_without_one_are_errors() {
        let lacking = ModelTokenIds { start: 302, end: 301, pad: None };
        let error = CaptionTokenizer::from_model_folder(&fixtures().join("gpt2"), lacking).err().unwrap();
        assert!(format!("{error:#}").contains("no token with the id 302"), "{error:#}");
        let error = CaptionTokenizer::from_model_folder(&fixtures().join("clip"), lacking).err().unwrap();
        assert!(format!("{error:#}").contains("contains no tokenizer"), "{error:#}");
    }
}
