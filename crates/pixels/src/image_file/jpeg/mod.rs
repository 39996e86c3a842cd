//! JPEG files to RGB, with the pixels of libjpeg-turbo.

mod baseline;
mod bits;
mod inverse_dct;
mod library;
mod planes;
mod structure;

use anyhow::Context as _;
use image::RgbImage;
use image::metadata::Orientation;

use crate::image_file::decoded::{Decoded, check_size, share_for};

pub(super) fn decode(bytes: &[u8]) -> anyhow::Result<Decoded> {
    let structure = structure::structure(bytes)?;
    let [width, height] = structure.size;
    check_size(width.into(), height.into())?;
    let orientation = structure.exif.and_then(Orientation::from_exif_chunk).unwrap_or(Orientation::NoTransforms);
    let kept = 3 * u64::from(width) * u64::from(height);
    let take = |decoding: u64| share_for(structure.size, decoding, kept, orientation);
    if let Some(plain) = baseline::Plain::of(bytes) {
        let share = take(structure.sample_bytes + kept)?;
        if let Some((width, height, pixels)) = plain.decode() {
            let image = planes::picture(width, height, pixels).context("a picture lacks pixels")?;
            return Ok(Decoded { image, orientation, share });
        }
    }
    let (image, share) = library::decode(bytes, &structure, take)?;
    Ok(Decoded { image, orientation, share })
}

/// The pixels of a JPEG, as they are stored, from the fast decoder, if it takes a JPEG of this kind, and from the
/// library.
pub(super) fn decode_both_ways(bytes: &[u8]) -> anyhow::Result<(Option<RgbImage>, RgbImage)> {
    let structure = structure::structure(bytes)?;
    check_size(structure.size[0].into(), structure.size[1].into())?;
    let fast = baseline::decode(bytes).and_then(|(width, height, pixels)| planes::picture(width, height, pixels));
    let (picture, _) =
        library::decode(bytes, &structure, |bytes| share_for(structure.size, bytes, 0, Orientation::NoTransforms))?;
    Ok((fast, picture))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn from_library(bytes: &[u8]) -> anyhow::Result<RgbImage> {
        Ok(decode_both_ways(bytes)?.1)
    }

    #[test]
    fn plain_jpegs_are_decoded_fast_to_the_pixels_of_the_library() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/jpeg_kinds");
        let mut fast = Vec::new();
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if !name.ends_with(".jpg") {
                continue;
            }
            let bytes = fs::read(&path).unwrap();
            if let Some((width, height, pixels)) = baseline::decode(&bytes) {
                assert_eq!(planes::picture(width, height, pixels), from_library(&bytes).ok(), "{name}");
                fast.push(name);
            }
        }
        fast.sort();
        let expected = [
            "baseline_1x1_17x9.jpg",
            "baseline_1x2_11x20.jpg",
            "baseline_2x1_20x11.jpg",
            "baseline_2x2_20x12.jpg",
            "baseline_2x2_3x21.jpg",
            "restart-1_2x2_40x24.jpg",
        ];
        assert_eq!(fast, expected);
    }

    #[test]
    fn what_is_not_as_it_should_be_is_left_to_the_library() {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/jpeg_kinds/restart-1_2x2_40x24.jpg");
        let whole = fs::read(path).unwrap();
        assert!(baseline::decode(&whole).is_some());
        let scan = whole.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap();
        let restart = scan + whole[scan..].windows(2).position(|pair| pair == [0xff, 0xd0]).unwrap();
        let mut changed = whole.clone();
        changed[restart + 1] = 0xd5;
        let shorter = [&whole[..restart - 3], &whole[restart..]].concat();
        let longer = [&whole[..restart], &[0x55, 0xaa][..], &whole[restart..]].concat();
        for bytes in [changed, shorter, longer] {
            assert!(baseline::decode(&bytes).is_none());
            from_library(&bytes).unwrap();
        }
    }
}
