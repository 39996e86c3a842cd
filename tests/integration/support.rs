//! What several tests need: small models, small batches, a small data set, the binary.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use base::digest::sha256;
use base::random::Stream;
use candle_core::{DType, Device, Tensor};
use caption_train::data::batch::Batch;
use caption_train::data::collate::{Framed, collate};
use caption_train::data::image_source::ImageInput;
use caption_train::decoding::Member;
use caption_train::model::captioner::{Captioner, CaptionerShape};
use caption_train::model::decoders::DecoderConfig;
use caption_train::model::decoders::bert::BertConfig;
use caption_train::model::decoders::gpt2::Gpt2Config;
use caption_train::model::encoders::EncoderConfig;
use caption_train::model::layers::HiddenActivation;
use caption_train::model::parameters::Parameters;
use datasets::shapes::{Drawing, draw_with};
use serde_json::Value;

pub(crate) const VOCABULARY: usize = 13;

/// The families of encoders.
pub(crate) const ENCODERS: [&str; 5] = ["vit", "clip_vision", "siglip_vision", "dinov2", "deit"];

/// A small model with odd sizes. Widths differ when there is a projection.
pub(crate) fn shape(encoder: &str, projection: bool, tied: bool) -> CaptionerShape {
    CaptionerShape { encoder: encoder_config(encoder), decoder: DecoderConfig::Gpt2(decoder_config(projection, tied)) }
}

fn encoder_config(kind: &str) -> EncoderConfig {
    let layer_norm_eps = if kind == "vit" { 1e-6 } else { 1e-5 };
    let mut fields = serde_json::json!({
        "kind": kind,
        "image_size": 21,
        "patch_size": 7,
        "hidden_size": 10,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 14,
        "layer_norm_eps": layer_norm_eps,
    });
    let own = match kind {
        // Two pixels fill no patch.
        "siglip_vision" => serde_json::json!({ "image_size": 23 }),
        "dinov2" => serde_json::json!({ "mlp_ratio": 1, "num_register_tokens": 2 }),
        _ => serde_json::json!({}),
    };
    let fields_of = fields.as_object_mut().unwrap();
    fields_of.extend(own.as_object().unwrap().clone());
    if kind == "dinov2" {
        fields_of.remove("intermediate_size");
    }
    serde_json::from_value(fields).unwrap()
}

pub(crate) fn decoder_config(projection: bool, tied: bool) -> Gpt2Config {
    Gpt2Config {
        vocab_size: VOCABULARY,
        hidden_size: if projection { 6 } else { 10 },
        num_layers: 2,
        num_heads: 2,
        intermediate_size: 9,
        num_positions: 8,
        hidden_act: HiddenActivation::GeluNew,
        dropout: 0.0,
        layer_norm_eps: 1e-5,
        initializer_range: 0.02,
        tie_word_embeddings: tied,
    }
}

/// A ViT with a small BERT: that of a `VisionEncoderDecoderModel`, with token types and a projection, or that of a BLIP.
pub(crate) fn shape_with_bert(is_blip: bool, tied: bool) -> CaptionerShape {
    let encoder = encoder_config("vit");
    let decoder = DecoderConfig::Bert(BertConfig {
        vocab_size: VOCABULARY,
        hidden_size: 6,
        encoder_hidden_size: if is_blip { encoder.hidden_size() } else { 6 },
        num_layers: 2,
        num_heads: 2,
        intermediate_size: 9,
        num_positions: 8,
        type_vocab_size: if is_blip { 0 } else { 2 },
        hidden_act: HiddenActivation::Gelu,
        dropout: 0.0,
        attention_dropout: None,
        layer_norm_eps: 1e-12,
        initializer_range: 0.02,
        tie_word_embeddings: tied,
    });
    CaptionerShape { encoder, decoder }
}

/// A captioner with each family of decoders.
pub(crate) fn shapes_by_decoder() -> [CaptionerShape; 3] {
    [shape("vit", true, true), shape_with_bert(false, false), shape_with_bert(true, true)]
}

/// A model that captions alone the images of these keys and values.
pub(crate) fn alone<'a>(model: &'a Captioner, key_values: &'a [Tensor]) -> [Member<'a>; 1] {
    [Member { decoder: model.decoder(), key_values }]
}

/// Every value drawn with the standard deviation 0.25, biases and LayerNorms too: with the usual first values a wrong
/// activation or a dropped bias would not show.
pub(crate) fn random_parameters(shape: &CaptionerShape, dtype: DType) -> Parameters {
    let mut loaded = BTreeMap::new();
    for spec in shape.parameter_specs().unwrap() {
        let mut stream = Stream::new(11, "test parameters", &spec.name);
        let is_norm = spec.name.to_lowercase().ends_with("norm.weight") || spec.name.contains("ln_");
        let shift = if is_norm { 1.0 } else { 0.0 };
        let values: Vec<f64> = (0..spec.shape.iter().product()).map(|_| shift + 0.25 * stream.normal()).collect();
        loaded.insert(spec.name, Tensor::from_vec(values, spec.shape, &Device::Cpu).unwrap());
    }
    Parameters::from_complete(&shape.parameter_specs().unwrap(), loaded, dtype, &Device::Cpu).unwrap()
}

pub(crate) fn random_tensor(name: &str, shape: &[usize], dtype: DType) -> Tensor {
    let mut stream = Stream::new(12, "test tensor", name);
    let values: Vec<f64> = (0..shape.iter().product()).map(|_| stream.normal()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

/// A batch of random pixels with these captions.
pub(crate) fn batch(shape: &CaptionerShape, captions: &[&[u32]], dtype: DType) -> Batch {
    let size = shape.encoder.image_size();
    // Each example has a picture of its own, whatever batch it is in: drawn by its first word.
    let pixels: Vec<Tensor> =
        captions.iter().map(|caption| random_tensor(&format!("{caption:?}"), &[1, 3, size, size], dtype)).collect();
    batch_of(Tensor::cat(&pixels, 0).unwrap(), captions)
}

/// What a decoder reads of framed captions, padded: (B, L).
pub(crate) fn padded_ids(captions: &[&[u32]], pad_id: u32) -> Tensor {
    let captions: Vec<Framed<'_>> = captions.iter().map(|&tokens| tokens.into()).collect();
    let tokens = collate(&captions, Some(pad_id));
    let shape = (captions.len(), tokens.longest());
    Tensor::from_vec(tokens.input_ids, shape, &Device::Cpu).unwrap()
}

pub(crate) fn batch_of(pixel_values: Tensor, captions: &[&[u32]]) -> Batch {
    let image_indices = (0..captions.len()).collect();
    Batch::new(ImageInput::Pixels(pixel_values), image_indices, captions, 0, &Device::Cpu).unwrap()
}

/// The largest difference between two tensors.
pub(crate) fn max_difference(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let difference = (a.to_dtype(DType::F64).unwrap() - b.to_dtype(DType::F64).unwrap()).unwrap();
    difference.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
}

/// A model that `tests/reference/models.py` made.
pub(crate) fn model_fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models").join(name)
}

/// A folder with 500 drawn training pictures of 4 captions each, 12 for validation and 12 for testing.
pub(crate) fn shapes_folder() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let drawing = Drawing { num_train: 500, num_val: 12, num_test: 12, side: 32, seed: 1 };
        draw_with(&drawing, folder.path()).unwrap();
        folder
    });
    folder.path()
}

/// A prepared data set of drawn pictures with these captions; the split of each picture stands before them.
pub(crate) fn data_set(folder: &Path, images: &[(&str, &[&str])]) {
    let drawn = shapes_folder().join("images");
    let mut pictures: Vec<PathBuf> = files_below(&drawn);
    pictures.sort();
    std::fs::create_dir_all(folder.join("images")).unwrap();
    let mut entries = Vec::new();
    for (number, (split, captions)) in images.iter().enumerate() {
        let filename = format!("{number}.png");
        std::fs::copy(&pictures[number], folder.join("images").join(&filename)).unwrap();
        let sentences: Vec<Value> = captions.iter().map(|raw| serde_json::json!({ "raw": raw })).collect();
        entries.push(serde_json::json!({ "filename": filename, "split": split, "sentences": sentences }));
    }
    std::fs::write(folder.join("dataset.json"), serde_json::json!({ "images": entries }).to_string()).unwrap();
}

/// A config that trains a small model on [`shapes_folder`] within seconds.
pub(crate) fn small_config(output: &Path) -> String {
    format!(
        r#"
output_dir = "{output}"
name = "run"
[data]
directory = "{data}"
cache_directory = "{output}/cache"
[tokenizer]
vocab_size = 280
[model.encoder]
pretrained = false
train = "full"
config = {{ kind = "vit", image_size = 32, patch_size = 16, hidden_size = 16, num_hidden_layers = 2, num_attention_heads = 2, intermediate_size = 32 }}
[model.decoder]
hidden_size = 16
num_layers = 2
num_heads = 2
intermediate_size = 32
max_seq_len = 24
dropout = 0.1
[training]
batch_size = 32
num_epochs = 1
log_interval = 1
max_grad_norm = 1.0
[schedule]
warmup_steps = 5
"#,
        output = output.display(),
        data = shapes_folder().display()
    )
}

/// It tells nobody of its runs, whatever the person who tests has set up.
pub(crate) fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_caption-train"));
    command.env("WANDB_MODE", "offline").env_remove("WANDB_API_KEY").env_remove("WANDB_DIR");
    command
}

/// Has the program take signals as when a user starts it, even if the tests were started with some of them ignored.
#[cfg(unix)]
#[expect(unsafe_code, reason = "the only way to change what a child process does before it runs")]
pub(crate) fn with_default_signals(command: &mut Command) {
    use std::os::unix::process::CommandExt as _;
    let set = || {
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            // SAFETY: changes a disposition, and may be called between fork and exec.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        Ok(())
    };
    // SAFETY: the function takes no lock and no memory.
    unsafe { command.pre_exec(set) };
}

/// Writes a config beside the output and trains; `extra` are more arguments.
pub(crate) fn train(folder: &Path, config: &str, extra: &[&str]) -> Output {
    let path = folder.join("run.toml");
    std::fs::write(&path, config).unwrap();
    binary().arg("--config").arg(&path).args(extra).output().unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The parts of a checkpoint's bytes: header, metadata, and the values of the tensors.
pub(crate) fn split_checkpoint(bytes: &[u8]) -> (Value, Value, Vec<u8>) {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let metadata = serde_json::from_str(header["__metadata__"]["caption_train"].as_str().unwrap()).unwrap();
    (header, metadata, bytes[8 + length..].to_vec())
}

/// A checkpoint's bytes with this header, whose metadata are these, digest and all.
pub(crate) fn join_checkpoint(mut header: Value, metadata: &Value, values: &[u8]) -> Vec<u8> {
    let text = metadata.to_string();
    header["__metadata__"]["caption_train_sha256"] = sha256(text.as_bytes()).into();
    header["__metadata__"]["caption_train"] = text.into();
    with_length(&header, values)
}

/// A safetensors file of this header and these values.
pub(crate) fn with_length(header: &Value, values: &[u8]) -> Vec<u8> {
    let mut header = header.to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    [&(header.len() as u64).to_le_bytes(), &header[..], values].concat()
}

/// The logged updates of a run: step and loss, as written.
pub(crate) fn losses(run: &Path) -> Vec<(u64, String)> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines
        .filter(|line| line["kind"] == "step")
        .map(|line| (line["step"].as_u64().unwrap(), line["loss"].to_string()))
        .collect()
}

pub(crate) fn last_checkpoint(run: &Path) -> PathBuf {
    run.join("checkpoints/last.safetensors")
}

/// Every file below `folder`; none when it is not there.
pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files
}
