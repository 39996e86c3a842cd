//! Properties of captions, regardless of their images: length, vocabulary, variety, novelty, repetition.

use std::collections::HashSet;

use super::ptb_tokenizer::PtbTokenizer;

/// How many words in a row make a repetition.
const REPEATED_WORDS: usize = 3;

/// Words that a sentence does not end with: those of the code of Luo (`self-critical.pytorch`), and a few more of their
/// kind.
const BAD_LAST_WORDS: [&str; 22] = [
    "a", "an", "the", "in", "for", "at", "of", "with", "before", "after", "on", "upon", "near", "to", "is", "are",
    "am", "and", "or", "his", "her", "its",
];

/// Properties of a set of captions, one for each image.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct CaptionStatistics {
    /// Mean number of words.
    pub mean_length: f64,
    /// Words of the shortest caption.
    pub min_length: usize,
    /// Words of the longest caption.
    pub max_length: usize,
    /// Distinct words.
    pub vocabulary: usize,
    /// Distinct captions, as a share of all.
    pub distinct: f64,
    /// Captions that no training image has, as a share of all; absent when the training captions are not known.
    pub novel: Option<f64>,
    /// Captions that repeat three words in a row, as a share of all.
    pub repeating: f64,
    /// Captions that were cut off at the longest length, as a share of all; absent where only their texts are known.
    pub without_end: Option<f64>,
    /// Captions that end as no sentence does (see [`has_bad_ending`]), as a share of all; absent in files of versions
    /// that did not count them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bad_endings: Option<f64>,
}

/// The properties of `captions`, whose words are separated by white space; `training` has the captions that the model
/// was trained on, written the same way.
pub fn caption_statistics(captions: &[&str], training: Option<&HashSet<String>>) -> CaptionStatistics {
    if captions.is_empty() {
        return CaptionStatistics::default();
    }
    let share = |count: usize| count as f64 / captions.len() as f64;
    let lengths: Vec<usize> = captions.iter().map(|caption| caption.split_whitespace().count()).collect();
    let words: HashSet<&str> = captions.iter().flat_map(|caption| caption.split_whitespace()).collect();
    let distinct: HashSet<&&str> = captions.iter().collect();
    let novel = |known: &HashSet<String>| share(captions.iter().filter(|caption| !known.contains(**caption)).count());
    CaptionStatistics {
        mean_length: share(lengths.iter().sum()),
        min_length: lengths.iter().copied().min().unwrap_or(0),
        max_length: lengths.iter().copied().max().unwrap_or(0),
        vocabulary: words.len(),
        distinct: share(distinct.len()),
        novel: training.map(novel),
        repeating: share(captions.iter().filter(|caption| repeats_itself(caption)).count()),
        without_end: None,
        bad_endings: Some(share(captions.iter().filter(|caption| has_bad_ending(caption)).count())),
    }
}

/// Whether a caption, in lower case and with its words between spaces, ends with a word such as "a", "with" or "is":
/// the mark of a model that was trained on a score which does not count the end.
pub fn has_bad_ending(caption: &str) -> bool {
    // The tokenizer takes "a." for an initial.
    let last = caption.split_whitespace().next_back().map(|word| word.trim_end_matches('.'));
    last.is_some_and(|word| BAD_LAST_WORDS.contains(&word))
}

/// The share of `captions`, untokenized, that end so; 0 of none.
pub fn share_of_bad_endings(captions: &[&str]) -> f64 {
    let words = PtbTokenizer::new().to_words(captions);
    words.iter().filter(|words| has_bad_ending(words)).count() as f64 / captions.len().max(1) as f64
}

/// Whether three words in a row occur twice. Nothing is found where words are not separated.
pub fn repeats_itself(caption: &str) -> bool {
    let words: Vec<&str> = caption.split_whitespace().collect();
    let mut seen = HashSet::new();
    words.windows(REPEATED_WORDS).any(|window| !seen.insert(window))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_last_word_that_ends_no_sentence_is_a_bad_ending_and_punctuation_does_not_hide_it() {
        for (caption, expected) in [("a man with a", true), ("a man is", true), ("a man", false), ("", false)] {
            assert_eq!(has_bad_ending(caption), expected, "{caption}");
        }
        assert_eq!(share_of_bad_endings(&["A man on a.", "a man on it.", "Her", "dogs"]), 0.5);
        assert_eq!(share_of_bad_endings(&[]), 0.0);
    }

    #[test]
    fn figures_are_counted() {
        let captions = ["a dog runs", "a dog runs", "a cat", "a dog on a dog on a"];
        let training = HashSet::from(["a cat".to_owned()]);
        let found = caption_statistics(&captions, Some(&training));
        let expected = CaptionStatistics {
            mean_length: 15.0 / 4.0,
            min_length: 2,
            max_length: 7,
            vocabulary: 5,
            distinct: 0.75,
            novel: Some(0.75),
            repeating: 0.25,
            without_end: None,
            bad_endings: Some(0.25),
        };
        assert_eq!(found, expected);
        assert_eq!(caption_statistics(&captions, None).novel, None);
        assert_eq!(caption_statistics(&[], None), CaptionStatistics::default());
    }
}
