//! Judges from a few captions whether a model describes its images at all: the ways in which captioners fail that a
//! validation loss does not show.

use std::collections::HashMap;
use std::fmt;

use crate::evaluation::captioning::WrittenCaption;
use metrics::statistics::repeats_itself;

/// Captions below which nothing is said: some of so few may well be equal.
const MIN_CAPTIONS: usize = 4;

/// A way in which more than half of the captions fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Degeneration {
    /// One caption for most images.
    SameCaption {
        /// Images that have it.
        count: usize,
        /// Images captioned.
        of: usize,
        caption: String,
    },
    /// Captions that run to the maximum length.
    NoEnd {
        count: usize,
        /// Images captioned.
        of: usize,
    },
    /// Captions that say the same three words more than once.
    Repetition {
        count: usize,
        /// Images captioned.
        of: usize,
        /// The first of them.
        caption: String,
    },
}

impl fmt::Display for Degeneration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SameCaption { count, of, caption } => {
                write!(f, "{count} of {of} images have the same caption, {caption:?}")
            }
            Self::NoEnd { count, of } => write!(f, "{count} of {of} captions have no end: they were cut off"),
            Self::Repetition { count, of, caption } => {
                write!(f, "{count} of {of} captions repeat themselves, the first is {caption:?}")
            }
        }
    }
}

/// What more than half of `captions`, of different images, have in common.
pub fn find(captions: &[WrittenCaption]) -> Vec<Degeneration> {
    let of = captions.len();
    let is_most = |count: usize| of >= MIN_CAPTIONS && 2 * count > of;
    let mut found = Vec::new();
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for caption in captions {
        *counts.entry(&caption.text).or_default() += 1;
    }
    if let Some((caption, &count)) = counts.iter().max_by_key(|(_, count)| **count)
        && is_most(count)
    {
        found.push(Degeneration::SameCaption { count, of, caption: (*caption).to_owned() });
    }
    let count = captions.iter().filter(|caption| !caption.decoded.has_end()).count();
    if is_most(count) {
        found.push(Degeneration::NoEnd { count, of });
    }
    let mut repeating = captions.iter().filter(|caption| repeats_itself(&caption.text)).peekable();
    if let Some(caption) = repeating.peek().map(|first| first.text.clone()) {
        let count = repeating.count();
        if is_most(count) {
            found.push(Degeneration::Repetition { count, of, caption });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoding::DecodedCaption;

    fn captions(texts: &[&str]) -> Vec<WrittenCaption> {
        let ended = DecodedCaption { tokens: Vec::new(), log_probabilities: vec![-0.1] };
        texts.iter().map(|text| WrittenCaption { text: (*text).to_owned(), decoded: ended.clone() }).collect()
    }

    #[test]
    fn captions_that_differ_end_and_do_not_repeat_are_well() {
        assert_eq!(find(&captions(&["a dog runs", "a cat sits", "two men talk", "a dog runs"])), []);
        assert_eq!(find(&[]), []);
    }

    #[test]
    fn the_same_caption_for_most_images_is_found_and_for_half_of_them_is_not() {
        let found = find(&captions(&["a man", "a man", "a dog", "a man"]));
        assert_eq!(found, [Degeneration::SameCaption { count: 3, of: 4, caption: "a man".to_owned() }]);
        assert_eq!(found[0].to_string(), "3 of 4 images have the same caption, \"a man\"");
        assert_eq!(find(&captions(&["a man", "a man", "a dog", "a cat"])), []);
        assert_eq!(find(&captions(&["a man", "a man", "a man"])), [], "too few to say");
    }

    #[test]
    fn captions_without_an_end_are_found() {
        let mut some = captions(&["a", "b", "c", "d"]);
        for caption in &mut some[..3] {
            caption.decoded = DecodedCaption { tokens: vec![1, 2], log_probabilities: vec![-0.1, -0.2] };
        }
        assert_eq!(find(&some), [Degeneration::NoEnd { count: 3, of: 4 }]);
        some[2].decoded.log_probabilities.push(-0.3);
        assert_eq!(find(&some), []);
    }

    #[test]
    fn captions_that_go_round_in_circles_are_found() {
        let (circle, other) = ("a dog on a dog on a dog", "the man in the man in the");
        let found = find(&captions(&[circle, "a man", other, "a man in a man in a"]));
        assert_eq!(found, [Degeneration::Repetition { count: 3, of: 4, caption: circle.to_owned() }]);
        assert_eq!(find(&captions(&[circle, "a man and a man", other, "a cat"])), []);
    }
}
