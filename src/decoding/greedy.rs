//! Greedy search: at each place the most probable token, until the end token.

use crate::decoding::constraints::Rules;
use crate::decoding::search::{DecodedCaption, NextToken, Search};

/// One caption.
pub(super) struct GreedySearch {
    rules: Rules,
    caption: DecodedCaption,
}

impl GreedySearch {
    pub(super) fn new(rules: Rules) -> Self {
        Self { rules, caption: DecodedCaption::default() }
    }
}

impl Search for GreedySearch {
    fn newest_tokens(&self) -> Vec<u32> {
        vec![self.rules.newest(&self.caption.tokens)]
    }

    fn width(&self) -> usize {
        1
    }

    fn advance(&mut self, next: Vec<NextToken<'_>>) -> Vec<usize> {
        if !self.is_done() {
            for next in next {
                self.rules.forbid(&self.caption.tokens, next.logits);
                let token = argmax(next.logits);
                self.caption.push(token, next.log_probability(token), self.rules.constraints.end);
            }
        }
        vec![0]
    }

    fn is_done(&self) -> bool {
        self.caption.has_end()
    }

    fn into_captions(self: Box<Self>) -> Vec<DecodedCaption> {
        vec![self.caption]
    }
}

/// Index of the largest logit; the first of equal ones, as `torch.argmax` on a CPU.
fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (index, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = index;
        }
    }
    best as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equal_logits_wins() {
        assert_eq!(argmax(&[0.0, 2.0, 2.0]), 1);
        assert_eq!(argmax(&[f32::NEG_INFINITY, -5.0]), 1);
    }
}
