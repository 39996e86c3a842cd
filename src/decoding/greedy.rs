//! Greedy decoding: at each position the most probable token, until the end token.
//!
//! The images' keys and values are computed once; the caption so far goes through the decoder anew for each token.

use candle_core::{DType, Tensor};

use crate::model::caption_decoder::{CaptionDecoder, Mode};

/// Where a caption begins and ends.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Stands before every caption.
    pub start: u32,
    /// Ends a caption.
    pub end: u32,
    /// Longest caption in tokens, the end token included.
    pub max_new_tokens: usize,
}

/// A caption as a decoder wrote it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DecodedCaption {
    /// Its tokens, without start and end token.
    pub tokens: Vec<u32>,
    /// The natural logarithm of the probability of each token, and of the end token where the caption has one.
    pub log_probabilities: Vec<f64>,
}

impl DecodedCaption {
    /// Whether the model ended it; otherwise it was cut off at the longest length.
    pub fn has_end(&self) -> bool {
        self.log_probabilities.len() > self.tokens.len()
    }
}

/// Captions of the images whose keys and values (B, N, 2 D) are given for every block.
///
/// # Errors
/// What the decoder gives; logits that are not numbers.
pub fn greedy(
    decoder: &CaptionDecoder,
    key_values: &[Tensor],
    limits: &Limits,
) -> candle_core::Result<Vec<DecodedCaption>> {
    let Some(first) = key_values.first() else { candle_core::bail!("a decoder without blocks cannot caption") };
    let (batch, device) = (first.dim(0)?, first.device());
    let mut captions = vec![DecodedCaption::default(); batch];
    let mut finished = vec![false; batch];
    for length in 1..=limits.max_new_tokens {
        let input: Vec<u32> = captions
            .iter()
            .flat_map(|caption| {
                let padding = std::iter::repeat(&limits.end);
                std::iter::once(&limits.start).chain(&caption.tokens).chain(padding).take(length).copied()
            })
            .collect();
        let input_ids = Tensor::from_vec(input, (batch, length), device)?;
        let hidden = decoder.hidden_states(&input_ids, key_values, Mode::Eval)?; // (B, L, D)
        let last = hidden.narrow(1, length - 1, 1)?.squeeze(1)?.contiguous()?;
        let logits: Vec<Vec<f64>> = decoder.logits(&last)?.to_dtype(DType::F64)?.to_vec2()?;
        for ((caption, finished), logits) in captions.iter_mut().zip(&mut finished).zip(&logits) {
            if *finished {
                continue;
            }
            let token = argmax(logits)?;
            caption.log_probabilities.push(log_probability(logits, token));
            if token == limits.end {
                *finished = true;
            } else {
                caption.tokens.push(token);
            }
        }
        if finished.iter().all(|&finished| finished) {
            break;
        }
    }
    Ok(captions)
}

/// Index of the largest logit; the first of equal ones, as `torch.argmax` on a CPU.
fn argmax(logits: &[f64]) -> candle_core::Result<u32> {
    let mut best = 0;
    for (index, logit) in logits.iter().enumerate() {
        if logit.is_nan() {
            candle_core::bail!("the decoder gave a logit that is not a number: the weights are broken");
        }
        if *logit > logits[best] {
            best = index;
        }
    }
    u32::try_from(best).map_err(candle_core::Error::wrap)
}

/// The logarithm of the probability that a softmax of `logits` gives `token`.
fn log_probability(logits: &[f64], token: u32) -> f64 {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.iter().map(|logit| (logit - largest).exp()).sum();
    logits[token as usize] - largest - sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_probabilities_are_those_of_a_softmax_however_large_the_logits() {
        for shift in [0.0, 1e4] {
            let found = log_probability(&[shift, shift + 3.0_f64.ln()], 1);
            assert!((found - 0.75_f64.ln()).abs() < 1e-10, "{found}");
        }
    }

    #[test]
    fn the_first_of_equal_logits_wins_and_nan_is_an_error() {
        assert_eq!(argmax(&[0.0, 2.0, 2.0]).unwrap(), 1);
        assert!(argmax(&[0.0, f64::NAN]).is_err());
    }
}
