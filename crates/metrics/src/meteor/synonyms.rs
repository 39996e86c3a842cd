//! The synonym module: two words match if they, or their base forms, share a WordNet synset.
//!
//! Base forms come from the list of exceptions; a word that is not there loses an ending by WordNet's rules.

use std::collections::HashMap;
use std::ops::Range;

use super::quick_hash::QuickMap;

/// Words with their synsets, as METEOR's `synonym/english.synsets` and `synonym/english.exceptions` give them.
#[derive(Debug, Default)]
pub(super) struct Synonyms {
    /// Where the synsets of a word lie in `ids`.
    of_word: QuickMap<Box<str>, Range<u32>>,
    /// Where the synsets of all base forms of a word lie in `ids`.
    of_exception: QuickMap<Box<str>, Range<u32>>,
    /// Each range is sorted.
    ids: Vec<u32>,
}

/// The synsets of a word.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Synsets<'a> {
    own: &'a [u32],
    base: &'a [u32],
    /// One bit for each synset: this bit is enough to distinguish most pairs of words.
    filter: u64,
}

impl<'a> Synsets<'a> {
    fn new(own: &'a [u32], base: &'a [u32]) -> Self {
        let bit = |id: &u32| 1 << (id.wrapping_mul(0x9E37_79B1) >> 26);
        Self { own, base, filter: own.iter().chain(base).fold(0, |filter, id| filter | bit(id)) }
    }

    /// Whether the two have a synset in common.
    pub(super) fn meet(&self, other: &Self) -> bool {
        if self.filter & other.filter == 0 {
            return false;
        }
        let others = [other.own, other.base];
        [self.own, self.base].into_iter().any(|one| others.into_iter().any(|other| have_common_id(one, other)))
    }
}

fn have_common_id(mut left: &[u32], mut right: &[u32]) -> bool {
    while let ([first_left, rest_left @ ..], [first_right, rest_right @ ..]) = (left, right) {
        match first_left.cmp(first_right) {
            std::cmp::Ordering::Less => left = rest_left,
            std::cmp::Ordering::Greater => right = rest_right,
            std::cmp::Ordering::Equal => return true,
        }
    }
    false
}

/// Endings that a base form may lack and what it has instead, in the order in which they are tried: nouns, verbs,
/// adjectives.
const ENDINGS: [(&str, &str); 20] = [
    ("s", ""),
    ("ses", "s"),
    ("xes", "x"),
    ("zes", "z"),
    ("ches", "ch"),
    ("shes", "sh"),
    ("men", "man"),
    ("ies", "y"),
    ("s", ""),
    ("ies", "y"),
    ("es", "e"),
    ("es", ""),
    ("ed", "e"),
    ("ed", ""),
    ("ing", "e"),
    ("ing", ""),
    ("er", ""),
    ("est", ""),
    ("er", "e"),
    ("est", "e"),
];

impl Synonyms {
    /// Reads both tables. Each is pairs of lines: a word and its synset ids; a base form and what is derived from it.
    ///
    /// # Errors
    /// The first line that is not as it should be, with its number; the caller says in which file.
    pub(super) fn parse(synsets: &str, exceptions: &str) -> Result<Self, SynonymFault> {
        let mut synonyms = Self::default();
        for pair in pairs(synsets) {
            let (number, word, ids) = pair.map_err(SynonymFault::Synsets)?;
            let start = synonyms.ids.len();
            for id in ids.split_ascii_whitespace() {
                let id = id.parse().map_err(|_| {
                    SynonymFault::Synsets(format!("line {number}: expected the number of a synset, found {id:?}"))
                })?;
                synonyms.ids.push(id);
            }
            synonyms.ids[start..].sort_unstable();
            synonyms.of_word.insert(word.into(), start as u32..synonyms.ids.len() as u32);
        }
        let mut bases: HashMap<&str, Vec<&str>> = HashMap::new();
        for pair in pairs(exceptions) {
            let (_, base, derived) = pair.map_err(SynonymFault::Exceptions)?;
            for word in derived.split_ascii_whitespace() {
                bases.entry(word).or_default().push(base);
            }
        }
        for (word, bases) in bases {
            let start = synonyms.ids.len();
            for base in bases {
                let range = synonyms.of_word.get(base).cloned().unwrap_or_default();
                synonyms.ids.extend_from_within(range.start as usize..range.end as usize);
            }
            synonyms.ids[start..].sort_unstable();
            synonyms.of_exception.insert(word.into(), start as u32..synonyms.ids.len() as u32);
        }
        synonyms.ids.shrink_to_fit();
        Ok(synonyms)
    }

    /// The synsets of a lower-case `word` and of its base forms.
    pub(super) fn synsets(&self, word: &str) -> Synsets<'_> {
        let base = match self.of_exception.get(word) {
            Some(range) => self.ids_in(range),
            None => self.synsets_of_base(word),
        };
        Synsets::new(self.listed(word), base)
    }

    fn ids_in(&self, range: &Range<u32>) -> &[u32] {
        &self.ids[range.start as usize..range.end as usize]
    }

    fn listed(&self, word: &str) -> &[u32] {
        self.of_word.get(word).map_or(&[], |range| self.ids_in(range))
    }

    fn synsets_of_base(&self, word: &str) -> &[u32] {
        // A word as short as these is its own base form: what it has is in the list already.
        if word.ends_with("ss") || word.encode_utf16().nth(2).is_none() {
            return &[];
        }
        let mut base = String::with_capacity(word.len() + 1);
        for (ending, replacement) in ENDINGS {
            if let Some(start) = word.strip_suffix(ending) {
                base.clear();
                base.push_str(start);
                base.push_str(replacement);
                if let Some(range) = self.of_word.get(base.as_str()) {
                    return self.ids_in(range);
                }
            }
        }
        &[]
    }
}

/// What is wrong in one of the two tables.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SynonymFault {
    /// In the table of words and synsets.
    Synsets(String),
    /// In the table of base forms.
    Exceptions(String),
}

/// Line number of the second line, the first line and the second one.
fn pairs(text: &str) -> impl Iterator<Item = Result<(usize, &str, &str), String>> {
    let mut lines = text.lines();
    let mut number = 0;
    std::iter::from_fn(move || {
        let first = lines.next()?;
        number += 2;
        let pair = lines.next().filter(|second| !first.is_empty() && !second.trim_ascii().is_empty());
        let missing =
            || format!("line {number}: expected a word on one line and its entries on the next, found no such pair");
        Some(pair.map(|second| (number, first, second)).ok_or_else(missing))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYNSETS: &str =
        "bus\n4\nchild\n5\ngoat\n00000006\nkid\n5 6\nlady\n2\nman\n1 20\nmouse\n8\nrodent\n8\nwoman\n3 2\n";
    const EXCEPTIONS: &str = "child\nchildren kids\nmouse\nmice\nunlisted\nmice\n";

    fn is_match(left: &str, right: &str) -> bool {
        let synonyms = Synonyms::parse(SYNSETS, EXCEPTIONS).unwrap();
        synonyms.synsets(left).meet(&synonyms.synsets(right))
    }

    #[test]
    fn words_of_one_synset_match_and_others_do_not() {
        assert!(is_match("kid", "child"));
        assert!(is_match("kid", "goat"), "ids are numbers, not texts");
        assert!(!is_match("child", "goat"), "it takes one synset, not a chain of two");
        assert!(!is_match("man", "woman"));
        assert!(!is_match("unheard", "unheard"), "words that are not listed have no synsets");
        assert!(!is_match("", ""));
    }

    #[test]
    fn base_forms_count_too() {
        assert!(is_match("mice", "rodents"));
        assert!(is_match("ladies", "women"));
        assert!(is_match("buses", "bus"));
        assert!(!is_match("kids", "goat"), "what is listed as an exception loses no ending");
        assert!(is_match("children", "kids"));
    }

    #[test]
    fn short_words_and_those_in_double_s_lose_no_ending() {
        let synonyms = Synonyms::parse("a\n1\nclas\n2\ncla\n3\n", "").unwrap();
        assert!(!synonyms.synsets("as").meet(&synonyms.synsets("a")));
        assert!(!synonyms.synsets("class").meet(&synonyms.synsets("clas")));
        assert!(synonyms.synsets("clas").meet(&synonyms.synsets("cla")));
    }

    #[test]
    fn the_last_entry_of_a_word_replaces_the_others() {
        let synonyms = Synonyms::parse("big\n1\nbig\n2\nold\n1\nlarge\n2\n", "").unwrap();
        assert!(!synonyms.synsets("big").meet(&synonyms.synsets("old")));
        assert!(synonyms.synsets("big").meet(&synonyms.synsets("large")));
    }

    #[test]
    fn lines_that_are_not_pairs_are_named() {
        let fault = Synonyms::parse("man\n1\nguy\none\n", "").unwrap_err();
        assert_eq!(fault, SynonymFault::Synsets("line 4: expected the number of a synset, found \"one\"".to_owned()));
        let fault = Synonyms::parse("man\n1\nguy\n", "").unwrap_err();
        assert!(matches!(fault, SynonymFault::Synsets(message) if message.starts_with("line 4: expected a word")));
        let fault = Synonyms::parse("man\n1\n", "child\n\n").unwrap_err();
        assert!(matches!(fault, SynonymFault::Exceptions(message) if message.starts_with("line 2: expected a word")));
    }
}
