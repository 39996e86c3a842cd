//! PNG, WebP and BMP files to RGB, decoded by the crate `image`.

use std::io::Cursor;

use anyhow::Context as _;
use image::metadata::Orientation;
use image::{ColorType, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage};

use crate::image_file::decoded::{CONVERT, Decoded, FETCH_AGAIN, METADATA_BYTES, check_size, share_for};
use crate::image_file::webp;
use base::error::{explained, failure};

pub(super) fn decode(bytes: &[u8], format: ImageFormat, name: &str) -> anyhow::Result<Decoded> {
    let fault_of = |error: ImageError| match error {
        ImageError::Unsupported(what) => failure(format!("not supported: {what}"), CONVERT),
        ImageError::Limits(what) => failure(format!("the {name} is too large: {what}"), "store it smaller"),
        error => explained(error.into(), format!("the {name} data are damaged"), FETCH_AGAIN),
    };
    if let Some([width, height]) = png_size(bytes) {
        check_size(width.into(), height.into())?;
    }
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(METADATA_BYTES);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(fault_of)?;
    let (width, height) = decoder.dimensions();
    check_size(width.into(), height.into())?;
    if format == ImageFormat::WebP {
        // A cut PNG or BMP fails in its decoder.
        webp::check_complete(bytes)?;
    }
    let beside = match format {
        ImageFormat::WebP => webp::decoding_bytes(bytes, width.into(), height.into())?,
        ImageFormat::Png => METADATA_BYTES,
        _ => 0,
    };
    // Damaged metadata beside sound pixels are no reason to refuse an image.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let (kind, stored) = (decoder.color_type(), decoder.total_bytes());
    let num_pixels = u64::from(width) * u64::from(height);
    // Kinds of less than three bytes for a pixel become RGB elsewhere, others where they are.
    let converted = if kind.bytes_per_pixel() < 3 { 3 * num_pixels } else { 0 };
    let share = share_for([width, height], stored + beside.max(converted), stored.max(converted), orientation)?;
    let mut samples = vec![0; usize::try_from(stored)?];
    decoder.read_image(&mut samples).map_err(fault_of)?;
    let pixels = to_rgb(samples, kind, is_16_bit_gray_png(bytes))?;
    let image = RgbImage::from_raw(width, height, pixels).context("it has fewer samples than pixels")?;
    Ok(Decoded { image, orientation, share })
}

/// Whether the file is a gray PNG of 16 bits. The header is read, since the decoder makes another type of one with
/// transparency.
fn is_16_bit_gray_png(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x89PNG") && bytes.get(24..26) == Some(&[16, 0])
}

/// Width and height in the header of a PNG, whose lines its decoder allocates before it reports them.
fn png_size(bytes: &[u8]) -> Option<[u32; 2]> {
    let header = bytes.strip_prefix(b"\x89PNG\r\n\x1a\n")?.get(8..16)?;
    let (sides, _) = header.as_chunks::<4>();
    Some([u32::from_be_bytes(*sides.first()?), u32::from_be_bytes(*sides.get(1)?)])
}

/// Samples of this kind, as the crate `image` has them, to RGB.
fn to_rgb(samples: Vec<u8>, kind: ColorType, clip_gray: bool) -> anyhow::Result<Vec<u8>> {
    let high = |[first, second]: [u8; 2]| (u16::from_ne_bytes([first, second]) >> 8) as u8;
    let clipped = |sample: [u8; 2]| u16::from_ne_bytes(sample).min(255) as u8;
    let gray = |sample: [u8; 2]| [if clip_gray { clipped(sample) } else { high(sample) }; 3];
    Ok(match kind {
        ColorType::Rgb8 => samples,
        ColorType::L8 => widened(&samples, |&[gray]: &[u8; 1]| [gray; 3]),
        ColorType::La8 => widened(&samples, |&[gray, _]: &[u8; 2]| [gray; 3]),
        ColorType::L16 => widened(&samples, |&sample: &[u8; 2]| gray(sample)),
        ColorType::Rgba8 => narrowed(samples, |[red, green, blue, _]: [u8; 4]| [red, green, blue]),
        ColorType::La16 => narrowed(samples, |[a, b, _, _]: [u8; 4]| gray([a, b])),
        ColorType::Rgb16 => narrowed(samples, |[a, b, c, d, e, f]: [u8; 6]| [[a, b], [c, d], [e, f]].map(high)),
        ColorType::Rgba16 => narrowed(samples, |[a, b, c, d, e, f, ..]: [u8; 8]| [[a, b], [c, d], [e, f]].map(high)),
        other => return Err(failure(format!("not supported: samples of the kind {other:?}"), CONVERT)),
    })
}

/// RGB of pixels that are smaller.
fn widened<const N: usize>(samples: &[u8], convert: impl Fn(&[u8; N]) -> [u8; 3]) -> Vec<u8> {
    samples.as_chunks().0.iter().flat_map(convert).collect()
}

/// RGB of pixels that are larger, in their memory.
fn narrowed<const N: usize>(mut samples: Vec<u8>, convert: impl Fn([u8; N]) -> [u8; 3]) -> Vec<u8> {
    const { assert!(N > 3) };
    let num_pixels = samples.len() / N;
    for pixel in 0..num_pixels {
        let Some(&found) = samples[N * pixel..].first_chunk() else { break };
        samples[3 * pixel..3 * pixel + 3].copy_from_slice(&convert(found));
    }
    samples.truncate(3 * num_pixels);
    samples
}
