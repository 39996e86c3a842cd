//! From a file or its bytes to RGB pixels.

use std::fs;
use std::io::Read;
use std::ops::Deref;
use std::path::Path;

use anyhow::Context as _;
use image::{DynamicImage, ImageFormat, RgbImage};

use crate::image_file::budget::{Share, budgets};
use crate::image_file::decoded::{Decoded, swaps_sides};
use crate::image_file::guard::guarded;
use crate::image_file::not_an_image::not_an_image;
use crate::image_file::{gif, jpeg, library, tiff};
use crate::picture_formats::{PictureFormat, READ, format_of_content};
use base::bounded_file;
use base::digest::Hasher;
use base::error::failure;

/// To be raised whenever the same file may give other pixels than before: what was kept of images is then made again.
/// Version 2: JPEGs have the pixels of libjpeg-turbo.
pub const DECODER_VERSION: u32 = 2;
const MAX_FILE_BYTES: u64 = 1 << 30;

/// A picture in memory, as long as which it has a share of what pictures may take.
#[derive(Debug)]
pub struct Picture {
    image: RgbImage,
    share: Share,
}

impl Deref for Picture {
    type Target = RgbImage;

    fn deref(&self) -> &RgbImage {
        &self.image
    }
}

impl PartialEq<RgbImage> for Picture {
    fn eq(&self, other: &RgbImage) -> bool {
        self.image == *other
    }
}

impl Picture {
    /// What `change` makes of the pixels, in their memory.
    #[must_use]
    pub fn map(self, change: impl FnOnce(RgbImage) -> RgbImage) -> Self {
        Self { image: change(self.image), share: self.share }
    }
}

/// The content of a file, as long as which it has a share of what files may take.
struct Content {
    bytes: Vec<u8>,
    _share: Share,
}

/// Reads an image file. The Exif orientation is applied; gray, palette, 16 bits, CMYK and alpha become 8-bit RGB as
/// Pillow's `convert("RGB")` does it: alpha is dropped, 16-bit gray is clipped at 255, other 16-bit images keep their
/// high bytes.
///
/// # Errors
/// A file that cannot be read, is of no format that is read, is damaged or truncated, has more than [`MAX_PIXELS`], or
/// takes more memory than there may be.
pub fn load_rgb(path: &Path) -> anyhow::Result<Picture> {
    read(path)
        .and_then(|content| decode_rgb(&content.bytes))
        .with_context(|| format!("cannot read image {}", path.display()))
}

/// [`load_rgb`] of a file that must have this SHA-256.
pub fn load_known_rgb(path: &Path, digest: &[u8; 32]) -> anyhow::Result<Picture> {
    let known = |content: Content| {
        let mut hasher = Hasher::new();
        hasher.update(&content.bytes);
        if hasher.finish_bytes() != *digest {
            return Err(failure("it was changed while it was read", "start again when all images are in place"));
        }
        decode_rgb(&content.bytes)
    };
    read(path).and_then(known).with_context(|| format!("cannot read image {}", path.display()))
}

/// Checks an image file as [`load_rgb`] does, decoding it whole, and gives its (width, height) once turned upright.
pub fn inspect(path: &Path) -> anyhow::Result<(u32, u32)> {
    let decoded = read(path).and_then(|content| decode(&content.bytes));
    let decoded = decoded.with_context(|| format!("cannot read image {}", path.display()))?;
    let (width, height) = decoded.image.dimensions();
    Ok(if swaps_sides(decoded.orientation) { (height, width) } else { (width, height) })
}

/// The pixels of an image file's content; see [`load_rgb`].
pub fn decode_rgb(bytes: &[u8]) -> anyhow::Result<Picture> {
    let Decoded { image, orientation, share } = decode(bytes)?;
    let mut upright = DynamicImage::ImageRgb8(image);
    upright.apply_orientation(orientation);
    Ok(Picture { image: upright.into_rgb8(), share })
}

/// The pixels of a JPEG as its fast decoder has them, which knows one kind, and as libjpeg-turbo has them. They must be
/// the same: fuzzing holds one against the other.
pub fn decode_jpeg_both_ways(bytes: &[u8]) -> anyhow::Result<(Option<RgbImage>, RgbImage)> {
    anyhow::ensure!(format_of_content(bytes) == Some(PictureFormat::Jpeg), "it is not a JPEG");
    guarded(|| jpeg::decode_both_ways(bytes))
}

fn read(path: &Path) -> anyhow::Result<Content> {
    let metadata = fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(failure(format!("it is a folder, expected a {READ} file"), "give the files inside it"));
    }
    // A device or a pipe might never end.
    anyhow::ensure!(metadata.is_file(), "it is not a regular file, expected a {READ} file");
    let too_large = || failure(format!("it has more than {MAX_FILE_BYTES} bytes"), "store it smaller");
    if metadata.len() > MAX_FILE_BYTES {
        return Err(too_large());
    }
    let length = metadata.len();
    let share = budgets().files.take(length, || format!("reading its {length} bytes takes"))?;
    let mut bytes = Vec::with_capacity(length as usize);
    // One more, to see that it grew.
    bounded_file::open(path)?.take(length + 1).read_to_end(&mut bytes)?;
    anyhow::ensure!(bytes.len() as u64 <= length, "it grew while it was read");
    Ok(Content { bytes, _share: share })
}

fn decode(bytes: &[u8]) -> anyhow::Result<Decoded> {
    let Some(format) = format_of_content(bytes) else { return Err(not_an_image(bytes)) };
    guarded(|| match format {
        PictureFormat::Jpeg => jpeg::decode(bytes),
        PictureFormat::Tiff => tiff::decode(bytes),
        PictureFormat::Gif => gif::decode(bytes),
        PictureFormat::Png => library::decode(bytes, ImageFormat::Png, "PNG"),
        PictureFormat::WebP => library::decode(bytes, ImageFormat::WebP, "WebP"),
        PictureFormat::Bmp => library::decode(bytes, ImageFormat::Bmp, "BMP"),
    })
}
