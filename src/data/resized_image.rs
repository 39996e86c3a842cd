//! One way from a picture's file or bytes to what the encoder reads.

use std::path::Path;

use anyhow::{Context as _, Result};
use candle_core::{Device, Tensor};
use image::RgbImage;

use datasets::picture_file::PictureFile;
use pixels::image_file::{decode_rgb, load_rgb};
use pixels::image_processor::ImageProcessor;

/// A picture in the encoder's size, before it is normalised.
#[derive(Clone, Debug)]
pub struct ResizedImage {
    /// Rows of red, green, blue.
    pub pixels: Vec<u8>,
    /// Width and height of the picture as it was.
    pub original_size: (u32, u32),
}

impl ResizedImage {
    /// The picture in a file or a shard.
    ///
    /// # Errors
    /// What cannot be read, is not a picture, or cannot be resized.
    pub fn of_file(file: &PictureFile, processor: &ImageProcessor) -> Result<Self> {
        Self::of_picture(&*file.load_rgb()?, processor).with_context(|| format!("cannot use image {file}"))
    }

    /// The picture in a file, which is read once, as each of `processors` makes it.
    ///
    /// # Errors
    /// As [`Self::of_file`].
    pub fn each_of_path(path: &Path, processors: &[ImageProcessor]) -> Result<Vec<Self>> {
        let picture = load_rgb(path)?;
        let resized = processors.iter().map(|processor| Self::of_picture(&picture, processor));
        resized.collect::<Result<_>>().with_context(|| format!("cannot use image {}", path.display()))
    }

    /// The picture of a file with these bytes.
    ///
    /// # Errors
    /// Bytes that are not a picture, or one that cannot be resized.
    pub fn of_bytes(bytes: Vec<u8>, processor: &ImageProcessor) -> Result<Self> {
        let picture = decode_rgb(&bytes)?;
        // Both need not be in memory while it is resized.
        drop(bytes);
        Self::of_picture(&picture, processor)
    }

    /// # Errors
    /// A picture that cannot be resized.
    pub fn of_picture(picture: &RgbImage, processor: &ImageProcessor) -> Result<Self> {
        Ok(Self { pixels: processor.pixels(picture)?, original_size: picture.dimensions() })
    }
}

/// The pixels of images as the encoder reads them: normalised, (U, 3, height, width).
///
/// # Errors
/// The first error among `images`; a device without memory for the tensor.
pub fn pixel_values<P: AsRef<[u8]>>(
    images: impl ExactSizeIterator<Item = Result<P>>,
    processor: &ImageProcessor,
    device: &Device,
) -> Result<Tensor> {
    let (num_images, (height, width)) = (images.len(), processor.output_size());
    let mut values = Vec::with_capacity(num_images * 3 * height * width);
    for pixels in images {
        values.extend(processor.normalize(pixels?.as_ref()));
    }
    Ok(ops::upload(values, (num_images, 3, height, width), device)?)
}
