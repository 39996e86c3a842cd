//! Runs a frozen encoder once over many images.

use std::sync::Arc;

use candle_core::{DType, Device};

use crate::base::team::Team;
use crate::data::batch::{ImageInput, ImageSource};
use crate::data::feature_store::FeatureTable;
use crate::data::loader::Loader;
use crate::model::captioner::Captioner;

/// How the images are read and encoded.
#[derive(Clone, Debug)]
pub struct EncodeSettings {
    /// (N, D) of the encoder's output.
    pub shape: (usize, usize),
    /// Images that go through the encoder at a time, on all members together.
    pub batch_size: usize,
    /// Threads that read and decode.
    pub workers: usize,
    /// Where the encoder runs.
    pub device: Device,
}

/// Encodes `images` (indices in the data set). `proceed` is told how many more are done and says whether to go on;
/// `None` is returned when it does not.
///
/// # Errors
/// An image that cannot be read; what the encoder gives.
pub fn encode_images(
    model: &Captioner,
    source: &ImageSource,
    images: &[usize],
    settings: &EncodeSettings,
    team: &Team,
    mut proceed: impl FnMut(usize) -> bool,
) -> anyhow::Result<Option<FeatureTable>> {
    let mut table = FeatureTable::new(settings.shape, images.len());
    let jobs: Vec<Vec<usize>> =
        images.chunks(settings.batch_size.div_ceil(team.size())).map(<[usize]>::to_vec).collect();
    let (source, device) = (source.clone(), settings.device.clone());
    let load = move |job: Vec<usize>| {
        let input = source.load(&job, &device)?;
        Ok((job, input))
    };
    let mut loader = Loader::start(jobs, settings.workers, settings.workers + team.size(), Arc::new(load));
    loop {
        let loaded = loader.by_ref().take(team.size()).collect::<anyhow::Result<Vec<_>>>()?;
        if loaded.is_empty() {
            return Ok(Some(table));
        }
        let encode = |member: usize| loaded.get(member).map(|(_, input)| encode(model, input)).transpose();
        let mut count = 0;
        for ((job, _), values) in loaded.iter().zip(team.each(encode)) {
            table.insert(job, &values?.unwrap_or_default())?;
            count += job.len();
        }
        if !proceed(count) {
            return Ok(None);
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
