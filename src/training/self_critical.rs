//! Self-critical training (Rennie et al. 2017, arXiv:1612.00563): the model samples captions of each image, and the more
//! an image's caption is rewarded than its other captions are (Luo 2020, arXiv:2003.09971), the more probable it becomes.
//!
//! Captions are sampled as the model decodes, without dropout; their probabilities are computed again, with the graph and
//! with dropout, in one teacher-forced pass. What is drawn is a function of the seed, the update, the image and the
//! sample, whatever batch the image is in.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::ensure;
use candle_core::{Device, Tensor};
use rayon::prelude::*;

use crate::config::{Baseline, ScstConfig};
use crate::data::batch::{Batch, Example};
use crate::data::collate::Framed;
use crate::data::image_source::ImageInput;
use crate::decoding::{Constraints, DecodedCaption, Decoding, Member, Strategy, decode_after};
use crate::model::captioner::Captioner;
use crate::model::decoders::Mode;
use crate::model::stages::Stages;
use crate::training::loss::{Loss, Prepared, TokenCrossEntropy};
use crate::training::reward_sums::RewardSums;
use crate::training::rewards::Reward;
use base::random::mix_key;
use metrics::cider_reward::Judged;

/// An advantage below this is rounding.
const NEGLIGIBLE: f64 = 1e-9;

/// The loss `-sum(advantage * log_probability) / tokens` of captions that the model samples. A token counts until the end
/// token, which counts too.
#[derive(Debug)]
pub struct SelfCritical {
    pub config: ScstConfig,
    pub reward: Arc<dyn Reward>,
    /// What captions may be: as long as the run's captions are.
    pub constraints: Constraints,
    /// Precedes every caption; not rewarded and not trained.
    pub prompt: Vec<u32>,
    /// Of each image, by its index in the data set, for the share of cross-entropy; empty without it.
    pub references: HashMap<usize, Vec<Example>>,
    /// Fills up batches on a GPU.
    pub pad_id: u32,
    pub seed: u64,
    /// Whether the images are encoded once for sampling and training, since their encoder is not trained.
    pub is_encoder_frozen: bool,
}

/// The sampled captions of an image, as they were judged.
#[derive(Clone, Debug)]
pub struct Sampled {
    /// Index in the data set.
    pub image: usize,
    pub captions: Vec<DecodedCaption>,
    pub judged: Vec<Judged>,
    /// The reward of the caption that greedy search writes, where that is the baseline.
    pub greedy: Option<f64>,
}

impl Sampled {
    /// What the reward of each caption is compared with.
    fn baselines(&self) -> Vec<f64> {
        let sum: f64 = self.judged.iter().map(|judged| judged.reward).sum();
        let num_others = (self.judged.len() - 1) as f64;
        let of_others = |judged: &Judged| (sum - judged.reward) / num_others;
        self.judged.iter().map(|judged| self.greedy.unwrap_or_else(|| of_others(judged))).collect()
    }
}

impl SelfCritical {
    /// Captions of the images whose keys and values are given, drawn and judged.
    fn sample(
        &self,
        model: &Captioner,
        key_values: &[Tensor],
        images: &[usize],
        update: u64,
    ) -> anyhow::Result<Vec<Sampled>> {
        let strategy = Strategy::Sample {
            temperature: self.config.temperature,
            top_k: 0,
            top_p: 1.0,
            seed: mix_key(&[self.seed, update]),
        };
        let captions = self.decode(model, key_values, images, strategy, self.config.samples)?;
        let greedy = match self.config.baseline {
            Baseline::Others => None,
            Baseline::Greedy => Some(self.decode(model, key_values, images, Strategy::Greedy, 1)?),
        };
        let judge = |(place, captions): (usize, Vec<DecodedCaption>)| -> anyhow::Result<Sampled> {
            let image = images[place];
            let rewards = |captions: &[DecodedCaption]| -> anyhow::Result<Vec<Judged>> {
                captions.iter().map(|caption| self.reward.judge(image, caption)).collect()
            };
            let judged = rewards(&captions)?;
            let greedy = greedy.as_ref().map(|greedy| rewards(&greedy[place])).transpose()?;
            let greedy = greedy.and_then(|judged| judged.first().map(|judged| judged.reward));
            Ok(Sampled { image, captions, judged, greedy })
        };
        captions.into_par_iter().enumerate().map(judge).collect()
    }

    fn decode(
        &self,
        model: &Captioner,
        key_values: &[Tensor],
        images: &[usize],
        strategy: Strategy,
        num_captions: usize,
    ) -> candle_core::Result<Vec<Vec<DecodedCaption>>> {
        let decoding = Decoding { constraints: self.constraints, strategy, num_captions };
        let prompts = vec![self.prompt.as_slice(); images.len()];
        let members = [Member { decoder: model.decoder(), key_values }];
        decode_after(&members, &prompts, &decoding, |place| images[place])
    }

    /// What is trained on: of each of `images`, in their order, the sampled captions, each with its advantage for a
    /// weight, and the references for their share of the loss, which together weigh as much as the samples have tokens.
    ///
    /// # Errors
    /// A device without memory for it.
    pub fn batch_of(&self, images: ImageInput, sampled: &[Sampled], device: &Device) -> anyhow::Result<Prepared> {
        let Constraints { start, end, .. } = self.constraints;
        let share = self.config.cross_entropy;
        let (mut framed, mut rows, mut sums, mut count) = (Vec::new(), Vec::new(), RewardSums::default(), 0.0);
        for (row, sampled) in sampled.iter().enumerate() {
            sums.images += 1.0;
            let (mut num_tokens, mut is_flat) = (0, true);
            for ((caption, judged), baseline) in sampled.captions.iter().zip(&sampled.judged).zip(sampled.baselines()) {
                let advantage = judged.reward - baseline;
                is_flat &= advantage.abs() < NEGLIGIBLE;
                let ended = if caption.has_end() { &[end][..] } else { &[] };
                let tokens = [&[start], &self.prompt[..], &caption.tokens, ended].concat();
                num_tokens += caption.log_probabilities.len();
                framed.push((tokens, self.prompt.len(), (1.0 - share) * advantage));
                sums.samples += 1.0;
                sums.rewards += judged.reward;
                sums.baselines += baseline;
                sums.squares += advantage * advantage;
                sums.words += judged.num_words as f64;
                sums.bad_endings += f64::from(judged.has_bad_ending);
            }
            sums.flat_images += f64::from(is_flat);
            count += num_tokens as f64;
            let references = self.references.get(&sampled.image).map_or(&[][..], Vec::as_slice);
            let weight = |example: &Example| example.weight * (example.tokens.len() - 1 - example.prompt_length) as f64;
            let scale = share * num_tokens as f64 / references.iter().map(weight).sum::<f64>();
            framed.extend(
                references
                    .iter()
                    .map(|example| (example.tokens.clone(), example.prompt_length, scale * example.weight)),
            );
            rows.resize(framed.len(), u32::try_from(row)?);
        }
        let captions: Vec<Framed<'_>> = framed
            .iter()
            .map(|&(ref tokens, prompt_length, weight)| Framed { tokens, prompt_length, weight })
            .collect();
        let image_indices = rows.iter().map(|&row| sampled[row as usize].image).collect();
        let batch = Batch::of_framed(images, Some(rows), image_indices, &captions, self.pad_id, device)?;
        let most_references = self.references.values().map(Vec::len).max().unwrap_or(0);
        let pairs_each = (self.config.samples + most_references) as u64;
        Ok(Prepared { batch, count, pairs_each, rewards: sums })
    }
}

impl Loss for SelfCritical {
    fn prepare(
        &self,
        build: &dyn Fn() -> anyhow::Result<Captioner>,
        batch: &Batch,
        update: u64,
    ) -> anyhow::Result<Prepared> {
        let model = build()?;
        let states = match &batch.images {
            ImageInput::Pixels(pixel_values) => model.encode(pixel_values)?,
            ImageInput::Features(features) => features.clone(),
        };
        let images = &batch.image_indices;
        ensure!(states.dim(0)? == images.len(), "self-critical training takes each image of a batch once");
        let sampled = self.sample(&model, &model.cross_key_values(&states)?, images, update)?;
        let input = if self.is_encoder_frozen { ImageInput::Features(states) } else { batch.images.clone() };
        self.batch_of(input, &sampled, batch.input_ids.device())
    }

    fn sum(
        &self,
        model: &Captioner,
        batch: &Batch,
        mode: Mode,
        stages: &mut dyn Stages,
    ) -> candle_core::Result<Tensor> {
        TokenCrossEntropy { label_smoothing: 0.0 }.sum(model, batch, mode, stages)
    }
}
