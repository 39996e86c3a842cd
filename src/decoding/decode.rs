//! Runs one search for each image of a batch, side by side.

use candle_core::{DType, Result, Tensor, bail};

use crate::decoding::beam_search::BeamSearch;
use crate::decoding::greedy::GreedySearch;
use crate::decoding::sampling::SampledSearch;
use crate::decoding::search::{DecodedCaption, Decoding, NextToken, Search, Strategy};
use crate::model::decoders::{KeyValueCache, TextDecoder};
use ops::log_sum_exp;

/// Images that are done leave the batch when they are at least one in this many: to leave means to copy the others.
const LEAVING_SHARE: usize = 4;

/// Captions of the images whose keys and values are given for every block: at most `decoding.num_captions`
/// for each, the best first. `first_image` is the number of the first image: draws depend on it.
///
/// # Errors
/// Errors of the decoder; logits that are not numbers.
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
