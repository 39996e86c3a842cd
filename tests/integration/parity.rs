//! The numbers of PyTorch and transformers: models that `tests/reference/{models,encoders,blip}.py` made, and what they
//! computed.

use std::collections::HashMap;
use std::path::PathBuf;

use base::worker_pools::WorkerPools;
use candle_core::{DType, Device, Tensor};
use caption_train::config::DecodingConfig;
use caption_train::config::{EncoderTraining, OptimizerConfig, ScheduleConfig, ScheduleKind};
use caption_train::data::batch::Batch;
use caption_train::data::image_source::ImageInput;
use caption_train::data::pieces::Piece;
use caption_train::decoding::{DecodedCaption, Decoding, decode_after};
use caption_train::evaluation::token_loss::scalar;
use caption_train::hf::folder::read_config;
use caption_train::hf::read::{read_captioner, read_decoder, read_encoder};
use caption_train::model::builder::record;
use caption_train::model::captioner::{Captioner, CaptionerShape};
use caption_train::model::decoders::Mode;
use caption_train::model::parameters::Parameters;
use caption_train::model::stages::Uncut;
use caption_train::training::collective::Alone;
use caption_train::training::loss::{Loss as _, TokenCrossEntropy};
use caption_train::training::optimizer::Optimizer;
use caption_train::training::schedule::learning_rate_factor;
use caption_train::training::train_step::{StepSettings, compute_gradients, train_step};
use ops::Precision;
use serde::Deserialize;

use crate::support::{alone, max_difference, model_fixture, padded_ids};

/// Both sides compute in f64, through a handful of layers.
const LOGITS_F64: f64 = 1e-9;
const GRADIENT_F64: f64 = 1e-8;
/// The resampled table is kept in f32, whatever computes with it.
const RESAMPLED: f64 = 1e-6;
/// transformers resamples that of a DINOv2 in f32.
const RESAMPLED_IN_F32: f64 = 1e-5;
/// In f32, relative to the largest logit.
const LOGITS_F32: f64 = 1e-5;
/// In f32, relative to the norm of a gradient, and to that of all gradients: the true gradient of a key's bias is 0.
const GRADIENT_F32: f64 = 1e-4;
const GRADIENT_F32_GLOBAL: f64 = 1e-6;
/// In f32, over 20 updates.
const LOSS_F32: f64 = 1e-4;
const SETTINGS: StepSettings<'_> = StepSettings {
    loss: &TokenCrossEntropy { label_smoothing: 0.0 },
    precision: Precision::Full,
    seed: 0,
    dropout: 0.0,
    recompute: false,
    max_grad_norm: None,
    collective: &Alone,
};

fn fixtures() -> PathBuf {
    model_fixture("")
}

#[derive(Deserialize)]
struct Facts {
    /// Start, caption and end of the two captions.
    frames: Vec<Vec<u32>>,
    loss: f64,
    /// With a label smoothing of 0.1.
    smoothed_loss: f64,
    /// What the model writes about each picture, without start and end.
    greedy: Vec<Vec<u32>>,
    run: Option<Run>,
    /// Special tokens of a model whose `config.json` has other names for them.
    start: Option<u32>,
    end: Option<u32>,
    pad: Option<u32>,
}

/// The run of 20 updates.
#[derive(Deserialize)]
struct Run {
    learning_rate: f64,
    encoder_learning_rate: f64,
    layer_decay: f64,
    betas: [f64; 2],
    eps: f64,
    weight_decay: f64,
    max_grad_norm: f64,
    warmup_steps: usize,
    num_updates: u64,
    label_smoothing: f64,
    frames: Vec<Vec<u32>>,
    /// For each update its micro-batches, as indices of `frames`; picture i modulo their number belongs to frame i.
    updates: Vec<Vec<Vec<usize>>>,
    losses: Vec<f64>,
    grad_norms: Vec<f64>,
}

struct Case {
    shape: CaptionerShape,
    parameters: Parameters,
    tensors: HashMap<String, Tensor>,
    facts: Facts,
    dtype: DType,
    pad: u32,
    start: u32,
    end: u32,
}

fn expected_tensors(name: &str) -> HashMap<String, Tensor> {
    let path = fixtures().join(format!("expected_{name}.safetensors"));
    candle_core::safetensors::load(&path, &Device::Cpu)
        .unwrap_or_else(|error| panic!("{}: {error}; tests/reference/models.py makes it", path.display()))
}

impl Case {
    fn load(name: &str, dtype: DType) -> Self {
        let read = read_captioner(&fixtures().join(name), None).unwrap();
        // A DINOv2 has a mask token for pretraining.
        assert!(read.unused.iter().all(|name| name == "encoder.embeddings.mask_token"), "{:?}", read.unused);
        let specs = read.config.parameter_specs().unwrap();
        let parameters = Parameters::from_complete(&specs, read.tensors, dtype, &Device::Cpu).unwrap();
        let facts = std::fs::read_to_string(fixtures().join(format!("expected_{name}.json"))).unwrap();
        let facts: Facts = serde_json::from_str(&facts).unwrap();
        let config = read_config(&fixtures().join(name)).unwrap();
        let id = |key: &str, fact: Option<u32>| {
            fact.unwrap_or_else(|| u32::try_from(config[key].as_u64().unwrap()).unwrap())
        };
        Self {
            start: id("decoder_start_token_id", facts.start),
            end: id("eos_token_id", facts.end),
            pad: id("pad_token_id", facts.pad),
            shape: read.config,
            parameters,
            tensors: expected_tensors(name),
            facts,
            dtype,
        }
    }

    fn model(&self) -> Captioner {
        Captioner::build(&self.shape, &self.parameters.tracked()).unwrap()
    }

    fn pixels(&self, images: &[usize]) -> Tensor {
        let all = self.tensors["pixel_values"].to_dtype(self.dtype).unwrap();
        let rows: Vec<u32> = images.iter().map(|&image| u32::try_from(image).unwrap()).collect();
        all.index_select(&Tensor::new(rows, &Device::Cpu).unwrap(), 0).unwrap()
    }

    fn batch(&self, images: &[usize], frames: &[&[u32]]) -> Batch {
        let pixels = ImageInput::Pixels(self.pixels(images));
        Batch::new(pixels, images.to_vec(), frames, self.pad, &Device::Cpu).unwrap()
    }

    /// The two pictures with their captions.
    fn two(&self) -> Batch {
        let frames: Vec<&[u32]> = self.facts.frames.iter().map(Vec::as_slice).collect();
        self.batch(&[0, 1], &frames)
    }
}

fn norm(tensor: &Tensor) -> f64 {
    tensor.to_dtype(DType::F64).unwrap().sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap().sqrt()
}

fn difference(a: &Tensor, b: &Tensor) -> Tensor {
    (a.to_dtype(DType::F64).unwrap() - b.to_dtype(DType::F64).unwrap()).unwrap()
}

fn largest(tensor: &Tensor) -> f64 {
    max_difference(tensor, &tensor.zeros_like().unwrap())
}

const NAMES: [&str; 8] =
    ["vit_gpt2", "clip_gpt2", "siglip_gpt2", "dinov2_gpt2", "registers_gpt2", "deit_gpt2", "blip", "vit_bert"];
/// Those whose captions are known under many settings.
const DECODED: [&str; 4] = ["vit_gpt2", "clip_gpt2", "blip", "vit_bert"];
/// Those with a run of updates.
const TRAINED: [&str; 3] = ["vit_gpt2", "registers_gpt2", "blip"];

#[test]
fn encoder_states_equal_those_of_transformers() {
    for name in NAMES {
        let case = Case::load(name, DType::F64);
        let states = case.model().encode(&case.pixels(&[0, 1])).unwrap();
        assert!(max_difference(&states, &case.tensors["encoder_hidden_states"]) < LOGITS_F64, "{name}");
    }
}

#[test]
fn another_image_size_gives_the_states_of_interpolated_positions() {
    for (name, patch, remainder, bound) in [
        ("vit_gpt2", 14, 0, RESAMPLED),
        ("blip", 5, 0, RESAMPLED),
        ("siglip_gpt2", 3, 2, RESAMPLED),
        ("deit_gpt2", 3, 0, RESAMPLED),
        ("dinov2_gpt2", 3, 0, RESAMPLED_IN_F32),
        ("registers_gpt2", 3, 0, RESAMPLED_IN_F32),
    ] {
        let expected = expected_tensors(name);
        for patches in [2, 5] {
            let side = patch * patches + remainder;
            let read = read_captioner(&fixtures().join(name), Some(side)).unwrap();
            assert_eq!(read.config.encoder.image_size(), side);
            let specs = read.config.parameter_specs().unwrap();
            let parameters = Parameters::from_complete(&specs, read.tensors, DType::F64, &Device::Cpu).unwrap();
            let pixels: Vec<f64> = (0..3 * side * side).map(|index| (index as f64 * 0.37).sin()).collect();
            let pixels = Tensor::from_vec(pixels, (1, 3, side, side), &Device::Cpu).unwrap();
            let states = Captioner::build(&read.config, &parameters.detached()).unwrap().encode(&pixels).unwrap();
            let found = max_difference(&states, &expected[&format!("resampled.{patches}")]);
            assert!(found < bound, "{name}, {patches} x {patches} patches: {found}");
        }
    }
}

#[test]
fn an_encoder_inside_of_another_model_gives_its_states() {
    for (name, left_out) in [
        ("clip", "logit_scale"),
        ("siglip", "vision_model.head.probe"),
        ("vit_mae", "decoder."),
        ("vit_msn", "classifier."),
    ] {
        let read = read_encoder(&fixtures().join(name), None).unwrap();
        assert!(read.unused.iter().any(|name| name.starts_with(left_out)), "{:?}", read.unused);
        let is_wanted = |name: &String| name.starts_with("vision_model.") && !name.starts_with("vision_model.head.");
        assert!(!read.unused.iter().any(is_wanted), "{:?}", read.unused);
        let specs = record(|builder| read.config.build(builder)).unwrap();
        let parameters = Parameters::from_complete(&specs, read.tensors, DType::F64, &Device::Cpu).unwrap();
        let encoder = read.config.build(&parameters.detached()).unwrap();
        let expected = expected_tensors(name);
        let states = encoder.forward(&expected["pixel_values"].to_dtype(DType::F64).unwrap(), &mut Uncut).unwrap();
        assert!(max_difference(&states, &expected["encoder_hidden_states"]) < LOGITS_F64, "{name}");
    }
}

#[test]
fn logits_equal_those_of_transformers() {
    for name in NAMES {
        for (dtype, relative) in [(DType::F64, false), (DType::F32, true)] {
            let case = Case::load(name, dtype);
            let frames: Vec<&[u32]> = case.facts.frames.iter().map(Vec::as_slice).collect();
            let ids = padded_ids(&frames, case.pad);
            let logits = case.model().forward(&case.pixels(&[0, 1]), &ids, Mode::Eval).unwrap();
            let expected = &case.tensors["logits"];
            let bound = if relative { LOGITS_F32 * largest(expected) } else { LOGITS_F64 };
            let found = max_difference(&logits, expected);
            assert!(found <= bound, "{name} in {dtype:?}: {found}, at most {bound}");
        }
    }
}

#[test]
fn a_plain_gpt2_gives_the_logits_of_transformers_when_no_picture_speaks() {
    let read = read_decoder(&fixtures().join("gpt2")).unwrap();
    assert!(read.unused.is_empty(), "{:?}", read.unused);
    let encoder = read_captioner(&fixtures().join("clip_gpt2"), None).unwrap().config.encoder;
    let shape = CaptionerShape { encoder, decoder: read.config.clone() };
    let loaded = read.into_part("decoder").collect();
    let parameters =
        Parameters::create(&shape.parameter_specs().unwrap(), loaded, 1, DType::F64, &Device::Cpu).unwrap();
    for (_, parameter) in parameters.iter().filter(|(name, _)| name.contains("crossattention.c_proj")) {
        parameter.var.set(&parameter.var.zeros_like().unwrap()).unwrap();
    }
    let expected = expected_tensors("gpt2");
    let pixels = Tensor::ones((2, 3, 64, 64), DType::F64, &Device::Cpu).unwrap();
    let input_ids = expected["input_ids"].to_dtype(DType::U32).unwrap();
    let model = Captioner::build(&shape, &parameters.detached()).unwrap();
    let logits = model.forward(&pixels, &input_ids, Mode::Eval).unwrap();
    assert!(max_difference(&logits, &expected["logits"]) < LOGITS_F64);
}

#[test]
fn the_loss_leaves_padding_out_also_where_pad_is_the_end_token() {
    for name in NAMES {
        let case = Case::load(name, DType::F64);
        let batch = case.two();
        assert_ne!(case.facts.frames[0].len(), case.facts.frames[1].len());
        assert_eq!(case.pad == case.end, name == "vit_gpt2");
        for (smoothing, expected) in [(0.0, case.facts.loss), (0.1, case.facts.smoothed_loss)] {
            let cross_entropy = TokenCrossEntropy { label_smoothing: smoothing };
            let sum = cross_entropy.sum(&case.model(), &batch, Mode::Eval, &mut Uncut).unwrap();
            let loss = scalar(&sum).unwrap() / batch.weight();
            assert!((loss - expected).abs() < LOGITS_F64, "{name}: {loss} against {expected}");
        }
    }
}

#[test]
fn the_gradient_of_every_parameter_equals_that_of_torch() {
    for name in NAMES {
        for dtype in [DType::F64, DType::F32] {
            let case = Case::load(name, dtype);
            let pools = WorkerPools::alone();
            let (_, gradients) =
                compute_gradients(&case.shape, &case.parameters, &Piece::in_order([case.two()]), 0, &SETTINGS, &pools)
                    .unwrap();
            let expected: HashMap<&str, &Tensor> = case
                .tensors
                .iter()
                .filter_map(|(name, tensor)| name.strip_prefix("gradient.").map(|name| (name, tensor)))
                .collect();
            let global = expected.values().map(|gradient| norm(gradient).powi(2)).sum::<f64>().sqrt();
            let mut compared = 0;
            for (parameter, _) in case.parameters.trainable() {
                let theirs = expected[file_name(parameter).as_str()];
                let found = norm(&difference(gradients.get(parameter).unwrap(), theirs));
                let bound = match dtype {
                    DType::F64 => GRADIENT_F64,
                    _ => GRADIENT_F32 * norm(theirs) + GRADIENT_F32_GLOBAL * global,
                };
                assert!(found <= bound, "{name} in {dtype:?}, {parameter}: {found}, at most {bound}");
                compared += 1;
            }
            assert_eq!(compared, expected.len(), "{name}");
        }
    }
}

/// CLIP's tower has a prefix here, as in most files, which this version of transformers leaves out in a captioner.
fn file_name(parameter: &str) -> String {
    parameter.replace("encoder.vision_model.", "encoder.")
}

/// Trains as the fixture's run says and gives loss and gradient norm of each update; `after` sees the parameters.
fn train(case: &Case, run: &Run, mut after: impl FnMut(u64, &Parameters)) -> Vec<(f64, f64)> {
    let config = OptimizerConfig {
        learning_rate: run.learning_rate,
        betas: run.betas,
        eps: run.eps,
        weight_decay: run.weight_decay,
        encoder_learning_rate: Some(run.encoder_learning_rate),
        layer_decay: run.layer_decay,
        ..OptimizerConfig::default()
    };
    let schedule = ScheduleConfig { kind: ScheduleKind::Linear, warmup_steps: run.warmup_steps };
    let loss = TokenCrossEntropy { label_smoothing: run.label_smoothing };
    let settings = StepSettings { loss: &loss, max_grad_norm: Some(run.max_grad_norm), ..SETTINGS };
    let mut optimizer = Optimizer::new(&case.parameters, &case.shape, &config).unwrap();
    let num_images = case.tensors["pixel_values"].dim(0).unwrap();
    let mut outcomes = Vec::new();
    for (step, update) in (0..).zip(&run.updates) {
        let batches: Vec<Batch> = update
            .iter()
            .map(|indices| {
                let frames: Vec<&[u32]> = indices.iter().map(|&index| run.frames[index].as_slice()).collect();
                let images: Vec<usize> = indices.iter().map(|index| index % num_images).collect();
                case.batch(&images, &frames)
            })
            .collect();
        let batches = Piece::in_order(batches);
        let rate = run.learning_rate * learning_rate_factor(&schedule, step, run.num_updates);
        let pools = WorkerPools::alone();
        let pending =
            train_step(&case.shape, &case.parameters, &mut optimizer, &batches, step, rate, &settings, &pools).unwrap();
        let outcome = pending.read(&mut optimizer).unwrap();
        outcomes.push((outcome.loss.mean(), outcome.grad_norm));
        after(step, &case.parameters);
    }
    outcomes
}

#[test]
fn twenty_updates_give_the_losses_and_norms_of_torch() {
    for (name, dtype, bound) in
        TRAINED.iter().flat_map(|name| [(name, DType::F64, LOGITS_F64), (name, DType::F32, LOSS_F32)])
    {
        let case = Case::load(name, dtype);
        let run = case.facts.run.as_ref().unwrap();
        let outcomes = train(&case, run, |_, _| {});
        assert_eq!(outcomes.len(), 20);
        for (step, ((loss, norm), (their_loss, their_norm))) in
            outcomes.iter().zip(run.losses.iter().zip(&run.grad_norms)).enumerate()
        {
            assert!(
                (loss - their_loss).abs() <= bound,
                "{name} in {dtype:?}, update {step}: {loss} against {their_loss}"
            );
            assert!(
                (norm - their_norm).abs() <= 10.0 * bound,
                "{name} in {dtype:?}, update {step}: {norm} against {their_norm}"
            );
        }
    }
}

#[test]
fn one_step_of_adamw_changes_every_parameter_as_torch_does() {
    for name in ["vit_gpt2", "registers_gpt2"] {
        let case = Case::load(name, DType::F64);
        let run = case.facts.run.as_ref().unwrap();
        let mut compared = 0;
        train(&case, run, |step, parameters| {
            // The first update has the learning rate 0.
            if step == 1 {
                for (name, var) in parameters.trainable() {
                    let expected = &case.tensors[&format!("after_2.{}", file_name(name))];
                    assert!(max_difference(var.as_tensor(), expected) < GRADIENT_F64, "{name}");
                    compared += 1;
                }
            }
        });
        assert_eq!(compared, case.tensors.keys().filter(|name| name.starts_with("after_2.")).count());
    }
}

/// The captions of all pictures.
fn captions(case: &Case, config: &DecodingConfig, num_captions: usize, prompt: &[u32]) -> Vec<Vec<DecodedCaption>> {
    let model = Captioner::build(&case.shape, &case.parameters.detached()).unwrap();
    let images: Vec<usize> = (0..case.facts.greedy.len()).collect();
    let key_values = model.cross_key_values(&model.encode(&case.pixels(&images)).unwrap()).unwrap();
    let mut decoding = Decoding::from_config(config, case.start, case.end, case.shape.decoder.num_positions());
    decoding.num_captions = num_captions;
    decode_after(&alone(&model, &key_values), &vec![prompt; images.len()], &decoding, |image| image).unwrap()
}

#[test]
fn greedy_captions_equal_those_of_generate_token_by_token() {
    for name in NAMES {
        for dtype in [DType::F64, DType::F32] {
            let case = Case::load(name, dtype);
            let found = captions(&case, &DecodingConfig::default(), 1, &[]);
            let tokens: Vec<Vec<u32>> = found.into_iter().map(|mut captions| captions.remove(0).tokens).collect();
            assert_eq!(tokens, case.facts.greedy, "{name} in {dtype:?}");
        }
    }
}

/// What `generate` wrote with one setting.
#[derive(Deserialize)]
struct Generated {
    /// What captions continue, without the start token.
    #[serde(default)]
    prompt: Vec<u32>,
    end: u32,
    setting: serde_json::Map<String, serde_json::Value>,
    captions: Vec<Vec<Vec<u32>>>,
    scores: Option<Vec<Vec<f64>>>,
}

/// A score is a mean of log-probabilities, which transformers adds up in f32.
const SCORE: f64 = 1e-5;

/// What `generate` wrote, and what its captions looked at.
fn decoding_fixture(name: &str) -> serde_json::Value {
    let path = fixtures().join(format!("expected_decoding_{name}.json"));
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; tests/reference/decoding.py makes it", path.display()));
    serde_json::from_str(&text).unwrap()
}

/// transformers gives its weights from the attention that makes the softmax of the encoder in f32.
const WEIGHT: f64 = 1e-7;

#[test]
fn what_a_caption_looks_at_equals_the_cross_attentions_of_transformers() {
    for name in DECODED {
        let case = Case::load(name, DType::F64);
        let mut expected = decoding_fixture(name)["attention"].take();
        let tokens: Vec<Vec<u32>> = serde_json::from_value(expected["tokens"].take()).unwrap();
        let weights: Vec<Vec<Vec<f64>>> = serde_json::from_value(expected["weights"].take()).unwrap();
        let model = Captioner::build(&case.shape, &case.parameters.detached()).unwrap();
        let images: Vec<usize> = (0..tokens.len()).collect();
        let key_values = model.cross_key_values(&model.encode(&case.pixels(&images)).unwrap()).unwrap();
        let input_ids = Tensor::new(tokens, &Device::Cpu).unwrap();
        let found = model.decoder().cross_attention_weights(&input_ids, &key_values).unwrap();
        let difference = largest(&difference(&found, &Tensor::new(weights, &Device::Cpu).unwrap()));
        assert!(difference < WEIGHT, "{name}: {difference}");
    }
}

#[test]
fn captions_and_scores_equal_those_of_generate_under_every_setting() {
    for name in DECODED {
        let mut fixture = decoding_fixture(name);
        let mut settings: Vec<Generated> = serde_json::from_value(fixture["captions"].take()).unwrap();
        assert!(settings.len() > 30, "{}", settings.len());
        if name == "blip" {
            settings.extend(serde_json::from_value::<Vec<Generated>>(fixture["prompts"].take()).unwrap());
        }
        for dtype in [DType::F64, DType::F32] {
            let mut case = Case::load(name, dtype);
            for Generated { prompt, end, setting, captions: expected, scores } in &settings {
                case.end = *end;
                let mut setting = setting.clone();
                let num_captions = setting.remove("num_return_sequences").map_or(1, |count| count.as_u64().unwrap());
                let config: DecodingConfig = serde_json::from_value(setting.into()).unwrap();
                let found = captions(&case, &config, num_captions as usize, prompt);
                let tokens: Vec<Vec<Vec<u32>>> =
                    found.iter().map(|captions| captions.iter().map(|c| c.tokens.clone()).collect()).collect();
                assert_eq!(tokens, *expected, "{name} in {dtype:?} after {prompt:?}: {config:?}");
                for (caption, score) in found.iter().flatten().zip(scores.iter().flatten().flatten()) {
                    let length = caption.log_probabilities.len() as f64;
                    let own = caption.log_probability() / length.powf(config.length_penalty);
                    assert!((own - score).abs() < SCORE * score.abs().max(1.0), "{name}: {config:?}: {own} {score}");
                }
            }
        }
    }
}

#[test]
fn a_frozen_encoder_of_the_fixture_trains_the_decoder_alone() {
    let mut case = Case::load("vit_gpt2", DType::F64);
    case.shape.freeze(&mut case.parameters, EncoderTraining::Frozen);
    let (_, gradients) = compute_gradients(
        &case.shape,
        &case.parameters,
        &Piece::in_order([case.two()]),
        0,
        &SETTINGS,
        &WorkerPools::alone(),
    )
    .unwrap();
    for (name, _) in case.parameters.trainable() {
        assert!(!name.starts_with("encoder."));
        let expected = &case.tensors[&format!("gradient.{name}")];
        assert!(max_difference(gradients.get(name).unwrap(), expected) < GRADIENT_F64, "{name}");
    }
}
