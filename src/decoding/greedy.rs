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

/// Captions of the images whose keys and values (B, N, 2 D) are given for every block, without start and end token.
///
/// # Errors
/// What the decoder gives; logits that are not numbers.
pub fn greedy(decoder: &CaptionDecoder, key_values: &[Tensor], limits: &Limits) -> candle_core::Result<Vec<Vec<u32>>> {
    let Some(first) = key_values.first() else { candle_core::bail!("a decoder without blocks cannot caption") };
    let (batch, device) = (first.dim(0)?, first.device());
    let mut captions: Vec<Vec<u32>> = vec![Vec::new(); batch];
    let mut finished = vec![false; batch];
    for length in 1..=limits.max_new_tokens {
        let input: Vec<u32> = captions
            .iter()
            .flat_map(|caption| {
                let padding = std::iter::repeat(&limits.end);
                std::iter::once(&limits.start).chain(caption).chain(padding).take(length).copied()
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
            if token == limits.end {
                *finished = true;
            } else {
                caption.push(token);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equal_logits_wins_and_nan_is_an_error() {
        assert_eq!(argmax(&[0.0, 2.0, 2.0]).unwrap(), 1);
        assert!(argmax(&[0.0, f64::NAN]).is_err());
    }
}
