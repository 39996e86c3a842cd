//! Notes of thousands of shards in a few lines: a few of each kind in full, the rest counted.

use std::collections::HashMap;

use crate::prepare::summary::kind_of;

/// Notes of one kind that are kept in full, and kinds that are told apart.
const NUM_IN_FULL: usize = 5;
const MAX_KINDS: usize = 200;

/// Notes, each (what it is about, text), by kinds in the order of their first.
#[derive(Default)]
pub(super) struct Notes {
    places: HashMap<String, usize>,
    kinds: Vec<Kind>,
}

struct Kind {
    first: Vec<(String, String)>,
    /// What the others are about: images, where a note says how many.
    num_more: usize,
}

impl Notes {
    pub(super) fn add(&mut self, what: &str, text: &str) {
        // The last kind takes all that are not told apart.
        let place = match self.places.get(&kind_of(text)) {
            Some(&place) => place,
            None if self.kinds.len() == MAX_KINDS => MAX_KINDS - 1,
            None => {
                self.places.insert(kind_of(text), self.kinds.len());
                self.kinds.push(Kind { first: Vec::new(), num_more: 0 });
                self.kinds.len() - 1
            }
        };
        let kind = &mut self.kinds[place];
        if kind.first.len() < NUM_IN_FULL {
            kind.first.push((what.to_owned(), text.to_owned()));
        } else {
            kind.num_more += amount(what);
        }
    }

    /// All of them: each (what it is about, text).
    pub(super) fn finish(self) -> impl Iterator<Item = (String, String)> {
        self.kinds.into_iter().flat_map(|Kind { first, num_more }| {
            let more =
                first.last().filter(|_| num_more > 0).map(|(_, text)| (format!("{num_more} more"), text.clone()));
            first.into_iter().chain(more)
        })
    }
}

/// How many things a note is about, such as "12 image files"; one where it is about a file.
fn amount(what: &str) -> usize {
    let number = what.split_once(' ').filter(|(_, rest)| !rest.contains('/'));
    number.and_then(|(number, _)| number.parse().ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_of_a_kind_are_kept_and_the_others_counted() {
        let mut notes = Notes::default();
        for number in 0..8 {
            notes.add(&format!("{number}.tar/a.jpg"), &format!("the JPEG is cut at byte {number}"));
            notes.add("10 image files", &format!("no captions name them, such as {number}.tar/b.jpg"));
        }
        let all: Vec<(String, String)> = notes.finish().collect();
        assert_eq!(all.len(), 12, "{all:?}");
        assert_eq!(all[5], ("3 more".to_owned(), "the JPEG is cut at byte 4".to_owned()));
        assert_eq!(all[11].0, "30 more");
    }

    #[test]
    fn kinds_without_end_take_no_memory_without_end() {
        let mut notes = Notes::default();
        let letters = |number: usize| number.to_string().bytes().map(|byte| char::from(byte + 17)).collect::<String>();
        (0..1000).for_each(|number| notes.add("a", &letters(number)));
        let all: Vec<(String, String)> = notes.finish().collect();
        assert_eq!((all.len(), all.last().unwrap().0.as_str()), (205, "796 more"), "{all:?}");
    }
}
