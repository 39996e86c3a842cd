//! JPEGs of every kind, decoded by MozJPEG's copy of libjpeg-turbo, with whose pixels other programs train too.

use std::io;

use image::RgbImage;
use mozjpeg::decompress::{Decompress, DecompressStarted, Format};
use mozjpeg::{ColorSpace, CompInfoExt as _};

use super::planes::{Plane, Planes, picture};
use super::structure::damaged;
use crate::base::fault::fault;
use crate::data::image_file::{guard::caught, rgb_of_inks};

/// # Errors
/// Data that nothing can be made of.
pub(super) fn decode(bytes: &[u8]) -> anyhow::Result<RgbImage> {
    // The library reports its errors as panics.
    let reason = match caught(|| decompress(bytes)) {
        Ok(Ok(Some(picture))) => return Ok(picture),
        Ok(Ok(None)) => "its pixels are not complete".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(panic) => panic.trim_start_matches("libjpeg fatal error: ").to_owned(),
    };
    if reason.starts_with("Insufficient memory") {
        return Err(fault("there is not enough memory to decode it", "store it smaller"));
    }
    Err(damaged(&reason))
}

fn decompress(bytes: &[u8]) -> io::Result<Option<RgbImage>> {
    let image = Decompress::new_mem(bytes)?;
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
    let mut samples = [(); 3].map(|()| Vec::new());
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
