//! Image-caption pairs and their batches: pixels or encoder outputs beside token ids and labels.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use candle_core::{Device, Tensor};

use crate::data::collate::collate;
use crate::data::feature_store::FeatureTable;
use crate::data::image_file::load_rgb;
use crate::data::image_processor::ImageProcessor;

/// One training example: an image and one of its captions.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// Index of the image in the data set.
    pub image: usize,
    /// `<start> caption <end>`.
    pub tokens: Vec<u32>,
}

/// Where the images of a batch come from.
#[derive(Clone, Debug)]
pub enum ImageSource {
    /// Files, decoded and processed each time.
    Files {
        /// Path of each image of the data set.
        paths: Arc<Vec<PathBuf>>,
        /// How pixels become the encoder's input.
        processor: ImageProcessor,
    },
    /// Outputs of a frozen encoder.
    Features(Arc<FeatureTable>),
}

/// What the model gets of the images.
#[derive(Clone, Debug)]
pub enum ImageInput {
    /// (U, 3, height, width), normalised.
    Pixels(Tensor),
    /// (U, N, D): the encoder's last hidden states.
    Features(Tensor),
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

impl ImageSource {
    /// The images with these indices as one tensor.
    ///
    /// # Errors
    /// A file that cannot be read; an image that was not encoded.
    pub fn load(&self, images: &[usize], device: &Device) -> anyhow::Result<ImageInput> {
        match self {
            Self::Files { paths, processor } => {
                let (height, width) = processor.output_size();
                let mut values = Vec::with_capacity(images.len() * 3 * height * width);
                for &image in images {
                    values.extend(processor.process(&load_rgb(&paths[image])?)?);
                }
                Ok(ImageInput::Pixels(Tensor::from_vec(values, (images.len(), 3, height, width), device)?))
            }
            Self::Features(table) => {
                let (length, hidden) = table.shape();
                let mut values = Vec::with_capacity(images.len() * length * hidden);
                for &image in images {
                    values.extend_from_slice(table.get(image)?);
                }
                Ok(ImageInput::Features(Tensor::from_vec(values, (images.len(), length, hidden), device)?))
            }
        }
    }
}

impl Batch {
    /// Makes a batch of `examples`. Where pairs share images so much that these are half as many or fewer, each image
    /// is loaded once; a few repetitions cost less than picking rows.
    ///
    /// # Errors
    /// As [`ImageSource::load`].
    pub fn load(source: &ImageSource, examples: &[&Example], pad_id: u32, device: &Device) -> anyhow::Result<Self> {
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
            images: source.load(&images, device)?,
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
        num_parts: usize,
        pad_id: u32,
        device: &Device,
    ) -> anyhow::Result<Vec<Self>> {
        let num_parts = num_parts.clamp(1, examples.len().max(1));
        let bound = |part: usize| part * examples.len() / num_parts;
        (0..num_parts).map(|part| Self::load(source, &examples[bound(part)..bound(part + 1)], pad_id, device)).collect()
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
    use super::*;

    fn source() -> ImageSource {
        let mut table = FeatureTable::new((1, 1), 3);
        table.insert(&[0, 1, 2], &[10.0, 11.0, 12.0]).unwrap();
        ImageSource::Features(Arc::new(table))
    }

    fn example(image: usize) -> Example {
        Example { image, tokens: vec![1, 5, 2] }
    }

    #[test]
    fn a_shared_image_is_loaded_once_and_every_pair_points_to_its_own() {
        let examples = [example(2), example(0), example(2), example(2)];
        let batch = Batch::load(&source(), &examples.iter().collect::<Vec<_>>(), 0, &Device::Cpu).unwrap();
        let ImageInput::Features(features) = &batch.images else { panic!("expected features") };
        let rows = batch.image_rows.unwrap();
        let picked: Vec<f32> = features.index_select(&rows, 0).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(features.dims(), [2, 1, 1]);
        assert_eq!(picked, [12.0, 10.0, 12.0, 12.0]);
    }

    #[test]
    fn parts_follow_each_other_and_none_is_empty() {
        let examples = [example(2), example(0), example(1), example(2), example(2)];
        let examples: Vec<&Example> = examples.iter().collect();
        for (num_parts, expected) in [(1, vec![5]), (2, vec![2, 3]), (3, vec![1, 2, 2]), (9, vec![1; 5])] {
            let parts = Batch::load_parts(&source(), &examples, num_parts, 0, &Device::Cpu).unwrap();
            let sizes: Vec<usize> = parts.iter().map(|part| part.num_examples().unwrap()).collect();
            assert_eq!(sizes, expected, "{num_parts} parts");
        }
    }

    #[test]
    fn mostly_different_images_need_no_rows() {
        let examples = [example(2), example(0), example(2)];
        let batch = Batch::load(&source(), &examples.iter().collect::<Vec<_>>(), 0, &Device::Cpu).unwrap();
        assert!(batch.image_rows.is_none());
        assert_eq!(batch.num_examples().unwrap(), 3);
        let ImageInput::Features(features) = &batch.images else { panic!("expected features") };
        assert_eq!(features.dims(), [3, 1, 1]);
    }
}
