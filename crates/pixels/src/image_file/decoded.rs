//! What every decoder gives, and the limits that it keeps.

use image::RgbImage;
use image::metadata::Orientation;

use crate::image_file::budget::{Share, budgets};
use base::error::failure;

/// Pixels that an image may have; the number at which Pillow suspects a decompression bomb and refuses.
pub const MAX_PIXELS: u64 = 178_956_970;
/// Pixels that a side may have, which is what a JPEG can have: the tables of a resize grow with the sides.
const MAX_SIDE: u64 = 65_535;
/// Bytes that a decoder may take for what is not pixels: profiles, texts, tables.
pub(super) const METADATA_BYTES: u64 = 16 << 20;
/// Bytes that a decoder takes in any case.
const MIN_BYTES: u64 = 1 << 20;
pub(super) const FETCH_AGAIN: &str = "download the file again or leave it out";
pub(super) const CONVERT: &str = "convert it to a standard JPEG or PNG, or leave it out";

/// What a decoder gives: the pixels as they are stored, and how they are to be turned.
pub(super) struct Decoded {
    pub(super) image: RgbImage,
    pub(super) orientation: Orientation,
    pub(super) share: Share,
}

/// The share of a picture of this size: `decoding` are the bytes that its decoder takes, pixels included, and `kept`
/// those of the pixels when it has finished, which are as many again while they are turned.
pub(super) fn share_for(
    [width, height]: [u32; 2],
    decoding: u64,
    kept: u64,
    orientation: Orientation,
) -> anyhow::Result<Share> {
    check_size(width.into(), height.into())?;
    let turned = if swaps_sides(orientation) { 3 * u64::from(width) * u64::from(height) } else { 0 };
    let need = MIN_BYTES + decoding.max(kept + turned);
    budgets().pixels.take(need, || format!("decoding its {width}x{height} pixels takes"))
}

pub(super) fn check_size(width: u64, height: u64) -> anyhow::Result<()> {
    let smaller =
        |limit: String| failure(format!("it declares {width}x{height} pixels, more than {limit}"), "store it smaller");
    if width.saturating_mul(height) > MAX_PIXELS {
        return Err(smaller(MAX_PIXELS.to_string()));
    }
    if width.max(height) > MAX_SIDE {
        return Err(smaller(format!("{MAX_SIDE} along a side")));
    }
    anyhow::ensure!(width > 0 && height > 0, "it declares {width}x{height} pixels");
    Ok(())
}

pub(super) fn swaps_sides(orientation: Orientation) -> bool {
    matches!(
        orientation,
        Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH
    )
}

/// Cyan, magenta, yellow and black to red, green and blue, as Pillow does it.
pub(super) fn rgb_of_inks([cyan, magenta, yellow, black]: [u8; 4]) -> [u8; 3] {
    let light = 255 - black;
    [cyan, magenta, yellow].map(|ink| {
        let covered = u32::from(ink) * u32::from(light) + 128;
        light.saturating_sub((((covered >> 8) + covered) >> 8) as u8)
    })
}
