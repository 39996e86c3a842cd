//! Image files, and the files that say how images are processed.

use std::fs;
use std::io::Cursor;
use std::panic::panic_any;

use image::{ImageReader, Rgb, RgbImage};
use pixels::image_file::guard::guarded;
use pixels::image_file::{decode_jpeg_both_ways, decode_rgb, inspect};
use pixels::image_processor::ImageProcessor;
use serde_json::Value;

use super::{json, scratch};

/// Maximum number of pixels that a fuzzed picture may declare. A larger one may be valid (a WebP of 40 bytes can be a
/// plain area of any size); the program's own limit has its own tests.
const MOST_PIXELS: u64 = 1 << 18;
/// Maximum side that a picture is processed to here; the program's own limit is 8192.
const MOST_SIDE: u64 = 64;

/// An image file.
pub fn image(data: &[u8]) {
    if declares_many_pixels(data) {
        return;
    }
    let decoded = decode_rgb(data);
    let path = scratch::folder("image").join("a.jpg");
    scratch::write(&path, data);
    let inspected = inspect(&path);
    assert_eq!(decoded.as_ref().ok().map(|picture| picture.dimensions()), inspected.ok(), "both ways to read agree");
    if let Ok((Some(fast), slow)) = decode_jpeg_both_ways(data) {
        assert!(fast == slow, "both decoders of JPEG agree");
    }
    let Ok(picture) = decoded.map_err(|error| refuse_panics_of_ours(data, &error)) else { return };
    for processor in [ImageProcessor::plain(8), ImageProcessor::clip(8)] {
        // A picture that is too long and narrow is refused.
        let Ok(values) = processor.process(&picture) else { continue };
        assert_eq!(values.len(), 3 * 8 * 8);
        assert!(values.iter().all(|value| value.is_finite()));
    }
}

/// The first byte chooses a decoder that panics or the program's own; it gets the other bytes.
pub fn decoder_guard(data: &[u8]) {
    let Some((&choice, bytes)) = data.split_first() else { return };
    if declares_many_pixels(bytes) {
        return;
    }
    let text = String::from_utf8_lossy(bytes).into_owned();
    let (result, expected) = match choice % 6 {
        0 => (guarded(|| -> anyhow::Result<usize> { panic!("{text}") }), Some(text.as_str())),
        1 => (guarded(|| -> anyhow::Result<usize> { panic!("a fixed text") }), Some("a fixed text")),
        2 => (guarded(|| -> anyhow::Result<usize> { panic_any(bytes.to_vec()) }), Some("no message")),
        3 => (guarded(|| Ok(usize::from(bytes[bytes.len()]))), Some("index out of bounds")),
        4 => (guarded(|| Ok(decode_rgb(bytes).map_or(0, |picture| picture.as_raw().len()))), None),
        _ => {
            let inner = || guarded(|| -> anyhow::Result<usize> { panic!("inside") }).or(Ok(bytes.len()));
            (guarded(inner), None)
        }
    };
    match expected {
        Some(message) => {
            let error = format!("{:#}", result.expect_err("a panic is an error"));
            assert!(error.contains(message) && error.contains("the decoder failed on it"), "{error}");
        }
        None => drop(result.expect("nothing panics")),
    }
}

/// Decoders of other crates may panic, which the guard is for; the JPEG decoder is ours.
fn refuse_panics_of_ours(data: &[u8], error: &anyhow::Error) {
    let is_panic = format!("{error:#}").contains("the decoder failed on it");
    assert!(!(is_panic && data.starts_with(b"\xff\xd8")), "{error:#}");
}

/// Whether a picture of more than [`MOST_PIXELS`] is declared anywhere.
fn declares_many_pixels(data: &[u8]) -> bool {
    let is_large = |width: u64, height: u64| width.saturating_mul(height) > MOST_PIXELS;
    let frame = |header: &[u8]| {
        let number = |place: usize| u64::from(header[place]) << 8 | u64::from(header[place + 1]);
        header[0] == 0xff && (0xc0..=0xcf).contains(&header[1]) && is_large(number(5), number(7))
    };
    if data.starts_with(b"\xff\xd8") {
        return data.windows(9).any(frame);
    }
    if data.starts_with(b"GIF") {
        let mut options = gif::DecodeOptions::new();
        options.set_memory_limit(gif::MemoryLimit::Unlimited);
        let Ok(mut decoder) = options.read_info(data) else { return false };
        let screen = (u64::from(decoder.width()), u64::from(decoder.height()));
        let Ok(Some(first)) = decoder.next_frame_info() else { return false };
        let [width, height] = [[first.left, first.width], [first.top, first.height]].map(|pair| pair.map(u64::from));
        return is_large(screen.0.max(width[0] + width[1]), screen.1.max(height[0] + height[1]));
    }
    if data.starts_with(b"II") || data.starts_with(b"MM") {
        let decoder = tiff::decoder::Decoder::new(Cursor::new(data));
        let Ok((width, height)) = decoder.and_then(|mut decoder| decoder.dimensions()) else { return false };
        return is_large(width.into(), height.into());
    }
    let declared = ImageReader::new(Cursor::new(data)).with_guessed_format().map(ImageReader::into_dimensions);
    matches!(declared, Ok(Ok((width, height))) if is_large(width.into(), height.into()))
}

/// A `preprocessor_config.json`, whole or as edits of one of each kind.
pub fn preprocessor(data: &[u8]) {
    let path = scratch::folder("preprocessor").join("preprocessor_config.json");
    let kinds = [ImageProcessor::plain(8), ImageProcessor::clip(8), ImageProcessor::siglip(8), ImageProcessor::deit(7)];
    let mut bases = kinds.map(|processor| processor.to_preprocessor_config());
    bases[0]["size"] = Value::from(8);
    scratch::write(&path, &json::document(data, &bases));
    let Ok(processor) = ImageProcessor::from_file(&path) else { return };
    let kept = serde_json::to_vec(&processor).expect("a processor can be kept in a checkpoint");
    let kept: ImageProcessor = serde_json::from_slice(&kept).expect("a processor that was kept can be read");
    assert_eq!(kept, processor);
    fs::write(&path, processor.to_preprocessor_config().to_string()).expect("a scratch file can be written");
    let exported = ImageProcessor::from_file(&path).expect("a processor that was exported can be read");
    assert_eq!(exported, processor);
    let resized = processor.clone().with_image_size(4);
    assert_eq!(resized.output_size(), (4, 4));
    for processor in [processor, resized] {
        if largest(&processor.geometry()) > MOST_SIDE {
            continue;
        }
        let picture = RgbImage::from_fn(4, 3, |x, y| Rgb([255 * (x % 2) as u8, 80 * y as u8, 7]));
        let (height, width) = processor.output_size();
        // A picture that is too long and narrow is refused.
        let Ok(values) = processor.process(&picture) else { continue };
        assert_eq!(values.len(), 3 * height * width);
        assert!(values.iter().all(|value| value.is_finite()), "{processor:?}");
    }
}

fn largest(value: &Value) -> u64 {
    match value {
        Value::Object(table) => table.values().map(largest).max().unwrap_or(0),
        other => other.as_u64().unwrap_or(0),
    }
}
