//! Words and n-grams as numbers, so that captions are compared by merging short sorted lists.

use std::collections::HashMap;
use std::sync::Arc;

/// Longest n-gram that a score looks at.
pub(crate) const MAX_ORDER: usize = 4;
/// Precedes the first word of an n-gram.
const ROOT: u32 = u32::MAX;

/// Numbers words and n-grams in the order of their first occurrence.
#[derive(Debug, Default)]
pub(crate) struct NgramTable {
    /// What was numbered before and is shared with other tables; own numbers follow it.
    below: Option<Arc<NgramTable>>,
    words: HashMap<String, u32>,
    /// An n-gram by the n-gram without its last word, and that word.
    ids: HashMap<(u32, u32), u32>,
    /// Words in each own n-gram, less one.
    orders: Vec<u8>,
}

/// A caption's n-grams of one to four words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ngrams {
    /// Words, as white space of any kind separates them.
    pub(crate) length: usize,
    /// The numbers of what spaces separate; one empty word where there is no other.
    pub(crate) parts: Vec<u32>,
    /// Each distinct n-gram and how often it occurs, by number.
    pub(crate) counts: Vec<(u32, u32)>,
}

impl NgramTable {
    /// A table that knows all of `below` and numbers what is new without changing it.
    pub(crate) fn above(below: &Arc<NgramTable>) -> Self {
        Self { below: Some(Arc::clone(below)), ..Self::default() }
    }

    /// Counts a caption's n-grams.
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
        let below = self.below.as_ref().filter(|below| (ngram as usize) < below.len());
        below.map_or_else(|| usize::from(self.orders[ngram as usize - self.num_below()]), |below| below.order(ngram))
    }

    /// N-grams seen so far.
    pub(crate) fn len(&self) -> usize {
        self.num_below() + self.orders.len()
    }

    fn num_below(&self) -> usize {
        self.below.as_ref().map_or(0, |below| below.len())
    }

    fn word(&mut self, word: &str) -> u32 {
        if let Some(id) = self.find_word(word) {
            return id;
        }
        let id = self.num_words() as u32;
        self.words.insert(word.to_owned(), id);
        id
    }

    fn find_word(&self, word: &str) -> Option<u32> {
        let below = self.below.as_ref().and_then(|below| below.find_word(word));
        below.or_else(|| self.words.get(word).copied())
    }

    fn num_words(&self) -> usize {
        self.below.as_ref().map_or(0, |below| below.num_words()) + self.words.len()
    }

    fn extend(&mut self, prefix: u32, word: u32, order: u8) -> u32 {
        if let Some(id) = self.below.as_ref().and_then(|below| below.find_ngram(prefix, word)) {
            return id;
        }
        let next = self.len() as u32;
        *self.ids.entry((prefix, word)).or_insert_with(|| {
            self.orders.push(order);
            next
        })
    }

    fn find_ngram(&self, prefix: u32, word: u32) -> Option<u32> {
        let below = self.below.as_ref().and_then(|below| below.find_ngram(prefix, word));
        below.or_else(|| self.ids.get(&(prefix, word)).copied())
    }
}

/// Calls `both(ngram, left, right)` for each n-gram that two captions share, with its counts in them.
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
    fn a_table_above_another_keeps_its_numbers_and_leaves_it_unchanged() {
        let mut below = NgramTable::default();
        let known = below.count("a dog runs");
        let below = Arc::new(below);
        let (num_ngrams, num_words) = (below.len(), below.num_words());
        let mut above = NgramTable::above(&below);
        assert_eq!(above.count("a dog runs"), known);
        let mixed = above.count("a dog eats dog dog");
        assert_eq!((mixed.counts[0], mixed.counts.len()), ((known.counts[0].0, 1), 3 + 4 + 3 + 2));
        let new = mixed.counts.iter().filter(|(ngram, _)| *ngram as usize >= num_ngrams).count();
        // Of the n-grams "a", "dog" and "a dog" are known.
        assert_eq!((new, above.len()), (9, num_ngrams + 9));
        assert!((0..above.len() as u32).all(|ngram| above.order(ngram) < MAX_ORDER));
        assert_eq!((below.len(), below.num_words()), (num_ngrams, num_words));
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
