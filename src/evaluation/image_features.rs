//! Runs a frozen encoder once over many images.

use std::ops::Range;
use std::sync::Arc;

use anyhow::Result;
use candle_core::{DType, Device};

use crate::data::image_source::{ImageInput, ImageSource, ImageView};
use crate::data::loader::Loader;
use crate::data::pieces::Share;
use crate::model::captioner::Captioner;
use base::worker_pools::WorkerPools;

/// How the images are read and encoded.
#[derive(Clone, Debug)]
pub struct EncodeSettings {
    /// Images that go through the encoder together.
    pub batch_size: usize,
    /// Batches that a process encodes in a turn, side by side.
    pub batches_in_turn: usize,
    /// Threads that read and decode.
    pub workers: usize,
    /// Where the encoder runs.
    pub device: Device,
    /// Which batches this process takes.
    pub share: Share,
}

impl EncodeSettings {
    /// The views, as places among `num_views`, that a process encodes in a turn.
    pub fn views_of(&self, share: Share, turn: usize, num_views: usize) -> Range<usize> {
        share.batch(turn, num_views, self.views_in_turn())
    }

    fn views_in_turn(&self) -> usize {
        (self.batch_size * self.batches_in_turn).max(1)
    }
}

/// Encodes those of `views` that fall to this process. `keep` gets, turn by turn, the outputs of this process's views of
/// the turn, and returns whether to continue; the result is whether all were encoded. Processes call it equally often.
///
/// # Errors
/// What `keep` returns. Images that cannot be read are errors that `keep` gets.
pub fn encode_images(
    model: &Captioner,
    source: &ImageSource,
    views: &[ImageView],
    settings: &EncodeSettings,
    pools: &WorkerPools,
    mut keep: impl FnMut(usize, Result<Vec<f32>>) -> Result<bool>,
) -> Result<bool> {
    let num_turns = settings.share.num_turns(views.len(), settings.views_in_turn());
    let own = |turn: usize| views[settings.views_of(settings.share, turn, views.len())].chunks(settings.batch_size);
    let jobs: Vec<Vec<ImageView>> = (0..num_turns).flat_map(own).map(<[ImageView]>::to_vec).collect();
    let (source, device) = (source.clone(), settings.device.clone());
    let load = move |job: Vec<ImageView>| source.load_views(&job, &device);
    let mut loader = Loader::start(jobs, settings.workers, settings.workers + pools.size(), Arc::new(load));
    for turn in 0..num_turns {
        let loaded = loader.by_ref().take(own(turn).len()).collect::<Result<Vec<_>>>();
        let encoded = loaded.and_then(|inputs| {
            let encoded = pools.map(&inputs, |input| encode(model, input));
            Ok(encoded.into_iter().collect::<candle_core::Result<Vec<_>>>()?.concat())
        });
        if !keep(turn, encoded)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn encode(model: &Captioner, input: &ImageInput) -> candle_core::Result<Vec<f32>> {
    let states = match input {
        ImageInput::Pixels(pixel_values) => model.encode(pixel_values)?,
        ImageInput::Features(features) => features.clone(),
    };
    states.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
}
