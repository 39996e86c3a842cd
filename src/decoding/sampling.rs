//! Sampling: tokens drawn by their probability, at a temperature, among the most probable ones (top-k: Fan et al. 2018;
//! top-p: Holtzman et al. 2020), with the rules of transformers.

use crate::decoding::constraints::Rules;
use crate::decoding::search::{DecodedCaption, NextToken, Search};
use base::random::Stream;

/// Captions of one image, each sampled independently.
pub(super) struct SampledSearch {
    rules: Rules,
    temperature: f64,
    top_k: usize,
    top_p: f64,
    captions: Vec<DecodedCaption>,
    streams: Vec<Stream>,
    length: usize,
}

impl SampledSearch {
    /// The draws of caption `c` of image `image` depend only on (seed, image, c).
    pub(super) fn new(
        rules: Rules,
        temperature: f64,
        top_k: usize,
        top_p: f64,
        (seed, image): (u64, usize),
        num_captions: usize,
    ) -> Self {
        let stream = |caption: usize| Stream::new(seed, "sampling", &format!("{image}/{caption}"));
        Self {
            rules,
            temperature,
            top_k,
            top_p,
            captions: vec![DecodedCaption::default(); num_captions.max(1)],
            streams: (0..num_captions.max(1)).map(stream).collect(),
            length: 0,
        }
    }
}

impl Search for SampledSearch {
    fn newest_tokens(&self) -> Vec<u32> {
        self.captions.iter().take(self.width()).map(|caption| self.rules.newest(&caption.tokens)).collect()
    }

    fn width(&self) -> usize {
        // Before the first token all captions are the same.
        if self.length == 0 { 1 } else { self.captions.len() }
    }

    fn advance(&mut self, mut next: Vec<NextToken<'_>>) -> Vec<usize> {
        let is_first = self.length == 0;
        self.length += 1;
        let mut parents = Vec::with_capacity(self.captions.len());
        for (index, (caption, stream)) in self.captions.iter_mut().zip(&mut self.streams).enumerate() {
            let row = if is_first { 0 } else { index };
            parents.push(row);
            if caption.has_end() {
                continue;
            }
            let next = &mut next[row];
            self.rules.forbid(&caption.tokens, next.logits);
            let token = draw(next.logits, self.temperature, self.top_k, self.top_p, stream);
            caption.push(token, next.log_probability(token), self.rules.constraints.end);
        }
        parents
    }

    fn is_done(&self) -> bool {
        self.captions.iter().all(DecodedCaption::has_end)
    }

    fn into_captions(self: Box<Self>) -> Vec<DecodedCaption> {
        let mut captions = self.captions;
        captions.sort_by(|a, b| b.log_probability().total_cmp(&a.log_probability()));
        captions
    }
}

/// A token, by its probability among those that temperature, top-k and top-p leave.
fn draw(logits: &[f32], temperature: f64, top_k: usize, top_p: f64, stream: &mut Stream) -> u32 {
    let mut tokens: Vec<usize> = (0..logits.len()).filter(|&token| logits[token] > f32::NEG_INFINITY).collect();
    tokens.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    if top_k > 0 && top_k < tokens.len() {
        // Those that are as probable as the last one stay too.
        let least = logits[tokens[top_k - 1]];
        tokens.truncate(tokens.partition_point(|&token| logits[token] >= least));
    }
    let Some(&first) = tokens.first() else { return 0 };
    let largest = f64::from(logits[first]);
    let weight = |token: &usize| ((f64::from(logits[*token]) - largest) / temperature).exp();
    let mut weights: Vec<f64> = tokens.iter().map(weight).collect();
    if top_p < 1.0 {
        let total: f64 = weights.iter().sum();
        let mut before = 0.0;
        let is_needed = |weight: &&f64| {
            let needed = before < top_p * total;
            before += **weight;
            needed
        };
        let count = weights.iter().take_while(is_needed).count();
        weights.truncate(count.max(1));
    }
    let mut left = stream.uniform() * weights.iter().sum::<f64>();
    for (token, weight) in tokens.iter().zip(&weights) {
        left -= weight;
        if left < 0.0 {
            return *token as u32;
        }
    }
    // Rounding may leave a rest after the last one.
    tokens[weights.len() - 1] as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The logarithms of these shares are the logits.
    const SHARES: [f32; 5] = [0.1, 0.4, 0.05, 0.25, 0.2];

    fn frequencies(temperature: f64, top_k: usize, top_p: f64) -> [f64; 5] {
        let logits = SHARES.map(f32::ln);
        let mut stream = Stream::new(1, "test", "");
        let mut counts = [0.0; 5];
        for _ in 0..20_000 {
            counts[draw(&logits, temperature, top_k, top_p, &mut stream) as usize] += 1.0 / 20_000.0;
        }
        counts
    }

    fn assert_near(found: [f64; 5], weights: [f64; 5]) {
        let total: f64 = weights.iter().sum();
        // Four standard deviations of a share.
        assert!(found.iter().zip(weights).all(|(a, b)| (a - b / total).abs() < 0.015), "{found:?} {weights:?}");
    }

    #[test]
    fn tokens_are_drawn_by_their_probability_at_a_temperature() {
        let shares = SHARES.map(f64::from);
        assert_near(frequencies(1.0, 0, 1.0), shares);
        assert_near(frequencies(0.5, 0, 1.0), shares.map(|share| share * share));
    }

    #[test]
    fn top_k_and_top_p_leave_only_the_most_probable() {
        assert_near(frequencies(1.0, 2, 1.0), [0.0, 0.4, 0.0, 0.25, 0.0]);
        assert_near(frequencies(1.0, 0, 0.6), [0.0, 0.4, 0.0, 0.25, 0.0]);
        assert_near(frequencies(1.0, 0, 0.7), [0.0, 0.4, 0.0, 0.25, 0.2]);
        assert_near(frequencies(1.0, 0, 0.01), [0.0, 1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn what_is_forbidden_is_never_drawn() {
        let mut stream = Stream::new(1, "test", "");
        let logits = [f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY];
        assert!((0..100).all(|_| draw(&logits, 1.0, 0, 1.0, &mut stream) == 1));
    }
}
