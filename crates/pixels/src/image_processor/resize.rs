//! Pictures in another size, with the pixels of Pillow and torchvision.

use std::borrow::Cow;

use anyhow::Context as _;
use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::image_file::MAX_PIXELS;
use crate::image_file::budget::{Share, budgets};
use base::error::WithHint as _;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Size {
    pub(super) height: usize,
    pub(super) width: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Resize {
    pub(super) target: Target,
    pub(super) filter: Filter,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Target {
    /// Whatever the shape was.
    Exact(Size),
    /// The short side gets this length, the shape stays.
    ShortestEdge(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Filter {
    Lanczos,
    Bilinear,
    Bicubic,
}

impl Resize {
    pub(super) fn apply(self, image: &RgbImage) -> anyhow::Result<Cow<'_, RgbImage>> {
        let (width, height) = image.dimensions();
        anyhow::ensure!(width > 0 && height > 0, "a picture of {width}x{height} pixels is empty");
        let [new_width, new_height] = self
            .size_for(width, height)
            .filter(|&[new_width, new_height]| {
                let fits = |height| u64::from(new_width) * u64::from(height) <= MAX_PIXELS;
                fits(height) && fits(new_height)
            })
            .with_context(|| format!("a picture of {width}x{height} pixels is too long and narrow to be resized"))
            .hint(|| "crop it or leave it out")?;
        let _share = Self::share_for([width, height], [new_width, new_height])?;
        self.filter.resize(image, new_width, new_height)
    }

    /// The share of what a resize takes: the pixels after each of its two steps, and the weights, which are as many as
    /// the filter reaches over.
    fn share_for([width, height]: [u32; 2], [new_width, new_height]: [u32; 2]) -> anyhow::Result<Share> {
        /// Of a number and of what is made of it for the loop.
        const WEIGHT_BYTES: u64 = 16;
        /// On both sides, in pixels of the smaller line, with those at the ends: of Lanczos, which reaches farthest.
        const REACH: u64 = 8;
        let pixels = u64::from(new_width) * (u64::from(height) + u64::from(new_height));
        let weights = REACH * u64::from(width.max(new_width) + height.max(new_height));
        budgets().resizing.take(3 * pixels + WEIGHT_BYTES * weights, || {
            format!("resizing its {width}x{height} pixels to {new_width}x{new_height} takes")
        })
    }

    /// The new width and height; the long side is rounded down, as `get_resize_output_image_size` does. `None` where
    /// it fits no number.
    pub(super) fn size_for(self, width: u32, height: u32) -> Option<[u32; 2]> {
        let (new_width, new_height) = match self.target {
            Target::Exact(size) => (size.width as u64, size.height as u64),
            Target::ShortestEdge(edge) => {
                let (width, height, edge) = (u64::from(width), u64::from(height), edge as u64);
                if width <= height { (edge, edge * height / width) } else { (edge * width / height, edge) }
            }
        };
        Some([u32::try_from(new_width).ok()?, u32::try_from(new_height).ok()?])
    }
}

/// A picture in another size, antialiased and bilinear.
pub fn resize_rgb(image: &RgbImage, width: u32, height: u32) -> anyhow::Result<RgbImage> {
    let size = Size { height: height as usize, width: width as usize };
    let resize = Resize { target: Target::Exact(size), filter: Filter::Bilinear };
    Ok(resize.apply(image)?.into_owned())
}

/// A picture whose longer side has at most this many pixels, antialiased and bilinear; as it is where it is no larger.
pub fn shrink_rgb(image: &RgbImage, longest_side: u32) -> anyhow::Result<Cow<'_, RgbImage>> {
    let factor = f64::from(longest_side) / f64::from(image.width().max(image.height()));
    if factor >= 1.0 {
        return Ok(Cow::Borrowed(image));
    }
    let side = |side: u32| (f64::from(side) * factor).round().max(1.0) as u32;
    Ok(Cow::Owned(resize_rgb(image, side(image.width()), side(image.height()))?))
}

impl Filter {
    /// Two calls, rows first, with 8 bits between them: this is what Pillow and torchvision compute. A single call
    /// resizes the columns first, which differs by up to 11 of 255.
    fn resize(self, image: &RgbImage, new_width: u32, new_height: u32) -> anyhow::Result<Cow<'_, RgbImage>> {
        let mut resized = Cow::Borrowed(image);
        let mut resizer = Resizer::new();
        for (width, height) in [(new_width, image.height()), (new_width, new_height)] {
            if resized.dimensions() != (width, height) {
                let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(self.convolution()));
                // `resize` would be compiled for pixels of all types, which takes a minute.
                let source = TypedImageRef::<U8x3>::from_buffer(resized.width(), resized.height(), &resized)?;
                let mut target = RgbImage::new(width, height);
                resizer.resize_typed(&source, &mut TypedImage::from_buffer(width, height, &mut target)?, &options)?;
                resized = Cow::Owned(target);
            }
        }
        Ok(resized)
    }

    /// The number of `PIL.Image.Resampling`.
    pub(super) fn pillow_code(self) -> u64 {
        match self {
            Self::Lanczos => 1,
            Self::Bilinear => 2,
            Self::Bicubic => 3,
        }
    }

    pub(super) fn from_pillow_code(code: u64) -> anyhow::Result<Self> {
        let known = [Self::Lanczos, Self::Bilinear, Self::Bicubic].into_iter().find(|one| one.pillow_code() == code);
        known.with_context(|| {
            format!("resample is {code}, expected 1 (lanczos), 2 (bilinear) or 3 (bicubic), the antialiased ones")
        })
    }

    fn convolution(self) -> FilterType {
        match self {
            Self::Lanczos => FilterType::Lanczos3,
            Self::Bilinear => FilterType::Bilinear,
            // Pillow's bicubic has a = -0.5, which is Catmull-Rom.
            Self::Bicubic => FilterType::CatmullRom,
        }
    }
}
