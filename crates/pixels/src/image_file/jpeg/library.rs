//! JPEGs of every kind, decoded by MozJPEG's copy of libjpeg-turbo, with whose pixels other programs train too.

use std::io;

use image::RgbImage;
use mozjpeg::decompress::{Decompress, DecompressStarted, Format};
use mozjpeg::{ColorSpace, CompInfoExt as _};

use super::planes::{Plane, Planes, picture};
use super::structure::{Structure, damaged};
use crate::image_file::budget::Share;
use crate::image_file::decoded::rgb_of_inks;
use crate::image_file::guard::caught;
use base::error::failure;

/// The picture, and the share that `take` gave for the bytes of decoding it.
pub(super) fn decode(
    bytes: &[u8],
    structure: &Structure<'_>,
    take: impl FnOnce(u64) -> anyhow::Result<Share>,
) -> anyhow::Result<(RgbImage, Share)> {
    let work = || {
        let image = Decompress::new_mem(bytes)?;
        if image.size() != (structure.size[0] as usize, structure.size[1] as usize) {
            return Err(io::Error::other("its size differs from the one in its header"));
        }
        match take(decoding_bytes(&image, structure)) {
            Ok(share) => Ok(Ok(decompress(image)?.map(|picture| (picture, share)))),
            Err(refused) => Ok(Err(refused)),
        }
    };
    // The library reports its errors as panics.
    let reason = match caught(work) {
        Ok(Ok(Ok(Some(decoded)))) => return Ok(decoded),
        Ok(Ok(Ok(None))) => "its pixels are not complete".to_owned(),
        Ok(Ok(Err(refused))) => return Err(refused),
        Ok(Err(error)) => error.to_string(),
        Err(panic) => panic.trim_start_matches("libjpeg fatal error: ").to_owned(),
    };
    if reason.starts_with("Insufficient memory") {
        return Err(failure("there is not enough memory to decode it", "store it smaller"));
    }
    Err(damaged(&reason))
}

/// Bytes that [`decompress`] takes: first coefficients of two bytes, if they are kept, and what the library gives, then
/// that and the pixels.
fn decoding_bytes(image: &Decompress<&[u8]>, structure: &Structure<'_>) -> u64 {
    let num_pixels = u64::from(structure.size[0]) * u64::from(structure.size[1]);
    let given = match (chroma_factors(image), image.components().len()) {
        (Some(_), _) => structure.sample_bytes,
        (None, count) => count as u64 * num_pixels,
    };
    let coefficients = if structure.is_in_scans { 2 * structure.sample_bytes } else { 0 };
    coefficients.max(3 * num_pixels) + given
}

fn decompress(image: Decompress<&[u8]>) -> io::Result<Option<RgbImage>> {
    if let Some(factors) = chroma_factors(&image) {
        return decompress_planes(image, factors);
    }
    let (width, height) = image.size();
    let pixels = match image.image()? {
        Format::RGB(started) => pixels(started)?,
        Format::Gray(started) => pixels(started)?.into_iter().flat_map(|gray| [gray; 3]).collect(),
        // JPEGs hold inks inverted, whether an Adobe marker says so or not.
        Format::CMYK(started) => {
            let inks: Vec<u8> = pixels(started)?.into_iter().map(|ink| 255 - ink).collect();
            inks.as_chunks().0.iter().flat_map(|&inks| rgb_of_inks(inks)).collect()
        }
    };
    Ok(picture(width, height, pixels))
}

fn pixels(mut started: DecompressStarted<&[u8]>) -> io::Result<Vec<u8>> {
    let pixels = started.read_scanlines()?;
    started.finish()?;
    Ok(pixels)
}

/// How much smaller chroma is than luma, where [`Planes`] knows how to make RGB of them: faster than the library, which
/// is built without vector instructions.
fn chroma_factors(image: &Decompress<&[u8]>) -> Option<(usize, usize)> {
    if image.color_space() != ColorSpace::JCS_YCbCr {
        return None;
    }
    let factors: Vec<(u8, u8)> = image.components().iter().map(|component| component.sampling()).collect();
    match *factors {
        [(across @ 1..=2, down @ 1..=2), (1, 1), (1, 1)] => Some((across.into(), down.into())),
        _ => None,
    }
}

fn decompress_planes(image: Decompress<&[u8]>, factors: (usize, usize)) -> io::Result<Option<RgbImage>> {
    let (width, height) = image.size();
    let strides: Vec<usize> = image.components().iter().map(|component| component.row_stride()).collect();
    // The library adds a row of units after the other; room for all of them keeps it from moving them.
    let num_units = height.div_ceil(8 * factors.1);
    let mut samples = [0, 1, 2].map(|index| {
        let down = if index == 0 { factors.1 } else { 1 };
        Vec::with_capacity(strides.get(index).map_or(0, |stride| stride * 8 * down * num_units))
    });
    let mut started = image.raw()?;
    started.read_raw_data(&mut samples.each_mut());
    started.finish()?;
    let mut planes = samples.into_iter().zip(strides).enumerate().map(|(index, (samples, stride))| {
        let (across, down) = if index == 0 { (1, 1) } else { factors };
        Plane { samples, stride, width: width.div_ceil(across), height: height.div_ceil(down) }
    });
    let (Some(luma), Some(blue), Some(red)) = (planes.next(), planes.next(), planes.next()) else { return Ok(None) };
    Ok(picture(width, height, Planes { planes: [luma, blue, red], factors }.to_rgb()))
}
