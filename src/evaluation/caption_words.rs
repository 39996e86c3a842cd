//! From tokens to the words of a caption.

use anyhow::Result;

use crate::evaluation::captioning::WrittenCaption;
use crate::tokenizer::CaptionTokenizer;

/// A word of a caption and what it looks at.
#[derive(Clone, Debug, PartialEq)]
pub struct CaptionWord {
    /// The word as written in the caption, without spaces.
    pub text: String,
    /// How much it looks at the prefix tokens (class token, registers) and then at each patch, row by row, of sum 1:
    /// the mean of its tokens. Empty if unknown.
    pub attention: Vec<f32>,
}

/// The words of a caption, which are what stands between spaces. `attention` has a row for each token, as
/// `CaptionWriter::attention` gives it; without rows the words have none.
///
/// # Errors
/// Errors of the tokenizer.
pub fn words(
    caption: &WrittenCaption,
    tokenizer: &CaptionTokenizer,
    attention: &[Vec<f32>],
) -> Result<Vec<CaptionWord>> {
    let tokens = &caption.decoded.tokens;
    let mut ends = Vec::with_capacity(tokens.len());
    for count in 1..=tokens.len() {
        let text = tokenizer.decode(&tokens[..count])?;
        // A character whose bytes are in two tokens is broken until the second has come.
        let common = text.bytes().zip(caption.text.bytes()).take_while(|(one, other)| one == other).count();
        ends.push(common);
    }
    Ok(split(&caption.text, &ends, attention))
}

/// `token_ends` has for each token where it ends in `caption`, in bytes.
fn split(caption: &str, token_ends: &[usize], attention: &[Vec<f32>]) -> Vec<CaptionWord> {
    let word = |text: &str| {
        // `split_whitespace` returns slices of `caption` itself.
        let start = text.as_ptr() as usize - caption.as_ptr() as usize;
        let attention = mean(tokens_of(start, start + text.len(), token_ends, attention));
        CaptionWord { text: text.to_owned(), attention }
    };
    caption.split_whitespace().map(word).collect()
}

/// The weights of the tokens that share a byte with the word.
fn tokens_of<'a>(
    start: usize,
    end: usize,
    token_ends: &'a [usize],
    attention: &'a [Vec<f32>],
) -> impl Iterator<Item = &'a [f32]> {
    let token_starts = std::iter::once(0).chain(token_ends.iter().copied());
    token_starts
        .zip(token_ends)
        .zip(attention)
        .filter(move |&((token_start, &token_end), _)| token_start.max(start) < token_end.min(end))
        .map(|(_, weights)| weights.as_slice())
}

fn mean<'a>(tokens: impl Iterator<Item = &'a [f32]>) -> Vec<f32> {
    let mut sum: Vec<f32> = Vec::new();
    let mut count = 0;
    for weights in tokens {
        sum.resize(weights.len().max(sum.len()), 0.0);
        sum.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += weight);
        count += 1;
    }
    sum.iter_mut().for_each(|sum| *sum /= count as f32);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_has_the_mean_of_its_tokens() {
        // "a", " snow", "board", " é".
        let ends = [1, 6, 11, 14];
        let attention = [vec![0.5, 0.25, 0.25], vec![0.0, 1.0, 0.0], vec![0.5, 0.0, 0.5], vec![0.0, 0.0, 1.0]];
        let found = split("a snowboard é", &ends, &attention);
        let expected = [("a", vec![0.5, 0.25, 0.25]), ("snowboard", vec![0.25, 0.5, 0.25]), ("é", vec![0.0, 0.0, 1.0])];
        assert_eq!(found.len(), 3);
        for (word, (text, weights)) in found.iter().zip(expected) {
            assert_eq!((word.text.as_str(), &word.attention), (text, &weights));
        }
    }

    #[test]
    fn a_space_before_a_word_belongs_to_no_other_word() {
        let found = split("a b", &[2, 3], &[vec![0.0, 1.0], vec![0.0, 2.0]]);
        assert_eq!((found[0].attention[1], found[1].attention[1]), (1.0, 2.0));
    }

    #[test]
    fn odd_input_gives_words_all_the_same() {
        assert!(split("", &[], &[]).is_empty());
        assert!(split(" \n", &[5], &[vec![]]).is_empty());
        assert!(split("a b", &[1, 3], &[]).iter().all(|word| word.attention.is_empty()));
        assert_eq!(split("a b", &[9, 3, 700], &[vec![], vec![1.0, 2.0]]).len(), 2);
    }
}
