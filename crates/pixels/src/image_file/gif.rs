//! GIF files to RGB: the first frame, as Pillow's `convert("RGB")` has it.

use std::io::Cursor;

use anyhow::Context as _;
use gif::{ColorOutput, DecodeOptions, MemoryLimit};
use image::metadata::Orientation;
use image::{Rgb, RgbImage};

use crate::image_file::decoded::{Decoded, FETCH_AGAIN, MAX_PIXELS, share_for};
use base::error::WithHint as _;

/// The pixels of the first frame on its canvas. Transparent pixels have the colour that the palette gives them, and so
/// has what the frame leaves free.
pub(super) fn decode(bytes: &[u8]) -> anyhow::Result<Decoded> {
    let damaged = || "the GIF data are damaged";
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    // A byte for each pixel.
    options.set_memory_limit(std::num::NonZeroU64::new(MAX_PIXELS).map_or(MemoryLimit::Unlimited, MemoryLimit::Bytes));
    let mut decoder = options.read_info(Cursor::new(bytes)).hint(|| FETCH_AGAIN).with_context(damaged)?;
    let (screen_width, screen_height) = (u32::from(decoder.width()), u32::from(decoder.height()));
    let first = decoder.next_frame_info().hint(|| FETCH_AGAIN).with_context(damaged)?;
    let first = first.context("it contains no picture").hint(|| FETCH_AGAIN).with_context(damaged)?;
    // A frame may reach beyond the canvas that was declared.
    let [width, height] = [
        screen_width.max(u32::from(first.left) + u32::from(first.width)),
        screen_height.max(u32::from(first.top) + u32::from(first.height)),
    ];
    let (left, top, row_length) = (u32::from(first.left), u32::from(first.top), usize::from(first.width));
    let free = first.transparent.unwrap_or(0);
    let kept = 3 * u64::from(width) * u64::from(height);
    let orientation = Orientation::NoTransforms;
    let share = share_for([width, height], kept + decoder.buffer_size() as u64, kept, orientation)?;
    let mut indices = vec![0; decoder.buffer_size()];
    decoder.read_into_buffer(&mut indices).hint(|| FETCH_AGAIN).with_context(damaged)?;
    // Without a palette, and beyond its end, an index is a shade of gray.
    let palette = decoder.palette().unwrap_or_default();
    let colour = |index: u8| match palette.get(3 * usize::from(index)..3 * usize::from(index) + 3) {
        Some(&[red, green, blue]) => Rgb([red, green, blue]),
        _ => Rgb([index; 3]),
    };
    let mut image = RgbImage::from_pixel(width, height, colour(free));
    for (y, row) in (top..).zip(indices.chunks_exact(row_length.max(1))) {
        for (x, &index) in (left..).zip(row) {
            image.put_pixel(x, y, colour(index));
        }
    }
    Ok(Decoded { image, orientation, share })
}
