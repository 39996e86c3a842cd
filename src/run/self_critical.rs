//! What self-critical training takes from a data set: a pair for each image, references, document frequencies.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use anyhow::Result;

use crate::config::{RunConfig, ScstConfig};
use crate::data::batch::Example;
use crate::data::prompts::Prompt;
use crate::decoding::{Constraints, Decoding};
use crate::model::captioner::CaptionerShape;
use crate::tokenizer::{CaptionTokenizer, SpecialIds};
use crate::training::rewards::CiderRewards;
use crate::training::self_critical::SelfCritical;
use base::error::{failure, usage_error};
use datasets::prepared::Dataset;

/// Images named in an error.
const NAMED: usize = 3;

/// The loss, and the pairs that training goes through: the first of each image. `images` are those of the training
/// split, `examples` their pairs.
///
/// # Errors
/// An image without a reference that has a word, references that weigh nothing, captions with prompts of their own.
pub(super) fn self_critical(
    config: &RunConfig,
    scst: &ScstConfig,
    (dataset, images): (&Dataset, &[usize]),
    examples: Vec<Example>,
    tokenizer: &CaptionTokenizer,
    shape: &CaptionerShape,
) -> Result<(SelfCritical, Vec<Example>)> {
    check_prompts(dataset, images)?;
    let references: Vec<Vec<String>> = images.iter().map(|&image| dataset.images[image].captions.clone()).collect();
    let rewards = CiderRewards::new(images, &references, tokenizer.clone());
    let without: Vec<&str> =
        rewards.without_references().map(|image| dataset.images[image].filename.as_str()).collect();
    if !without.is_empty() {
        let more = if without.len() > NAMED { ", ..." } else { "" };
        return Err(failure(
            format!(
                "{} of {} training images have no reference with a word in it, so that no caption of them can be rewarded: \
                 {}{more}",
                without.len(),
                images.len(),
                without[..without.len().min(NAMED)].join(", ")
            ),
            "give them captions, or leave them out of the training split",
        ));
    }
    if rewards.weigh_nothing() {
        return Err(failure(
            "every caption would have the reward 0: each n-gram of the references is in those of all training images",
            "train on more images",
        ));
    }
    let num_positions = shape.decoder.num_positions();
    let prompt = Prompt::new(config.data.prompt.as_deref().unwrap_or_default(), tokenizer, num_positions)?;
    let SpecialIds { pad, start, end, .. } = tokenizer.special_ids();
    let constraints = Decoding::from_config(&config.decoding_of_captions(), start, end, num_positions).constraints;
    let (pairs, references) = split(examples, scst.cross_entropy > 0.0);
    let loss = SelfCritical {
        config: scst.clone(),
        reward: Arc::new(rewards),
        // Captions are drawn as the model has them, whatever a search would forbid.
        constraints: Constraints { min_new_tokens: 0, no_repeat_ngram_size: 0, ..constraints },
        prompt: prompt.tokens,
        references,
        pad_id: pad,
        seed: config.seed,
        is_encoder_frozen: config.model.has_frozen_encoder(),
    };
    Ok((loss, pairs))
}

/// An image's captions are sampled once, after one prompt.
fn check_prompts(dataset: &Dataset, images: &[usize]) -> Result<()> {
    let has_prompt = |&&image: &&usize| {
        let record = &dataset.images[image];
        (0..record.captions.len()).any(|caption| record.prompt(caption).is_some())
    };
    match images.iter().find(has_prompt) {
        Some(&image) => Err(usage_error(
            format!(
                "captions of {} have prompts of their own, but training.scst samples all captions after one prompt",
                dataset.images[image].filename
            ),
            "prepare the data set without its prompts; data.prompt may be set",
        )),
        None => Ok(()),
    }
}

/// The first pair of each image, and all pairs by image if they are wanted.
fn split(examples: Vec<Example>, are_wanted: bool) -> (Vec<Example>, HashMap<usize, Vec<Example>>) {
    let (mut seen, mut by_image) = (HashSet::new(), HashMap::<usize, Vec<Example>>::new());
    let firsts = examples.iter().filter(|example| seen.insert(example.image)).cloned().collect();
    if are_wanted {
        for example in examples {
            by_image.entry(example.image).or_default().push(example);
        }
    }
    (firsts, by_image)
}
