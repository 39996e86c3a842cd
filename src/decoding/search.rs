//! What a search for the caption of an image is given and returns.

use crate::config::{DecodingConfig, EarlyStopping};
use crate::decoding::constraints::Constraints;

/// A caption as a decoder wrote it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DecodedCaption {
    /// Its tokens, without start and end token.
    pub tokens: Vec<u32>,
    /// The natural logarithm of the probability of each token, and the end token where the caption has one; without
    /// regard to temperature and constraints.
    pub log_probabilities: Vec<f64>,
}

impl DecodedCaption {
    /// Whether the model ended it; otherwise it was cut off at the longest length.
    pub fn has_end(&self) -> bool {
        self.log_probabilities.len() > self.tokens.len()
    }

    /// The natural logarithm of its probability.
    pub fn log_probability(&self) -> f64 {
        self.log_probabilities.iter().sum()
    }

    /// Takes the next token.
    pub(super) fn push(&mut self, token: u32, log_probability: f64, end: u32) {
        self.log_probabilities.push(log_probability);
        if token != end {
            self.tokens.push(token);
        }
    }
}

/// How a caption is chosen.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// The most probable token at each place.
    Greedy,
    /// The most probable captions among those that grow out of the most probable beginnings.
    Beam {
        /// Beginnings that are kept.
        num_beams: usize,
        /// A caption's score is its log-probability over its length to this power.
        length_penalty: f64,
        /// When enough was found.
        early_stopping: EarlyStopping,
    },
    /// Tokens drawn by their probability.
    Sample {
        /// Divides the logits; above 0.
        temperature: f64,
        /// Draws only among this many most probable tokens; 0: among all.
        top_k: usize,
        /// Draws only among the fewest tokens that together have this probability; 1: among all.
        top_p: f64,
        seed: u64,
    },
}

/// How captions are written.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub struct Decoding {
    /// What they may be.
    pub constraints: Constraints,
    /// How they are chosen.
    pub strategy: Strategy,
    /// Captions of each image: 1 of a greedy search, at most the beams of a beam search.
    pub num_captions: usize,
}

impl Decoding {
    /// What `config` says, for captions between the tokens `start` and `end`, the longest of which has `num_positions`
    /// tokens: a beam search, or a greedy search with one beam.
    pub fn from_config(config: &DecodingConfig, start: u32, end: u32, num_positions: usize) -> Self {
        let constraints = Constraints {
            start,
            end,
            min_new_tokens: config.min_new_tokens,
            max_new_tokens: config.max_new_tokens.unwrap_or(num_positions).min(num_positions),
            with_prompt: config.with_prompt,
            no_repeat_ngram_size: config.no_repeat_ngram_size,
        };
        let DecodingConfig { num_beams, length_penalty, early_stopping, .. } = *config;
        let strategy = match num_beams {
            1 => Strategy::Greedy,
            _ => Strategy::Beam { num_beams, length_penalty, early_stopping },
        };
        Self { constraints, strategy, num_captions: 1 }
    }
}

/// The logits of the next token of an unfinished caption, and their normalization.
pub(super) struct NextToken<'a> {
    /// One for each token; a search may forbid some.
    pub(super) logits: &'a mut [f32],
    /// The logarithm of the sum of their exponentials, of all of them.
    pub(super) log_sum: f64,
}

impl NextToken<'_> {
    /// The natural logarithm of the token's probability.
    pub(super) fn log_probability(&self, token: u32) -> f64 {
        f64::from(self.logits[token as usize]) - self.log_sum
    }
}

/// The captions of one image while they are written.
pub(super) trait Search {
    /// The newest token of each caption that is continued; [`Search::width`] of them.
    fn newest_tokens(&self) -> Vec<u32>;

    /// How many captions are continued; 1 before the first token.
    fn width(&self) -> usize;

    /// Takes the possible next tokens of each caption; returns which caption each of the next ones continues.
    fn advance(&mut self, next: Vec<NextToken<'_>>) -> Vec<usize>;

    /// How many of the captions that are continued are not done; they are the first.
    fn num_unfinished(&self) -> usize {
        self.width()
    }

    /// Continues only this many captions, the first, from now on; at least [`Search::num_unfinished`].
    fn narrow(&mut self, _width: usize) {}

    /// Whether nothing can change any more.
    fn is_done(&self) -> bool;

    /// The captions, the best first.
    fn into_captions(self: Box<Self>) -> Vec<DecodedCaption>;
}
