//! The files of a pretrained model's folder: its configs and its weights.

use std::path::Path;
use std::sync::OnceLock;

use candle_core::{Device, Tensor};
use caption_train::data::image_source::ImageInput;
use caption_train::data::prompts::Prompt;
use caption_train::evaluation::captioning::CaptionWriter;
use caption_train::hf::companions::read_processor;
use caption_train::hf::folder::read_config;
use caption_train::hf::generation_config::GenerationDefaults;
use caption_train::hf::read::{read_encoder, read_encoder_config};
use caption_train::model::captioner::CaptionerShape;
use caption_train::model::decoders::DecoderConfig;
use caption_train::run::captioning_model::CaptioningModel;
use image::RgbImage;
use serde_json::{Value, json};

use super::{json, samples, scratch};

/// Maximum number of parameters that a `config.json` may ask for: those of the deepest model that the program accepts.
const MOST_PARAMETERS: usize = 64 * 1024;

/// A `config.json`, whole or as edits of a valid one; also used as `generation_config.json`.
pub fn model_config(data: &[u8]) {
    let folder = scratch::folder("model_config");
    static BASES: OnceLock<[Value; 9]> = OnceLock::new();
    let bytes = json::document(data, BASES.get_or_init(configs));
    scratch::write(&folder.join("config.json"), &bytes);
    scratch::write(&folder.join("generation_config.json"), &bytes);
    let processor = folder.join("preprocessor_config.json");
    if !processor.is_file() {
        scratch::write(&processor, samples::preprocessor_config().to_string().as_bytes());
    }
    let encoder = read_encoder_config(&folder);
    if let Ok(shape) = &encoder {
        // As a run from scratch takes the image size of a config.
        if shape.validate().is_ok() {
            read_processor(&folder, shape, &mut Vec::new()).expect("every sound image size can be had");
        }
    }
    let Ok(config) = read_config(&folder) else { return };
    if let Ok(defaults) = GenerationDefaults::read(&folder, &config) {
        assert!(defaults.decoding.max_new_tokens > Some(0), "a caption has a token");
    }
    let decoder = DecoderConfig::from_hf(config.get("decoder").unwrap_or(&config));
    let encoder = encoder.ok().filter(|shape| shape.validate().is_ok()).unwrap_or(samples::shape().encoder);
    let decoder = decoder.unwrap_or(samples::shape().decoder);
    let declared = CaptionerShape { encoder, decoder }.parameter_specs().expect("sound configs").len();
    assert!(declared <= MOST_PARAMETERS, "{declared} parameters");
}

/// Valid configs, one per way of reading one.
fn configs() -> [Value; 9] {
    let timm = json!({ "architecture": "vit_tiny_patch16_224", "pretrained_cfg": { "input_size": [3, 224, 224] } });
    let clip =
        json!({ "model_type": "clip", "vision_config": { "model_type": "clip_vision_model", "image_size": 32 } });
    let siglip = json!({ "model_type": "siglip", "vision_config": { "image_size": 34, "hidden_act": "gelu" } });
    let dinov2 = json!({ "model_type": "dinov2_with_registers", "image_size": 32, "patch_size": 14, "mlp_ratio": 2,
        "num_register_tokens": 3, "layerscale_value": 0.5, "use_swiglu_ffn": false });
    let deit = json!({ "model_type": "deit", "image_size": 32, "qkv_bias": false });
    let open_clip = json!({ "model_cfg": { "quick_gelu": true, "vision_cfg": { "image_size": 32, "width": 128,
        "layers": 2, "patch_size": 16, "head_width": 64, "mlp_ratio": 2.5, "timm_model_name": null } } });
    let vit = samples::vit_config();
    [samples::captioner_config(), vit, samples::gpt2_config(), timm, clip, siglip, dinov2, deit, open_clip]
}

/// The weights of a valid folder. The first byte says what the others are: 1 the index of shards, of which one exists,
/// 2 patches of the valid weights, 3 edits of their header. Otherwise all bytes are `model.safetensors`.
pub fn weight_files(data: &[u8]) {
    static SOUND: OnceLock<Vec<u8>> = OnceLock::new();
    let folder = scratch::folder("weight_files");
    let sound = SOUND.get_or_init(|| samples::weights(&scratch::folder("samples")));
    for (name, content) in [
        ("config.json", samples::captioner_config()),
        ("preprocessor_config.json", samples::preprocessor_config()),
        ("tokenizer.json", samples::tokenizer()),
    ] {
        if !folder.join(name).is_file() {
            scratch::write(&folder.join(name), content.to_string().as_bytes());
        }
    }
    let (single, index) = (folder.join("model.safetensors"), folder.join("model.safetensors.index.json"));
    match data.split_first() {
        Some((1, text)) => {
            scratch::write(&folder.join("shard.safetensors"), sound);
            scratch::write(&index, text);
            scratch::remove(&single);
        }
        Some((2, patches)) => scratch::write(&single, &json::patched(sound, patches)),
        Some((3, edits)) => scratch::write(&single, &with_edited_header(sound, edits)),
        _ => scratch::write(&single, data),
    }
    for image_size in [None, Some(8)] {
        if let Ok(encoder) = read_encoder(&folder, image_size) {
            encoder.config.validate().expect("a shape that was read is sound");
        }
    }
    caption_with(&folder);
}

fn with_edited_header(sound: &[u8], edits: &[u8]) -> Vec<u8> {
    let (length, values) = sound.split_at(8);
    let length = u64::from_le_bytes(length.try_into().expect("there are eight bytes")) as usize;
    let (header, values) = values.split_at(length);
    let header = serde_json::from_slice(header).expect("the sound header is JSON");
    let header = json::edited(&header, edits).to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), values].concat()
}

/// Opens a checkpoint or a model's folder as `caption` does, and captions a picture if it opens.
pub fn caption_with(path: &Path) {
    /// Larger pictures and longer captions are valid, but too slow for a fuzzer.
    const MOST: usize = 64;
    let Ok(model) = CaptioningModel::open(path, &Device::Cpu) else { return };
    let longest = model.decoding.max_new_tokens.expect("an opened model knows its longest caption");
    let longest = longest.min(model.shape.decoder.num_positions());
    assert!(model.tokenizer.vocab_size() <= model.shape.decoder.vocab_size(), "every token has an embedding");
    let (height, width) = model.processor.output_size();
    assert_eq!((height, width), (model.shape.encoder.image_size(), model.shape.encoder.image_size()));
    if height > MOST || longest > MOST || model.decoding.num_beams > MOST {
        return;
    }
    // A resize to another size before the crop may be refused for this picture.
    let Ok(values) = model.processor.process(&RgbImage::new(3, 2)) else { return };
    let pixels = Tensor::from_vec(values, (1, 3, height, width), &Device::Cpu).expect("the processor fills its size");
    let writer = CaptionWriter::new(&model.captioner, &model.tokenizer, &model.decoding);
    // Weights that are not finite have no most probable token: an error.
    if let Ok(captions) = writer.write(&[ImageInput::Pixels(pixels)], &[&Prompt::default()], 0) {
        assert_eq!(captions.len(), 1);
    }
}
