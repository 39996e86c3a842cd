//! TIFF files to RGB: the first page, as Pillow's `convert("RGB")` has it.

use std::io::Cursor;

use anyhow::Context as _;
use image::RgbImage;
use image::metadata::Orientation;
use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::Tag;
use tiff::{ColorType, TiffError};

use crate::image_file::decoded::{CONVERT, Decoded, FETCH_AGAIN, METADATA_BYTES, check_size, rgb_of_inks, share_for};
use crate::picture_formats::{RAW, how_to_convert};
use base::error::{WithHint as _, explained, failure};

const DNG_VERSION: Tag = Tag::Unknown(50_706);

/// The pixels. Alpha is dropped.
pub(super) fn decode(bytes: &[u8]) -> anyhow::Result<Decoded> {
    let limits = |bytes: u64| {
        let mut limits = Limits::default();
        limits.decoding_buffer_size = usize::try_from(bytes).unwrap_or(usize::MAX);
        // What is compressed is in memory as it is.
        limits.intermediate_buffer_size = usize::MAX;
        limits
    };
    let decoder = Decoder::new(Cursor::new(bytes)).map_err(fault_of)?;
    let mut decoder = decoder.with_limits(limits(METADATA_BYTES));
    let (width, height) = decoder.dimensions().map_err(fault_of)?;
    check_size(width.into(), height.into())?;
    let mut number = |tag: Tag| decoder.find_tag_unsigned::<u32>(tag);
    let is_small_copy = number(Tag::NewSubfileType).ok().flatten().unwrap_or(0) & 1 == 1;
    if is_small_copy || !matches!(number(DNG_VERSION), Ok(None)) {
        return Err(failure(format!("not supported: a picture of the format {RAW}"), how_to_convert(RAW)));
    }
    let orientation = number(Tag::Orientation).ok().flatten().and_then(|value| u8::try_from(value).ok());
    let orientation = orientation.and_then(Orientation::from_exif).unwrap_or(Orientation::NoTransforms);
    let is_planar = number(Tag::PlanarConfiguration).map_err(fault_of)? == Some(2);
    let formats = decoder.find_tag_unsigned_vec::<u16>(Tag::SampleFormat).map_err(fault_of)?;
    let kind = decoder.colortype().map_err(fault_of)?;
    let is_signed = formats.is_some_and(|formats| formats.iter().any(|&format| format != 1));
    if is_signed || is_planar && kind.num_samples() > 1 {
        let what = if is_signed { "samples that are not unsigned numbers" } else { "a plane for each colour" };
        return Err(not_supported(what));
    }
    let row_bits = u64::from(width) * u64::from(kind.num_samples()) * u64::from(kind.bit_depth());
    let stored = row_bits.div_ceil(8) * u64::from(height);
    let pixels = 3 * u64::from(width) * u64::from(height);
    let converted = if kind == ColorType::RGB(8) { 0 } else { pixels };
    let share = share_for([width, height], stored + METADATA_BYTES.max(converted), pixels, orientation)?;
    decoder = decoder.with_limits(limits(stored.max(METADATA_BYTES)));
    let samples = match decoder.read_image().map_err(fault_of)? {
        DecodingResult::U8(samples) => Samples::Bytes(samples),
        DecodingResult::U16(samples) => Samples::Words(samples),
        _ => return Err(not_supported(&format!("{kind:?}"))),
    };
    let pixels = samples.pixels(kind, width as usize)?;
    let image = RgbImage::from_raw(width, height, pixels).context("it has fewer samples than pixels");
    let image = image.hint(|| FETCH_AGAIN).context("the TIFF data are damaged")?;
    Ok(Decoded { image, orientation, share })
}

enum Samples {
    Bytes(Vec<u8>),
    Words(Vec<u16>),
}

impl Samples {
    fn pixels(self, kind: ColorType, width: usize) -> anyhow::Result<Vec<u8>> {
        let high = |value: u16| (value >> 8) as u8;
        let gray = |gray: u8| [gray; 3];
        Ok(match (kind, self) {
            (ColorType::Gray(bits @ (1 | 2 | 4 | 8)), Self::Bytes(samples)) => {
                let scale = 255 / (u8::MAX >> (8 - bits));
                let num_samples = samples.len().saturating_mul(8) / usize::from(bits);
                let mut pixels = Vec::with_capacity(3 * num_samples);
                pixels.extend(unpacked(&samples, bits, width).flat_map(|value| gray(value * scale)));
                pixels
            }
            (ColorType::GrayA(8), Self::Bytes(samples)) => {
                samples.as_chunks().0.iter().flat_map(|&[value, _]| gray(value)).collect()
            }
            (ColorType::RGB(8), Self::Bytes(samples)) => samples,
            (ColorType::RGBA(8), Self::Bytes(samples)) => {
                samples.as_chunks().0.iter().flat_map(|&[red, green, blue, _]| [red, green, blue]).collect()
            }
            (ColorType::CMYK(8), Self::Bytes(samples)) => {
                samples.as_chunks().0.iter().flat_map(|&inks: &[u8; 4]| rgb_of_inks(inks)).collect()
            }
            // As in a PNG of 16 bits.
            (ColorType::Gray(16), Self::Words(samples)) => {
                samples.iter().flat_map(|&value| gray(value.min(255) as u8)).collect()
            }
            (ColorType::RGB(16), Self::Words(samples)) => samples.iter().map(|&value| high(value)).collect(),
            (ColorType::RGBA(16), Self::Words(samples)) => {
                samples.as_chunks().0.iter().flat_map(|&[red, green, blue, _]| [red, green, blue].map(high)).collect()
            }
            _ => return Err(not_supported(&format!("{kind:?}"))),
        })
    }
}

/// Samples of 1, 2, 4 or 8 bits; each row begins with a byte of its own.
fn unpacked(packed: &[u8], bits: u8, width: usize) -> impl Iterator<Item = u8> {
    let row_bytes = (width * usize::from(bits)).div_ceil(8).max(1);
    packed.chunks_exact(row_bytes).flat_map(move |row| {
        (0..width).map(move |x| {
            let at = x * usize::from(bits);
            row[at / 8] >> (8 - bits - (at % 8) as u8) & (u8::MAX >> (8 - bits))
        })
    })
}

fn not_supported(what: &str) -> anyhow::Error {
    failure(format!("not supported: this kind of TIFF ({what})"), CONVERT)
}

fn fault_of(error: TiffError) -> anyhow::Error {
    match error {
        TiffError::UnsupportedError(what) => not_supported(&what.to_string()),
        TiffError::LimitsExceeded => failure("it needs more memory than is allowed", "store it smaller"),
        error => explained(error.into(), "the TIFF data are damaged", FETCH_AGAIN),
    }
}
