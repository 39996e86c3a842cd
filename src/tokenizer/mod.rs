//! Captions to ids and back (on the `tokenizers` crate). What is required of a tokenizer is in `contract.rs`; its kinds
//! are byte-level BPE and WordPiece.
//!
//! No special token is ever made from the text of a caption: where one belongs is decided by who builds a sequence, not
//! by what a caption says.

mod byte_level_bpe;
mod contract;
mod files;
mod kind;
mod kinds;
mod model_check;
mod parts;
mod pretrained;
mod raw;
mod word_piece;

use anyhow::Context as _;
use tokenizers::Tokenizer;

use crate::config::TokenizerConfig;
use base::digest::sha256;
use base::visible::quoted;
use contract::Accepted;
use kind::Kind;
use raw::{Raw, raw_from_json};

pub use contract::SpecialIds;
pub use pretrained::ModelTokenIds;

/// A vocabulary that turns captions into ids and back.
#[derive(Clone, Debug)]
pub struct CaptionTokenizer {
    inner: Tokenizer,
    kind: &'static Kind,
    special_ids: SpecialIds,
    vocab_size: usize,
}

impl CaptionTokenizer {
    /// Learns a byte-level BPE of at most `config.vocab_size` tokens: ids 0 to 3 are pad, start, end and unk (fewer
    /// where two are the same text), then the bytes, then the merges. The same captions give the same file, byte for
    /// byte.
    ///
    /// # Errors
    /// No caption with text in it; a vocabulary too small for bytes and special tokens; a special token whose text
    /// the vocabulary also makes from captions.
    pub fn train<T: AsRef<str> + Send>(
        captions: impl Iterator<Item = T> + Send,
        config: &TokenizerConfig,
    ) -> anyhow::Result<Self> {
        Self::checked(Raw { inner: byte_level_bpe::train(captions, config)?, kind: &byte_level_bpe::KIND }, config)
    }

    /// Reads the text of a `tokenizer.json`, such as that in a checkpoint.
    ///
    /// # Errors
    /// Text that is not a tokenizer; a tokenizer that does not fit `config`.
    pub fn from_json(text: &str, config: &TokenizerConfig) -> anyhow::Result<Self> {
        Self::checked(raw_from_json(text)?, config)
    }

    /// The text of a `tokenizer.json`; [`Self::from_json`] returns the same tokenizer.
    pub fn to_json(&self) -> anyhow::Result<String> {
        self.inner.to_string(false).map_err(anyhow::Error::from_boxed).context("cannot write the tokenizer as JSON")
    }

    /// The ids of a caption, without special tokens before, after or in it.
    pub fn encode(&self, caption: &str) -> anyhow::Result<Vec<u32>> {
        contract::encode(&self.inner, caption)
    }

    /// The ids of a caption that follows a prompt. Between them stands a space, which a byte-level vocabulary has at the
    /// beginning of words.
    pub fn encode_after_prompt(&self, caption: &str) -> anyhow::Result<Vec<u32>> {
        self.encode(&format!(" {caption}"))
    }

    /// The text of `ids`, special tokens left out, without white space at its ends. An id beyond the vocabulary, which
    /// a model with a padded embedding can give, has no text.
    pub fn decode(&self, ids: &[u32]) -> anyhow::Result<String> {
        Ok((self.kind.clean_up)(&self.inner, contract::decode(&self.inner, ids)?))
    }

    /// Ids of the special tokens.
    pub fn special_ids(&self) -> SpecialIds {
        self.special_ids
    }

    /// The text of a token as the vocabulary has it.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The text that a token stands for, with the space at its beginning; a part of a character is `U+FFFD`, and special
    /// tokens are those of the vocabulary.
    pub fn token_text(&self, id: u32) -> anyhow::Result<String> {
        self.inner.decode(&[id], false).map_err(anyhow::Error::from_boxed).context("cannot decode a token")
    }

    /// Number of tokens; every id is below it.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// SHA-256 of [`Self::to_json`]: two tokenizers with the same digest encode alike.
    pub fn digest(&self) -> String {
        sha256(self.to_json().expect("a tokenizer that was read or trained can be written").as_bytes())
    }

    /// In words, what keeps the ids of a caption from being those of the same caption in `other`: another vocabulary, or
    /// another token that begins or ends a caption.
    pub fn difference(&self, other: &Self) -> Option<String> {
        if self.vocab_size != other.vocab_size {
            return Some(format!("their tokenizers have {} and {} tokens", self.vocab_size, other.vocab_size));
        }
        let shown = |token: Option<String>| token.map_or_else(|| "nothing".to_owned(), |token| quoted(&token));
        let differing = |one: u32, another: u32| {
            let (ours, theirs) = (self.token(one), other.token(another));
            (ours != theirs).then(|| (shown(ours), shown(theirs)))
        };
        if let Some((id, (ours, theirs))) = (0..self.vocab_size as u32).find_map(|id| Some((id, differing(id, id)?))) {
            return Some(format!("the id {id} is {ours} and {theirs} in their tokenizers"));
        }
        let (ours, theirs) = (self.special_ids, other.special_ids);
        for (name, one, another) in [("start", ours.start, theirs.start), ("end", ours.end, theirs.end)] {
            if let Some((ours, theirs)) = differing(one, another) {
                return Some(format!("their {name} tokens are {ours} and {theirs}"));
            }
        }
        None
    }

    /// Checks that a tokenizer meets the contract.
    fn checked(raw: Raw, config: &TokenizerConfig) -> anyhow::Result<Self> {
        let Accepted { inner, special_ids, vocab_size } = contract::accept(raw.inner, raw.kind, config)?;
        Ok(Self { inner, kind: raw.kind, special_ids, vocab_size })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::error::{describe, is_usage_error};

    const CAPTIONS: [&str; 4] =
        ["a dog runs on the beach", "two dogs run on the beach", "the dog runs", "a man walks the dog"];

    fn config(vocab_size: usize) -> TokenizerConfig {
        TokenizerConfig { vocab_size, ..TokenizerConfig::default() }
    }

    fn trained() -> CaptionTokenizer {
        CaptionTokenizer::train(CAPTIONS.into_iter(), &config(300)).unwrap()
    }

    fn refusal(result: anyhow::Result<CaptionTokenizer>) -> String {
        describe(&result.err().unwrap())
    }

    #[derive(serde::Deserialize)]
    struct Reference {
        captions: Vec<String>,
        unseen: Vec<String>,
        cases: Vec<Case>,
    }

    #[derive(serde::Deserialize)]
    struct Case {
        lowercase: bool,
        vocab_size: usize,
        min_frequency: u64,
        learned: Vec<(String, u32)>,
        merges: Vec<String>,
        ids: Vec<Vec<u32>>,
        decoded: Vec<String>,
    }

    fn reference() -> Reference {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tokenizer/expected.json");
        let text = std::fs::read_to_string(path)
            .unwrap_or_else(|error| panic!("{path}: {error}; tests/reference/tokenizer.py makes it"));
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn vocabulary_and_ids_are_those_of_python() {
        let reference = reference();
        for case in &reference.cases {
            let config = TokenizerConfig {
                lowercase: case.lowercase,
                min_frequency: case.min_frequency,
                ..config(case.vocab_size)
            };
            let captions = reference.captions.iter().map(String::as_str);
            let tokenizer = CaptionTokenizer::train(captions, &config).unwrap();
            let json: serde_json::Value = serde_json::from_str(&tokenizer.to_json().unwrap()).unwrap();
            for (text, id) in &case.learned {
                assert_eq!(tokenizer.inner.token_to_id(text), Some(*id), "{text}");
            }
            assert_eq!(tokenizer.vocab_size(), 260 + case.learned.len());
            let merges = json["model"]["merges"].as_array().unwrap().iter();
            let merges: Vec<String> =
                merges.map(|pair| format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap())).collect();
            assert_eq!(merges, case.merges);
            let texts = reference.captions.iter().chain(&reference.unseen);
            for ((text, ids), decoded) in texts.zip(&case.ids).zip(&case.decoded) {
                assert_eq!(&tokenizer.encode(text).unwrap(), ids, "{text}");
                assert_eq!(tokenizer.decode(ids).unwrap(), decoded.trim(), "{text}");
            }
        }
    }

    #[test]
    fn special_tokens_have_the_first_ids() {
        let tokenizer = trained();
        assert_eq!(tokenizer.special_ids(), SpecialIds { pad: 0, start: 1, end: 2, unk: 3 });
    }

    #[test]
    fn the_same_captions_give_the_same_file() {
        let json = trained().to_json().unwrap();
        assert_eq!(trained().to_json().unwrap(), json);
        let again = CaptionTokenizer::from_json(&json, &config(300)).unwrap();
        assert_eq!(again.to_json().unwrap(), json);
        assert_eq!(again.digest(), trained().digest());
    }

    #[test]
    fn the_text_of_a_special_token_is_plain_text_in_a_caption() {
        for tokenizer in [trained(), CaptionTokenizer::from_json(&trained().to_json().unwrap(), &config(300)).unwrap()]
        {
            let ids = tokenizer.encode("the <end> of <pad><unk>").unwrap();
            assert!(ids.iter().all(|&id| id > 3), "{ids:?}");
            assert_eq!(tokenizer.decode(&ids).unwrap(), "the <end> of <pad><unk>");
        }
    }

    #[test]
    fn every_script_survives_a_tokenizer_that_was_trained_on_another() {
        for text in
            ["كلب يجري على العشب", "כלב רץ", "犬が走る", "a 🐕\u{200d}🦺 and 👩‍👩‍👧", "e\u{301}te\u{301}", "\u{202e}god"]
        {
            let ids = trained().encode(text).unwrap();
            assert_eq!(trained().decode(&ids).unwrap(), text);
        }
        let long = "x".repeat(10_000);
        assert_eq!(trained().decode(&trained().encode(&long).unwrap()).unwrap(), long);
    }

    #[test]
    fn decoding_leaves_special_tokens_out_and_trims() {
        let tokenizer = trained();
        let mut ids = vec![1];
        ids.extend(tokenizer.encode(" A dog ").unwrap());
        ids.extend([2, 0, 0]);
        assert_eq!(tokenizer.decode(&ids).unwrap(), "a dog");
        assert_eq!(tokenizer.decode(&[]).unwrap(), "");
    }

    #[test]
    fn an_id_outside_the_vocabulary_has_no_text() {
        assert_eq!(trained().decode(&[5, 300]).unwrap(), trained().decode(&[5]).unwrap());
    }

    #[test]
    fn captions_without_text_and_a_vocabulary_too_small_are_errors() {
        let empty = CaptionTokenizer::train(["", " \n"].into_iter(), &config(300));
        assert!(refusal(empty).starts_with("there are no captions"));
        let small = CaptionTokenizer::train(CAPTIONS.into_iter(), &config(259)).err().unwrap();
        assert!(is_usage_error(&small));
        assert!(describe(&small).contains("must be 260 or more"), "{}", describe(&small));
    }

    #[test]
    fn a_special_token_that_words_can_make_is_refused() {
        let config = TokenizerConfig { end_token: "dog".to_owned(), ..config(300) };
        let captions = ["dog dog", "dog", "dog"];
        let refused = refusal(CaptionTokenizer::train(captions.into_iter(), &config));
        assert!(refused.starts_with("the special token dog can also result from"), "{refused}");
    }

    #[test]
    fn one_token_may_serve_as_padding_and_end() {
        let config = TokenizerConfig { pad_token: "<end>".to_owned(), ..config(300) };
        let tokenizer = CaptionTokenizer::train(CAPTIONS.into_iter(), &config).unwrap();
        assert_eq!(tokenizer.special_ids(), SpecialIds { pad: 0, start: 1, end: 0, unk: 2 });
    }

    #[test]
    fn a_tokenizer_that_does_not_fit_the_config_says_what_differs() {
        let json = trained().to_json().unwrap();
        let size = trained().vocab_size();
        let read = |config: &TokenizerConfig| refusal(CaptionTokenizer::from_json(&json, config));
        insta::assert_snapshot!(read(&config(size - 1)), @r"
        tokenizer.vocab_size is 276 in the config, but the tokenizer has 277 tokens
          hint: write tokenizer.vocab_size = 277, or let a new tokenizer be trained
        ");
        insta::assert_snapshot!(read(&TokenizerConfig { lowercase: false, ..config(300) }), @r"
        tokenizer.lowercase is false in the config, but the tokenizer lower-cases captions
          hint: write tokenizer.lowercase = true, or let a new tokenizer be trained
        ");
        insta::assert_snapshot!(read(&TokenizerConfig { start_token: "<s>".to_owned(), ..config(300) }), @r"
        the tokenizer has no token <s>, which is tokenizer.start_token in the config
          hint: set tokenizer.start_token to a token that it has, or let a new tokenizer be trained
        ");
        assert!(refusal(CaptionTokenizer::from_json("{}", &config(300))).starts_with("not a tokenizer"));
    }

    #[test]
    fn a_vocabulary_of_words_is_refused() {
        let vocab: Vec<String> = ["<pad>", "<start>", "<end>", "<unk>", "a", "man", ",", "two", "dogs"]
            .iter()
            .enumerate()
            .map(|(id, text)| format!("\"{text}\":{id}"))
            .collect();
        let json = format!(
            r#"{{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":{{"type":"Lowercase"}},
            "pre_tokenizer":{{"type":"Whitespace"}},"post_processor":null,"decoder":null,
            "model":{{"type":"WordLevel","vocab":{{{}}},"unk_token":"<unk>"}}}}"#,
            vocab.join(",")
        );
        let refused = refusal(CaptionTokenizer::from_json(&json, &config(300)));
        assert!(refused.contains("of no known kind"), "{refused}");
    }
}
