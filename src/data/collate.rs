//! From token ids of single captions to the padded batch of a training step.
//!
//! Padding is known by length, never by id: the padding id may be any token, the end token too.

/// Captions of one batch, row by row, each padded at its end to the longest.
#[derive(Clone, Debug, PartialEq, Eq)]
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
}

/// Pads captions that [`frame`] made. Each must have at least two tokens.
pub fn collate(captions: &[&[u32]], pad_id: u32) -> TokenBatch {
    let longest = captions.iter().map(|caption| caption.len()).max().unwrap_or(1);
    let length = longest.saturating_sub(1);
    let mut input_ids = Vec::with_capacity(captions.len() * length);
    let (mut rows, mut all_targets) = (Vec::new(), Vec::new());
    for caption in captions {
        let [_, targets @ ..] = caption else { panic!("a caption has a start token") };
        assert!(!targets.is_empty(), "a caption has an end token");
        let first = u32::try_from(input_ids.len()).expect("a batch has fewer than 2^32 positions");
        rows.extend((first..).take(targets.len()));
        all_targets.extend_from_slice(targets);
        input_ids.extend_from_slice(&caption[..targets.len()]);
        input_ids.extend(std::iter::repeat_n(pad_id, length - targets.len()));
    }
    TokenBatch { batch_size: captions.len(), length, input_ids, rows, targets: all_targets }
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
    use records::caption_lengths::CaptionLengths;

    use super::*;

    const START: u32 = 1;
    const END: u32 = 2;

    #[test]
    fn inputs_and_targets_are_one_token_apart() {
        let long = frame(&[10, 11, 12], START, END, 8);
        let short = frame(&[20], START, END, 8);
        let batch = collate(&[&long, &short], 0);
        assert_eq!((batch.batch_size, batch.length), (2, 4));
        assert_eq!(batch.input_ids, [START, 10, 11, 12, START, 20, 0, 0]);
        assert_eq!(batch.rows, [0, 1, 2, 3, 4, 5]);
        assert_eq!(batch.targets, [10, 11, 12, END, 20, END]);
    }

    #[test]
    fn padded_positions_have_no_target() {
        let captions = [frame(&[20], START, END, 8), frame(&[10, 11, 12], START, END, 8)];
        let batch = collate(&[&captions[0], &captions[1]], 0);
        assert_eq!(batch.input_ids, [START, 20, 0, 0, START, 10, 11, 12]);
        assert_eq!(batch.rows, [0, 1, 4, 5, 6, 7]);
        assert_eq!(batch.targets, [20, END, 10, 11, 12, END]);
    }

    #[test]
    fn end_token_is_a_target_even_where_it_pads() {
        let captions = [frame(&[10, 11], END, END, 8), frame(&[], END, END, 8)];
        let batch = collate(&[&captions[0], &captions[1]], END);
        assert_eq!(batch.input_ids, [END, 10, 11, END, END, END]);
        assert_eq!(batch.rows, [0, 1, 2, 3]);
        assert_eq!(batch.targets, [10, 11, END, END]);
    }

    #[test]
    fn padding_id_inside_a_caption_is_a_target() {
        let caption = frame(&[0, 0], START, END, 8);
        assert_eq!(collate(&[&caption], 0).targets, [0, 0, END]);
    }

    #[test]
    fn long_captions_are_cut_and_still_end() {
        assert_eq!(frame(&[10, 11, 12], START, END, 4), [START, 10, 11, 12, END]);
        assert_eq!(frame(&[10, 11, 12], START, END, 3), [START, 10, 11, END]);
        assert_eq!(frame(&[10, 11, 12], START, END, 1), [START, END]);
        assert_eq!(collate(&[&frame(&[10; 100], START, END, 16)], 0).length, 16);
    }

    #[test]
    fn no_captions_make_an_empty_batch() {
        let batch = collate(&[], 0);
        assert_eq!((batch.batch_size, batch.length), (0, 0));
        assert!(batch.input_ids.is_empty() && batch.rows.is_empty() && batch.targets.is_empty());
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
