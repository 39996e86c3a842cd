//! A sentence with all that the matchers ask of its words.

use super::normalizer;
use super::paraphrases::PhraseView;
use super::resources::Resources;
use super::stemmer::stem;
use super::synonyms::Synsets;
use super::word_lists::is_function_word;

/// A normalized sentence.
#[derive(Debug)]
pub(super) struct Sentence<'a> {
    pub(super) words: Vec<Word<'a>>,
    /// Where there are paraphrases.
    pub(super) phrases: PhraseView,
}

/// What the matchers compare of a word.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word<'a> {
    /// Words are equal if these are. It is Java's hash code: METEOR takes words of one code for one word, and a few
    /// share theirs (`eu` and `g7`).
    pub(super) key: u32,
    /// The same for stems.
    pub(super) stem_key: u32,
    pub(super) is_function_word: bool,
    pub(super) synsets: Synsets<'a>,
}

impl<'a> Sentence<'a> {
    /// Normalizes `text` and looks up its words.
    pub(super) fn new(text: &str, resources: Option<&'a Resources>) -> Self {
        let texts = normalizer::words(text);
        let words = texts
            .iter()
            .map(|text| Word {
                key: hash_code(text.encode_utf16()),
                stem_key: hash_code(stem(text)),
                is_function_word: is_function_word(text),
                synsets: resources.map(|resources| resources.synonyms.synsets(text)).unwrap_or_default(),
            })
            .collect();
        let view = |resources: &Resources| resources.paraphrases.view(texts.iter().map(String::as_str));
        let phrases = resources.map(view).unwrap_or_default();
        Self { words, phrases }
    }
}

/// `java.lang.String.hashCode`.
fn hash_code(units: impl IntoIterator<Item = u16>) -> u32 {
    units.into_iter().fold(0, |hash: u32, unit| hash.wrapping_mul(31).wrapping_add(unit.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_with_one_java_hash_code_are_one_word() {
        let keys: Vec<u32> = Sentence::new("eu g7 cat", None).words.iter().map(|word| word.key).collect();
        assert_eq!(keys[0], keys[1]);
        assert_ne!(keys[1], keys[2]);
    }
}
