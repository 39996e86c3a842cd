//! Runs one search for each image of a batch, side by side.

use candle_core::{DType, Result, Tensor, bail};

use crate::config::{DecodingConfig, EarlyStopping};
use crate::decoding::beam_search::BeamSearch;
use crate::decoding::constraints::Constraints;
use crate::decoding::greedy::GreedySearch;
use crate::decoding::sampling::SampledSearch;
use crate::model::decoders::{KeyValueCache, TextDecoder};
use ops::log_sum_exp;

/// Images that are done leave the batch when they are at least one in this many: to leave means to copy the others.
const LEAVING_SHARE: usize = 4;

/// A caption as a decoder wrote it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DecodedCaption {
    /// Its tokens, without start and end token.
    pub tokens: Vec<u32>,
    /// The natural logarithm of the probability that the model gives each token, and the end token where the caption has
    /// one; without regard to temperature and constraints.
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

    /// Takes what may follow each caption; gives the caption out of which each of the next ones grows.
    fn advance(&mut self, next: Vec<NextToken<'_>>) -> Vec<usize>;

    /// Whether nothing can change any more.
    fn is_done(&self) -> bool;

    /// The captions, the best first.
    fn into_captions(self: Box<Self>) -> Vec<DecodedCaption>;
}

/// Captions of the images whose keys and values (B, N, 2 D) are given for every block: at most
/// `decoding.num_captions` for each, the best first. `first_image` is the number of the first image: draws depend on it.
///
/// # Errors
/// What the decoder gives; logits that are not numbers.
pub fn decode(
    decoder: &dyn TextDecoder,
    key_values: &[Tensor],
    decoding: &Decoding,
    first_image: usize,
) -> Result<Vec<Vec<DecodedCaption>>> {
    let Some(first) = key_values.first() else { bail!("a decoder without blocks cannot caption") };
    let (num_images, device) = (first.dim(0)?, first.device());
    if num_images == 0 {
        return Ok(Vec::new());
    }
    let mut searches: Vec<Box<dyn Search>> =
        (0..num_images).map(|image| new_search(decoding, first_image + image)).collect();
    let mut active: Vec<usize> = (0..num_images).collect();
    let mut cache = KeyValueCache::new(key_values);
    for _ in 0..decoding.constraints.max_new_tokens {
        let width = searches[active[0]].width();
        let newest: Vec<u32> = active.iter().flat_map(|&image| searches[image].newest_tokens()).collect();
        let input_ids = Tensor::from_vec(newest, (active.len(), width), device)?;
        let hidden = decoder.next_hidden_states(&input_ids, &mut cache)?; // (B, S, D)
        let logits = decoder.logits(&hidden)?; // (B, S, V)
        let vocabulary = logits.dim(2)?;
        let mut logits: Vec<f32> = logits.flatten_all()?.to_dtype(DType::F32)?.to_vec1()?;
        let mut parents: Vec<Vec<usize>> = Vec::with_capacity(active.len());
        for (&image, rows) in active.iter().zip(logits.chunks_exact_mut(width * vocabulary)) {
            let next = rows.chunks_exact_mut(vocabulary).map(next_token).collect::<Result<Vec<_>>>()?;
            parents.push(searches[image].advance(next));
        }
        let stays: Vec<bool> = active.iter().map(|&image| !searches[image].is_done()).collect();
        let num_done = stays.iter().filter(|stays| !**stays).count();
        if num_done == active.len() {
            break;
        }
        let leave = num_done * LEAVING_SHARE >= active.len();
        let kept: Vec<u32> = (0..active.len() as u32).filter(|&place| !leave || stays[place as usize]).collect();
        let captions = kept
            .iter()
            .flat_map(|&place| parents[place as usize].iter().map(move |&parent| place * width as u32 + parent as u32));
        cache.select_captions(captions.collect());
        if kept.len() < active.len() {
            cache.select_images(&kept)?;
            active = kept.iter().map(|&place| active[place as usize]).collect();
        }
    }
    Ok(searches.into_iter().map(Search::into_captions).collect())
}

fn new_search(decoding: &Decoding, image: usize) -> Box<dyn Search> {
    let Decoding { constraints, strategy, num_captions } = *decoding;
    match strategy {
        Strategy::Greedy => Box::new(GreedySearch::new(constraints)),
        Strategy::Beam { num_beams, length_penalty, early_stopping } => {
            Box::new(BeamSearch::new(constraints, num_beams, length_penalty, early_stopping, num_captions))
        }
        Strategy::Sample { temperature, top_k, top_p, seed } => {
            Box::new(SampledSearch::new(constraints, temperature, top_k, top_p, (seed, image), num_captions))
        }
    }
}

fn next_token(logits: &mut [f32]) -> Result<NextToken<'_>> {
    let log_sum = log_sum_exp(logits);
    if log_sum.is_nan() {
        bail!("the decoder gave a logit that is not a number: the weights are broken");
    }
    Ok(NextToken { logits, log_sum })
}
