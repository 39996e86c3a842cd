//! The processing, compared with transformers.

use std::fs;
use std::path::Path;

use image::{Rgb, RgbImage};
use serde::Deserialize;
use serde_json::{Value, json};

use super::*;
use crate::image_processor::resize::Size;
use base::error::describe;

/// Of 255. Pillow rounds its filter weights to 22 bits, the resizer here to 16 or fewer.
const PIXEL_TOLERANCE: f32 = 1.0;
/// The pixels that may be off by that at all.
const OFF_BY_ONE_SHARE: f64 = 0.05;
/// Values about 2 in 32-bit floats, which transformers rounds twice.
const VALUE_TOLERANCE: f32 = 1e-6;

#[derive(Deserialize)]
struct Case {
    name: String,
    config: Value,
    picture: String,
    pixels: Option<String>,
    values: Option<Vec<f32>>,
}

fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/image_processor").join(name);
    fs::read(&path).unwrap_or_else(|error| {
        panic!("{}: {error}; tests/reference/image_processor.py makes it", path.display());
    })
}

fn picture(name: &str) -> RgbImage {
    image::load_from_memory(&fixture(name)).unwrap().into_rgb8()
}

fn from_config(config: &Value) -> anyhow::Result<ImageProcessor> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), config.to_string()).unwrap();
    ImageProcessor::from_file(file.path())
}

fn refusal(config: Value) -> String {
    describe(&from_config(&config).unwrap_err())
}

fn gradient(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([x as u8, y as u8, (x + y) as u8]))
}

/// (3, height, width) to (height, width, 3).
fn channels_last(values: &[f32], (height, width): (usize, usize)) -> Vec<f32> {
    (0..height * width).flat_map(|at| [0, 1, 2].map(|channel| values[channel * height * width + at])).collect()
}

#[test]
fn pixels_and_values_are_those_of_transformers() {
    let cases: Vec<Case> = serde_json::from_slice(&fixture("cases.json")).unwrap();
    assert!(cases.len() > 20);
    for Case { name, config, picture: input, pixels, values } in cases {
        let processor = from_config(&config).unwrap();
        let actual = processor.process(&picture(&input)).unwrap();
        let (height, width) = processor.output_size();
        assert_eq!(actual.len(), 3 * height * width);
        let (actual, expected, tolerance) = if let Some(pixels) = pixels {
            let expected = picture(&pixels);
            assert_eq!(expected.dimensions(), (width as u32, height as u32), "{name} of {input}");
            let expected: Vec<f32> = expected.as_raw().iter().copied().map(f32::from).collect();
            (channels_last(&actual, (height, width)), expected, PIXEL_TOLERANCE)
        } else {
            (actual, values.unwrap(), VALUE_TOLERANCE)
        };
        let differences: Vec<f32> = actual.iter().zip(&expected).map(|(a, b)| (a - b).abs()).collect();
        let largest = differences.iter().copied().fold(0.0, f32::max);
        assert!(largest <= tolerance, "{name} of {input}: off by {largest}");
        let off = differences.iter().filter(|&&difference| difference > VALUE_TOLERANCE).count();
        let share = off as f64 / differences.len() as f64;
        assert!(share <= OFF_BY_ONE_SHARE, "{name} of {input}: {share} of the values are off by one");
    }
}

#[test]
fn absent_fields_take_the_defaults_of_the_class() {
    let vit = from_config(&json!({ "image_processor_type": "ViTImageProcessor" })).unwrap();
    assert_eq!(vit, ImageProcessor::plain(224));
    assert_eq!(from_config(&json!({})).unwrap(), vit);
    let clip = from_config(&json!({ "image_processor_type": "CLIPImageProcessorFast", "size": null })).unwrap();
    assert_eq!(clip, ImageProcessor::clip(224));
    let blip = json!({ "image_processor_type": "BlipImageProcessor", "size": null });
    assert_eq!(from_config(&blip).unwrap(), ImageProcessor::blip(384));
    let siglip = from_config(&json!({ "image_processor_type": "SiglipImageProcessorFast" })).unwrap();
    assert_eq!(siglip, ImageProcessor::siglip(224));
    let deit = from_config(&json!({ "feature_extractor_type": "DeiTFeatureExtractor" })).unwrap();
    assert_eq!(deit, ImageProcessor::deit(224));
    assert_eq!(deit.to_preprocessor_config()["size"], json!({ "height": 256, "width": 256 }));
    let bit = from_config(&json!({ "image_processor_type": "BitImageProcessorPil" })).unwrap();
    assert_eq!(bit.to_preprocessor_config()["image_processor_type"], "BitImageProcessor");
    assert_eq!((bit.resize, bit.normalization), (clip.resize, clip.normalization));
    let old = json!({ "do_center_crop": true, "size": 336, "crop_size": 336, "resample": 3 });
    assert_eq!(from_config(&old).unwrap(), ImageProcessor::clip(336));
    let old = json!({ "feature_extractor_type": "ViTFeatureExtractor", "size": 384, "resample": 2 });
    assert_eq!(from_config(&old).unwrap(), ImageProcessor::plain(384));
}

#[test]
fn written_config_is_read_back_as_the_same_processing() {
    let configs = [
        json!({ "size": [40, 60] }),
        json!({ "image_processor_type": "CLIPImageProcessor", "size": { "shortest_edge": 50 }, "resample": 1 }),
        json!({ "image_processor_type": "CLIPImageProcessor", "do_resize": false, "do_normalize": false }),
        json!({ "image_processor_type": "SiglipImageProcessor", "size": { "height": 40, "width": 40 } }),
        json!({ "image_processor_type": "BitImageProcessor", "size": { "shortest_edge": 256 } }),
        json!({ "image_processor_type": "DeiTImageProcessor", "crop_size": 230 }),
        json!({ "do_rescale": false, "image_mean": [0.1, 0.2, 0.3], "image_std": [1, 2, 3] }),
    ];
    let made = configs.iter().map(|config| from_config(config).unwrap());
    for processor in made.chain([ImageProcessor::plain(32), ImageProcessor::clip(32), ImageProcessor::blip(32)]) {
        assert_eq!(from_config(&processor.to_preprocessor_config()).unwrap(), processor);
        let text = serde_json::to_string(&processor).unwrap();
        assert_eq!(serde_json::from_str::<ImageProcessor>(&text).unwrap(), processor);
    }
}

#[test]
fn another_image_size_changes_resize_and_crop() {
    assert_eq!(ImageProcessor::plain(224).with_image_size(96), ImageProcessor::plain(96));
    assert_eq!(ImageProcessor::clip(224).with_image_size(336), ImageProcessor::clip(336));
    let config = json!({ "size": { "shortest_edge": 256 }, "crop_size": 224 });
    let larger = from_config(&config).unwrap().with_image_size(448);
    assert_eq!(larger.output_size(), (448, 448));
    assert_eq!(larger.to_preprocessor_config()["size"], json!({ "shortest_edge": 512 }));
}

#[test]
fn every_shape_gives_the_output_size() {
    for (width, height) in [(1, 1), (1, 300), (300, 1), (7, 500), (224, 224), (225, 224), (640, 427)] {
        for processor in [ImageProcessor::plain(24), ImageProcessor::clip(24)] {
            let values = processor.process(&gradient(width, height)).unwrap();
            assert_eq!(values.len(), 3 * 24 * 24);
            assert!(values.iter().all(|value| value.is_finite()));
        }
    }
}

#[test]
fn the_visible_part_is_what_is_left_of_the_crop() {
    let exact = ImageProcessor::plain(224);
    assert_eq!(exact.visible_part(300, 100), Some([0.0, 0.0, 1.0, 1.0]));
    let clip = ImageProcessor::clip(224);
    assert_eq!(clip.visible_part(448, 224), Some([0.25, 0.0, 0.5, 1.0]));
    assert_eq!(clip.visible_part(100, 400), Some([0.0, 0.375, 1.0, 0.25]));
    let filled = ImageProcessor { resize: None, ..ImageProcessor::plain(224) };
    assert_eq!(filled.visible_part(112, 224), Some([-0.5, 0.0, 2.0, 1.0]));
    assert_eq!(filled.visible_part(0, 224), None);
}

#[test]
fn pictures_that_cannot_be_resized_are_errors() {
    let narrow = ImageProcessor::clip(224).process(&RgbImage::new(1, 60_000)).unwrap_err();
    assert!(describe(&narrow).starts_with("a picture of 1x60000 pixels is too long and narrow"));
    assert!(ImageProcessor::plain(32).process(&RgbImage::new(0, 5)).is_err());
}

#[test]
fn unusable_configs_say_why() {
    let text = refusal(json!({ "image_processor_type": "Siglip2ImageProcessor" }));
    assert!(text.contains("its class is Siglip2ImageProcessor, expected one of ViTImageProcessor, CLIP"), "{text}");
    assert!(refusal(json!({ "resample": 0 })).contains("resample is 0, expected"));
    assert!(refusal(json!({ "size": { "height": 0, "width": 4 } })).contains("from 1 to 8192"));
    assert!(refusal(json!({ "size": { "shortest_edge": 9, "longest_edge": 12 } })).contains("expected a number, or"));
    assert!(refusal(json!({ "size": { "shortest_edge": 9 }, "do_center_crop": false })).contains("different shapes"));
    assert!(refusal(json!({ "image_std": [1, 0, 1] })).contains("the latter above 0"));
    assert!(refusal(json!({ "do_resize": "yes" })).contains("invalid type"));
}

#[test]
fn numbers_that_make_no_pixel_are_refused() {
    let read = |config: Value| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("preprocessor_config.json");
        fs::write(&path, config.to_string()).unwrap();
        ImageProcessor::from_file(&path)
    };
    read(json!({ "rescale_factor": 1.0 })).unwrap();
    for (key, value) in [
        ("rescale_factor", json!(1e300)),
        ("image_mean", json!([0.0, 1e300, 0.0])),
        ("image_std", json!([1.0, 1.0, 1e-320])),
    ] {
        let text = describe(&read(json!({ key: value })).unwrap_err());
        assert!(text.contains("a pixel exceeds the range of a 32-bit number"), "{key}: {text}");
    }
}

#[test]
fn a_size_that_fits_no_memory_is_refused() {
    let processor = ImageProcessor { resize: None, ..ImageProcessor::plain(1 << 40) };
    assert!(processor.validate().is_err());
    assert!(describe(&processor.process(&RgbImage::new(2, 2)).unwrap_err()).contains("does not fit into memory"));
    assert!(ImageProcessor::plain(0).validate().is_err());
    let scaled = ImageProcessor { output: Size { height: 9, width: 9 }, ..ImageProcessor::clip(1) }.with_image_size(3);
    scaled.validate().unwrap();
}
