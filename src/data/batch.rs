//! Image-caption pairs and their batches: pixels or encoder outputs with token ids and targets.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use ops::Packing;

use crate::data::collate::{Framed, collate};
use crate::data::image_source::ImageInput;

/// One training example: an image and one of its captions.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// Index of the image in the data set.
    pub image: usize,
    /// `<start> prompt caption <end>`.
    pub tokens: Vec<u32>,
    /// Tokens of the prompt, which the decoder reads and is not trained to say.
    pub prompt_length: usize,
    /// The factor of its loss, above 0.
    pub weight: f64,
}

impl Example {
    fn framed(&self) -> Framed<'_> {
        Framed { tokens: &self.tokens, prompt_length: self.prompt_length, weight: self.weight }
    }
}

/// Pairs that go through the model together. U counts the different images, B the pairs, T the targets.
///
/// On a CPU captions are packed: nothing is computed for padding, and a pair finds its image among them. A GPU takes
/// padded captions and an image for each.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The different images.
    pub images: ImageInput,
    /// For each pair of padded captions the row of its image in `images`, u32 (B); absent when pair and image are in step.
    pub image_rows: Option<Tensor>,
    /// For each pair the index of its image in the data set, by which a loss finds the image's references.
    pub image_indices: Vec<usize>,
    /// Decoder input, u32: (B, L), or all tokens one after the other.
    pub input_ids: Tensor,
    /// Where packed captions lie, and their images.
    pub packing: Option<Arc<Packing>>,
    /// Where the targets of packed captions lie.
    pub target_packing: Option<Arc<Packing>>,
    /// The positions with a target, as indices into the elements of `input_ids`, u32 (T); absent if all have one.
    pub target_rows: Option<Tensor>,
    /// The token that must follow at each of these positions.
    pub targets: Vec<u32>,
    /// The factor of the loss of each of them; absent where all are 1.
    pub weights: Option<Vec<f64>>,
}

impl Batch {
    /// Builds a batch of `examples`. `load` gets the indices of the images that are needed and returns them in this
    /// order, each once. For a GPU, which needs an image for each pair, an image is loaded as often as pairs have it, unless
    /// these are half as many or fewer: a few repetitions cost less than picking rows.
    ///
    /// # Errors
    /// What `load` returns.
    pub fn load(
        examples: &[&Example],
        pad_id: u32,
        device: &Device,
        load: impl Fn(&[usize]) -> anyhow::Result<ImageInput>,
    ) -> anyhow::Result<Self> {
        let indices: Vec<usize> = examples.iter().map(|example| example.image).collect();
        let mut distinct = Vec::new();
        let mut row_of = HashMap::new();
        let mut rows = Vec::with_capacity(examples.len());
        for &image in &indices {
            let row = *row_of.entry(image).or_insert_with(|| {
                distinct.push(image);
                distinct.len() - 1
            });
            rows.push(u32::try_from(row)?);
        }
        let is_shared = device.is_cpu() || 2 * distinct.len() <= examples.len();
        let images = load(if is_shared { &distinct } else { &indices })?;
        let captions: Vec<Framed<'_>> = examples.iter().map(|example| example.framed()).collect();
        Ok(Self::of_framed(images, is_shared.then_some(rows), indices, &captions, pad_id, device)?)
    }

    /// A batch of captions `<start> caption <end>` with an image each.
    ///
    /// # Errors
    /// A device without memory for it.
    pub fn new(
        images: ImageInput,
        image_indices: Vec<usize>,
        captions: &[&[u32]],
        pad_id: u32,
        device: &Device,
    ) -> candle_core::Result<Self> {
        let captions: Vec<Framed<'_>> = captions.iter().map(|&tokens| tokens.into()).collect();
        Self::of_framed(images, None, image_indices, &captions, pad_id, device)
    }

    /// [`Batch::new`] of captions that may have prompts and weights. `image_rows` gives the row of each pair's image, where
    /// pairs share images.
    ///
    /// # Errors
    /// A device without memory for it.
    pub fn of_framed(
        images: ImageInput,
        image_rows: Option<Vec<u32>>,
        image_indices: Vec<usize>,
        captions: &[Framed<'_>],
        pad_id: u32,
        device: &Device,
    ) -> candle_core::Result<Self> {
        let is_packed = device.is_cpu();
        let tokens = collate(captions, (!is_packed).then_some(pad_id));
        let (batch_size, longest) = (captions.len(), tokens.longest());
        let has_all_targets = is_packed && tokens.rows.len() == tokens.input_ids.len();
        let target_rows = ops::upload(tokens.rows, tokens.targets.len(), device)?;
        let common = Self {
            images,
            image_rows: None,
            image_indices,
            input_ids: Tensor::new(tokens.input_ids, device)?,
            packing: None,
            target_packing: None,
            target_rows: (!has_all_targets).then_some(target_rows),
            targets: tokens.targets,
            weights: tokens.weights,
        };
        if is_packed {
            let rows: Vec<usize> = match image_rows {
                Some(rows) => rows.into_iter().map(|row| row as usize).collect(),
                None => (0..batch_size).collect(),
            };
            let packing = |lengths, rows| Some(Arc::new(Packing::new(lengths, rows)));
            let target_packing = packing(tokens.target_lengths, rows.clone());
            return Ok(Self { packing: packing(tokens.lengths, rows), target_packing, ..common });
        }
        let input_ids = common.input_ids.reshape((batch_size, longest))?;
        let image_rows = image_rows.map(|rows| Tensor::new(rows, device)).transpose()?;
        Ok(Self { input_ids, image_rows, ..common })
    }

    /// [`Batch::load`] in at most `num_parts` batches, as equal as can be, that follow each other in the order of
    /// `examples`.
    ///
    /// # Errors
    /// What `load` returns.
    pub fn load_parts(
        examples: &[&Example],
        num_parts: usize,
        pad_id: u32,
        device: &Device,
        load: impl Fn(&[usize]) -> anyhow::Result<ImageInput>,
    ) -> anyhow::Result<Vec<Self>> {
        let num_parts = num_parts.clamp(1, examples.len().max(1));
        let bound = |part: usize| part * examples.len() / num_parts;
        (0..num_parts).map(|part| Self::load(&examples[bound(part)..bound(part + 1)], pad_id, device, &load)).collect()
    }

    /// What the targets count in a mean: each its weight.
    pub fn weight(&self) -> f64 {
        self.weights.as_ref().map_or(self.targets.len() as f64, |weights| weights.iter().sum())
    }

    /// Pairs in the batch.
    pub fn num_examples(&self) -> usize {
        self.image_indices.len()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use image::{Rgb, RgbImage};

    use super::*;
    use crate::data::image_source::{ImageFiles, ImageSource, Purpose, Views};
    use pixels::image_processor::ImageProcessor;

    /// Pictures of one pixel, each with its own red value.
    fn source(folder: &Path) -> ImageSource {
        let picture = |image: u8| {
            let path = folder.join(format!("{image}.png"));
            RgbImage::from_pixel(1, 1, Rgb([10 * image, 0, 0])).save(&path).unwrap();
            path
        };
        let processor = ImageProcessor::plain(1);
        let files = ImageFiles {
            paths: (0..3).map(picture).collect(),
            names: vec![String::new(); 3],
            digests: HashMap::new(),
            processor,
            augmentation: None,
        };
        ImageSource::files(Arc::new(files), Views::Whole)
    }

    fn load(examples: &[Example]) -> Batch {
        let folder = tempfile::tempdir().unwrap();
        let source = source(folder.path());
        let examples: Vec<&Example> = examples.iter().collect();
        let load = |images: &[usize]| source.load(images, Purpose::Evaluation, &Device::Cpu);
        Batch::load(&examples, 0, &Device::Cpu, load).unwrap()
    }

    /// The red value of each picture.
    fn reds(batch: &Batch) -> Vec<u8> {
        let ImageInput::Pixels(pixels) = &batch.images else { panic!("expected pixels") };
        let values: Vec<f32> = pixels.narrow(1, 0, 1).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        values.into_iter().map(|value| ((value + 1.0) * 127.5).round() as u8).collect()
    }

    fn example(image: usize) -> Example {
        Example { image, tokens: vec![1, 5, 2], prompt_length: 0, weight: 1.0 }
    }

    #[test]
    fn a_shared_image_is_loaded_once_and_every_pair_points_to_its_own() {
        let batch = load(&[example(2), example(0), example(2), example(2)]);
        assert_eq!(reds(&batch), [20, 0]);
        assert_eq!(*batch.packing.unwrap(), Packing::new([2; 4], vec![0, 1, 0, 0]));
        assert_eq!(batch.image_indices, [2, 0, 2, 2]);
    }

    #[test]
    fn parts_follow_each_other_and_none_is_empty() {
        let examples = [example(2), example(0), example(1), example(2), example(2)];
        let examples: Vec<&Example> = examples.iter().collect();
        let folder = tempfile::tempdir().unwrap();
        let source = source(folder.path());
        for (num_parts, expected) in [(1, vec![5]), (2, vec![2, 3]), (3, vec![1, 2, 2]), (9, vec![1; 5])] {
            let load = |images: &[usize]| source.load(images, Purpose::Evaluation, &Device::Cpu);
            let parts = Batch::load_parts(&examples, num_parts, 0, &Device::Cpu, load).unwrap();
            let sizes: Vec<usize> = parts.iter().map(Batch::num_examples).collect();
            assert_eq!(sizes, expected, "{num_parts} parts");
        }
    }
}
