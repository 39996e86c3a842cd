//! The reading of `preprocessor_config.json`, whose fields went by several names and forms over the years, and of
//! `processor_config.json`, which holds the same beside the configs of other parts of a processor.

use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::image_processor::processor::{Class, ImageProcessor, MAX_SIDE, Normalization};
use crate::image_processor::resize::{Filter, Resize, Size, Target};
use base::bounded_file::{self, MAX_DESCRIPTION_BYTES};
use base::error::failure;

/// The side where a config of open_clip or timm names none.
const DEFAULT_SIDE: usize = 224;

/// The file of transformers 5 with the configs of all parts of a processor.
const PROCESSOR_FILE: &str = "processor_config.json";
/// Where it holds that of the images. Older ones do not.
const IMAGE_PROCESSOR: &str = "image_processor";
/// The file of the image processing only.
const PREPROCESSOR_FILE: &str = "preprocessor_config.json";

/// The image processing of a model's folder.
#[derive(Clone, Debug, PartialEq)]
pub struct FolderProcessing {
    pub processor: ImageProcessor,
    /// What the user should know where two files describe it.
    pub note: Option<String>,
}

impl ImageProcessor {
    /// Reads the image processing of a model's folder. As in transformers the key `image_processor` of
    /// `processor_config.json` goes first, then `preprocessor_config.json`. Where the folder has neither, timm and
    /// open_clip say it in the config of the model; `None` where nothing does.
    pub fn from_folder(folder: &Path) -> anyhow::Result<Option<FolderProcessing>> {
        let (first, second) = (folder.join(PROCESSOR_FILE), folder.join(PREPROCESSOR_FILE));
        let nested = if first.exists() { read(&first)?.get_mut(IMAGE_PROCESSOR).map(Value::take) } else { None };
        let Some(nested) = nested.filter(|config| !config.is_null()) else {
            let only = if second.exists() { Some(Self::from_file(&second)?) } else { of_another_library(folder)? };
            return Ok(only.map(|processor| FolderProcessing { processor, note: None }));
        };
        let processor = resolve(nested, &first)?;
        let differs = second.is_file() && !Self::from_file(&second).is_ok_and(|other| other == processor);
        let note = differs.then(|| {
            format!(
                "images are processed as {PROCESSOR_FILE} in {} says, as in transformers; {PREPROCESSOR_FILE} differs",
                folder.display()
            )
        });
        Ok(Some(FolderProcessing { processor, note }))
    }

    /// Reads a `preprocessor_config.json` of a class of transformers that is known here, of its `Fast` and `Pil` forms or
    /// of the older feature extractors. What the file leaves out is what transformers takes for its class; a
    /// file that names no class is CLIP's when it speaks of a crop or a shortest edge, else ViT's.
    pub fn from_file(path: &Path) -> anyhow::Result<Self> {
        resolve(read(path)?, path)
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
}

/// What timm and open_clip say about the images in the config of a model. Both resize the short side and take the
/// centre; they may differ by a pixel in where an odd one is left over.
fn of_another_library(folder: &Path) -> anyhow::Result<Option<ImageProcessor>> {
    type Translate = fn(&Value) -> Option<anyhow::Result<Value>>;
    let translations: [(&str, Translate); 2] = [("open_clip_config.json", of_open_clip), ("config.json", of_timm)];
    for (name, translate) in translations {
        let path = folder.join(name);
        if path.exists()
            && let Some(config) = translate(&read(&path)?)
        {
            return config.with_context(|| cannot_use(&path)).and_then(|config| resolve(config, &path)).map(Some);
        }
    }
    Ok(None)
}

/// The `preprocess_cfg` of an `open_clip_config.json`.
fn of_open_clip(config: &Value) -> Option<anyhow::Result<Value>> {
    let size = config.pointer("/model_cfg/vision_cfg/image_size").cloned().unwrap_or(json!(DEFAULT_SIDE));
    let images = config.get("preprocess_cfg").cloned().unwrap_or_else(|| json!({}));
    let text = |name: &str, default: &str| images.get(name).and_then(Value::as_str).unwrap_or(default).to_owned();
    let target = match text("resize_mode", "shortest").as_str() {
        "shortest" => json!({ "shortest_edge": size }),
        "squash" => json!({ "height": size, "width": size }),
        other => return Some(Err(anyhow::anyhow!("resize_mode is {other:?}, expected shortest or squash"))),
    };
    config.get("model_cfg")?;
    Some(resample(&text("interpolation", "bicubic")).map(|resample| {
        json!({
            "image_processor_type": "CLIPImageProcessor",
            "size": target,
            "crop_size": size,
            "resample": resample,
            "image_mean": images.get("mean"),
            "image_std": images.get("std"),
        })
    }))
}

/// The `pretrained_cfg` of timm's `config.json`.
fn of_timm(config: &Value) -> Option<anyhow::Result<Value>> {
    config.get("architecture")?.as_str()?;
    let images = config.get("pretrained_cfg")?;
    let side = images.pointer("/input_size/2").and_then(Value::as_u64).unwrap_or(DEFAULT_SIDE as u64);
    let share = images.get("crop_pct").and_then(Value::as_f64).unwrap_or(0.875);
    let mode = images.get("crop_mode").and_then(Value::as_str).unwrap_or("center");
    if mode != "center" || !(share > 0.0 && share <= 1.0) {
        return Some(Err(anyhow::anyhow!("crop_mode is {mode:?} and crop_pct {share}, expected center, and 0 to 1")));
    }
    let interpolation = images.get("interpolation").and_then(Value::as_str).unwrap_or("bilinear");
    Some(resample(interpolation).map(|resample| {
        json!({
            "image_processor_type": "BitImageProcessor",
            "size": { "shortest_edge": (side as f64 / share).floor() as u64 },
            "crop_size": side,
            "resample": resample,
            "image_mean": images.get("mean").unwrap_or(&json!([0.485, 0.456, 0.406])),
            "image_std": images.get("std").unwrap_or(&json!([0.229, 0.224, 0.225])),
        })
    }))
}

/// The number of a filter that both know by name.
fn resample(name: &str) -> anyhow::Result<u64> {
    match name {
        "bilinear" => Ok(2),
        "bicubic" => Ok(3),
        other => anyhow::bail!("interpolation is {other:?}, expected bilinear or bicubic"),
    }
}

fn read(path: &Path) -> anyhow::Result<Value> {
    let text = bounded_file::read_text(path, MAX_DESCRIPTION_BYTES).map_err(anyhow::Error::from);
    text.and_then(|text| Ok(serde_json::from_str(&text)?)).with_context(|| cannot_use(path))
}

fn resolve(config: Value, path: &Path) -> anyhow::Result<ImageProcessor> {
    let source = serde_json::from_value::<Source>(config).map_err(anyhow::Error::from);
    source.and_then(Source::resolve).with_context(|| cannot_use(path))
}

fn cannot_use(path: &Path) -> String {
    format!("cannot use image processor {}", path.display())
}

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
        let defaults = class.defaults();
        let crops = class.crops();
        let mut resize = defaults.resize;
        if let (Some(resize), Some(size)) = (&mut resize, &self.size) {
            resize.target = target(class, size)?;
        }
        if let (Some(resize), Some(code)) = (&mut resize, self.resample) {
            resize.filter = Filter::from_pillow_code(code)?;
        }
        let resize = resize.filter(|_| self.do_resize.unwrap_or(true));
        let output = if self.do_center_crop.unwrap_or(crops) {
            match &self.crop_size {
                Some(size) => exact_size("crop_size", size)?,
                None if crops => defaults.output,
                None => anyhow::bail!("do_center_crop is true but there is no crop_size"),
            }
        } else if let Some(Resize { target: Target::Exact(size), .. }) = resize {
            size
        } else {
            return Err(failure(
                "pictures would have different shapes",
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
        let plain = ["Fast", "Pil"].iter().find_map(|form| name.strip_suffix(form)).unwrap_or(name);
        let is_of = |class: &Class| {
            let rest = plain.strip_prefix(class.name_of_model());
            rest.is_some_and(|rest| ["ImageProcessor", "FeatureExtractor"].contains(&rest))
        };
        Class::ALL.into_iter().find(is_of).ok_or_else(|| {
            let known = Class::ALL.map(|class| format!("{}ImageProcessor", class.name_of_model())).join(", ");
            failure(
                format!("its class is {name}, expected one of {known}"),
                "choose an encoder whose image processor is one of these",
            )
        })
    }
}

/// The field `size`: one number is a square or the short side, as its class has it.
fn target(class: Class, size: &Value) -> anyhow::Result<Target> {
    let sides = size.as_object().into_iter().flatten().filter(|(_, side)| !side.is_null());
    let names: Vec<&str> = sides.map(|(name, _)| name.as_str()).collect();
    match names.as_slice() {
        ["shortest_edge"] => Ok(Target::ShortestEdge(side("size", &size["shortest_edge"])?)),
        [] if size.is_number() && class.resizes_the_short_side() => Ok(Target::ShortestEdge(side("size", size)?)),
        _ => exact_size("size", size).map(Target::Exact),
    }
}

/// `{"height", "width"}`, `[height, width]` or one number for a square.
fn exact_size(field: &str, size: &Value) -> anyhow::Result<Size> {
    let (height, width) = match size {
        Value::Number(_) => (size, size),
        Value::Array(sides) if sides.len() == 2 => (&sides[0], &sides[1]),
        Value::Object(sides) if sides.values().filter(|side| !side.is_null()).count() == 2 => {
            (&size["height"], &size["width"])
        }
        _ => (&Value::Null, &Value::Null),
    };
    let sides = side(field, height).and_then(|height| Ok(Size { height, width: side(field, width)? }));
    sides.with_context(|| format!("{field} is {size}, expected a number, or height and width"))
}

fn side(field: &str, value: &Value) -> anyhow::Result<usize> {
    let side = value.as_u64().and_then(|side| usize::try_from(side).ok()).filter(|side| (1..=MAX_SIDE).contains(side));
    side.with_context(|| format!("a side in {field} is {value}, expected a whole number from 1 to {MAX_SIDE}"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;
    use base::error::describe;

    fn folder(files: &[(&str, Value)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(folder.path().join(name), content.to_string()).unwrap();
        }
        folder
    }

    fn found(files: &[(&str, Value)]) -> anyhow::Result<Option<FolderProcessing>> {
        ImageProcessor::from_folder(folder(files).path())
    }

    fn of(config: &Value) -> ImageProcessor {
        resolve(config.clone(), Path::new("a file")).unwrap()
    }

    /// As transformers 5 saves it.
    fn clip(side: usize) -> Value {
        json!({
            "crop_size": { "height": side, "width": side },
            "data_format": "channels_first",
            "do_center_crop": true,
            "do_convert_rgb": true,
            "do_normalize": true,
            "image_processor_type": "CLIPImageProcessor",
            "resample": 3,
            "size": { "shortest_edge": side }
        })
    }

    fn processor(image_processor: &Value) -> Value {
        json!({ "image_processor": image_processor, "processor_class": "CLIPProcessor" })
    }

    #[test]
    fn either_file_of_a_folder_gives_the_processing() {
        for files in [[(PROCESSOR_FILE, processor(&clip(40)))], [(PREPROCESSOR_FILE, clip(40))]] {
            let expected = FolderProcessing { processor: of(&clip(40)), note: None };
            assert_eq!(found(&files).unwrap(), Some(expected));
        }
        assert_eq!(found(&[]).unwrap(), None);
    }

    #[test]
    fn the_processor_goes_first_and_another_preprocessor_is_reported() {
        let both = |first: Value, second: Value| {
            let found = found(&[(PROCESSOR_FILE, first), (PREPROCESSOR_FILE, second)]).unwrap().unwrap();
            (found.processor, found.note)
        };
        assert_eq!(both(processor(&clip(40)), clip(40)), (of(&clip(40)), None));
        for other in [clip(32), json!("damaged")] {
            let (processor, note) = both(processor(&clip(40)), other);
            assert_eq!(processor, of(&clip(40)));
            assert!(note.unwrap().ends_with("preprocessor_config.json differs"));
        }
        // Before transformers 5 the file held no image processor.
        for old in [json!({ "processor_class": "CLIPProcessor" }), processor(&Value::Null)] {
            assert_eq!(both(old, clip(32)), (of(&clip(32)), None));
        }
    }

    #[test]
    fn a_processor_that_cannot_be_used_names_its_file() {
        let text = |config: Value| describe(&found(&[(PROCESSOR_FILE, config)]).unwrap_err());
        assert!(
            text(processor(&json!({ "image_processor_type": "BlipImageProcessorSlow" }))).contains("its class is Blip")
        );
        assert!(text(processor(&json!([1]))).contains("processor_config.json"));
        let folder = folder(&[]);
        fs::write(folder.path().join(PROCESSOR_FILE), "{").unwrap();
        let text = describe(&ImageProcessor::from_folder(folder.path()).unwrap_err());
        assert!(text.starts_with("cannot use image processor") && text.contains("processor_config.json"), "{text}");
    }

    #[test]
    fn timm_and_open_clip_say_it_in_the_config_of_the_model() {
        let open_clip = json!({
            "model_cfg": { "vision_cfg": { "image_size": 40 } },
            "preprocess_cfg": { "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "interpolation": "bicubic" },
        });
        let mut expected = clip(40);
        expected["image_mean"] = json!([0.1, 0.2, 0.3]);
        expected["image_std"] = json!([0.4, 0.5, 0.6]);
        let processor = found(&[("open_clip_config.json", open_clip)]).unwrap().unwrap().processor;
        assert_eq!(processor, of(&expected));
        let timm = |images: Value| json!({ "architecture": "vit_tiny_patch8_32", "pretrained_cfg": images });
        let images = json!({ "input_size": [3, 32, 32], "crop_pct": 0.9, "interpolation": "bicubic" });
        let processor = found(&[("config.json", timm(images))]).unwrap().unwrap().processor;
        let written = processor.to_preprocessor_config();
        assert_eq!((&written["size"], processor.output_size()), (&json!({ "shortest_edge": 35 }), (32, 32)));
        for images in [json!({ "crop_pct": 0.0 }), json!({ "crop_mode": "squash" }), json!({ "interpolation": "" })] {
            assert!(found(&[("config.json", timm(images))]).is_err());
        }
        assert_eq!(found(&[("config.json", json!({ "model_type": "vit" }))]).unwrap(), None);
    }

    #[test]
    fn names_and_sizes_of_every_version_are_read() {
        for class in ["CLIPImageProcessor", "CLIPImageProcessorFast", "CLIPImageProcessorPil", "CLIPFeatureExtractor"] {
            let mut config = clip(40);
            config["image_processor_type"] = class.into();
            assert_eq!(of(&config), of(&clip(40)), "{class}");
        }
        let all_sides = json!({ "height": null, "width": null, "longest_edge": null, "shortest_edge": 40 });
        for size in [json!({ "shortest_edge": 40 }), json!(40), all_sides] {
            let mut config = clip(40);
            config["size"] = size.clone();
            assert_eq!(of(&config), of(&clip(40)), "{size}");
        }
        for class in ["BlipImageProcessor", "BlipImageProcessorFast", "BlipImageProcessorPil", "BlipFeatureExtractor"] {
            for size in [json!(30), json!({ "height": 30, "width": 30 })] {
                let found = of(&json!({ "image_processor_type": class, "size": size }));
                assert_eq!(found, ImageProcessor::blip(30), "{class} {size}");
            }
        }
        let vit = |size: Value| of(&json!({ "image_processor_type": "ViTImageProcessorFast", "size": size }));
        let sides = json!({ "height": 30, "width": 30, "shortest_edge": null, "longest_edge": null });
        for size in [json!(30), json!([30, 30]), json!({ "height": 30, "width": 30 }), sides] {
            assert_eq!(vit(size.clone()), ImageProcessor::plain(30), "{size}");
        }
    }
}
