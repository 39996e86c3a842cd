//! From the captions of a data set to training examples: tokens between a start and an end token.

use anyhow::{Context as _, Result};
use rayon::prelude::*;

use crate::data::batch::Example;
use crate::data::example_list::ExampleList;
use crate::data::prompts::prompt_of;
use crate::tokenizer::CaptionTokenizer;
use base::error::failure;
use datasets::prepared::{DATASET_FILE, Dataset};
use datasets::shards::files::SHARDS_FILE;
use records::caption_lengths::CaptionLengths;

/// How captions become examples.
#[derive(Clone, Copy, Debug)]
pub struct Framing<'a> {
    pub tokenizer: &'a CaptionTokenizer,
    /// Positions of the decoder that an example may take.
    pub max_seq_len: usize,
    /// The prompt of captions without their own.
    pub prompt: Option<&'a str>,
    /// Whether weights count; else all of them are 1.
    pub weighs: bool,
}

/// What to do about a prompt that is too long for training.
const RAISE_POSITIONS: &str = "shorten the prompt, or raise model.decoder.max_seq_len";

/// The captions of images as examples.
#[derive(Clone, Debug, Default)]
pub struct Examples {
    /// In the order of images and captions, without those of weight 0.
    pub examples: ExampleList,
    /// How long they are before they are cut, prompts included.
    pub lengths: CaptionLengths,
    /// Captions that are left out since their weight is 0.
    pub num_weightless: usize,
}

/// Images that a thread works through at once.
const TASK: usize = 1 << 8;
/// Images whose examples wait for their place in the list.
const AT_ONCE: usize = 1 << 15;

/// Each caption of each image as a training example.
///
/// # Errors
/// A caption that the tokenizer cannot encode, a prompt that leaves no position for a caption.
pub fn make_examples(dataset: &Dataset, images: &[usize], framing: Framing<'_>) -> Result<Examples> {
    let mut all = Examples::default();
    for images in images.chunks(AT_ONCE) {
        let tasks = images.par_chunks(TASK).map(|images| Examples::of_images(dataset, images, framing));
        for Examples { examples, lengths, num_weightless } in tasks.collect::<Result<Vec<_>>>()? {
            all.examples.extend(examples.iter());
            all.lengths = all.lengths.merged(&lengths);
            all.num_weightless += num_weightless;
        }
    }
    Ok(all)
}

impl Examples {
    fn of_images(dataset: &Dataset, images: &[usize], framing: Framing<'_>) -> Result<Self> {
        let mut all = Self::default();
        for &image in images {
            let record = dataset.images.get(image);
            for (place, caption) in record.captions().enumerate() {
                let weight = if framing.weighs { record.weight(place).value() } else { 1.0 };
                if weight == 0.0 {
                    all.num_weightless += 1;
                    continue;
                }
                let at = || {
                    let file = if dataset.in_shards.is_some() { SHARDS_FILE } else { DATASET_FILE };
                    let file = dataset.directory.join(file);
                    format!("cannot use caption {place} of image {} in {}", record.filename(), file.display())
                };
                let prompt = prompt_of(record, place, framing.prompt);
                let sequence = framing.sequence(prompt, caption, RAISE_POSITIONS).with_context(at)?;
                let Sequence { tokens, prompt_length, num_tokens } = sequence;
                all.lengths.add(num_tokens);
                all.examples.push(&Example { image, tokens, prompt_length, weight });
            }
        }
        Ok(all)
    }
}

/// A caption as a decoder reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// `<start> prompt caption <end>`.
    pub tokens: Vec<u32>,
    /// Tokens of the prompt.
    pub prompt_length: usize,
    /// Tokens of prompt and caption before the caption is cut.
    pub num_tokens: usize,
}

impl Framing<'_> {
    /// The tokens of a caption after its prompt, each encoded apart, so that decoding from the prompt continues what
    /// was trained. `hint`: what to do about a prompt that is too long.
    ///
    /// # Errors
    /// As [`make_examples`].
    pub fn sequence(&self, prompt: Option<&str>, caption: &str, hint: &str) -> Result<Sequence> {
        let specials = self.tokenizer.special_ids();
        let Some(prompt) = prompt else {
            let ids = self.tokenizer.encode(caption)?;
            let tokens = frame(&ids, specials.start, specials.end, self.max_seq_len);
            return Ok(Sequence { tokens, prompt_length: 0, num_tokens: ids.len() });
        };
        let mut ids = self.tokenizer.encode(prompt)?;
        let prompt_length = ids.len();
        // One position reads the start token, and one the first token of the caption.
        if prompt_length + 2 > self.max_seq_len {
            return Err(failure(
                format!(
                    "the prompt {prompt:?} has {prompt_length} tokens, which leaves no room for a caption in {} positions",
                    self.max_seq_len
                ),
                hint,
            ));
        }
        ids.extend(self.tokenizer.encode_after_prompt(caption)?);
        let tokens = frame(&ids, specials.start, specials.end, self.max_seq_len);
        Ok(Sequence { tokens, prompt_length, num_tokens: ids.len() })
    }
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
