//! A tokenizer's folder: `tokenizer.json`, and beside it what tools need that do not know it, such as `vocab.json` with
//! `merges.txt`.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;

use super::CaptionTokenizer;
use super::contract::{is_there, read};
use super::kinds::KINDS;
use super::raw::{Raw, raw_from_json};
use crate::config::TokenizerConfig;
use base::atomic_file;

const TOKENIZER: &str = "tokenizer.json";

impl CaptionTokenizer {
    /// Reads `tokenizer.json` from `folder`, or the files of a kind where that is absent; `None` where no such file is
    /// there.
    ///
    /// # Errors
    /// A file that cannot be read or is damaged; one of `vocab.json` and `merges.txt` without the other; a tokenizer
    /// that does not fit `config`.
    pub fn from_directory(folder: &Path, config: &TokenizerConfig) -> anyhow::Result<Option<Self>> {
        let Some(raw) = Self::raw(folder, config.lowercase)? else { return Ok(None) };
        let checked = Self::checked(raw, config);
        checked.with_context(|| format!("cannot use the tokenizer in {}", folder.display())).map(Some)
    }

    /// What is in the files, unchecked. Where they say nothing about lower-casing, the models that have them do not.
    pub(super) fn raw_from_directory(folder: &Path) -> anyhow::Result<Option<Raw>> {
        Self::raw(folder, false)
    }

    fn raw(folder: &Path, lowercase: bool) -> anyhow::Result<Option<Raw>> {
        let whole = folder.join(TOKENIZER);
        if is_there(&whole)? {
            let read = read(&whole).and_then(|text| raw_from_json(&text));
            return read.with_context(|| format!("cannot use the tokenizer {}", whole.display())).map(Some);
        }
        for kind in KINDS {
            let found = (kind.read_files)(folder, lowercase)
                .and_then(|text| text.map(|text| raw_from_json(&text)).transpose())
                .with_context(|| format!("cannot use the tokenizer in {}", folder.display()))?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Whether `folder` contains a file of a tokenizer.
    pub fn is_in(folder: &Path) -> bool {
        Self::is_file_name_in(|name| fs::symlink_metadata(folder.join(name)).is_ok())
    }

    /// Whether a file of a tokenizer has this name.
    pub fn is_file(name: &str) -> bool {
        Self::is_file_name_in(|known| known == name)
    }

    fn is_file_name_in(is_wanted: impl Fn(&str) -> bool) -> bool {
        is_wanted(TOKENIZER) || KINDS.iter().flat_map(|kind| kind.files).any(|name| is_wanted(name))
    }

    /// Writes `tokenizer.json` and the files of its kind into `folder`, which is created if absent.
    ///
    /// # Errors
    /// A folder that cannot be created or written.
    pub fn save(&self, folder: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("cannot create the folder {}", folder.display()))?;
        let whole = self.to_json()?;
        let of_kind = (self.kind.write_files)(&as_value(&whole)?)?;
        // The file that says all is written first: it can be read without the others, and they cannot without one
        // another.
        for (name, text) in std::iter::once((TOKENIZER, whole)).chain(of_kind) {
            let path = folder.join(name);
            atomic_file::write(&path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    /// What `tokenizer_config.json` of transformers says of its kind, without the special tokens.
    ///
    /// # Errors
    /// A tokenizer that cannot be written as JSON.
    pub fn tokenizer_config(&self) -> anyhow::Result<Value> {
        Ok((self.kind.tokenizer_config)(&as_value(&self.to_json()?)?))
    }
}

fn as_value(whole: &str) -> anyhow::Result<Value> {
    serde_json::from_str(whole).context("the tokenizer's own JSON is damaged")
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
        let text = fs::read_to_string(folder.path().join("vocab.json")).unwrap();
        assert!(text.starts_with("{\"<pad>\":0,\"<start>\":1,\"<end>\":2,\"<unk>\":3,\"!\":4,\"\\\"\":5,"));
        assert!(text.ends_with(&format!(":{}}}", tokenizer.vocab_size() - 1)));
        let merges = fs::read_to_string(folder.path().join("merges.txt")).unwrap();
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
        let (whole, merges) = (folder.path().join(TOKENIZER), folder.path().join("merges.txt"));
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
