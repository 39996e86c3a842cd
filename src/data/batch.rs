//! Image-caption pairs and their batches: pixels or encoder outputs beside token ids and labels.

use std::collections::HashMap;

use candle_core::{Device, Tensor};

use crate::data::collate::collate;
use crate::data::image_source::{ImageInput, ImageSource, Purpose};

/// One training example: an image and one of its captions.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// Index of the image in the data set.
    pub image: usize,
    /// `<start> caption <end>`.
    pub tokens: Vec<u32>,
}

/// Pairs that go through the model together. U counts the different images, B the pairs.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The different images.
    pub images: ImageInput,
    /// For each pair the row of its image, u32 (B); absent when pair and image are in step.
    pub image_rows: Option<Tensor>,
    /// Decoder input (B, L), u32.
    pub input_ids: Tensor,
    /// Targets, B x L, with `IGNORE_LABEL` beyond the end.
    pub labels: Vec<u32>,
    /// Targets that count.
    pub num_targets: usize,
}

impl Batch {
    /// Makes a batch of `examples`. Where pairs share images so much that these are half as many or fewer, each image
    /// is loaded once; a few repetitions cost less than picking rows.
    ///
    /// # Errors
    /// As [`ImageSource::load`].
    pub fn load(
        source: &ImageSource,
        examples: &[&Example],
        purpose: Purpose,
        pad_id: u32,
        device: &Device,
    ) -> anyhow::Result<Self> {
        let mut images = Vec::new();
        let mut row_of = HashMap::new();
        let mut rows = Vec::with_capacity(examples.len());
        for example in examples {
            let row = *row_of.entry(example.image).or_insert_with(|| {
                images.push(example.image);
                images.len() - 1
            });
            rows.push(u32::try_from(row)?);
        }
        let shared = 2 * images.len() <= examples.len();
        if !shared {
            images = examples.iter().map(|example| example.image).collect();
        }
        let captions: Vec<&[u32]> = examples.iter().map(|example| example.tokens.as_slice()).collect();
        let tokens = collate(&captions, pad_id);
        Ok(Self {
            images: source.load(&images, purpose, device)?,
            image_rows: if shared { Some(Tensor::new(rows, device)?) } else { None },
            input_ids: Tensor::from_vec(tokens.input_ids, (tokens.batch_size, tokens.length), device)?,
            labels: tokens.labels,
            num_targets: tokens.num_targets,
        })
    }

    /// [`Batch::load`] in at most `num_parts` batches, as equal as can be, that follow each other in the order of
    /// `examples`.
    ///
    /// # Errors
    /// As [`ImageSource::load`].
    pub fn load_parts(
        source: &ImageSource,
        examples: &[&Example],
        purpose: Purpose,
        num_parts: usize,
        pad_id: u32,
        device: &Device,
    ) -> anyhow::Result<Vec<Self>> {
        let num_parts = num_parts.clamp(1, examples.len().max(1));
        let bound = |part: usize| part * examples.len() / num_parts;
        let load = |part| Self::load(source, &examples[bound(part)..bound(part + 1)], purpose, pad_id, device);
        (0..num_parts).map(load).collect()
    }

    /// Pairs in the batch.
    ///
    /// # Errors
    /// Never for a batch made here.
    pub fn num_examples(&self) -> candle_core::Result<usize> {
        self.input_ids.dim(0)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use image::{Rgb, RgbImage};

    use super::*;
    use crate::data::image_source::{ImageFiles, Views};
    use pixels::image_processor::ImageProcessor;

    /// Pictures of one pixel, whose red value tells them apart.
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
        let examples: Vec<&Example> = examples.iter().collect();
        Batch::load(&source(folder.path()), &examples, Purpose::Evaluation, 0, &Device::Cpu).unwrap()
    }

    /// The red value of each picture.
    fn reds(batch: &Batch) -> Vec<u8> {
        let ImageInput::Pixels(pixels) = &batch.images else { panic!("expected pixels") };
        let values: Vec<f32> = pixels.narrow(1, 0, 1).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        values.into_iter().map(|value| ((value + 1.0) * 127.5).round() as u8).collect()
    }

    fn example(image: usize) -> Example {
        Example { image, tokens: vec![1, 5, 2] }
    }

    #[test]
    fn a_shared_image_is_loaded_once_and_every_pair_points_to_its_own() {
        let batch = load(&[example(2), example(0), example(2), example(2)]);
        assert_eq!(reds(&batch), [20, 0]);
        assert_eq!(batch.image_rows.unwrap().to_vec1::<u32>().unwrap(), [0, 1, 0, 0]);
    }

    #[test]
    fn parts_follow_each_other_and_none_is_empty() {
        let examples = [example(2), example(0), example(1), example(2), example(2)];
        let examples: Vec<&Example> = examples.iter().collect();
        let folder = tempfile::tempdir().unwrap();
        let source = source(folder.path());
        for (num_parts, expected) in [(1, vec![5]), (2, vec![2, 3]), (3, vec![1, 2, 2]), (9, vec![1; 5])] {
            let parts = Batch::load_parts(&source, &examples, Purpose::Evaluation, num_parts, 0, &Device::Cpu).unwrap();
            let sizes: Vec<usize> = parts.iter().map(|part| part.num_examples().unwrap()).collect();
            assert_eq!(sizes, expected, "{num_parts} parts");
        }
    }

    #[test]
    fn mostly_different_images_need_no_rows() {
        let batch = load(&[example(2), example(0), example(2)]);
        assert!(batch.image_rows.is_none());
        assert_eq!(batch.num_examples().unwrap(), 3);
        assert_eq!(reds(&batch), [20, 0, 20]);
    }
}
