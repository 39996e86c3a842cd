//! From RGB pixels to what an encoder reads: resize, center crop, rescale, normalize. The numbers are those of the image
//! processors of transformers.

use std::borrow::Cow;

use image::RgbImage;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::image_file::MAX_PIXELS;
use crate::image_processor::resize::{Filter, Resize, Size, Target};

/// What CLIP was trained with.
const CLIP_MEAN: [f64; 3] = [0.48145466, 0.4578275, 0.40821073];
const CLIP_STD: [f64; 3] = [0.26862954, 0.26130258, 0.27577711];
/// `IMAGENET_STANDARD_MEAN` and `IMAGENET_STANDARD_STD` of transformers.
const HALF: [f64; 3] = [0.5; 3];
/// The longest side that pictures are made.
pub(super) const MAX_SIDE: usize = 8192;

/// The processing of one encoder, every default resolved. It serializes into a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageProcessor {
    pub(super) class: Class,
    /// `None`: pictures are taken in the size that they have.
    pub(super) resize: Option<Resize>,
    /// The centre of this size is taken, filled up with zeros; a no-op after a resize to just this size.
    pub(super) output: Size,
    /// `None`: values stay 0 to 255.
    pub(super) rescale_factor: Option<f64>,
    pub(super) normalization: Option<Normalization>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Class {
    #[serde(rename = "ViTImageProcessor")]
    Vit,
    #[serde(rename = "CLIPImageProcessor")]
    Clip,
    #[serde(rename = "BlipImageProcessor")]
    Blip,
    #[serde(rename = "SiglipImageProcessor")]
    Siglip,
    #[serde(rename = "BitImageProcessor")]
    Bit,
    #[serde(rename = "DeiTImageProcessor")]
    Deit,
}

impl Class {
    pub(super) const ALL: [Self; 6] = [Self::Vit, Self::Clip, Self::Blip, Self::Siglip, Self::Bit, Self::Deit];

    /// What the class's name begins with.
    pub(super) fn name_of_model(self) -> &'static str {
        match self {
            Self::Vit => "ViT",
            Self::Clip => "CLIP",
            Self::Blip => "Blip",
            Self::Siglip => "Siglip",
            Self::Bit => "Bit",
            Self::Deit => "DeiT",
        }
    }

    /// The processing where the file says nothing.
    pub(super) fn defaults(self) -> ImageProcessor {
        match self {
            Self::Vit => ImageProcessor::plain(224),
            Self::Clip => ImageProcessor::clip(224),
            Self::Blip => ImageProcessor::blip(384),
            Self::Siglip => ImageProcessor::siglip(224),
            Self::Bit => ImageProcessor { class: self, ..ImageProcessor::clip(224) },
            Self::Deit => ImageProcessor::deit(224),
        }
    }

    /// Whether the centre is taken where the file does not say so.
    pub(super) fn crops(self) -> bool {
        matches!(self, Self::Clip | Self::Bit | Self::Deit)
    }

    /// Whether one number in `size` is the short side, and not a square.
    pub(super) fn resizes_the_short_side(self) -> bool {
        matches!(self, Self::Clip | Self::Bit | Self::Siglip)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Normalization {
    pub(super) mean: [f64; 3],
    pub(super) std: [f64; 3],
}

impl ImageProcessor {
    /// Checks what the processing relies on; a processor from [`Self::from_file`] has been checked.
    ///
    /// # Errors
    /// A side of 0 or of more than 8192; numbers that make of a pixel what is not finite.
    pub fn validate(&self) -> anyhow::Result<()> {
        let resize = self.resize.map(|resize| match resize.target {
            Target::Exact(size) => [size.height, size.width],
            Target::ShortestEdge(edge) => [edge, edge],
        });
        for side in resize.into_iter().flatten().chain([self.output.height, self.output.width]) {
            anyhow::ensure!((1..=MAX_SIDE).contains(&side), "a side is {side}, expected 1 to {MAX_SIDE}");
        }
        let is_finite = (0..3).flat_map(|channel| self.channel_values(channel)).all(f32::is_finite);
        anyhow::ensure!(
            is_finite,
            "with its rescale_factor, image_mean and image_std a pixel exceeds the range of a 32-bit number"
        );
        Ok(())
    }

    /// For an encoder from scratch: a bilinear resize to a square, values from -1 to 1.
    pub fn plain(image_size: usize) -> Self {
        let output = Size { height: image_size, width: image_size };
        Self {
            class: Class::Vit,
            resize: Some(Resize { target: Target::Exact(output), filter: Filter::Bilinear }),
            output,
            rescale_factor: Some(1.0 / 255.0),
            normalization: Some(Normalization { mean: HALF, std: HALF }),
        }
    }

    /// CLIP's defaults: the short side resized (bicubic), the central square, CLIP's mean and standard deviation.
    pub fn clip(image_size: usize) -> Self {
        Self {
            class: Class::Clip,
            resize: Some(Resize { target: Target::ShortestEdge(image_size), filter: Filter::Bicubic }),
            output: Size { height: image_size, width: image_size },
            rescale_factor: Some(1.0 / 255.0),
            normalization: Some(Normalization { mean: CLIP_MEAN, std: CLIP_STD }),
        }
    }

    /// BLIP's defaults: a bicubic resize to a square, which does not keep the shape, with CLIP's mean and standard
    /// deviation.
    pub fn blip(image_size: usize) -> Self {
        let output = Size { height: image_size, width: image_size };
        Self {
            class: Class::Blip,
            resize: Some(Resize { target: Target::Exact(output), filter: Filter::Bicubic }),
            output,
            ..Self::clip(image_size)
        }
    }

    /// SigLIP's defaults: a bicubic resize to a square, values from -1 to 1.
    pub fn siglip(image_size: usize) -> Self {
        let target = Target::Exact(Size { height: image_size, width: image_size });
        let resize = Some(Resize { target, filter: Filter::Bicubic });
        Self { class: Class::Siglip, resize, ..Self::plain(image_size) }
    }

    /// DeiT's defaults: a bicubic resize to a square that is larger by a seventh, its centre, values from -1 to 1.
    pub fn deit(image_size: usize) -> Self {
        let side = (image_size * 8).div_ceil(7);
        Self { class: Class::Deit, output: Size { height: image_size, width: image_size }, ..Self::siglip(side) }
    }

    /// The same processing for a model of another size: the output becomes a square of this side, and the resize
    /// before the crop changes in proportion.
    pub fn with_image_size(mut self, image_size: usize) -> Self {
        let old = self.output;
        let scaled = |length: usize, old: usize| ((length * image_size + old / 2) / old.max(1)).max(1);
        if let Some(resize) = &mut self.resize {
            resize.target = match resize.target {
                Target::Exact(size) => Target::Exact(Size {
                    height: scaled(size.height, old.height),
                    width: scaled(size.width, old.width),
                }),
                Target::ShortestEdge(edge) => Target::ShortestEdge(scaled(edge, old.height.min(old.width))),
            };
        }
        self.output = Size { height: image_size, width: image_size };
        self
    }

    /// (height, width) of what [`Self::process`] gives.
    pub fn output_size(&self) -> (usize, usize) {
        (self.output.height, self.output.width)
    }

    /// The values of one picture: (3, height, width), row-major, resized, cropped, rescaled and normalized.
    pub fn process(&self, image: &RgbImage) -> anyhow::Result<Vec<f32>> {
        Ok(self.normalize(&self.pixels(image)?))
    }

    /// One picture resized and cropped: height rows of width pixels of red, green and blue.
    ///
    /// # Errors
    /// A picture without pixels, one so long and narrow that resizing it would not fit into memory, or an output of
    /// more than [`MAX_PIXELS`].
    pub fn pixels(&self, image: &RgbImage) -> anyhow::Result<Vec<u8>> {
        let Size { height, width } = self.output;
        anyhow::ensure!(
            height.checked_mul(width).is_some_and(|area| area as u64 <= MAX_PIXELS),
            "an output of {width}x{height} pixels does not fit into memory"
        );
        let resized = match self.resize {
            Some(resize) => resize.apply(image)?,
            None => Cow::Borrowed(image),
        };
        if (resized.height() as usize, resized.width() as usize) == (height, width) {
            return Ok(resized.into_owned().into_raw());
        }
        let rows = Overlap::centred(resized.height() as usize, height);
        let columns = Overlap::centred(resized.width() as usize, width);
        // What lies outside is black.
        let mut pixels = vec![0; 3 * height * width];
        let source = resized.as_raw();
        for row in 0..rows.length {
            let from = 3 * ((rows.source + row) * resized.width() as usize + columns.source);
            let to = 3 * ((rows.target + row) * width + columns.target);
            pixels[to..to + 3 * columns.length].copy_from_slice(&source[from..from + 3 * columns.length]);
        }
        Ok(pixels)
    }

    /// The part of a picture of this size that its [`Self::pixels`] show: left, top, width and height in shares of the
    /// picture's; more than the whole where black is added. `None` where there are no pixels.
    pub fn visible_part(&self, width: u32, height: u32) -> Option<[f64; 4]> {
        let resized = match self.resize {
            Some(resize) => resize.size_for(width, height)?,
            None => [width, height],
        };
        let part = |line: u32, window: usize| {
            let overlap = Overlap::centred(line as usize, window);
            let line = f64::from(line);
            ((overlap.source as f64 - overlap.target as f64) / line, window as f64 / line)
        };
        let [(left, width), (top, height)] =
            [part(resized[0], self.output.width), part(resized[1], self.output.height)];
        let found = [left, top, width, height];
        found.iter().all(|share| share.is_finite()).then_some(found)
    }

    /// [`Self::pixels`] rescaled and normalized: (3, height, width), row-major.
    pub fn normalize(&self, pixels: &[u8]) -> Vec<f32> {
        let plane = self.output.height * self.output.width;
        let mut values = vec![0.0; 3 * plane];
        for (channel, plane) in values.chunks_exact_mut(plane.max(1)).enumerate() {
            // A value of a channel can only be one of 256.
            let table = self.channel_values(channel);
            for (value, pixel) in plane.iter_mut().zip(pixels.chunks_exact(3)) {
                *value = table[usize::from(pixel[channel])];
            }
        }
        values
    }

    /// What [`Self::pixels`] depends on.
    pub fn geometry(&self) -> Value {
        json!({ "resize": self.resize, "output": self.output })
    }

    /// What the 256 values of a channel become.
    fn channel_values(&self, channel: usize) -> [f32; 256] {
        std::array::from_fn(|value| {
            let rescaled = value as f64 * self.rescale_factor.unwrap_or(1.0);
            let normalized = self.normalization.map(|to| (rescaled - to.mean[channel]) / to.std[channel]);
            normalized.unwrap_or(rescaled) as f32
        })
    }
}

/// The part of a line that a centred window and a picture share.
struct Overlap {
    source: usize,
    target: usize,
    length: usize,
}

impl Overlap {
    /// A window of `window` pixels on the centre of a line of `line` pixels. An odd pixel is left over at the end of
    /// the line, or filled in at the end of the window (`TorchvisionBackend.center_crop` of transformers 5).
    fn centred(line: usize, window: usize) -> Self {
        Self {
            source: line.saturating_sub(window) / 2,
            target: window.saturating_sub(line) / 2,
            length: line.min(window),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_pixels_are_left_over_and_filled_in_at_the_end() {
        let window = |line, window| {
            let Overlap { source, target, length } = Overlap::centred(line, window);
            (source, target, length)
        };
        assert_eq!(window(227, 224), (1, 0, 224));
        assert_eq!(window(226, 224), (1, 0, 224));
        assert_eq!(window(224, 224), (0, 0, 224));
        assert_eq!(window(221, 224), (0, 1, 221));
    }
}
