//! Captions of images as text.

use std::ops::Range;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use candle_core::{DType, Device, Tensor};

use crate::config::DecodingConfig;
use crate::data::image_source::{ImageInput, ImageSource, Purpose};
use crate::data::loader::Loader;
use crate::data::pieces::Share;
use crate::data::prompts::{Prompt, Prompts};
use crate::decoding::{DecodedCaption, Decoding, Member, decode_after};
use crate::model::captioner::Captioner;
use crate::tokenizer::CaptionTokenizer;
use base::worker_pools::WorkerPools;

/// A model that captions, or several that write the same captions together, with their tokenizer.
pub struct CaptionWriter<'a> {
    pub models: Vec<WritingModel<'a>>,
    pub tokenizer: &'a CaptionTokenizer,
    pub decoding: Decoding,
}

/// One of the models of a [`CaptionWriter`].
#[derive(Clone, Copy, Debug)]
pub struct WritingModel<'a> {
    /// The model, built on detached parameters.
    pub model: &'a Captioner,
    /// Which of the inputs it takes: there is one for each way in which images are processed.
    pub input: usize,
}

/// A caption as text, with what it was decoded to.
#[derive(Clone, Debug, Default)]
pub struct WrittenCaption {
    pub text: String,
    /// Its tokens and their probabilities.
    pub decoded: DecodedCaption,
}

impl<'a> CaptionWriter<'a> {
    /// A writer of one caption for each image.
    pub fn new(model: &'a Captioner, tokenizer: &'a CaptionTokenizer, config: &DecodingConfig) -> Self {
        let specials = tokenizer.special_ids();
        let num_positions = model.decoder().num_positions();
        let decoding = Decoding::from_config(config, specials.start, specials.end, num_positions);
        Self { models: vec![WritingModel { model, input: 0 }], tokenizer, decoding }
    }

    /// The captions of each image after its prompt, which is not part of them, the best first; `first_image` is the number
    /// of the first image among all that are captioned. `inputs` are the same images, as the models take them.
    ///
    /// # Errors
    /// An input that does not fit its model; logits that are not numbers; a token that the tokenizer does not know; a
    /// prompt that leaves no position for a caption.
    pub fn write(
        &self,
        inputs: &[ImageInput],
        prompts: &[&Prompt],
        first_image: usize,
    ) -> Result<Vec<Vec<WrittenCaption>>> {
        self.write_from(&self.key_values(inputs)?, prompts, first_image)
    }

    /// [`Self::write`] from [`Self::key_values`].
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn write_from(
        &self,
        key_values: &[Vec<Tensor>],
        prompts: &[&Prompt],
        first_image: usize,
    ) -> Result<Vec<Vec<WrittenCaption>>> {
        let prompts: Vec<&[u32]> = prompts.iter().map(|prompt| prompt.tokens.as_slice()).collect();
        let number_of = |image| first_image + image;
        let models = self.models.iter().zip(key_values);
        let members: Vec<Member<'_>> =
            models.map(|(writing, key_values)| Member { decoder: writing.model.decoder(), key_values }).collect();
        let captions = decode_after(&members, &prompts, &self.decoding, number_of)?;
        let text =
            |decoded: DecodedCaption| Ok(WrittenCaption { text: self.tokenizer.decode(&decoded.tokens)?, decoded });
        captions.into_iter().map(|captions| captions.into_iter().map(text).collect()).collect()
    }

    /// What each block of each model's decoder sees of the images: keys and values.
    ///
    /// # Errors
    /// An input that does not fit its model, or that is missing.
    pub fn key_values(&self, inputs: &[ImageInput]) -> Result<Vec<Vec<Tensor>>> {
        let of_model = |&WritingModel { model, input }: &WritingModel<'_>| {
            let states = match inputs.get(input).context("the images are missing in the form that a model takes")? {
                ImageInput::Pixels(pixel_values) => model.encode(pixel_values)?,
                ImageInput::Features(features) => features.clone(),
            };
            Ok(model.cross_key_values(&states)?)
        };
        self.models.iter().map(of_model).collect()
    }

    /// For each token of the best caption of each image, and for its end where it has one: how much attention it pays
    /// to the class token and at each patch, of sum 1, as a mean over all heads and blocks of the decoder: of the first
    /// model's, where there are several.
    ///
    /// # Errors
    /// Keys and values that do not fit the model.
    pub fn attention(
        &self,
        key_values: &[Vec<Tensor>],
        prompts: &[&Prompt],
        written: &[Vec<WrittenCaption>],
    ) -> Result<Vec<Vec<Vec<f32>>>> {
        let (Some(WritingModel { model, .. }), Some(key_values)) = (self.models.first(), key_values.first()) else {
            bail!("there is no model that could attend to the images");
        };
        let best = |image: usize| written.get(image).and_then(|captions| captions.first());
        let tokens: Vec<&[u32]> =
            (0..written.len()).map(|image| best(image).map_or(&[][..], |caption| &caption.decoded.tokens)).collect();
        let limits = &self.decoding.constraints;
        let prompt_of = |image: usize| prompts.get(image).map_or(&[][..], |prompt| &prompt.tokens);
        let num_written = |image: usize| best(image).map_or(0, |caption| caption.decoded.log_probabilities.len());
        let length =
            (0..tokens.len()).map(|image| prompt_of(image).len() + num_written(image)).max().unwrap_or(0).max(1);
        let rows = tokens.iter().enumerate().flat_map(|(image, tokens)| {
            let padded = prompt_of(image).iter().chain(tokens.iter()).copied().chain(std::iter::repeat(limits.end));
            std::iter::once(limits.start).chain(padded).take(length)
        });
        let input_ids = Tensor::from_vec(rows.collect::<Vec<u32>>(), (tokens.len(), length), key_values[0].device())?;
        let weights = model.decoder().cross_attention_weights(&input_ids, key_values)?; // (B, L, N)
        let mut weights: Vec<Vec<Vec<f32>>> = weights.to_dtype(DType::F32)?.to_vec3()?;
        for (image, weights) in weights.iter_mut().enumerate() {
            drop(weights.drain(..prompt_of(image).len().min(weights.len())));
            weights.truncate(num_written(image));
        }
        Ok(weights)
    }

    /// The best caption for each of the images with these indices that fall to this process, after its prompt, with its
    /// place among them. `sources` give the inputs of [`Self::write`]. `advance` gets how many more all processes have
    /// done, and returns whether to continue; the result is `None` if not. Processes call it equally often.
    ///
    /// # Errors
    /// An image that cannot be read; what [`Self::write`] and `advance` return.
    #[expect(clippy::too_many_arguments, reason = "what is captioned, how, by whom, and who is told")]
    pub fn write_all(
        &self,
        sources: &[ImageSource],
        images: &[usize],
        prompts: &Prompts,
        settings: &CaptioningSettings,
        pools: &WorkerPools,
        share: Share,
        mut advance: impl FnMut(usize) -> Result<bool>,
    ) -> Result<Option<Vec<(usize, WrittenCaption)>>> {
        let CaptioningSettings { batch_size, num_parts, workers, .. } = *settings;
        let each = batch_size.div_ceil(num_parts.max(1)).max(1);
        let num_turns = share.num_turns(images.len(), batch_size);
        // The places of the images of this process's batch, cut into parts.
        let own = |turn: usize| {
            let batch = share.batch(turn, images.len(), batch_size);
            let last = batch.end;
            batch.step_by(each).map(|place| place..(place + each).min(last)).collect::<Vec<_>>()
        };
        let jobs: Vec<(Range<usize>, Vec<usize>)> =
            (0..num_turns).flat_map(own).map(|places| (places.clone(), images[places].to_vec())).collect();
        let prompts: Vec<&Prompt> = images.iter().map(|&image| prompts.of_image(image)).collect();
        let (sources, device) = (sources.to_vec(), settings.device.clone());
        let load = move |(places, images): (Range<usize>, Vec<usize>)| {
            let inputs = sources.iter().map(|source| source.load(&images, Purpose::Evaluation, &device));
            Ok((places, inputs.collect::<Result<Vec<_>>>()?))
        };
        let mut captions = Vec::new();
        let mut loader = Loader::start(jobs, workers, workers + pools.size(), Arc::new(load));
        for turn in 0..num_turns {
            let parts = loader.by_ref().take(own(turn).len()).collect::<Result<Vec<_>>>()?;
            let write = |(places, inputs): &(Range<usize>, Vec<ImageInput>)| {
                self.write(inputs, &prompts[places.clone()], places.start)
            };
            for ((places, _), written) in parts.iter().zip(pools.map(&parts, write)) {
                let best = written?.into_iter().map(|captions| captions.into_iter().next().unwrap_or_default());
                captions.extend(places.clone().zip(best));
            }
            let in_turn = share.size * batch_size;
            if !advance(in_turn.min(images.len() - turn * in_turn))? {
                return Ok(None);
            }
        }
        Ok(Some(captions))
    }
}

/// How many images are captioned at once, and where.
#[derive(Clone, Debug)]
pub struct CaptioningSettings {
    /// Images at a time.
    pub batch_size: usize,
    /// Into how many parts these are cut, which are computed side by side.
    pub num_parts: usize,
    /// Threads that read and decode.
    pub workers: usize,
    /// Where the model runs.
    pub device: Device,
}
