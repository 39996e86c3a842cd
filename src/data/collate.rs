//! From token ids of single captions to the padded batch of a training step.
//!
//! Padding is known by length, never by id: the padding id may be any token, the end token too.

/// Captions of one batch, row by row, each padded at its end to the longest.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenBatch {
    /// B
    pub batch_size: usize,
    /// L: one less than the tokens of the longest caption.
    pub length: usize,
    /// What the decoder reads, (B, L): every token but the last, then padding.
    pub input_ids: Vec<u32>,
    /// The positions that have a target, as indices into (B L), in ascending order.
    pub rows: Vec<u32>,
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

/// Pads framed captions.
pub fn collate(captions: &[Framed<'_>], pad_id: u32) -> TokenBatch {
    let longest = captions.iter().map(|caption| caption.tokens.len()).max().unwrap_or(1);
    let length = longest.saturating_sub(1);
    let mut input_ids = Vec::with_capacity(captions.len() * length);
    let (mut rows, mut all_targets, mut weights) = (Vec::new(), Vec::new(), Vec::new());
    for &Framed { tokens, prompt_length, weight } in captions {
        let [_, following @ ..] = tokens else { panic!("a caption has a start token") };
        let targets = following.get(prompt_length..).unwrap_or_default();
        assert!(!targets.is_empty(), "a caption has an end token");
        let first = u32::try_from(input_ids.len() + prompt_length).expect("a batch has fewer than 2^32 positions");
        rows.extend((first..).take(targets.len()));
        all_targets.extend_from_slice(targets);
        weights.extend(std::iter::repeat_n(weight, targets.len()));
        input_ids.extend_from_slice(&tokens[..following.len()]);
        input_ids.extend(std::iter::repeat_n(pad_id, length - following.len()));
    }
    let weights = Some(weights).filter(|weights| weights.iter().any(|&weight| weight != 1.0));
    TokenBatch { batch_size: captions.len(), length, input_ids, rows, targets: all_targets, weights }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::examples::frame;

    fn collate_plain(captions: &[&[u32]], pad_id: u32) -> TokenBatch {
        collate(&captions.iter().map(|&tokens| tokens.into()).collect::<Vec<Framed<'_>>>(), pad_id)
    }

    const START: u32 = 1;
    const END: u32 = 2;

    #[test]
    fn inputs_and_targets_are_one_token_apart() {
        let long = frame(&[10, 11, 12], START, END, 8);
        let short = frame(&[20], START, END, 8);
        let batch = collate_plain(&[&long, &short], 0);
        assert_eq!((batch.batch_size, batch.length), (2, 4));
        assert_eq!(batch.input_ids, [START, 10, 11, 12, START, 20, 0, 0]);
        assert_eq!(batch.rows, [0, 1, 2, 3, 4, 5]);
        assert_eq!(batch.targets, [10, 11, 12, END, 20, END]);
    }

    #[test]
    fn a_prompt_is_read_and_is_no_target() {
        let (long, short) = (frame(&[10, 11, 12, 13], START, END, 8), frame(&[20, 21], START, END, 8));
        let framed = |tokens, prompt_length| Framed { tokens, prompt_length, weight: 1.0 };
        let batch = collate(&[framed(&long, 3), framed(&short, 0), framed(&short, 2)], 0);
        assert_eq!(batch.input_ids, [START, 10, 11, 12, 13, START, 20, 21, 0, 0, START, 20, 21, 0, 0]);
        assert_eq!(batch.rows, [3, 4, 5, 6, 7, 12]);
        assert_eq!(batch.targets, [13, END, 20, 21, END, END]);
        assert_eq!(batch.weights, None);
    }

    #[test]
    fn every_target_has_the_weight_of_its_caption() {
        let (long, short) = (frame(&[10, 11], START, END, 8), frame(&[20], START, END, 8));
        let framed = |tokens, prompt_length, weight| Framed { tokens, prompt_length, weight };
        let batch = collate(&[framed(&long, 1, 0.5), framed(&short, 0, 1.0)], 0);
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
    fn padding_id_inside_a_caption_is_a_target() {
        let caption = frame(&[0, 0], START, END, 8);
        assert_eq!(collate_plain(&[&caption], 0).targets, [0, 0, END]);
    }

    #[test]
    fn no_captions_make_an_empty_batch() {
        let batch = collate_plain(&[], 0);
        assert_eq!((batch.batch_size, batch.length), (0, 0));
        assert!(batch.input_ids.is_empty() && batch.rows.is_empty() && batch.targets.is_empty());
    }
}
