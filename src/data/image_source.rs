//! Where the images of a batch come from: files, or the cache on disk; and which view of an image a batch gets.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use candle_core::{Device, Tensor};
use half::f16;
use half::slice::HalfFloatSliceExt as _;
use serde::Serialize;

use crate::config::FeatureType;
use crate::data::augmentation::Augmentation;
use crate::data::feature_store::{FeatureStore, Key, Row};
use crate::data::resized_image::{ResizedImage, pixel_values};
use base::error::failure;
use base::sorted_map::SortedMap;
use datasets::prepared::Dataset;
use pixels::image_processor::ImageProcessor;

/// An image, whole or as one of its random views.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageView {
    /// Index of the image in the data set.
    pub image: usize,
    /// 0: the whole image; else the number of a random view.
    pub view: u32,
}

/// What images are loaded for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// An update; epochs are counted from 1.
    Training { epoch: u64 },
    /// Validation and captioning: whole images.
    Evaluation,
}

/// Which views training looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Views {
    /// The whole image in every epoch.
    Whole,
    /// This many random views, the next one in each epoch.
    Cycle(u32),
    /// A new random view in every epoch.
    Fresh,
}

impl Views {
    /// The view of an image for a purpose.
    pub fn of(self, image: usize, purpose: Purpose) -> ImageView {
        let view = match (self, purpose) {
            (Self::Whole, _) | (_, Purpose::Evaluation) => 0,
            // Images start at different views, so that an epoch has all views.
            (Self::Cycle(count), Purpose::Training { epoch }) => {
                1 + ((epoch + image as u64) % u64::from(count.max(1))) as u32
            }
            (Self::Fresh, Purpose::Training { epoch }) => u32::try_from(epoch).unwrap_or(u32::MAX),
        };
        ImageView { image, view }
    }
}

/// Images as files, decoded and processed each time.
#[derive(Clone, Debug)]
pub struct ImageFiles {
    /// Where they are, and their names, which seed their random views.
    pub dataset: Arc<Dataset>,
    /// The SHA-256 of files that must not have changed since they were hashed.
    pub digests: SortedMap<usize, Key>,
    /// How pixels become the encoder's input.
    pub processor: ImageProcessor,
    /// How views are drawn; absent when there are none.
    pub augmentation: Option<Augmentation>,
}

impl ImageFiles {
    /// All images of a data set.
    pub fn of_dataset(dataset: Arc<Dataset>, processor: ImageProcessor, augmentation: Option<Augmentation>) -> Self {
        Self { dataset, digests: SortedMap::default(), processor, augmentation }
    }

    /// The pixels of a view in the encoder's size, before they are normalised: rows of red, green, blue.
    ///
    /// # Errors
    /// A file that cannot be read, or that has changed.
    pub fn pixels(&self, ImageView { image, view }: ImageView) -> Result<Vec<u8>> {
        let picture = self.dataset.picture(image);
        let whole = match self.digests.get(&image) {
            Some(digest) => picture.load_known_rgb(digest)?,
            None => picture.load_rgb()?,
        };
        let shown = match (view, &self.augmentation) {
            (0, _) => whole,
            (_, Some(augmentation)) => {
                whole.map(|whole| augmentation.apply(whole, self.dataset.images.get(image).filename(), view))
            }
            (_, None) => bail!("view {view} of image {image} was requested, but there is no augmentation"),
        };
        let resized = ResizedImage::of_picture(&shown, &self.processor);
        Ok(resized.with_context(|| format!("cannot use image {picture}"))?.pixels)
    }
}

/// What the rows of a store are.
#[derive(Clone, Debug)]
pub enum StoredContent {
    /// Outputs of a frozen encoder.
    Features {
        /// (N, D) of an image.
        shape: (usize, usize),
        /// How a number is stored.
        number: FeatureType,
    },
    /// Pixels in the encoder's size.
    Pixels(ImageProcessor),
}

/// Images whose encoder outputs or pixels are in a store.
#[derive(Debug)]
pub struct StoredImages {
    store: FeatureStore,
    rows: SortedMap<ImageView, Row>,
    content: StoredContent,
}

#[derive(Clone, Debug)]
enum Images {
    Files(Arc<ImageFiles>),
    Stored(Arc<StoredImages>),
}

/// Where the images of a batch come from.
#[derive(Clone, Debug)]
pub struct ImageSource {
    images: Images,
    views: Views,
}

/// The images as the model takes them.
#[derive(Clone, Debug)]
pub enum ImageInput {
    /// (U, 3, height, width), normalised.
    Pixels(Tensor),
    /// (U, N, D): the encoder's last hidden states.
    Features(Tensor),
}

impl ImageSource {
    pub fn files(files: Arc<ImageFiles>, views: Views) -> Self {
        Self { images: Images::Files(files), views }
    }

    pub fn stored(images: Arc<StoredImages>, views: Views) -> Self {
        Self { images: Images::Stored(images), views }
    }

    /// The images with these indices as one tensor.
    ///
    /// # Errors
    /// As [`ImageSource::load_views`].
    pub fn load(&self, images: &[usize], purpose: Purpose, device: &Device) -> Result<ImageInput> {
        let views: Vec<ImageView> = images.iter().map(|&image| self.views.of(image, purpose)).collect();
        self.load_views(&views, device)
    }

    /// These views as one tensor.
    ///
    /// # Errors
    /// A file that cannot be read; a view that was not stored.
    pub fn load_views(&self, views: &[ImageView], device: &Device) -> Result<ImageInput> {
        match &self.images {
            Images::Files(files) => {
                let pixels = views.iter().map(|&view| files.pixels(view));
                Ok(ImageInput::Pixels(pixel_values(pixels, &files.processor, device)?))
            }
            Images::Stored(images) => images.load(views, device),
        }
    }
}

impl StoredImages {
    /// The views in `keys` whose rows are in `store`.
    pub fn new(mut store: FeatureStore, keys: &SortedMap<ImageView, Key>, content: StoredContent) -> Self {
        let mut rows = SortedMap::with_capacity(keys.len());
        for (view, key) in keys.iter() {
            if let Some(row) = store.find(key) {
                rows.push(*view, row);
            }
        }
        store.forget_keys();
        Self { store, rows, content }
    }

    fn row(&self, view: &ImageView) -> Result<Row> {
        let row = self.rows.get(view).copied();
        row.with_context(|| format!("image {}, view {}: not in the cache", view.image, view.view))
    }

    fn load(&self, views: &[ImageView], device: &Device) -> Result<ImageInput> {
        match &self.content {
            StoredContent::Pixels(processor) => {
                let pixels = views.iter().map(|view| {
                    let mut row = vec![0; self.store.row_bytes()];
                    self.store.read(self.row(view)?, &mut row)?;
                    Ok(row)
                });
                Ok(ImageInput::Pixels(pixel_values(pixels, processor, device)?))
            }
            StoredContent::Features { shape: (length, hidden), number } => {
                let size = length * hidden;
                let mut values = vec![0.0_f32; views.len() * size];
                let mut narrow = vec![f16::ZERO; if *number == FeatureType::F16 { size } else { 0 }];
                for (view, values) in views.iter().zip(values.chunks_exact_mut(size.max(1))) {
                    let row = self.row(view)?;
                    match number {
                        FeatureType::F32 => self.store.read(row, bytemuck::cast_slice_mut(values))?,
                        FeatureType::F16 => {
                            self.store.read(row, bytemuck::cast_slice_mut(&mut narrow))?;
                            narrow.convert_to_f32_slice(values);
                        }
                    }
                }
                Ok(ImageInput::Features(ops::upload(values, (views.len(), *length, *hidden), device)?))
            }
        }
    }
}

/// Features as the bytes of rows.
///
/// # Errors
/// A number that is not finite, or outside the range of f16.
pub fn feature_bytes(values: &[f32], number: FeatureType) -> Result<Vec<u8>> {
    if let Some(value) = values.iter().find(|value| !value.is_finite()) {
        return Err(failure(
            format!("the encoder returned {value}"),
            "check its weights; with training.precision = \"bf16\", try \"f32\"",
        ));
    }
    match number {
        FeatureType::F32 => Ok(bytemuck::cast_slice(values).to_vec()),
        FeatureType::F16 => {
            let mut narrow = vec![f16::ZERO; values.len()];
            narrow.convert_from_f32_slice(values);
            if let Some(index) = narrow.iter().position(|value| !value.is_finite()) {
                return Err(failure(
                    format!("the encoder returned {}, which does not fit into 16 bits", values[index]),
                    "set data.cache_number = \"f32\"",
                ));
            }
            Ok(bytemuck::cast_slice(&narrow).to_vec())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::data::feature_store::Description;
    use base::error::describe;

    /// A source of features (1, 2) of three images.
    fn stored(folder: &std::path::Path, number: FeatureType) -> ImageSource {
        let row_bytes = feature_bytes(&[0.0; 2], number).unwrap().len();
        let mut store = FeatureStore::open(folder, &Description { content: json!("test"), row_bytes }).unwrap();
        let mut appender = store.append(|_| true).unwrap().unwrap();
        for image in [2, 0, 1_usize] {
            let values = [10.0 + image as f32, 0.1];
            appender.push(&[[image as u8; 32]], &feature_bytes(&values, number).unwrap()).unwrap();
        }
        appender.finish().unwrap();
        let keys = (0..3).map(|image| (ImageView { image, view: 0 }, [image as u8; 32])).collect();
        let content = StoredContent::Features { shape: (1, 2), number };
        ImageSource::stored(Arc::new(StoredImages::new(store, &keys, content)), Views::Whole)
    }

    #[test]
    fn features_come_back_by_image_to_11_bits_or_whole() {
        for (number, tenth) in [(FeatureType::F16, f16::from_f32(0.1).to_f32()), (FeatureType::F32, 0.1)] {
            let folder = tempfile::tempdir().unwrap();
            let source = stored(folder.path(), number);
            let input = source.load(&[1, 2, 1], Purpose::Evaluation, &Device::Cpu).unwrap();
            let ImageInput::Features(features) = input else { panic!("expected features") };
            assert_eq!(features.dims(), [3, 1, 2]);
            let values: Vec<f32> = features.flatten_all().unwrap().to_vec1().unwrap();
            assert_eq!(values, [11.0, tenth, 12.0, tenth, 11.0, tenth]);
            assert!(source.load(&[3], Purpose::Evaluation, &Device::Cpu).is_err());
        }
    }

    #[test]
    fn numbers_that_a_row_cannot_hold_are_an_error() {
        let text = describe(&feature_bytes(&[1.0, 7e4], FeatureType::F16).unwrap_err());
        assert!(text.contains("70000") && text.contains("cache_number = \"f32\""), "{text}");
        feature_bytes(&[7e4], FeatureType::F32).unwrap();
        for number in [FeatureType::F16, FeatureType::F32] {
            assert!(feature_bytes(&[f32::NAN], number).is_err());
        }
    }

    #[test]
    fn training_goes_through_the_views_and_evaluation_sees_the_whole_image() {
        let training = |epoch| Purpose::Training { epoch };
        assert_eq!(Views::Whole.of(5, training(3)).view, 0);
        let cycle: Vec<u32> = (1..=7).map(|epoch| Views::Cycle(3).of(5, training(epoch)).view).collect();
        assert_eq!(cycle, [1, 2, 3, 1, 2, 3, 1]);
        assert_ne!(Views::Cycle(3).of(6, training(1)).view, 1, "not every image is at the same view");
        assert_eq!(Views::Fresh.of(5, training(9)).view, 9);
        assert_eq!(Views::Cycle(3).of(5, Purpose::Evaluation).view, 0);
    }
}
