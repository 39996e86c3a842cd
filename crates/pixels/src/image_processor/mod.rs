//! From RGB pixels to what an encoder reads, as `preprocessor_config.json` says: resize, centre crop, rescale,
//! normalise. The numbers are those of `ViTImageProcessor` and `CLIPImageProcessor` of transformers.
//!
//! Reading image files is in `image_file`, random views are in `augmentation`.

mod preprocessor_config;

use std::borrow::Cow;

use anyhow::Context as _;
use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::RgbImage;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use self::preprocessor_config::FolderProcessing;
use super::image_file::MAX_PIXELS;
use super::image_file::budget::{Share, budgets};
use base::fault::WithHint as _;

/// What CLIP was trained with.
const CLIP_MEAN: [f64; 3] = [0.48145466, 0.4578275, 0.40821073];
const CLIP_STD: [f64; 3] = [0.26862954, 0.26130258, 0.27577711];
/// `IMAGENET_STANDARD_MEAN` and `IMAGENET_STANDARD_STD` of transformers.
const HALF: [f64; 3] = [0.5; 3];

/// The longest side that pictures are made.
const MAX_SIDE: usize = 8192;

/// The processing of one encoder, every default resolved. It serialises into a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageProcessor {
    class: Class,
    /// `None`: pictures are taken in the size that they have.
    resize: Option<Resize>,
    /// The centre of this size is taken, filled up with zeros; a no-op after a resize to just this size.
    output: Size,
    /// `None`: values stay 0 to 255.
    rescale_factor: Option<f64>,
    normalization: Option<Normalization>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Class {
    #[serde(rename = "ViTImageProcessor")]
    Vit,
    #[serde(rename = "CLIPImageProcessor")]
    Clip,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Size {
    height: usize,
    width: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Resize {
    target: Target,
    filter: Filter,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Target {
    /// Whatever the shape was.
    Exact(Size),
    /// The short side gets this length, the shape stays.
    ShortestEdge(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Filter {
    Lanczos,
    Bilinear,
    Bicubic,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Normalization {
    mean: [f64; 3],
    std: [f64; 3],
}

impl ImageProcessor {
    /// Checks what the processing relies on; a processor from [`Self::from_file`] has been checked.
    ///
    /// # Errors
    /// A side of 0 or of more than 8192; numbers that make of a pixel what is not finite.
    pub fn validate(&self) -> anyhow::Result<()> {
        let resize = self.resize.map(|resize| match resize.target {
            Target::Exact(size) => [size.height, size.width],
            Target::ShortestEdge(edge) => [edge, edge],
        });
        for side in resize.into_iter().flatten().chain([self.output.height, self.output.width]) {
            anyhow::ensure!((1..=MAX_SIDE).contains(&side), "a side is {side}, expected 1 to {MAX_SIDE}");
        }
        let is_finite = (0..3).flat_map(|channel| self.channel_values(channel)).all(f32::is_finite);
        anyhow::ensure!(
            is_finite,
            "with its rescale_factor, image_mean and image_std a pixel becomes more than a 32-bit number can hold"
        );
        Ok(())
    }

    /// For an encoder from scratch: a bilinear resize to a square, values from -1 to 1.
    pub fn plain(image_size: usize) -> Self {
        let output = Size { height: image_size, width: image_size };
        Self {
            class: Class::Vit,
            resize: Some(Resize { target: Target::Exact(output), filter: Filter::Bilinear }),
            output,
            rescale_factor: Some(1.0 / 255.0),
            normalization: Some(Normalization { mean: HALF, std: HALF }),
        }
    }

    /// CLIP's defaults: the short side resized (bicubic), the central square, CLIP's mean and standard deviation.
    pub fn clip(image_size: usize) -> Self {
        Self {
            class: Class::Clip,
            resize: Some(Resize { target: Target::ShortestEdge(image_size), filter: Filter::Bicubic }),
            output: Size { height: image_size, width: image_size },
            rescale_factor: Some(1.0 / 255.0),
            normalization: Some(Normalization { mean: CLIP_MEAN, std: CLIP_STD }),
        }
    }

    /// The same processing for a model of another size: the output becomes a square of this side, and the resize
    /// before the crop changes in proportion.
    pub fn with_image_size(mut self, image_size: usize) -> Self {
        let old = self.output;
        let scaled = |length: usize, old: usize| ((length * image_size + old / 2) / old.max(1)).max(1);
        if let Some(resize) = &mut self.resize {
            resize.target = match resize.target {
                Target::Exact(size) => Target::Exact(Size {
                    height: scaled(size.height, old.height),
                    width: scaled(size.width, old.width),
                }),
                Target::ShortestEdge(edge) => Target::ShortestEdge(scaled(edge, old.height.min(old.width))),
            };
        }
        self.output = Size { height: image_size, width: image_size };
        self
    }

    /// (height, width) of what [`Self::process`] gives.
    pub fn output_size(&self) -> (usize, usize) {
        (self.output.height, self.output.width)
    }

    /// The values of one picture: (3, height, width), row-major, resized, cropped, rescaled and normalised.
    ///
    /// # Errors
    /// As [`Self::pixels`].
    pub fn process(&self, image: &RgbImage) -> anyhow::Result<Vec<f32>> {
        Ok(self.normalize(&self.pixels(image)?))
    }

    /// One picture resized and cropped: height rows of width pixels of red, green and blue.
    ///
    /// # Errors
    /// A picture without pixels, one so long and narrow that resizing it would not fit into memory, or an output of
    /// more than [`MAX_PIXELS`].
    pub fn pixels(&self, image: &RgbImage) -> anyhow::Result<Vec<u8>> {
        let Size { height, width } = self.output;
        anyhow::ensure!(
            height.checked_mul(width).is_some_and(|area| area as u64 <= MAX_PIXELS),
            "an output of {width}x{height} pixels does not fit into memory"
        );
        let resized = match self.resize {
            Some(resize) => resize.apply(image)?,
            None => Cow::Borrowed(image),
        };
        if (resized.height() as usize, resized.width() as usize) == (height, width) {
            return Ok(resized.into_owned().into_raw());
        }
        let rows = Overlap::centred(resized.height() as usize, height);
        let columns = Overlap::centred(resized.width() as usize, width);
        // What lies outside is black.
        let mut pixels = vec![0; 3 * height * width];
        let source = resized.as_raw();
        for row in 0..rows.length {
            let from = 3 * ((rows.source + row) * resized.width() as usize + columns.source);
            let to = 3 * ((rows.target + row) * width + columns.target);
            pixels[to..to + 3 * columns.length].copy_from_slice(&source[from..from + 3 * columns.length]);
        }
        Ok(pixels)
    }

    /// The part of a picture of this size that its [`Self::pixels`] show: left, top, width and height in shares of the
    /// picture's; more than the whole where black is added. `None` where there are no pixels.
    pub fn visible_part(&self, width: u32, height: u32) -> Option<[f64; 4]> {
        let resized = match self.resize {
            Some(resize) => resize.size_for(width, height)?,
            None => [width, height],
        };
        let part = |line: u32, window: usize| {
            let overlap = Overlap::centred(line as usize, window);
            let line = f64::from(line);
            ((overlap.source as f64 - overlap.target as f64) / line, window as f64 / line)
        };
        let [(left, width), (top, height)] =
            [part(resized[0], self.output.width), part(resized[1], self.output.height)];
        let found = [left, top, width, height];
        found.iter().all(|share| share.is_finite()).then_some(found)
    }

    /// [`Self::pixels`] rescaled and normalised: (3, height, width), row-major.
    pub fn normalize(&self, pixels: &[u8]) -> Vec<f32> {
        let plane = self.output.height * self.output.width;
        let mut values = vec![0.0; 3 * plane];
        for (channel, plane) in values.chunks_exact_mut(plane.max(1)).enumerate() {
            // A value of a channel can only be one of 256.
            let table = self.channel_values(channel);
            for (value, pixel) in plane.iter_mut().zip(pixels.chunks_exact(3)) {
                *value = table[usize::from(pixel[channel])];
            }
        }
        values
    }

    /// What [`Self::pixels`] depends on.
    pub fn geometry(&self) -> Value {
        json!({ "resize": self.resize, "output": self.output })
    }

    /// The content of a `preprocessor_config.json` from which transformers makes the same processing.
    pub fn to_preprocessor_config(&self) -> Value {
        let mut config = json!({
            "image_processor_type": self.class,
            "do_convert_rgb": true,
            "do_resize": self.resize.is_some(),
            "do_center_crop": self.resize.is_none_or(|resize| resize.target != Target::Exact(self.output)),
            "crop_size": self.output,
            "do_rescale": self.rescale_factor.is_some(),
            "do_normalize": self.normalization.is_some(),
        });
        if let Some(Resize { target, filter }) = self.resize {
            config["size"] = match target {
                Target::Exact(size) => json!(size),
                Target::ShortestEdge(edge) => json!({ "shortest_edge": edge }),
            };
            config["resample"] = json!(filter.pillow_code());
        }
        if let Some(factor) = self.rescale_factor {
            config["rescale_factor"] = json!(factor);
        }
        if let Some(Normalization { mean, std }) = self.normalization {
            config["image_mean"] = json!(mean);
            config["image_std"] = json!(std);
        }
        config
    }

    /// What the 256 values of a channel become.
    fn channel_values(&self, channel: usize) -> [f32; 256] {
        std::array::from_fn(|value| {
            let rescaled = value as f64 * self.rescale_factor.unwrap_or(1.0);
            let normalized = self.normalization.map(|to| (rescaled - to.mean[channel]) / to.std[channel]);
            normalized.unwrap_or(rescaled) as f32
        })
    }
}

/// The part of a line that a centred window and a picture share.
struct Overlap {
    source: usize,
    target: usize,
    length: usize,
}

impl Overlap {
    /// A window of `window` pixels on the centre of a line of `line` pixels. An odd pixel is left over at the end of
    /// the line, or filled in at the end of the window (`TorchvisionBackend.center_crop` of transformers 5).
    fn centred(line: usize, window: usize) -> Self {
        Self {
            source: line.saturating_sub(window) / 2,
            target: window.saturating_sub(line) / 2,
            length: line.min(window),
        }
    }
}

impl Resize {
    fn apply(self, image: &RgbImage) -> anyhow::Result<Cow<'_, RgbImage>> {
        let (width, height) = image.dimensions();
        anyhow::ensure!(width > 0 && height > 0, "a picture of {width}x{height} pixels is empty");
        let [new_width, new_height] = self
            .size_for(width, height)
            .filter(|&[new_width, new_height]| {
                let fits = |height| u64::from(new_width) * u64::from(height) <= MAX_PIXELS;
                fits(height) && fits(new_height)
            })
            .with_context(|| format!("a picture of {width}x{height} pixels is too long and narrow to be resized"))
            .hint(|| "crop it or leave it out")?;
        let _share = Self::share_for([width, height], [new_width, new_height])?;
        self.filter.resize(image, new_width, new_height)
    }

    /// The share of what a resize takes: the pixels after each of its two steps, and the weights, which are as many as the
    /// filter reaches over.
    ///
    /// # Errors
    /// More than there may be.
    fn share_for([width, height]: [u32; 2], [new_width, new_height]: [u32; 2]) -> anyhow::Result<Share> {
        /// Of a number and of what is made of it for the loop.
        const WEIGHT_BYTES: u64 = 16;
        /// On both sides, in pixels of the smaller line, with those at the ends: of Lanczos, which reaches farthest.
        const REACH: u64 = 8;
        let pixels = u64::from(new_width) * (u64::from(height) + u64::from(new_height));
        let weights = REACH * u64::from(width.max(new_width) + height.max(new_height));
        budgets().resizing.take(3 * pixels + WEIGHT_BYTES * weights, || {
            format!("resizing its {width}x{height} pixels to {new_width}x{new_height} takes")
        })
    }

    /// The new width and height; the long side is rounded down, as `get_resize_output_image_size` does. `None` where
    /// it fits no number.
    fn size_for(self, width: u32, height: u32) -> Option<[u32; 2]> {
        let (new_width, new_height) = match self.target {
            Target::Exact(size) => (size.width as u64, size.height as u64),
            Target::ShortestEdge(edge) => {
                let (width, height, edge) = (u64::from(width), u64::from(height), edge as u64);
                if width <= height { (edge, edge * height / width) } else { (edge * width / height, edge) }
            }
        };
        Some([u32::try_from(new_width).ok()?, u32::try_from(new_height).ok()?])
    }
}

/// A picture in another size, antialiased and bilinear.
///
/// # Errors
/// A picture without pixels, or a size that does not fit into memory.
pub fn resize_rgb(image: &RgbImage, width: u32, height: u32) -> anyhow::Result<RgbImage> {
    let size = Size { height: height as usize, width: width as usize };
    let resize = Resize { target: Target::Exact(size), filter: Filter::Bilinear };
    Ok(resize.apply(image)?.into_owned())
}

impl Filter {
    /// Two calls, rows first, with 8 bits between them: this is what Pillow and torchvision compute. A single call
    /// resizes the columns first, which differs by up to 11 of 255.
    fn resize(self, image: &RgbImage, new_width: u32, new_height: u32) -> anyhow::Result<Cow<'_, RgbImage>> {
        let mut resized = Cow::Borrowed(image);
        let mut resizer = Resizer::new();
        for (width, height) in [(new_width, image.height()), (new_width, new_height)] {
            if resized.dimensions() != (width, height) {
                let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(self.convolution()));
                let source = ImageRef::new(resized.width(), resized.height(), resized.as_raw(), PixelType::U8x3)?;
                let mut target = Image::new(width, height, PixelType::U8x3);
                resizer.resize(&source, &mut target, &options)?;
                let target = RgbImage::from_raw(width, height, target.into_vec());
                resized = Cow::Owned(target.expect("the resizer fills three bytes per pixel"));
            }
        }
        Ok(resized)
    }

    /// The number of `PIL.Image.Resampling`.
    fn pillow_code(self) -> u64 {
        match self {
            Self::Lanczos => 1,
            Self::Bilinear => 2,
            Self::Bicubic => 3,
        }
    }

    fn from_pillow_code(code: u64) -> anyhow::Result<Self> {
        let known = [Self::Lanczos, Self::Bilinear, Self::Bicubic].into_iter().find(|one| one.pillow_code() == code);
        known.with_context(|| {
            format!("resample is {code}, expected 1 (lanczos), 2 (bilinear) or 3 (bicubic), the antialiased ones")
        })
    }

    fn convolution(self) -> FilterType {
        match self {
            Self::Lanczos => FilterType::Lanczos3,
            Self::Bilinear => FilterType::Bilinear,
            // Pillow's bicubic has a = -0.5, which is Catmull-Rom.
            Self::Bicubic => FilterType::CatmullRom,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use image::Rgb;

    use super::*;
    use base::fault::describe;

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
            json!({ "do_rescale": false, "image_mean": [0.1, 0.2, 0.3], "image_std": [1, 2, 3] }),
        ];
        let made = configs.iter().map(|config| from_config(config).unwrap());
        for processor in made.chain([ImageProcessor::plain(32), ImageProcessor::clip(32)]) {
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
    fn odd_pixels_are_left_over_and_filled_in_at_the_end() {
        let window = |line, window| {
            let Overlap { source, target, length } = Overlap::centred(line, window);
            (source, target, length)
        };
        assert_eq!(window(227, 224), (1, 0, 224));
        assert_eq!(window(226, 224), (1, 0, 224));
        assert_eq!(window(224, 224), (0, 0, 224));
        assert_eq!(window(221, 224), (0, 1, 221));
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
        let text = refusal(json!({ "image_processor_type": "DeiTImageProcessor" }));
        assert!(text.contains("its class is DeiTImageProcessor, expected ViTImageProcessor or CLIP"), "{text}");
        assert!(refusal(json!({ "resample": 0 })).contains("resample is 0, expected"));
        assert!(refusal(json!({ "size": { "height": 0, "width": 4 } })).contains("from 1 to 8192"));
        assert!(
            refusal(json!({ "size": { "shortest_edge": 9, "longest_edge": 12 } })).contains("expected a number, or")
        );
        assert!(
            refusal(json!({ "size": { "shortest_edge": 9 }, "do_center_crop": false })).contains("different shapes")
        );
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
            assert!(text.contains("a pixel becomes more than a 32-bit number can hold"), "{key}: {text}");
        }
    }

    #[test]
    fn a_size_that_fits_no_memory_is_refused() {
        let processor = ImageProcessor { resize: None, ..ImageProcessor::plain(1 << 40) };
        assert!(processor.validate().is_err());
        assert!(describe(&processor.process(&RgbImage::new(2, 2)).unwrap_err()).contains("does not fit into memory"));
        assert!(ImageProcessor::plain(0).validate().is_err());
        let scaled =
            ImageProcessor { output: Size { height: 9, width: 9 }, ..ImageProcessor::clip(1) }.with_image_size(3);
        scaled.validate().unwrap();
    }
}
