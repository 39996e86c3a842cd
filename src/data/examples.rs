//! From the captions of a data set to training examples: tokens between a start and an end token.

use anyhow::Result;
use rayon::prelude::*;

use crate::data::batch::Example;
use crate::tokenizer::CaptionTokenizer;
use datasets::prepared::Dataset;
use records::caption_lengths::CaptionLengths;

/// Each caption of each image as a training example, and how long the captions are before they are cut.
///
/// # Errors
/// A caption that the tokenizer cannot encode.
pub fn make_examples(
    dataset: &Dataset,
    images: &[usize],
    tokenizer: &CaptionTokenizer,
    max_seq_len: usize,
) -> Result<(Vec<Example>, CaptionLengths)> {
    let specials = tokenizer.special_ids();
    let of_image = |&image: &usize| -> Result<Vec<(Example, usize)>> {
        let captions = dataset.images[image].captions.iter();
        let example = |caption: &String| {
            let ids = tokenizer.encode(caption)?;
            Ok((Example { image, tokens: frame(&ids, specials.start, specials.end, max_seq_len) }, ids.len()))
        };
        captions.map(example).collect()
    };
    let encoded: Result<Vec<Vec<(Example, usize)>>> = images.par_iter().map(of_image).collect();
    let mut lengths = CaptionLengths::default();
    let examples = encoded?.into_iter().flatten().map(|(example, num_tokens)| {
        lengths.add(num_tokens);
        example
    });
    Ok((examples.collect(), lengths))
}

/// `<start> ids <end>`, cut to `max_seq_len + 1` tokens (`max_seq_len` decoder positions, at least 1); a caption that
/// is cut still ends with `<end>`.
pub fn frame(ids: &[u32], start: u32, end: u32, max_seq_len: usize) -> Vec<u32> {
    assert!(max_seq_len > 0, "a decoder has at least one position");
    let kept = &ids[..ids.len().min(max_seq_len - 1)];
    let mut caption = Vec::with_capacity(kept.len() + 2);
    caption.push(start);
    caption.extend_from_slice(kept);
    caption.push(end);
    caption
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u32 = 1;
    const END: u32 = 2;

    #[test]
    fn long_captions_are_cut_and_still_end() {
        assert_eq!(frame(&[10, 11, 12], START, END, 4), [START, 10, 11, 12, END]);
        assert_eq!(frame(&[10, 11, 12], START, END, 3), [START, 10, 11, END]);
        assert_eq!(frame(&[10, 11, 12], START, END, 1), [START, END]);
        assert_eq!(frame(&[10; 100], START, END, 16).len(), 17);
    }

    #[test]
    fn what_counts_as_longer_is_what_is_cut() {
        for positions in 1..6 {
            let mut counted = CaptionLengths::default();
            (0..8).for_each(|length| counted.add(length));
            let is_cut = |&length: &usize| frame(&vec![9; length], 1, 2, positions).len() < length + 2;
            assert_eq!(counted.num_longer_than(positions), (0..8).filter(is_cut).count(), "{positions} positions");
        }
    }
}
