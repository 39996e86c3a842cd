//! The paraphrase module: a phrase of one sentence matches a phrase of the other if the table has the pair.
//!
//! The table has five million pairs. Words are numbers here; the phrases are a trie, and what each can be said as is a
//! list in the order of the file. Such a list can have a thousand paraphrases, nearly all of which are sorted out by
//! one bit for their first two words.

use std::ops::Range;

use super::phrase_trie::{Node, PhraseTrie};
use super::quick_hash::QuickMap;

/// Represents a word that the table does not have.
const UNKNOWN: u32 = u32::MAX;
/// Bits of a [`Filter`].
const FILTER_BITS: usize = 1 << 12;

/// A table of phrases and what they can be said as.
#[derive(Debug, Default)]
pub(super) struct Paraphrases {
    words: QuickMap<Box<[u8]>, u32>,
    phrases: PhraseTrie,
    /// The numbers of the paraphrases of each phrase, by its node.
    of_phrase: Vec<Range<u32>>,
    /// A bit of the filter for each paraphrase.
    bits: Vec<u16>,
    /// Where each paraphrase ends in `text`; it begins where the one before ends.
    ends: Vec<u32>,
    text: Vec<u32>,
}

/// What the paraphrases ask of a sentence.
#[derive(Debug, Default)]
pub(super) struct PhraseView {
    words: Vec<u32>,
    /// All phrases that have paraphrases, by their first word and their length.
    phrases: Vec<Phrase>,
    filter: Filter,
}

#[derive(Clone, Copy, Debug)]
struct Phrase {
    node: Node,
    start: u32,
    length: u32,
}

/// A place in a sentence: the first word and the number of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) start: u32,
    pub(super) length: u32,
}

impl Paraphrases {
    /// Looks up the words and phrases of a sentence.
    pub(super) fn view<'a>(&self, words: impl Iterator<Item = &'a str>) -> PhraseView {
        let words: Vec<u32> = words.map(|word| self.words.get(word.as_bytes()).copied().unwrap_or(UNKNOWN)).collect();
        let mut phrases = Vec::new();
        let mut filter = Filter::default();
        for start in 0..words.len() {
            filter.insert(bit(&words[start..=start]));
            filter.insert(bit(&words[start..]));
            for (node, length) in self.phrases.walk(&words[start..]).zip(1..) {
                if !self.of_phrase[node as usize].is_empty() {
                    phrases.push(Phrase { node, start: start as u32, length });
                }
            }
        }
        PhraseView { words, phrases, filter }
    }

    /// Calls `add` with each phrase of `from` and each place of `to` where one of its paraphrases occurs: by the
    /// phrase's first word, its length, the order of the table, and the first word of the place.
    pub(super) fn for_each_pair(&self, from: &PhraseView, to: &PhraseView, mut add: impl FnMut(Place, Place)) {
        for phrase in &from.phrases {
            let range = self.of_phrase[phrase.node as usize].clone();
            for (number, &bit) in range.clone().zip(&self.bits[range.start as usize..range.end as usize]) {
                if !to.filter.contains(bit) {
                    continue;
                }
                let paraphrase = &self.text[self.text_range(number)];
                for start in 0..to.words.len() {
                    if to.words[start..].starts_with(paraphrase) {
                        let place = Place { start: start as u32, length: paraphrase.len() as u32 };
                        add(Place { start: phrase.start, length: phrase.length }, place);
                    }
                }
            }
        }
    }

    fn text_range(&self, number: u32) -> Range<usize> {
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before as usize]);
        start as usize..self.ends[number as usize] as usize
    }
}

/// Builds a table from its entries.
#[derive(Default)]
pub(super) struct TableBuilder {
    table: Paraphrases,
    /// The current phrase as in the file, its node, and the number of its first paraphrase.
    phrase: Vec<u8>,
    node: Node,
    first: u32,
    numbers: Vec<u32>,
}

impl TableBuilder {
    /// Begins the entries of a phrase, unless it is that of the last entry.
    ///
    /// # Errors
    /// What was expected instead, if it has no words or had entries before: those of a phrase are adjacent.
    pub(super) fn phrase(&mut self, phrase: &[u8]) -> Result<(), &'static str> {
        if self.node != 0 && phrase == self.phrase {
            return Ok(());
        }
        self.end_phrase();
        self.number(phrase);
        if self.numbers.is_empty() {
            return Err("a phrase");
        }
        self.node = self.table.phrases.insert(&self.numbers);
        if self.table.of_phrase.get(self.node as usize).is_some_and(|before| !before.is_empty()) {
            return Err("all paraphrases of a phrase together");
        }
        self.first = self.table.bits.len() as u32;
        self.phrase.clear();
        self.phrase.extend_from_slice(phrase);
        Ok(())
    }

    /// Adds a paraphrase of the current phrase.
    ///
    /// # Errors
    /// What was expected instead, if it has no words.
    pub(super) fn paraphrase(&mut self, paraphrase: &[u8]) -> Result<(), &'static str> {
        self.number(paraphrase);
        if self.numbers.is_empty() {
            return Err("a paraphrase");
        }
        self.table.bits.push(bit(&self.numbers));
        self.table.text.extend_from_slice(&self.numbers);
        self.table.ends.push(self.table.text.len() as u32);
        Ok(())
    }

    /// The table.
    pub(super) fn finish(mut self) -> Paraphrases {
        self.end_phrase();
        let mut table = self.table;
        table.words.shrink_to_fit();
        table.phrases.shrink_to_fit();
        table.of_phrase.shrink_to_fit();
        table.bits.shrink_to_fit();
        table.ends.shrink_to_fit();
        table.text.shrink_to_fit();
        table
    }

    /// Sets `numbers` to the words of `text`, which are what white space separates.
    fn number(&mut self, text: &[u8]) {
        self.numbers.clear();
        for word in text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()) {
            let number = self.table.words.get(word).copied().unwrap_or_else(|| {
                let number = self.table.words.len() as u32;
                self.table.words.insert(word.into(), number);
                number
            });
            self.numbers.push(number);
        }
    }

    /// Notes which paraphrases are those of the current phrase.
    fn end_phrase(&mut self) {
        let node = self.node as usize;
        if self.table.of_phrase.len() <= node {
            self.table.of_phrase.resize(node + 1, 0..0);
        }
        self.table.of_phrase[node] = self.first..self.table.bits.len() as u32;
    }
}

/// Rules out most sequences of words that are not in a sentence.
#[derive(Debug)]
struct Filter([u64; FILTER_BITS / 64]);

impl Default for Filter {
    fn default() -> Self {
        Self([0; FILTER_BITS / 64])
    }
}

impl Filter {
    fn insert(&mut self, bit: u16) {
        self.0[usize::from(bit) / 64 % (FILTER_BITS / 64)] |= 1 << (bit % 64);
    }

    fn contains(&self, bit: u16) -> bool {
        self.0[usize::from(bit) / 64 % (FILTER_BITS / 64)] >> (bit % 64) & 1 == 1
    }
}

/// The bit of the filter for words that begin with the first two of `words`, or are the only one.
fn bit(words: &[u32]) -> u16 {
    let (first, second) = match words {
        [] => (UNKNOWN, UNKNOWN),
        [only] => (*only, UNKNOWN),
        [first, second, ..] => (*first, *second),
    };
    let mixed = (u64::from(first) << 32 | u64::from(second)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> (64 - FILTER_BITS.ilog2())) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(pairs: &[(&str, &str)]) -> Paraphrases {
        let mut builder = TableBuilder::default();
        for (phrase, paraphrase) in pairs {
            builder.phrase(phrase.as_bytes()).unwrap();
            builder.paraphrase(paraphrase.as_bytes()).unwrap();
        }
        builder.finish()
    }

    /// Start and length of each phrase and of the place of its paraphrase.
    fn pairs(table: &Paraphrases, from: &str, to: &str) -> Vec<[u32; 4]> {
        let mut found = Vec::new();
        let (from, to) = (table.view(from.split(' ')), table.view(to.split(' ')));
        table.for_each_pair(&from, &to, |phrase, place| {
            found.push([phrase.start, phrase.length, place.start, place.length]);
        });
        found
    }

    #[test]
    fn paraphrases_are_found_in_one_direction_wherever_they_stand() {
        let table = table(&[("looks at", "watches"), ("a lot of", "many"), ("a lot of", "lots of")]);
        assert_eq!(pairs(&table, "he looks at me", "she watches and watches"), [[1, 2, 1, 1], [1, 2, 3, 1]]);
        assert_eq!(pairs(&table, "she watches", "he looks at"), [[0; 4]; 0]);
        assert_eq!(pairs(&table, "looks", "watches"), [[0; 4]; 0], "the beginning of a phrase is not a phrase");
        assert_eq!(pairs(&table, "a lot of", "x lots"), [[0; 4]; 0], "nor is that of a paraphrase");
        assert_eq!(pairs(&table, "a lot of a lot of", "unknown lots of"), [[0, 3, 1, 2], [3, 3, 1, 2]]);
    }

    #[test]
    fn pairs_come_by_the_length_of_the_phrase_and_then_in_the_order_of_the_table() {
        let table = table(&[("as well as", "c"), ("as", "b"), ("as", "a a"), ("as", "b"), ("as well", "a")]);
        let expected =
            [[0, 1, 2, 1], [0, 1, 0, 2], [0, 1, 2, 1], [0, 2, 0, 1], [0, 2, 1, 1], [0, 3, 3, 1], [2, 1, 2, 1]];
        let found = pairs(&table, "as well as x", "a a b c");
        assert_eq!(found[..7], expected);
        assert_eq!(found.len(), 9);
    }

    #[test]
    fn entries_without_words_and_phrases_that_come_again_are_refused() {
        let mut builder = TableBuilder::default();
        assert_eq!(builder.phrase(b""), Err("a phrase"));
        assert_eq!(builder.phrase(b" \t"), Err("a phrase"));
        assert_eq!(builder.phrase(b" a "), Ok(()));
        assert_eq!(builder.paraphrase(b" "), Err("a paraphrase"));
        assert_eq!(builder.paraphrase(b"x"), Ok(()));
        assert_eq!(builder.phrase(b"a b"), Ok(()));
        assert_eq!(builder.phrase(b"a"), Err("all paraphrases of a phrase together"));
    }
}
