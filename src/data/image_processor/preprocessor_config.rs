//! The reading of `preprocessor_config.json`, whose fields went by several names and forms over the years.

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::Value;

use super::{Class, Filter, ImageProcessor, MAX_SIDE, Normalization, Resize, Size, Target};
use crate::base::fault::fault;

/// The side that both classes take when the file names none.
const DEFAULT_SIDE: usize = 224;

/// What a `preprocessor_config.json` may say; other keys do not concern the pixels.
#[derive(Deserialize)]
pub(super) struct Source {
    image_processor_type: Option<String>,
    feature_extractor_type: Option<String>,
    do_resize: Option<bool>,
    size: Option<Value>,
    resample: Option<u64>,
    do_center_crop: Option<bool>,
    crop_size: Option<Value>,
    do_rescale: Option<bool>,
    rescale_factor: Option<f64>,
    do_normalize: Option<bool>,
    image_mean: Option<[f64; 3]>,
    image_std: Option<[f64; 3]>,
    do_pad: Option<bool>,
}

impl Source {
    /// The processing that it describes, every default resolved.
    pub(super) fn resolve(self) -> anyhow::Result<ImageProcessor> {
        let class = self.class()?;
        anyhow::ensure!(self.do_pad != Some(true), "do_pad is true, which is not supported");
        let defaults = match class {
            Class::Vit => ImageProcessor::plain(DEFAULT_SIDE),
            Class::Clip => ImageProcessor::clip(DEFAULT_SIDE),
        };
        let mut resize = defaults.resize;
        if let (Some(resize), Some(size)) = (&mut resize, &self.size) {
            resize.target = target(class, size)?;
        }
        if let (Some(resize), Some(code)) = (&mut resize, self.resample) {
            resize.filter = Filter::from_pillow_code(code)?;
        }
        let resize = resize.filter(|_| self.do_resize.unwrap_or(true));
        let output = if self.do_center_crop.unwrap_or(class == Class::Clip) {
            match (&self.crop_size, class) {
                (Some(size), _) => exact_size("crop_size", size)?,
                (None, Class::Clip) => defaults.output,
                (None, Class::Vit) => anyhow::bail!("do_center_crop is true but there is no crop_size"),
            }
        } else if let Some(Resize { target: Target::Exact(size), .. }) = resize {
            size
        } else {
            return Err(fault(
                "pictures would keep different shapes",
                "set do_center_crop and crop_size, or do_resize and a size with height and width",
            ));
        };
        let rescale_factor = self.rescale_factor.unwrap_or(1.0 / 255.0);
        anyhow::ensure!(rescale_factor.is_finite(), "rescale_factor is {rescale_factor}, expected a finite number");
        let normalization = defaults.normalization.map(|of_class| Normalization {
            mean: self.image_mean.unwrap_or(of_class.mean),
            std: self.image_std.unwrap_or(of_class.std),
        });
        if let Some(Normalization { mean, std }) = normalization {
            let sound = mean.iter().all(|value| value.is_finite()) && std.iter().all(|&value| value > 0.0);
            anyhow::ensure!(
                sound,
                "image_mean is {mean:?} and image_std {std:?}, expected numbers, the latter above 0"
            );
        }
        let processor = ImageProcessor {
            class,
            resize,
            output,
            rescale_factor: self.do_rescale.unwrap_or(true).then_some(rescale_factor),
            normalization: normalization.filter(|_| self.do_normalize.unwrap_or(true)),
        };
        processor.validate()?;
        Ok(processor)
    }

    fn class(&self) -> anyhow::Result<Class> {
        let Some(name) = self.image_processor_type.as_ref().or(self.feature_extractor_type.as_ref()) else {
            let has_shortest_edge = self.size.as_ref().is_some_and(|size| size.get("shortest_edge").is_some());
            let is_clip = self.crop_size.is_some() || self.do_center_crop.is_some() || has_shortest_edge;
            return Ok(if is_clip { Class::Clip } else { Class::Vit });
        };
        match name.as_str() {
            "ViTImageProcessor" | "ViTImageProcessorFast" | "ViTImageProcessorPil" | "ViTFeatureExtractor" => {
                Ok(Class::Vit)
            }
            "CLIPImageProcessor" | "CLIPImageProcessorFast" | "CLIPImageProcessorPil" | "CLIPFeatureExtractor" => {
                Ok(Class::Clip)
            }
            _ => Err(fault(
                format!("its class is {name}, expected ViTImageProcessor or CLIPImageProcessor"),
                "choose a ViT or CLIP encoder",
            )),
        }
    }
}

/// The field `size`: one number is a square for ViT, the short side for CLIP.
fn target(class: Class, size: &Value) -> anyhow::Result<Target> {
    let names: Vec<&str> = size.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    match (names.as_slice(), class) {
        (["shortest_edge"], _) => Ok(Target::ShortestEdge(side("size", &size["shortest_edge"])?)),
        ([], Class::Clip) if size.is_number() => Ok(Target::ShortestEdge(side("size", size)?)),
        _ => exact_size("size", size).map(Target::Exact),
    }
}

/// `{"height", "width"}`, `[height, width]` or one number for a square.
fn exact_size(field: &str, size: &Value) -> anyhow::Result<Size> {
    let (height, width) = match size {
        Value::Number(_) => (size, size),
        Value::Array(sides) if sides.len() == 2 => (&sides[0], &sides[1]),
        Value::Object(sides) if sides.len() == 2 => (&size["height"], &size["width"]),
        _ => (&Value::Null, &Value::Null),
    };
    let sides = side(field, height).and_then(|height| Ok(Size { height, width: side(field, width)? }));
    sides.with_context(|| format!("{field} is {size}, expected a number, or height and width"))
}

fn side(field: &str, value: &Value) -> anyhow::Result<usize> {
    let side = value.as_u64().and_then(|side| usize::try_from(side).ok()).filter(|side| (1..=MAX_SIDE).contains(side));
    side.with_context(|| format!("a side in {field} is {value}, expected a whole number from 1 to {MAX_SIDE}"))
}
