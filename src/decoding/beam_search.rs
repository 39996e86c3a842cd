//! Beam search as `generate` of transformers (5.x) does it: of all next tokens of all running beams the most probable
//! continuations are looked at, twice as many as there are beams; those that end are kept as captions when they are
//! among the first, the rest run on.
//!
//! Sums of log-probabilities are f64 here and f32 there: captions differ where two are equally probable up to rounding.

use crate::config::EarlyStopping;
use crate::decoding::constraints::Rules;
use crate::decoding::search::{DecodedCaption, NextToken, Search};

/// The beams of one image.
pub(super) struct BeamSearch {
    rules: Rules,
    num_beams: usize,
    length_penalty: f64,
    early_stopping: EarlyStopping,
    num_captions: usize,
    /// The best first.
    running: Vec<Beam>,
    /// The best first, at most as many as there are beams.
    finished: Vec<Finished>,
    /// Tokens that each running beam has.
    length: usize,
    is_done: bool,
}

#[derive(Clone)]
struct Beam {
    caption: DecodedCaption,
    log_probability: f64,
}

struct Finished {
    caption: DecodedCaption,
    score: f64,
}

/// A running beam and its next token.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Continuation {
    beam: usize,
    token: u32,
    log_probability: f64,
}

impl BeamSearch {
    pub(super) fn new(
        rules: Rules,
        num_beams: usize,
        length_penalty: f64,
        early_stopping: EarlyStopping,
        num_captions: usize,
    ) -> Self {
        Self {
            rules,
            num_beams: num_beams.max(1),
            length_penalty,
            early_stopping,
            num_captions,
            running: vec![Beam { caption: DecodedCaption::default(), log_probability: 0.0 }],
            finished: Vec::new(),
            length: 0,
            is_done: false,
        }
    }

    fn score(&self, log_probability: f64, length: usize) -> f64 {
        log_probability / (length as f64).powf(self.length_penalty)
    }

    fn finish(&mut self, beam: Beam) {
        let score = self.score(beam.log_probability, self.length);
        // After those that are as good: they were found earlier.
        let place = self.finished.partition_point(|other| other.score >= score);
        self.finished.insert(place, Finished { caption: beam.caption, score });
        self.finished.truncate(self.num_beams);
    }

    /// Whether a running beam may still become better than the worst caption found.
    fn can_improve(&self) -> bool {
        let is_full = self.finished.len() >= self.num_beams;
        let (Some(best), Some(worst)) = (self.running.first(), self.finished.last()) else {
            return !self.running.is_empty();
        };
        let length = match self.early_stopping {
            EarlyStopping::Never if self.length_penalty > 0.0 => self.rules.constraints.max_new_tokens,
            _ => self.length,
        };
        !is_full || self.score(best.log_probability, length) > worst.score
    }
}

impl Search for BeamSearch {
    fn newest_tokens(&self) -> Vec<u32> {
        self.running.iter().map(|beam| self.rules.newest(&beam.caption.tokens)).collect()
    }

    fn width(&self) -> usize {
        self.running.len()
    }

    fn advance(&mut self, mut next: Vec<NextToken<'_>>) -> Vec<usize> {
        if self.is_done {
            return (0..self.running.len()).collect();
        }
        for (beam, next) in self.running.iter().zip(&mut next) {
            self.rules.forbid(&beam.caption.tokens, next.logits);
        }
        self.length += 1;
        let is_longest = self.length >= self.rules.constraints.max_new_tokens;
        let sums: Vec<f64> = self.running.iter().map(|beam| beam.log_probability).collect();
        let (before, mut parents) = (std::mem::take(&mut self.running), Vec::new());
        for (rank, continuation) in best(&sums, &next, 2 * self.num_beams).into_iter().enumerate() {
            let Continuation { beam: parent, token, log_probability } = continuation;
            let is_end = token == self.rules.constraints.end;
            let stops = is_end || is_longest;
            if (stops && rank >= self.num_beams) || (!stops && self.running.len() >= self.num_beams) {
                continue;
            }
            let mut caption = before[parent].caption.clone();
            caption.push(token, next[parent].log_probability(token), self.rules.constraints.end);
            let beam = Beam { caption, log_probability };
            if stops {
                self.finish(beam);
            } else {
                self.running.push(beam);
                parents.push(parent);
            }
        }
        let is_full = self.finished.len() >= self.num_beams;
        self.is_done = is_longest || !self.can_improve() || (is_full && self.early_stopping == EarlyStopping::First);
        self.fill_up(&before, &mut parents);
        parents
    }

    fn is_done(&self) -> bool {
        self.is_done
    }

    fn into_captions(self: Box<Self>) -> Vec<DecodedCaption> {
        self.finished.into_iter().take(self.num_captions).map(|finished| finished.caption).collect()
    }
}

impl BeamSearch {
    /// All images of a batch have the same number of running beams. Where fewer can be continued, the rest are
    /// impossible, out of which nothing grows.
    fn fill_up(&mut self, before: &[Beam], parents: &mut Vec<usize>) {
        while self.running.len() < self.num_beams {
            let mut caption = before[0].caption.clone();
            caption.push(self.rules.constraints.start, f64::NEG_INFINITY, self.rules.constraints.end);
            self.running.push(Beam { caption, log_probability: f64::NEG_INFINITY });
            parents.push(0);
        }
    }
}

/// The `count` most probable continuations, the best first; of equal ones the earlier beam, then the smaller token.
/// Impossible ones are left out.
fn best(sums: &[f64], next: &[NextToken<'_>], count: usize) -> Vec<Continuation> {
    let mut found: Vec<Continuation> = Vec::with_capacity(count + 1);
    let mut least = f64::NEG_INFINITY;
    for (beam, (sum, next)) in sums.iter().zip(next).enumerate() {
        let offset = sum - next.log_sum;
        for (token, &logit) in next.logits.iter().enumerate() {
            let log_probability = f64::from(logit) + offset;
            if log_probability <= least {
                continue;
            }
            let place = found.partition_point(|other| other.log_probability >= log_probability);
            found.insert(place, Continuation { beam, token: token as u32, log_probability });
            if found.len() > count {
                found.pop();
            }
            if let (true, Some(last)) = (found.len() == count, found.last()) {
                least = last.log_probability;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_continuations_of_all_beams_are_found_in_order() {
        let (mut first, mut second) = ([0.0, 2.0, f32::NEG_INFINITY, 1.0], [3.0, 0.0, 2.0, 0.0]);
        let next = [NextToken { logits: &mut first, log_sum: 0.0 }, NextToken { logits: &mut second, log_sum: 1.0 }];
        let found = best(&[0.0, 0.0], &next, 4);
        let places: Vec<_> = found.iter().map(|c| (c.beam, c.token, c.log_probability)).collect();
        assert_eq!(places, [(0, 1, 2.0), (1, 0, 2.0), (0, 3, 1.0), (1, 2, 1.0)]);
        assert_eq!(best(&[f64::NEG_INFINITY, 0.0], &next, 9).len(), 4, "nothing grows out of the impossible");
    }
}
