//! From token ids of single captions to the padded batch of a training step.
//!
//! Padding is known by length, never by id: the padding id may be any token, the end token too.

/// The label of a position that is no target.
pub const IGNORE_LABEL: u32 = u32::MAX;

/// Captions of one batch, row by row, each padded at its end to the longest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenBatch {
    /// Number of captions (B).
    pub batch_size: usize,
    /// Number of positions (L): one less than the tokens of the longest caption.
    pub length: usize,
    /// What the decoder reads, (B, L): every token but the last, then padding.
    pub input_ids: Vec<u32>,
    /// What it must say next, (B, L): every token but the first, then [`IGNORE_LABEL`].
    pub labels: Vec<u32>,
    /// Number of labels that are targets.
    pub num_targets: usize,
}

/// Pads captions that [`frame`] made. Each must have two tokens at least.
pub fn collate(captions: &[&[u32]], pad_id: u32) -> TokenBatch {
    let longest = captions.iter().map(|caption| caption.len()).max().unwrap_or(1);
    let length = longest.saturating_sub(1);
    let mut input_ids = Vec::with_capacity(captions.len() * length);
    let mut labels = Vec::with_capacity(captions.len() * length);
    let mut num_targets = 0;
    for caption in captions {
        let [_, targets @ ..] = caption else { panic!("a caption has a start token") };
        assert!(!targets.is_empty(), "a caption has an end token");
        let padding = length - targets.len();
        input_ids.extend_from_slice(&caption[..targets.len()]);
        input_ids.extend(std::iter::repeat_n(pad_id, padding));
        labels.extend_from_slice(targets);
        labels.extend(std::iter::repeat_n(IGNORE_LABEL, padding));
        num_targets += targets.len();
    }
    TokenBatch { batch_size: captions.len(), length, input_ids, labels, num_targets }
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
    fn inputs_and_labels_are_one_token_apart() {
        let long = frame(&[10, 11, 12], START, END, 8);
        let short = frame(&[20], START, END, 8);
        let batch = collate(&[&long, &short], 0);
        assert_eq!((batch.batch_size, batch.length, batch.num_targets), (2, 4, 6));
        assert_eq!(batch.input_ids, [START, 10, 11, 12, START, 20, 0, 0]);
        assert_eq!(batch.labels, [10, 11, 12, END, 20, END, IGNORE_LABEL, IGNORE_LABEL]);
    }

    #[test]
    fn end_token_is_a_target_even_where_it_pads() {
        let captions = [frame(&[10, 11], END, END, 8), frame(&[], END, END, 8)];
        let batch = collate(&[&captions[0], &captions[1]], END);
        assert_eq!(batch.input_ids, [END, 10, 11, END, END, END]);
        assert_eq!(batch.labels, [10, 11, END, END, IGNORE_LABEL, IGNORE_LABEL]);
        assert_eq!(batch.num_targets, 4);
    }

    #[test]
    fn padding_id_inside_a_caption_is_a_target() {
        let caption = frame(&[0, 0], START, END, 8);
        assert_eq!(collate(&[&caption], 0).labels, [0, 0, END]);
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
        assert_eq!((batch.batch_size, batch.length, batch.num_targets), (0, 0, 0));
        assert!(batch.input_ids.is_empty() && batch.labels.is_empty());
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
