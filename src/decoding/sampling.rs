//! Sampling: tokens drawn by their probability, at a temperature, among the most probable ones (top-k: Fan et al. 2018;
//! top-p: Holtzman et al. 2020), with the rules of transformers.

use std::borrow::Cow;

use crate::decoding::constraints::Rules;
use crate::decoding::search::{DecodedCaption, NextToken, Search};
use base::random::Stream;
use ops::log_sum_exp;

/// Captions of one image, each sampled independently.
pub(super) struct SampledSearch {
    rules: Rules,
    temperature: f64,
    top_k: usize,
    top_p: f64,
    captions: Vec<DecodedCaption>,
    streams: Vec<Stream>,
    /// The captions that are continued, by number: first those that have no end. None before the first token.
    continued: Vec<usize>,
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
            continued: Vec::new(),
        }
    }
}

impl Search for SampledSearch {
    fn newest_tokens(&self) -> Vec<u32> {
        let newest = |&caption: &usize| self.rules.newest(&self.captions[caption].tokens);
        // Before the first token all captions are the same.
        if self.continued.is_empty() { vec![newest(&0)] } else { self.continued.iter().map(newest).collect() }
    }

    fn width(&self) -> usize {
        self.continued.len().max(1)
    }

    fn advance(&mut self, mut next: Vec<NextToken<'_>>) -> Vec<usize> {
        let rows: Vec<(usize, usize)> = match self.continued.as_slice() {
            [] => (0..self.captions.len()).map(|caption| (caption, 0)).collect(),
            continued => continued.iter().copied().zip(0..).collect(),
        };
        for &(caption, row) in &rows {
            let (caption, stream) = (&mut self.captions[caption], &mut self.streams[caption]);
            if caption.has_end() {
                continue;
            }
            let next = &mut next[row];
            self.rules.forbid(&caption.tokens, next.logits);
            let token = draw(next.logits, self.temperature, self.top_k, self.top_p, stream);
            caption.push(token, next.log_probability(token), self.rules.constraints.end);
        }
        let (done, unfinished): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|&(caption, _)| self.captions[caption].has_end());
        let rows = [unfinished, done].concat();
        self.continued = rows.iter().map(|&(caption, _)| caption).collect();
        rows.into_iter().map(|(_, row)| row).collect()
    }

    fn num_unfinished(&self) -> usize {
        self.continued.iter().filter(|&&caption| !self.captions[caption].has_end()).count()
    }

    fn narrow(&mut self, width: usize) {
        self.continued.truncate(width);
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
    if top_k == 0 && top_p >= 1.0 {
        draw_of_all(logits, temperature, stream)
    } else {
        draw_of_best(logits, temperature, top_k, top_p, stream)
    }
}

/// Logits whose probabilities are added up at once.
const CHUNK: usize = 512;

/// A token of the whole vocabulary. Nothing is sorted, and only one chunk is looked at token by token.
fn draw_of_all(logits: &[f32], temperature: f64, stream: &mut Stream) -> u32 {
    let scaled: Cow<'_, [f32]> = match temperature {
        1.0 => Cow::Borrowed(logits),
        _ => logits.iter().map(|&logit| (f64::from(logit) / temperature) as f32).collect(),
    };
    let is_possible = |logit: f32| logit > f32::NEG_INFINITY;
    let log_sum = |chunk: &[f32]| match chunk.iter().any(|&logit| is_possible(logit)) {
        true => log_sum_exp(chunk),
        false => f64::NEG_INFINITY,
    };
    let log_sums: Vec<f64> = scaled.chunks(CHUNK).map(log_sum).collect();
    let largest = log_sums.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weight = |log_sum: f64| (log_sum - largest).exp();
    let mut left = stream.uniform() * log_sums.iter().map(|&log_sum| weight(log_sum)).sum::<f64>();
    let (mut chosen, mut before) = (0, 0.0);
    for (chunk, &log_sum) in log_sums.iter().enumerate().filter(|(_, log_sum)| log_sum.is_finite()) {
        (chosen, left, before) = (chunk, left - before, weight(log_sum));
        if left < before {
            break;
        }
    }
    // Rounding may leave a rest after the last token, which it then falls to.
    let mut token = 0;
    for (place, &logit) in scaled.iter().enumerate().skip(chosen * CHUNK).take(CHUNK) {
        if is_possible(logit) {
            token = place;
            left -= weight(f64::from(logit));
            if left < 0.0 {
                break;
            }
        }
    }
    token as u32
}

/// A token among the most probable ones.
fn draw_of_best(logits: &[f32], temperature: f64, top_k: usize, top_p: f64, stream: &mut Stream) -> u32 {
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
    use crate::config::WithPrompt;
    use crate::decoding::constraints::Constraints;

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
    fn tokens_of_a_large_vocabulary_are_drawn_as_those_of_a_small_one() {
        // Three chunks, of which the second has nothing and the third ends with nothing.
        let mut logits = vec![f32::NEG_INFINITY; 3 * CHUNK - 5];
        let places = [7, CHUNK - 1, 2 * CHUNK, 2 * CHUNK + 1, 3 * CHUNK - 9];
        for (place, share) in places.into_iter().zip(SHARES) {
            logits[place] = share.ln() + 100.0;
        }
        for (temperature, power) in [(1.0, 1), (0.5, 2)] {
            let mut stream = Stream::new(1, "test", "");
            let mut counts = [0.0; 5];
            for _ in 0..20_000 {
                let token = draw(&logits, temperature, 0, 1.0, &mut stream) as usize;
                counts[places.iter().position(|&place| place == token).unwrap()] += 1.0 / 20_000.0;
            }
            assert_near(counts, SHARES.map(|share| f64::from(share).powi(power)));
        }
    }

    #[test]
    fn captions_that_have_ended_leave_and_the_others_are_drawn_as_before() {
        const END: u32 = 1;
        let constraints = Constraints {
            start: 0,
            end: END,
            min_new_tokens: 0,
            max_new_tokens: 9,
            with_prompt: WithPrompt::default(),
            no_repeat_ngram_size: 0,
        };
        let run = |narrows: bool| {
            let mut search = SampledSearch::new(Rules::new(constraints, &[]), 1.0, 0, 1.0, (4, 0), 6);
            // What each row's caption is, to see that a row is the caption it is said to be.
            let mut rows: Vec<Vec<u32>> = vec![Vec::new()];
            let mut widths = Vec::new();
            while !search.is_done() {
                let newest = search.newest_tokens();
                let before: Vec<u32> = rows.iter().map(|row| row.last().copied().unwrap_or(0)).collect();
                assert_eq!(newest, before);
                let mut logits: Vec<[f32; 4]> = rows.iter().map(|_| [-1.0, 0.0, 0.5, 0.2]).collect();
                let next = logits.iter_mut().map(|logits| NextToken { logits, log_sum: 0.0 }).collect();
                let mut parents = search.advance(next);
                if narrows {
                    let width = search.num_unfinished();
                    search.narrow(width);
                    parents.truncate(width);
                }
                widths.push(parents.len());
                let newest =
                    search.continued.iter().map(|&caption| search.rules.newest(&search.captions[caption].tokens));
                rows =
                    parents.iter().zip(newest).map(|(&parent, token)| [&rows[parent][..], &[token]].concat()).collect();
            }
            (Box::new(search).into_captions(), widths)
        };
        let ((all, whole), (narrowed, widths)) = (run(false), run(true));
        assert_eq!(all, narrowed);
        assert!(whole.iter().all(|&width| width == 6) && widths.is_sorted_by(|a, b| a >= b) && widths[1] < 6);
    }

    #[test]
    fn what_is_forbidden_is_never_drawn() {
        let mut stream = Stream::new(1, "test", "");
        let logits = [f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY];
        assert!((0..100).all(|_| draw(&logits, 1.0, 0, 1.0, &mut stream) == 1));
    }
}
