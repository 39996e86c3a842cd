//! Words and n-grams as numbers, so that captions are compared by merging short sorted lists.

use std::collections::HashMap;

/// Longest n-gram that a score looks at.
pub(crate) const MAX_ORDER: usize = 4;
/// Stands before the first word of an n-gram.
const ROOT: u32 = u32::MAX;

/// Numbers words and n-grams in the order in which they first come.
#[derive(Debug, Default)]
pub(crate) struct NgramTable {
    words: HashMap<String, u32>,
    /// An n-gram by the n-gram without its last word, and that word.
    ids: HashMap<(u32, u32), u32>,
    /// Words in each n-gram, less one.
    orders: Vec<u8>,
}

/// The n-grams of a caption, of one to four words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ngrams {
    /// How many words the caption has.
    pub(crate) length: usize,
    /// What stands between its spaces: its words, where they hold no other white space; one empty word without any.
    pub(crate) parts: Vec<u32>,
    /// Each distinct n-gram and how often it comes, by number.
    pub(crate) counts: Vec<(u32, u32)>,
}

impl NgramTable {
    /// The n-grams of a caption whose words are separated by white space of any kind.
    ///
    /// The PTB tokenizer leaves no-break spaces in numbers and telephone numbers. The reference implementation of BLEU
    /// and CIDEr takes them for ends of words (Python's `split()`), that of ROUGE does not (`split(" ")`).
    pub(crate) fn count(&mut self, caption: &str) -> Ngrams {
        let words: Vec<u32> = caption.split_whitespace().map(|word| self.word(word)).collect();
        let parts = caption.split(' ').map(|word| self.word(word)).collect();
        let mut found = Vec::with_capacity(MAX_ORDER * words.len());
        for first in 0..words.len() {
            let mut prefix = ROOT;
            for (order, &word) in words[first..].iter().take(MAX_ORDER).enumerate() {
                prefix = self.extend(prefix, word, order as u8);
                found.push(prefix);
            }
        }
        found.sort_unstable();
        let counts = found.chunk_by(|a, b| a == b).map(|equal| (equal[0], equal.len() as u32)).collect();
        Ngrams { length: words.len(), parts, counts }
    }

    /// Words in an n-gram, less one.
    pub(crate) fn order(&self, ngram: u32) -> usize {
        usize::from(self.orders[ngram as usize])
    }

    /// N-grams seen so far.
    pub(crate) fn len(&self) -> usize {
        self.orders.len()
    }

    fn word(&mut self, word: &str) -> u32 {
        if let Some(&id) = self.words.get(word) {
            return id;
        }
        let id = self.words.len() as u32;
        self.words.insert(word.to_owned(), id);
        id
    }

    fn extend(&mut self, prefix: u32, word: u32, order: u8) -> u32 {
        *self.ids.entry((prefix, word)).or_insert_with(|| {
            self.orders.push(order);
            (self.orders.len() - 1) as u32
        })
    }
}

/// Calls `both(ngram, left, right)` for each n-gram that two captions share, with how often it comes in each.
pub(crate) fn for_each_shared(left: &Ngrams, right: &Ngrams, mut both: impl FnMut(u32, u32, u32)) {
    let (mut left, mut right) = (left.counts.as_slice(), right.counts.as_slice());
    while let (Some(&(a, in_left)), Some(&(b, in_right))) = (left.first(), right.first()) {
        if a == b {
            both(a, in_left, in_right);
        }
        if a <= b {
            left = &left[1..];
        }
        if b <= a {
            right = &right[1..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ngram_of_one_to_four_words_is_counted() {
        let mut table = NgramTable::default();
        let ngrams = table.count("a b a b a");
        let mut by_order = [0; MAX_ORDER];
        for (ngram, count) in &ngrams.counts {
            by_order[table.order(*ngram)] += count;
        }
        assert_eq!(by_order, [5, 4, 3, 2]);
        assert_eq!(ngrams.counts.len(), 2 + 2 + 2 + 2);
        assert!(table.count("  ").counts.is_empty());
        let number = table.count("1\u{a0}1/2 cups");
        assert_eq!((number.length, number.parts.len()), (3, 2));
    }

    #[test]
    fn what_two_captions_share_is_found_with_its_counts() {
        let mut table = NgramTable::default();
        let (left, right) = (table.count("a b a c"), table.count("d a c a a"));
        let mut shared = Vec::new();
        for_each_shared(&left, &right, |ngram, a, b| shared.push((table.order(ngram), a, b)));
        shared.sort_unstable();
        // "a" twice and three times, "c" once each, "a c" once each.
        assert_eq!(shared, [(0, 1, 1), (0, 2, 3), (1, 1, 1)]);
    }
}
