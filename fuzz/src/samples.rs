//! The smallest valid files, for the fuzzers to damage.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use caption_train::config::{EncoderTraining, RunConfig};
use caption_train::model::captioner::CaptionerShape;
use caption_train::model::parameters::Parameters;
use caption_train::model::tensor_file::write_tensors;
use caption_train::run::checkpoint::layout::{CheckpointMetadata, FORMAT_VERSION};
use caption_train::run::checkpoint::writer::write_checkpoint;
use caption_train::training::optimizer::Optimizer;
use caption_train::training::train_state::TrainState;
use pixels::image_processor::ImageProcessor;
use serde_json::{Value, json};

/// Tokens of [`tokenizer`].
const VOCABULARY: usize = 17;

/// A byte-level BPE with as few bytes as the program accepts.
pub fn tokenizer() -> Value {
    let special = |(id, text): (usize, &&str)| {
        json!({
            "id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": true
        })
    };
    let bytes = |prefix: bool, trim: bool| json!({ "type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": trim, "use_regex": true });
    let tokens = [
        "<pad>", "<start>", "<end>", "<unk>", "a", "m", "n", ",", "t", "w", "o", "d", "g", "s", "\u{120}", "\u{120}d",
        "og",
    ];
    assert_eq!(tokens.len(), VOCABULARY);
    let vocab: serde_json::Map<String, Value> =
        tokens.iter().enumerate().map(|(id, token)| ((*token).to_owned(), json!(id))).collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": tokens[..4].iter().enumerate().map(special).collect::<Vec<_>>(),
        "normalizer": null,
        "pre_tokenizer": bytes(false, true),
        "post_processor": bytes(true, false),
        "decoder": bytes(true, true),
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": [["\u{120}", "d"], ["o", "g"]]
        }
    })
}

/// The smallest captioner with every part.
pub fn shape() -> CaptionerShape {
    let shape = json!({
        "encoder": {
            "kind": "vit",
            "image_size": 4,
            "patch_size": 2,
            "hidden_size": 2,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "intermediate_size": 2,
            "layer_norm_eps": 1e-6
        },
        "decoder": {
            "vocab_size": VOCABULARY,
            "hidden_size": 4,
            "num_layers": 1,
            "num_heads": 2,
            "intermediate_size": 4,
            "num_positions": 4,
            "hidden_act": "gelu_new",
            "dropout": 0.0,
            "layer_norm_eps": 1e-5,
            "initializer_range": 0.02,
            "tie_word_embeddings": true
        }
    });
    serde_json::from_value(shape).expect("every field is there")
}

/// The `config.json` of that captioner.
pub fn captioner_config() -> Value {
    json!({ "model_type": "vision-encoder-decoder", "encoder": vit_config(), "decoder": gpt2_config() })
}

/// The `config.json` of just its encoder.
pub fn vit_config() -> Value {
    json!({
        "model_type": "vit", "image_size": 4, "patch_size": 2, "hidden_size": 2, "num_hidden_layers": 1,
        "num_attention_heads": 1, "intermediate_size": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-6,
        "initializer_range": 0.02, "qkv_bias": true, "num_channels": 3
    })
}

/// The `config.json` of just its decoder.
pub fn gpt2_config() -> Value {
    json!({
        "model_type": "gpt2", "vocab_size": VOCABULARY, "n_embd": 4, "n_layer": 1, "n_head": 2, "n_inner": 4,
        "n_positions": 4, "activation_function": "gelu_new", "resid_pdrop": 0.0, "layer_norm_epsilon": 1e-5,
        "initializer_range": 0.02, "tie_word_embeddings": true, "bos_token_id": 1, "eos_token_id": 2,
        "pad_token_id": 0, "decoder_start_token_id": 1, "max_length": 4
    })
}

/// The `preprocessor_config.json` of that captioner.
pub fn preprocessor_config() -> Value {
    ImageProcessor::plain(4).to_preprocessor_config()
}

/// Zeros for every parameter of the captioner.
fn tensors() -> BTreeMap<String, Tensor> {
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).expect("small tensors can be made");
    shape().parameter_specs().expect("a sound shape").into_iter().map(|spec| (spec.name, zeros(&spec.shape))).collect()
}

/// The `model.safetensors` of that captioner.
pub fn weights(folder: &Path) -> Vec<u8> {
    let path = folder.join("sound.safetensors");
    let tensors: Vec<(String, Tensor)> = tensors().into_iter().collect();
    write_tensors(&path, &tensors, HashMap::new()).expect("sound weights can be written");
    fs::read(path).expect("what was written can be read")
}

/// A checkpoint of that captioner, as a run writes it. The encoder is frozen, which halves the file.
pub fn checkpoint(folder: &Path) -> Vec<u8> {
    let (path, shape) = (folder.join("sound.safetensors"), shape());
    let mut config = RunConfig::default();
    config.data.directory = Some("data".into());
    config.model.encoder.name = Some("encoder".to_owned());
    config.model.decoder.max_seq_len = shape.decoder.num_positions();
    config.tokenizer.lowercase = false;
    let mut parameters = Parameters::from_complete(
        &shape.parameter_specs().expect("a sound shape"),
        tensors(),
        DType::F32,
        &Device::Cpu,
    )
    .expect("every parameter is there");
    shape.freeze(&mut parameters, EncoderTraining::Frozen);
    let optimizer = Optimizer::new(&parameters, &shape, &config.optimizer).expect("small moments can be made");
    let metadata = CheckpointMetadata {
        format_version: FORMAT_VERSION,
        written_by: "fuzz".to_owned(),
        state: TrainState::default(),
        optimizer_step: 0,
        total_updates: 9,
        image_processor: ImageProcessor::plain(shape.encoder.image_size()),
        tokenizer: tokenizer().to_string(),
        dataset_digest: "0".repeat(64),
        config,
        shape,
        tensors_digest: String::new(),
        base: None,
        start: None,
        average_of: Vec::new(),
    };
    write_checkpoint(&path, &metadata, &TrainState::default(), &parameters, &optimizer)
        .expect("a sound checkpoint can be written");
    fs::read(path).expect("what was written can be read")
}
