//! Captions of images as text.

use std::sync::Arc;

use anyhow::Result;
use candle_core::Device;

use crate::base::team::Team;
use crate::data::image_source::{ImageInput, ImageSource, Purpose};
use crate::data::loader::Loader;
use crate::decoding::greedy::{DecodedCaption, Limits, greedy};
use crate::model::captioner::Captioner;
use crate::tokenizer::CaptionTokenizer;

/// A model that captions, with its tokenizer.
pub struct CaptionWriter<'a> {
    /// The model, built on detached parameters.
    pub model: &'a Captioner,
    /// Its tokenizer.
    pub tokenizer: &'a CaptionTokenizer,
    /// Longest caption in tokens, the end token included.
    pub max_new_tokens: usize,
}

/// A caption as text, with what it was decoded to.
#[derive(Clone, Debug)]
pub struct WrittenCaption {
    /// The text.
    pub text: String,
    /// Its tokens and their probabilities.
    pub decoded: DecodedCaption,
}

impl CaptionWriter<'_> {
    /// One caption for each image of `input`.
    ///
    /// # Errors
    /// What model and tokenizer give.
    pub fn write(&self, input: &ImageInput) -> Result<Vec<WrittenCaption>> {
        let states = match input {
            ImageInput::Pixels(pixel_values) => self.model.encode(pixel_values)?,
            ImageInput::Features(features) => features.clone(),
        };
        let key_values = self.model.cross_key_values(&states)?;
        let specials = self.tokenizer.special_ids();
        let limits = Limits { start: specials.start, end: specials.end, max_new_tokens: self.max_new_tokens };
        let captions = greedy(self.model.decoder(), &key_values, &limits)?;
        let text =
            |decoded: DecodedCaption| Ok(WrittenCaption { text: self.tokenizer.decode(&decoded.tokens)?, decoded });
        captions.into_iter().map(text).collect()
    }

    /// One caption for each of the images with these indices. `advance` is told how many more are done and says
    /// whether to go on; `None` is returned when it does not.
    ///
    /// # Errors
    /// An image that cannot be read; what model and tokenizer give.
    pub fn write_all(
        &self,
        source: &ImageSource,
        images: &[usize],
        settings: &CaptioningSettings,
        team: &Team,
        mut advance: impl FnMut(usize) -> bool,
    ) -> Result<Option<Vec<WrittenCaption>>> {
        let jobs: Vec<Vec<usize>> =
            images.chunks(settings.batch_size.div_ceil(team.size())).map(<[usize]>::to_vec).collect();
        let (source, device) = (source.clone(), settings.device.clone());
        let load = move |job: Vec<usize>| source.load(&job, Purpose::Evaluation, &device);
        let mut captions = Vec::with_capacity(images.len());
        let mut loader = Loader::start(jobs, settings.workers, settings.workers + team.size(), Arc::new(load));
        loop {
            let inputs = loader.by_ref().take(team.size()).collect::<Result<Vec<_>>>()?;
            if inputs.is_empty() {
                return Ok(Some(captions));
            }
            let before = captions.len();
            let write = |member: usize| inputs.get(member).map(|input| self.write(input)).transpose();
            for written in team.each(write) {
                captions.extend(written?.unwrap_or_default());
            }
            if !advance(captions.len() - before) {
                return Ok(None);
            }
        }
    }
}

/// How many images are captioned at once, and where.
#[derive(Clone, Debug)]
pub struct CaptioningSettings {
    /// Images at a time, on all members together.
    pub batch_size: usize,
    /// Threads that read and decode.
    pub workers: usize,
    /// Where the model runs.
    pub device: Device,
}
