//! From token ids of single captions to the batch of a training step: one after the other, or padded for a GPU.
//!
//! Padding is known by length, never by id: the padding id may be any token, the end token too.

/// Captions of one batch.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenBatch {
    /// Tokens that the decoder reads of each caption: all but its last.
    pub lengths: Vec<usize>,
    /// What the decoder reads, caption by caption: every token but the last, then padding, if the captions are padded.
    pub input_ids: Vec<u32>,
    /// The positions that have a target, as indices into `input_ids`, in ascending order.
    pub rows: Vec<u32>,
    /// Targets of each caption.
    pub target_lengths: Vec<usize>,
    /// The token that must follow at each of `rows`.
    pub targets: Vec<u32>,
    /// The factor of the loss of each of `targets`; absent where all are 1.
    pub weights: Option<Vec<f64>>,
}

/// A framed caption: start token, prompt, caption, end token.
#[derive(Clone, Copy, Debug)]
pub struct Framed<'a> {
    /// At least two.
    pub tokens: &'a [u32],
    /// Tokens after the start token that are no targets.
    pub prompt_length: usize,
    pub weight: f64,
}

impl<'a> From<&'a [u32]> for Framed<'a> {
    /// One without a prompt.
    fn from(tokens: &'a [u32]) -> Self {
        Self { tokens, prompt_length: 0, weight: 1.0 }
    }
}

impl TokenBatch {
    /// Tokens that the decoder reads of the longest caption.
    pub fn longest(&self) -> usize {
        self.lengths.iter().copied().max().unwrap_or(0)
    }
}

/// Framed captions one after the other; with `pad_id` each padded at its end to the longest.
pub fn collate(captions: &[Framed<'_>], pad_id: Option<u32>) -> TokenBatch {
    let longest = captions.iter().map(|caption| caption.tokens.len().saturating_sub(1)).max().unwrap_or(0);
    let (mut input_ids, mut rows) = (Vec::new(), Vec::new());
    let (mut lengths, mut target_lengths) = (Vec::with_capacity(captions.len()), Vec::with_capacity(captions.len()));
    let (mut all_targets, mut weights) = (Vec::new(), Vec::new());
    for &Framed { tokens, prompt_length, weight } in captions {
        let [_, following @ ..] = tokens else { panic!("a caption has a start token") };
        let targets = following.get(prompt_length..).unwrap_or_default();
        assert!(!targets.is_empty(), "a caption has an end token");
        let first = u32::try_from(input_ids.len() + prompt_length).expect("a batch has fewer than 2^32 positions");
        rows.extend((first..).take(targets.len()));
        all_targets.extend_from_slice(targets);
        weights.extend(std::iter::repeat_n(weight, targets.len()));
        input_ids.extend_from_slice(&tokens[..following.len()]);
        if let Some(pad_id) = pad_id {
            input_ids.extend(std::iter::repeat_n(pad_id, longest - following.len()));
        }
        lengths.push(following.len());
        target_lengths.push(targets.len());
    }
    let weights = Some(weights).filter(|weights| weights.iter().any(|&weight| weight != 1.0));
    TokenBatch { lengths, input_ids, rows, target_lengths, targets: all_targets, weights }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::examples::frame;

    fn collate_plain(captions: &[&[u32]], pad_id: u32) -> TokenBatch {
        collate(&captions.iter().map(|&tokens| tokens.into()).collect::<Vec<Framed<'_>>>(), Some(pad_id))
    }

    const START: u32 = 1;
    const END: u32 = 2;

    #[test]
    fn inputs_and_targets_are_one_token_apart() {
        let long = frame(&[10, 11, 12], START, END, 8);
        let short = frame(&[20], START, END, 8);
        let batch = collate_plain(&[&long, &short], 0);
        assert_eq!((&batch.lengths[..], batch.longest()), (&[4, 2][..], 4));
        assert_eq!(batch.input_ids, [START, 10, 11, 12, START, 20, 0, 0]);
        assert_eq!(batch.rows, [0, 1, 2, 3, 4, 5]);
        assert_eq!(batch.targets, [10, 11, 12, END, 20, END]);
    }

    #[test]
    fn a_prompt_is_read_and_is_no_target() {
        let (long, short) = (frame(&[10, 11, 12, 13], START, END, 8), frame(&[20, 21], START, END, 8));
        let framed = |tokens, prompt_length| Framed { tokens, prompt_length, weight: 1.0 };
        let batch = collate(&[framed(&long, 3), framed(&short, 0), framed(&short, 2)], Some(0));
        assert_eq!(batch.input_ids, [START, 10, 11, 12, 13, START, 20, 21, 0, 0, START, 20, 21, 0, 0]);
        assert_eq!(batch.rows, [3, 4, 5, 6, 7, 12]);
        assert_eq!(batch.targets, [13, END, 20, 21, END, END]);
        assert_eq!(batch.weights, None);
    }

    #[test]
    fn every_target_has_the_weight_of_its_caption() {
        let (long, short) = (frame(&[10, 11], START, END, 8), frame(&[20], START, END, 8));
        let framed = |tokens, prompt_length, weight| Framed { tokens, prompt_length, weight };
        let batch = collate(&[framed(&long, 1, 0.5), framed(&short, 0, 1.0)], Some(0));
        assert_eq!(batch.weights.unwrap(), [0.5, 0.5, 1.0, 1.0]);
    }

    #[test]
    fn padded_positions_have_no_target() {
        let captions = [frame(&[20], START, END, 8), frame(&[10, 11, 12], START, END, 8)];
        let batch = collate_plain(&[&captions[0], &captions[1]], 0);
        assert_eq!(batch.input_ids, [START, 20, 0, 0, START, 10, 11, 12]);
        assert_eq!(batch.rows, [0, 1, 4, 5, 6, 7]);
        assert_eq!(batch.targets, [20, END, 10, 11, 12, END]);
    }

    #[test]
    fn end_token_is_a_target_even_where_it_pads() {
        let captions = [frame(&[10, 11], END, END, 8), frame(&[], END, END, 8)];
        let batch = collate_plain(&[&captions[0], &captions[1]], END);
        assert_eq!(batch.input_ids, [END, 10, 11, END, END, END]);
        assert_eq!(batch.rows, [0, 1, 2, 3]);
        assert_eq!(batch.targets, [10, 11, END, END]);
    }

    #[test]
    fn without_a_padding_id_captions_follow_each_other() {
        let (long, short) = (frame(&[10, 11, 12, 13], START, END, 8), frame(&[20, 21], START, END, 8));
        let framed = |tokens, prompt_length| Framed { tokens, prompt_length, weight: 1.0 };
        let batch = collate(&[framed(&short, 1), framed(&long, 3), framed(&short, 0)], None);
        assert_eq!(batch.input_ids, [START, 20, 21, START, 10, 11, 12, 13, START, 20, 21]);
        assert_eq!((&batch.lengths[..], &batch.target_lengths[..]), (&[3, 5, 3][..], &[2, 2, 3][..]));
        assert_eq!(batch.rows, [1, 2, 6, 7, 8, 9, 10]);
        assert_eq!(batch.targets, [21, END, 13, END, 20, 21, END]);
    }

    #[test]
    fn padding_id_inside_a_caption_is_a_target() {
        let caption = frame(&[0, 0], START, END, 8);
        assert_eq!(collate_plain(&[&caption], 0).targets, [0, 0, END]);
    }

    #[test]
    fn no_captions_make_an_empty_batch() {
        let batch = collate_plain(&[], 0);
        assert_eq!((batch.lengths.len(), batch.longest()), (0, 0));
        assert!(batch.input_ids.is_empty() && batch.rows.is_empty() && batch.targets.is_empty());
    }
}
