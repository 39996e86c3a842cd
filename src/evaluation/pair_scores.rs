//! How probable a model finds captions that are given, image by image: batches as in a validation.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use candle_core::{DType, Device, Tensor};

use crate::data::batch::Batch;
use crate::data::example_list::ExampleList;
use crate::data::image_source::ImageInput;
use crate::data::loader::Loader;
use crate::data::resized_image::{ResizedImage, pixel_values};
use crate::evaluation::captioning::CaptioningSettings;
use crate::evaluation::teacher_forcing::target_logits;
use crate::model::captioner::Captioner;
use crate::model::decoders::Mode;
use crate::model::stages::Uncut;
use base::error::one_line;
use base::worker_pools::WorkerPools;
use datasets::picture_file::PictureFile;
use ops::log_sum_exp;
use pixels::image_processor::ImageProcessor;

/// Logits that are copied at once.
const MAX_COPIED: usize = 1 << 24;

/// Captions and their images.
#[derive(Clone, Debug)]
pub struct GivenPairs {
    /// Each with the index of its image in `files`.
    pub examples: Arc<ExampleList>,
    pub files: Vec<PictureFile>,
    pub processor: ImageProcessor,
    /// Fills up batches.
    pub pad_id: u32,
}

/// What a batch of pairs became.
struct Loaded {
    parts: Vec<Batch>,
    /// For each pair of the batch why its image cannot be used, if it cannot.
    failures: Vec<Option<String>>,
}

/// Calls `each` for every pair in its order: with the natural logarithms of the probabilities of the caption's tokens,
/// the end token included, each after all before it, or with the reason why the image cannot be used.
///
/// # Errors
/// Pairs that do not fit the model; what `each` returns.
pub fn score_pairs(
    model: &Captioner,
    pairs: GivenPairs,
    settings: &CaptioningSettings,
    pools: &WorkerPools,
    mut each: impl FnMut(usize, Result<Vec<f64>, String>) -> Result<()>,
) -> Result<()> {
    let (pairs, size, num_parts) = (Arc::new(pairs), settings.batch_size.max(1), settings.num_parts);
    let count = pairs.examples.len();
    let jobs: Vec<Range<usize>> = (0..count).step_by(size).map(|first| first..(first + size).min(count)).collect();
    let (of_loader, device) = (Arc::clone(&pairs), settings.device.clone());
    let load = move |range: Range<usize>| of_loader.load(range, num_parts, &device);
    let mut place = 0;
    for loaded in Loader::start(jobs, settings.workers, settings.workers + 1, Arc::new(load)) {
        let Loaded { parts, failures } = loaded?;
        let scores = pools.map(&parts, |part| target_log_probabilities(model, part));
        let scores = scores.into_iter().collect::<candle_core::Result<Vec<_>>>()?.concat();
        let mut rest = scores.into_iter();
        for failure in failures {
            let num_targets = pairs.examples.get(place).num_targets();
            each(place, failure.map_or_else(|| Ok(rest.by_ref().take(num_targets).collect()), Err))?;
            place += 1;
        }
    }
    Ok(())
}

impl GivenPairs {
    fn load(&self, range: Range<usize>, num_parts: usize, device: &Device) -> Result<Loaded> {
        let wanted: Vec<_> = range.map(|place| self.examples.get(place)).collect();
        let mut images: HashMap<usize, Result<ResizedImage, String>> = HashMap::new();
        for image in wanted.iter().map(|example| example.image) {
            let load = || ResizedImage::of_file(&self.files[image], &self.processor);
            images.entry(image).or_insert_with(|| load().map_err(|error| one_line(&error)));
        }
        let failures = wanted.iter().map(|example| images[&example.image].as_ref().err().cloned()).collect();
        let usable: Vec<_> = wanted.into_iter().filter(|example| images[&example.image].is_ok()).collect();
        let pixels = |indices: &[usize]| {
            let of_image = |image: &usize| images[image].as_ref().ok().map(|image| &image.pixels);
            let rows = indices.iter().map(|image| of_image(image).context("an image of a pair is missing"));
            Ok(ImageInput::Pixels(pixel_values(rows, &self.processor, device)?))
        };
        let parts = if usable.is_empty() {
            Vec::new()
        } else {
            Batch::load_parts(&usable, num_parts, self.pad_id, device, pixels)?
        };
        Ok(Loaded { parts, failures })
    }
}

/// The natural logarithm of the probability of each target of the batch, after all before it.
///
/// # Errors
/// A batch that does not fit the model.
pub fn target_log_probabilities(model: &Captioner, batch: &Batch) -> candle_core::Result<Vec<f64>> {
    let logits = target_logits(model, batch, Mode::Eval, &mut Uncut)?; // (T, V)
    let (num_targets, vocabulary) = logits.dims2()?;
    let at_once = (MAX_COPIED / vocabulary.max(1)).max(1);
    let mut found = Vec::with_capacity(num_targets);
    for first in (0..num_targets).step_by(at_once) {
        let count = at_once.min(num_targets - first);
        let rows = logits.narrow(0, first, count)?.flatten_all()?;
        of_rows(&rows, vocabulary, &batch.targets[first..first + count], &mut found)?;
    }
    Ok(found)
}

fn of_rows(rows: &Tensor, vocabulary: usize, targets: &[u32], found: &mut Vec<f64>) -> candle_core::Result<()> {
    if rows.dtype() == DType::F64 {
        let rows: Vec<f64> = rows.to_vec1()?;
        found.extend(rows.chunks_exact(vocabulary).zip(targets).map(|(row, &target)| {
            let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = row.iter().map(|logit| (logit - largest).exp()).sum();
            row[target as usize] - largest - sum.ln()
        }));
        return Ok(());
    }
    let rows: Vec<f32> = rows.to_dtype(DType::F32)?.to_vec1()?;
    let of_row = |(row, &target): (&[f32], &u32)| f64::from(row[target as usize]) - log_sum_exp(row);
    found.extend(rows.chunks_exact(vocabulary).zip(targets).map(of_row));
    Ok(())
}
