//! Runs one search for each image of a batch, side by side.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor, bail};

use crate::decoding::beam_search::BeamSearch;
use crate::decoding::constraints::Rules;
use crate::decoding::greedy::GreedySearch;
use crate::decoding::sampling::SampledSearch;
use crate::decoding::search::{DecodedCaption, Decoding, NextToken, Search, Strategy};
use crate::decoding::steps::{Member, Steps};
use crate::model::decoders::TextDecoder;
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
    let num_images = key_values.first().map_or(Ok(0), |first| first.dim(0))?;
    let prompts = vec![&[][..]; num_images];
    decode_after(&[Member { decoder, key_values }], &prompts, decoding, |image| first_image + image)
}

/// [`decode`] of captions that continue a prompt, one for each image, which is not part of them. They are the same
/// whatever the prompts of the other images. `number_of` gives the number of the image at a place. Several `members`
/// write the captions together: the log-probability of a token is the mean of theirs, normalized.
///
/// # Errors
/// As [`decode`]; a prompt that leaves no position for a caption; members that see different numbers of images.
pub fn decode_after(
    members: &[Member<'_>],
    prompts: &[&[u32]],
    decoding: &Decoding,
    number_of: impl Fn(usize) -> usize,
) -> Result<Vec<Vec<DecodedCaption>>> {
    let steps = Steps::new(members, prompts.len())?;
    // Captions that are decoded side by side have the same length.
    let mut of_length: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (image, prompt) in prompts.iter().enumerate() {
        of_length.entry(prompt.len()).or_default().push(image);
    }
    let mut captions = vec![Vec::new(); prompts.len()];
    for images in of_length.values() {
        let mut steps = steps.clone();
        if images.len() < prompts.len() {
            steps.select_images(&images.iter().map(|&image| image as u32).collect::<Vec<u32>>())?;
        }
        let prompts: Vec<&[u32]> = images.iter().map(|&image| prompts[image]).collect();
        let numbers = images.iter().map(|&image| number_of(image));
        for (&image, found) in images.iter().zip(decode_together(steps, &prompts, decoding, numbers)?) {
            captions[image] = found;
        }
    }
    Ok(captions)
}

/// [`decode_after`] of images with prompts of the same length; `numbers` are those of the images.
fn decode_together(
    mut steps: Steps<'_>,
    prompts: &[&[u32]],
    decoding: &Decoding,
    numbers: impl Iterator<Item = usize>,
) -> Result<Vec<Vec<DecodedCaption>>> {
    let prompt_length = prompts.first().map_or(0, |prompt| prompt.len());
    let num_positions = steps.num_positions();
    if prompt_length >= num_positions {
        bail!("a prompt of {prompt_length} tokens leaves none of {num_positions} positions for a caption");
    }
    let mut decoding = *decoding;
    decoding.constraints = decoding.constraints.after_prompt(prompt_length, num_positions);
    let max_new_tokens = decoding.constraints.max_new_tokens;
    let mut searches: Vec<Box<dyn Search>> =
        numbers.zip(prompts).map(|(number, prompt)| new_search(&decoding, prompt, number)).collect();
    for place in 0..prompt_length {
        let before = |prompt: &&[u32]| if place == 0 { decoding.constraints.start } else { prompt[place - 1] };
        steps.read(prompts.iter().map(before).collect(), prompts.len())?;
    }
    let mut active: Vec<usize> = (0..prompts.len()).collect();
    for _ in 0..max_new_tokens {
        let width = searches[active[0]].width();
        let newest: Vec<u32> = active.iter().flat_map(|&image| searches[image].newest_tokens()).collect();
        let (mut logits, vocabulary) = steps.next_logits(newest, active.len())?;
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
        // Captions that are done leave where all images have one.
        let num_next = active.iter().map(|&image| searches[image].num_unfinished()).max().unwrap_or(width);
        for (parents, &image) in parents.iter_mut().zip(&active) {
            searches[image].narrow(num_next);
            parents.truncate(num_next);
        }
        let leave = num_done * LEAVING_SHARE >= active.len();
        let kept: Vec<u32> = (0..active.len() as u32).filter(|&place| !leave || stays[place as usize]).collect();
        let captions = kept
            .iter()
            .flat_map(|&place| parents[place as usize].iter().map(move |&parent| place * width as u32 + parent as u32));
        steps.select_captions(&captions.collect::<Vec<u32>>());
        if kept.len() < active.len() {
            steps.select_images(&kept)?;
            active = kept.iter().map(|&place| active[place as usize]).collect();
        }
    }
    Ok(searches.into_iter().map(Search::into_captions).collect())
}

fn new_search(decoding: &Decoding, prompt: &[u32], image: usize) -> Box<dyn Search> {
    let Decoding { constraints, strategy, num_captions } = *decoding;
    let rules = Rules::new(constraints, prompt);
    match strategy {
        Strategy::Greedy => Box::new(GreedySearch::new(rules)),
        Strategy::Beam { num_beams, length_penalty, early_stopping } => {
            Box::new(BeamSearch::new(rules, num_beams, length_penalty, early_stopping, num_captions))
        }
        Strategy::Sample { temperature, top_k, top_p, seed } => {
            Box::new(SampledSearch::new(rules, temperature, top_k, top_p, (seed, image), num_captions))
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
