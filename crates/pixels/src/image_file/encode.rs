//! From RGB pixels to the content of a file.

use std::io::Cursor;

use anyhow::Context as _;
use image::codecs::jpeg::JpegEncoder;
use image::{ImageFormat, RgbImage};

/// Of a JPEG that is written.
const JPEG_QUALITY: u8 = 95;

/// The content of a file of this format: JPEG of quality 95, PNG, or WebP without loss.
pub fn encode(image: &RgbImage, format: ImageFormat) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match format {
        ImageFormat::Jpeg => JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY).encode_image(image),
        format => image.write_to(&mut Cursor::new(&mut bytes), format),
    }
    .with_context(|| format!("cannot encode a picture of {}x{} pixels", image.width(), image.height()))?;
    Ok(bytes)
}
