//! A tokenizer's folder: `tokenizer.json`, and `vocab.json` with `merges.txt` for tools that know only those.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;
use tokenizers::Tokenizer;
use tokenizers::models::bpe::BPE;

use super::{CaptionTokenizer, byte_level_bpe, contract, raw_from_json};
use crate::config::TokenizerConfig;
use base::atomic_file;
use base::bounded_file::{self, MAX_TABLE_BYTES};
use base::error::{WithHint as _, failure};
use base::visible::quoted;

const TOKENIZER: &str = "tokenizer.json";
const VOCAB: &str = "vocab.json";
const MERGES: &str = "merges.txt";
/// What the first line of `merges.txt` begins with.
const MERGES_VERSION: &str = "#version: 0.2";

impl CaptionTokenizer {
    /// Reads `tokenizer.json` from `folder`, or `vocab.json` and `merges.txt` where that is absent; `None` where
    /// none of the three is there.
    ///
    /// # Errors
    /// A file that cannot be read or is damaged; one of `vocab.json` and `merges.txt` without the other; a tokenizer
    /// that does not fit `config`.
    pub fn from_directory(folder: &Path, config: &TokenizerConfig) -> anyhow::Result<Option<Self>> {
        let Some(inner) = Self::raw(folder, config.lowercase)? else { return Ok(None) };
        let checked = Self::checked(inner, config);
        checked.with_context(|| format!("cannot use the tokenizer in {}", folder.display())).map(Some)
    }

    /// What is in the files, unchecked. The two files say nothing about lower-casing; the models that have them
    /// do not.
    pub(super) fn raw_from_directory(folder: &Path) -> anyhow::Result<Option<Tokenizer>> {
        Self::raw(folder, false)
    }

    /// `lowercase` is not in `vocab.json` and `merges.txt`.
    fn raw(folder: &Path, lowercase: bool) -> anyhow::Result<Option<Tokenizer>> {
        let whole = folder.join(TOKENIZER);
        if is_there(&whole)? {
            let read = read(&whole).and_then(|text| raw_from_json(&text));
            return read.with_context(|| format!("cannot use the tokenizer {}", whole.display())).map(Some);
        }
        let (vocab, merges) = (folder.join(VOCAB), folder.join(MERGES));
        match (is_there(&vocab)?, is_there(&merges)?) {
            (false, false) => Ok(None),
            (true, true) => from_two_files(&vocab, &merges, lowercase)
                .with_context(|| format!("cannot use the tokenizer in {}", folder.display()))
                .map(Some),
            (has_vocab, _) => {
                let (there, absent) = if has_vocab { (vocab, MERGES) } else { (merges, VOCAB) };
                Err(failure(
                    format!("{} is there, but {absent} is missing", there.display()),
                    format!("put {absent} beside it, or choose another folder to have a tokenizer trained there"),
                ))
            }
        }
    }

    /// Whether `folder` contains a file of a tokenizer.
    pub fn is_in(folder: &Path) -> bool {
        [TOKENIZER, VOCAB, MERGES].iter().any(|name| fs::symlink_metadata(folder.join(name)).is_ok())
    }

    /// Writes `tokenizer.json`, `vocab.json` and `merges.txt` into `folder`, which is created if absent.
    ///
    /// # Errors
    /// A folder that cannot be created or written.
    pub fn save(&self, folder: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("cannot create the folder {}", folder.display()))?;
        let whole = self.to_json()?;
        let (vocab, merges) = two_files(&whole)?;
        // The file that says all is written first: it can be read without the others, and they cannot without one
        // another.
        for (name, text) in [(TOKENIZER, whole), (VOCAB, vocab), (MERGES, merges)] {
            let path = folder.join(name);
            atomic_file::write(&path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}

/// Whether there is such a name, be it that of a link that leads nowhere: it is not to be replaced.
fn is_there(path: &Path) -> anyhow::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot look for {}", path.display())),
    }
}

fn from_two_files(vocab: &Path, merges: &Path, lowercase: bool) -> anyhow::Result<Tokenizer> {
    let ids: std::collections::HashMap<String, u32> = serde_json::from_str(&read(vocab)?)
        .with_context(|| format!("{} is not a table from tokens to ids", vocab.display()))
        .hint(|| "expected {\"token\": id, ...}, as GPT-2's vocab.json")?;
    contract::check_tokens(ids.iter().map(|(token, &id)| (token.as_str(), Some(u64::from(id)))))
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
        byte_level_bpe::check_merge(left, right, |token| ids.contains_key(token)).with_context(unfit)?;
        pairs.push((left.to_owned(), right.to_owned()));
    }
    let model = BPE::builder()
        .vocab_and_merges(ids.into_iter().collect::<tokenizers::models::bpe::Vocab>(), pairs)
        .build()
        .map_err(anyhow::Error::from_boxed)
        .with_context(unfit)?;
    byte_level_bpe::around(model, lowercase)
}

fn read(path: &Path) -> anyhow::Result<String> {
    bounded_file::read_text(path, MAX_TABLE_BYTES).with_context(|| format!("cannot read {}", path.display()))
}

/// `vocab.json`, ordered by id, and `merges.txt`, ordered by rank.
fn two_files(whole: &str) -> anyhow::Result<(String, String)> {
    let whole: Value = serde_json::from_str(whole).context("the tokenizer's own JSON is damaged")?;
    let model = &whole["model"];
    let (Some(vocab), Some(merges)) = (model["vocab"].as_object(), model["merges"].as_array()) else {
        return Err(failure("the tokenizer is not a BPE: it has no merges", "use a byte-level BPE tokenizer"));
    };
    let mut entries: Vec<(&String, u64)> = vocab.iter().filter_map(|(text, id)| Some((text, id.as_u64()?))).collect();
    entries.sort_by_key(|(_, id)| *id);
    let mut table = Vec::with_capacity(entries.len());
    for (text, id) in entries {
        table.push(format!("{}:{id}", serde_json::to_string(text)?));
    }
    let mut lines = format!("{MERGES_VERSION}\n");
    for pair in merges {
        let (Some(left), Some(right)) = (pair[0].as_str(), pair[1].as_str()) else {
            anyhow::bail!("the merge {pair} is not a pair of tokens");
        };
        lines.push_str(&format!("{left} {right}\n"));
    }
    Ok((format!("{{{}}}", table.join(",")), lines))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::error::describe;

    const CAPTIONS: [&str; 3] = ["A dog runs on the beach", "two \"dogs\" run on the béach", "the dog runs \\ <end>"];

    fn trained(config: &TokenizerConfig) -> CaptionTokenizer {
        CaptionTokenizer::train(CAPTIONS.into_iter(), config).unwrap()
    }

    #[test]
    fn a_folder_gives_back_the_tokenizer_that_was_saved_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("new/tokenizer");
        for lowercase in [true, false] {
            let config = TokenizerConfig { lowercase, ..TokenizerConfig::default() };
            let tokenizer = trained(&config);
            tokenizer.save(&inside).unwrap();
            let whole = CaptionTokenizer::from_directory(&inside, &config).unwrap().unwrap();
            assert_eq!(whole.digest(), tokenizer.digest());
            fs::remove_file(inside.join(TOKENIZER)).unwrap();
            let parts = CaptionTokenizer::from_directory(&inside, &config).unwrap().unwrap();
            assert_eq!(parts.to_json().unwrap(), tokenizer.to_json().unwrap());
        }
    }

    #[test]
    fn vocab_json_is_in_the_order_of_the_ids() {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = trained(&TokenizerConfig::default());
        tokenizer.save(folder.path()).unwrap();
        let text = fs::read_to_string(folder.path().join(VOCAB)).unwrap();
        assert!(text.starts_with("{\"<pad>\":0,\"<start>\":1,\"<end>\":2,\"<unk>\":3,\"!\":4,\"\\\"\":5,"));
        assert!(text.ends_with(&format!(":{}}}", tokenizer.vocab_size() - 1)));
        let merges = fs::read_to_string(folder.path().join(MERGES)).unwrap();
        assert!(merges.starts_with("#version: 0.2\n"));
        assert_eq!(merges.lines().count(), 1 + tokenizer.vocab_size() - 260);
    }

    #[test]
    fn an_empty_or_absent_folder_holds_no_tokenizer() {
        let folder = tempfile::tempdir().unwrap();
        let config = TokenizerConfig::default();
        assert!(CaptionTokenizer::from_directory(folder.path(), &config).unwrap().is_none());
        assert!(CaptionTokenizer::from_directory(&folder.path().join("absent"), &config).unwrap().is_none());
    }

    #[test]
    fn half_a_tokenizer_and_damaged_files_are_errors_that_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let config = TokenizerConfig::default();
        let refusal = || describe(&CaptionTokenizer::from_directory(folder.path(), &config).err().unwrap());
        trained(&config).save(folder.path()).unwrap();
        let (whole, merges) = (folder.path().join(TOKENIZER), folder.path().join(MERGES));
        fs::write(&whole, "{").unwrap();
        assert!(refusal().contains("tokenizer.json"), "{}", refusal());
        fs::remove_file(&whole).unwrap();
        fs::write(&merges, "#version: 0.2\na b c\n").unwrap();
        assert!(refusal().contains("merges.txt line 2: expected two tokens"), "{}", refusal());
        fs::write(&merges, "#version: 0.2\nzzz b\n").unwrap();
        assert!(refusal().contains("do not fit together"), "{}", refusal());
        fs::remove_file(&merges).unwrap();
        assert!(refusal().contains("vocab.json is there, but merges.txt is missing"), "{}", refusal());
    }
}
