//! Runs a frozen encoder once over many images.

use std::sync::Arc;

use anyhow::Result;
use candle_core::{DType, Device};

use crate::data::image_source::{ImageInput, ImageSource, ImageView};
use crate::data::loader::Loader;
use crate::model::captioner::Captioner;
use base::worker_pools::WorkerPools;

/// How the images are read and encoded.
#[derive(Clone, Debug)]
pub struct EncodeSettings {
    /// Images that go through the encoder at a time, on all members together.
    pub batch_size: usize,
    /// Threads that read and decode.
    pub workers: usize,
    /// Where the encoder runs.
    pub device: Device,
}

/// Encodes `views`. `keep` gets some of them at a time with their outputs, and returns whether to continue; the result
/// is whether all were encoded.
///
/// # Errors
/// An image that cannot be read; what `keep` returns.
pub fn encode_images(
    model: &Captioner,
    source: &ImageSource,
    views: &[ImageView],
    settings: &EncodeSettings,
    pools: &WorkerPools,
    mut keep: impl FnMut(&[ImageView], &[f32]) -> Result<bool>,
) -> Result<bool> {
    let jobs: Vec<Vec<ImageView>> =
        views.chunks(settings.batch_size.div_ceil(pools.size())).map(<[ImageView]>::to_vec).collect();
    let (source, device) = (source.clone(), settings.device.clone());
    let load = move |job: Vec<ImageView>| {
        let input = source.load_views(&job, &device)?;
        Ok((job, input))
    };
    let mut loader = Loader::start(jobs, settings.workers, settings.workers + pools.size(), Arc::new(load));
    loop {
        let loaded = loader.by_ref().take(pools.size()).collect::<Result<Vec<_>>>()?;
        if loaded.is_empty() {
            return Ok(true);
        }
        let encode = |member: usize| loaded.get(member).map(|(_, input)| encode(model, input)).transpose();
        for ((job, _), values) in loaded.iter().zip(pools.each(encode)) {
            if !keep(job, &values?.unwrap_or_default())? {
                return Ok(false);
            }
        }
    }
}

fn encode(model: &Captioner, input: &ImageInput) -> candle_core::Result<Vec<f32>> {
    let states = match input {
        ImageInput::Pixels(pixel_values) => model.encode(pixel_values)?,
        ImageInput::Features(features) => features.clone(),
    };
    states.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
}
