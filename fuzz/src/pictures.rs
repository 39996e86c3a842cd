//! Image files, and the files that say how images are processed.

use std::fs;
use std::io::Cursor;

use caption_train::data::image_file::{decode_rgb, inspect};
use caption_train::data::image_processor::ImageProcessor;
use image::{ImageReader, Rgb, RgbImage};
use serde_json::Value;

use super::{json, scratch};

/// Most pixels that a fuzzed picture may declare. A larger one may be sound (a WebP of 40 bytes can be a plain area of
/// any size); the program's own limit is a test of `data::image_file`.
const MOST_PIXELS: u64 = 1 << 18;
/// Longest side that a picture is processed to here; the program's own limit is 8192.
const MOST_SIDE: u64 = 64;

/// An image file.
pub fn image(data: &[u8]) {
    let declared = ImageReader::new(Cursor::new(data)).with_guessed_format().map(ImageReader::into_dimensions);
    if let Ok(Ok((width, height))) = declared
        && u64::from(width) * u64::from(height) > MOST_PIXELS
    {
        return;
    }
    let decoded = decode_rgb(data);
    let path = scratch::folder("image").join("a.jpg");
    scratch::write(&path, data);
    let inspected = inspect(&path);
    assert_eq!(decoded.as_ref().ok().map(RgbImage::dimensions), inspected.ok(), "both ways to read agree");
    let Ok(picture) = decoded else { return };
    for processor in [ImageProcessor::plain(8), ImageProcessor::clip(8)] {
        // A picture that is too long and narrow is refused.
        let Ok(values) = processor.process(&picture) else { continue };
        assert_eq!(values.len(), 3 * 8 * 8);
        assert!(values.iter().all(|value| value.is_finite()));
    }
}

/// A `preprocessor_config.json`, whole or as edits of one for a ViT or a CLIP.
pub fn preprocessor(data: &[u8]) {
    let path = scratch::folder("preprocessor").join("preprocessor_config.json");
    let mut bases =
        [ImageProcessor::plain(8).to_preprocessor_config(), ImageProcessor::clip(8).to_preprocessor_config()];
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
