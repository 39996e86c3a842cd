//! Which captions are longer than the decoder's positions and are therefore cut, in numbers and in words.

use serde::{Deserialize, Serialize};

use crate::caption_lengths::CaptionLengths;

/// Captions that a proposal keeps whole, in per cent.
const WANTED: usize = 99;

/// The captions of a split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitFit {
    /// All of them.
    pub captions: usize,
    /// Those that are cut.
    pub cut: usize,
    /// Tokens of the longest, the end token included.
    pub longest: usize,
}

/// How the captions of a run fit into `model.decoder.max_seq_len`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptionFit {
    /// Tokens that a caption may have, the end token included.
    pub max_seq_len: usize,
    /// The most that `max_seq_len` can be: the positions of a pretrained decoder. Absent: as many as are wanted.
    pub most_positions: Option<usize>,
    /// Training.
    pub train: SplitFit,
    /// Validation.
    pub val: SplitFit,
    /// The length that leaves 99 % of all captions whole.
    pub fits_99_percent: usize,
}

impl SplitFit {
    fn new(lengths: &CaptionLengths, max_seq_len: usize) -> Self {
        Self { captions: lengths.num_captions(), cut: lengths.num_longer_than(max_seq_len), longest: lengths.longest() }
    }

    fn is_mostly_whole(&self) -> bool {
        100 * self.cut <= (100 - WANTED) * self.captions
    }
}

impl CaptionFit {
    /// Counts what `max_seq_len` cuts. `most_positions`: those of a pretrained decoder, which cannot have more.
    pub fn new(
        train: &CaptionLengths,
        val: &CaptionLengths,
        max_seq_len: usize,
        most_positions: Option<usize>,
    ) -> Self {
        Self {
            max_seq_len,
            most_positions,
            train: SplitFit::new(train, max_seq_len),
            val: SplitFit::new(val, max_seq_len),
            fits_99_percent: train.clone().merged(val).positions_for(WANTED),
        }
    }

    /// Tokens of the longest caption.
    pub fn longest(&self) -> usize {
        self.train.longest.max(self.val.longest)
    }

    /// What is cut, in a sentence; `None` when nothing is.
    pub fn describe(&self) -> Option<String> {
        let Self { max_seq_len, train, val, .. } = self;
        (train.cut + val.cut > 0).then(|| {
            format!(
                "{} of {} training captions and {} of {} validation captions are longer than {max_seq_len} tokens and \
                 are cut; the longest has {}",
                train.cut,
                train.captions,
                val.cut,
                val.captions,
                self.longest()
            )
        })
    }

    /// The same for a plan, where so few captions are cut that nothing has to be done about it.
    pub fn note(&self) -> Option<String> {
        self.describe().filter(|_| self.is_mostly_whole())
    }

    /// A warning with what to do, where more than one caption in a hundred is cut.
    pub fn warning(&self) -> Option<String> {
        let described = self.describe().filter(|_| !self.is_mostly_whole())?;
        Some(format!("{described}: {}", self.way_out()))
    }

    fn is_mostly_whole(&self) -> bool {
        self.train.is_mostly_whole() && self.val.is_mostly_whole()
    }

    fn way_out(&self) -> String {
        const SHORTEN: &str =
            "shorten the captions, or train a decoder from scratch (without model.decoder.name and model.init_from)";
        const KEY: &str = "model.decoder.max_seq_len";
        let most = self.most_positions.unwrap_or(usize::MAX);
        let is_possible = |&wanted: &usize| wanted > self.max_seq_len && wanted <= most;
        let (mostly, all) = (Some(self.fits_99_percent).filter(is_possible), Some(self.longest()).filter(is_possible));
        match (mostly, all) {
            (Some(mostly), Some(all)) if mostly < all => {
                format!("train with {KEY} = {mostly} to keep 99 % of them whole, or {all} to keep all of them whole")
            }
            (_, Some(all)) => format!("train with {KEY} = {all} to keep all of them whole"),
            (Some(mostly), None) => format!("train with {KEY} = {mostly} to keep 99 % of them whole"),
            (None, None) if self.max_seq_len >= most => {
                format!("the pretrained decoder has {most} positions and cannot have more; {SHORTEN}")
            }
            (None, None) => {
                format!("{KEY} can be at most {most}, the positions of the pretrained decoder; {SHORTEN}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(train: &[usize], val: &[usize], max_seq_len: usize) -> CaptionFit {
        let count = |tokens: &[usize]| {
            let mut lengths = CaptionLengths::default();
            tokens.iter().for_each(|&tokens| lengths.add(tokens));
            lengths
        };
        CaptionFit::new(&count(train), &count(val), max_seq_len, None)
    }

    /// 100 captions of 9 tokens, some of them longer.
    fn train(longer: &[usize]) -> Vec<usize> {
        longer.iter().copied().chain(std::iter::repeat(9)).take(100).collect()
    }

    #[test]
    fn captions_that_are_cut_are_counted_for_each_split() {
        let fit = fit(&train(&[40, 31, 10]), &[9, 50], 11);
        insta::assert_snapshot!(
            fit.describe().unwrap(),
            @"2 of 100 training captions and 1 of 2 validation captions are longer than 11 tokens and are cut; the longest has 51"
        );
        assert_eq!(fit.fits_99_percent, 41);
    }

    #[test]
    fn nothing_is_said_where_all_captions_fit_and_no_warning_given_for_one_in_a_hundred() {
        assert_eq!(fit(&train(&[10]), &[9], 11).describe(), None);
        let one = fit(&train(&[40]), &[9], 11);
        assert_eq!((one.note(), one.warning()), (one.describe(), None));
        assert!(one.note().is_some());
        let two = fit(&train(&[40, 40]), &[9], 11);
        assert_eq!((two.note(), two.warning().is_some()), (None, true));
    }

    #[test]
    fn a_warning_proposes_the_length_that_keeps_the_captions() {
        let way_out = |fit: CaptionFit, most_positions| {
            let warning = CaptionFit { most_positions, ..fit }.warning().unwrap();
            warning.split_once(": ").unwrap().1.to_owned()
        };
        let two = fit(&train(&[90, 40, 30]), &[9], 11);
        let expected =
            "train with model.decoder.max_seq_len = 41 to keep 99 % of them whole, or 91 to keep all of them whole";
        assert_eq!(way_out(two, None), expected);
        assert_eq!(way_out(two, Some(1024)), expected);
        let expected = "train with model.decoder.max_seq_len = 41 to keep 99 % of them whole";
        assert_eq!(way_out(two, Some(64)), expected);
        let expected = "train with model.decoder.max_seq_len = 51 to keep all of them whole";
        assert_eq!(way_out(fit(&train(&[]), &[50, 9], 11), None), expected, "only the validation captions are long");
        assert_eq!(way_out(fit(&[40; 9], &[40], 11), None), expected.replace("51", "41"));
    }

    #[test]
    fn a_pretrained_decoder_gets_no_more_positions_than_it_has() {
        let warning = |most| CaptionFit { most_positions: Some(most), ..fit(&[90; 9], &[9], 16) }.warning().unwrap();
        insta::assert_snapshot!(
            warning(16),
            @"9 of 9 training captions and 0 of 1 validation captions are longer than 16 tokens and are cut; the longest has 91: the pretrained decoder has 16 positions and cannot have more; shorten the captions, or train a decoder from scratch (without model.decoder.name and model.init_from)"
        );
        insta::assert_snapshot!(
            warning(64),
            @"9 of 9 training captions and 0 of 1 validation captions are longer than 16 tokens and are cut; the longest has 91: model.decoder.max_seq_len can be at most 64, the positions of the pretrained decoder; shorten the captions, or train a decoder from scratch (without model.decoder.name and model.init_from)"
        );
    }
}
