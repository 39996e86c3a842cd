//! Adapters of low rank: the numbers of PEFT, which parameters are trained, what checkpoints hold and name, exports.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use base::error::describe;
use base::random::Stream;
use base::worker_pools::WorkerPools;
use candle_core::{DType, Device, Tensor};
use caption_train::config::{DecodingConfig, LoraConfig, OptimizerConfig, Targets};
use caption_train::data::batch::Batch;
use caption_train::data::image_source::ImageInput;
use caption_train::data::pieces::Piece;
use caption_train::decoding::{Decoding, decode};
use caption_train::hf::adapter::{self, Adapter};
use caption_train::hf::read::read_captioner;
use caption_train::model::captioner::{Captioner, CaptionerShape};
use caption_train::model::decoders::Mode;
use caption_train::model::lora::{DOWN, UP};
use caption_train::model::parameters::Parameters;
use caption_train::model::role::{AdaptedParts, EncoderTraining, Kind, Part, Trained};
use caption_train::run::checkpoint::reader::{read_checkpoint, read_metadata};
use caption_train::training::collective::Alone;
use caption_train::training::loss::TokenCrossEntropy;
use caption_train::training::optimizer::Optimizer;
use caption_train::training::train_step::{StepSettings, compute_gradients, train_step};
use ops::Precision;
use serde_json::Value;

use crate::support::{
    ENCODERS, batch, binary, join_checkpoint, last_checkpoint, losses, max_difference, model_fixture, padded_ids,
    random_parameters, shape, shapes_folder, split_checkpoint, stderr, train,
};

const SETTINGS: StepSettings<'_> = StepSettings {
    loss: &TokenCrossEntropy { label_smoothing: 0.0 },
    precision: Precision::Full,
    seed: 0,
    dropout: 0.0,
    recompute: false,
    max_grad_norm: None,
    collective: &Alone,
};
const LOGITS: f64 = 1e-9;
const GRADIENT: f64 = 1e-8;
/// In f32: a sum of two products against a product with their sum.
const MERGED: f64 = 1e-5;

/// Nothing but the adapter is trained.
const BOTH: Trained = Trained {
    encoder: EncoderTraining::Frozen,
    adapted: Some(AdaptedParts { encoder: true, decoder: true, has_new_connections: false }),
};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/lora")
}

/// As tests/reference/lora.py makes it, with the names of layers in files.
fn config_of_fixture() -> LoraConfig {
    let layers = r"encoder\.encoder\.layer\.\d+\.(attention\.attention\.(query|value)|output\.dense)|decoder\.transformer\.h\.\d+\.(attn\.c_attn|crossattention\.(c_attn|q_attn)|mlp\.c_proj)";
    LoraConfig { rank: 3, alpha: 5.0, targets: Some(Targets::Expression(layers.to_owned())), ..LoraConfig::default() }
}

fn load(path: &Path) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(path, &Device::Cpu)
        .unwrap_or_else(|error| panic!("{}: {error}; tests/reference/lora.py makes it", path.display()))
}

/// The model with the adapter of PEFT.
struct Case {
    shape: CaptionerShape,
    parameters: Parameters,
    expected: HashMap<String, Tensor>,
    facts: Value,
    pixels: Tensor,
}

impl Case {
    fn load(dtype: DType) -> Self {
        let read = read_captioner(&model_fixture("vit_gpt2"), None).unwrap();
        let (lora, mut tensors) = (config_of_fixture(), read.tensors);
        let mut specs = read.config.parameter_specs().unwrap();
        let adapter = lora.specs(&specs, |_| true).unwrap();
        let saved = load(&fixture().join("adapter/adapter_model.safetensors"));
        assert_eq!(adapter.len(), saved.len());
        for spec in &adapter {
            tensors.insert(spec.name.clone(), saved[&peft_name(&read.config, &spec.name)].clone());
        }
        specs.extend(adapter);
        let parameters = Parameters::from_complete(&specs, tensors, dtype, &Device::Cpu).unwrap();
        let mut parameters = parameters.adapted_by(&lora);
        read.config.freeze(&mut parameters, BOTH);
        let pixels = load(&model_fixture("expected_vit_gpt2.safetensors"))["pixel_values"].to_dtype(dtype).unwrap();
        let facts = std::fs::read_to_string(fixture().join("expected.json")).unwrap();
        let expected = load(&fixture().join("expected.safetensors"));
        Self { shape: read.config, parameters, expected, facts: serde_json::from_str(&facts).unwrap(), pixels }
    }

    fn frames(&self) -> Vec<Vec<u32>> {
        serde_json::from_value(self.facts["frames"].clone()).unwrap()
    }

    fn batch(&self) -> Batch {
        let frames = self.frames();
        let frames: Vec<&[u32]> = frames.iter().map(Vec::as_slice).collect();
        let pixels = ImageInput::Pixels(self.pixels.narrow(0, 0, frames.len()).unwrap());
        Batch::new(pixels, vec![0, 1], &frames, frames[0][0], &Device::Cpu).unwrap()
    }

    fn logits(&self, parameters: &Parameters) -> Tensor {
        let model = Captioner::build(&self.shape, &parameters.detached()).unwrap();
        let frames = self.frames();
        let frames: Vec<&[u32]> = frames.iter().map(Vec::as_slice).collect();
        let pixels = self.pixels.narrow(0, 0, frames.len()).unwrap();
        model.forward(&pixels, &padded_ids(&frames, frames[0][0]), Mode::Eval).unwrap()
    }

    fn greedy(&self, parameters: &Parameters) -> Vec<Vec<u32>> {
        let model = Captioner::build(&self.shape, &parameters.detached()).unwrap();
        let key_values = model.cross_key_values(&model.encode(&self.pixels).unwrap()).unwrap();
        let end = u32::try_from(self.facts["frames"][0][0].as_u64().unwrap()).unwrap();
        let config = DecodingConfig::default();
        let decoding = Decoding::from_config(&config, end, end, self.shape.decoder.num_positions());
        let captions = decode(model.decoder(), &key_values, &decoding, 0).unwrap();
        captions.into_iter().map(|mut captions| captions.remove(0).tokens).collect()
    }
}

/// The name of a parameter of the adapter in a file of PEFT.
fn peft_name(shape: &CaptionerShape, name: &str) -> String {
    let end = if name.ends_with(DOWN) { DOWN } else { UP };
    format!("base_model.model.{}{end}", shape.module_path(name.strip_suffix(end).unwrap()))
}

/// The name in the fixture's expectations.
fn expected_name(shape: &CaptionerShape, of: &str, name: &str) -> String {
    format!("{of}.{}", peft_name(shape, name).strip_prefix("base_model.model.").unwrap())
}

#[test]
fn logits_gradients_and_captions_with_an_adapter_equal_those_of_peft() {
    let case = Case::load(DType::F64);
    let logits = case.logits(&case.parameters).narrow(1, 0, 2).unwrap();
    assert!(max_difference(&logits, &case.expected["logits"]) < LOGITS);
    let (losses, gradients) = compute_gradients(
        &case.shape,
        &case.parameters,
        &Piece::in_order([case.batch()]),
        0,
        &SETTINGS,
        &WorkerPools::alone(),
    )
    .unwrap();
    assert!((losses.read().unwrap().mean() - case.facts["loss"].as_f64().unwrap()).abs() < LOGITS);
    let mut compared = 0;
    for (name, _) in case.parameters.trainable() {
        let expected = &case.expected[&expected_name(&case.shape, "gradient", name)];
        assert!(max_difference(gradients.get(name).unwrap(), expected) < GRADIENT, "{name}");
        compared += 1;
    }
    // A and B of three layers in three blocks and of four in one.
    assert_eq!(compared, 2 * (3 * 3 + 4));
    let expected: Vec<Vec<u32>> = serde_json::from_value(case.facts["greedy"].clone()).unwrap();
    assert_eq!(case.greedy(&case.parameters), expected);
}

#[test]
fn updates_of_an_adapter_equal_those_of_torch_and_leave_the_base_as_it_is() {
    let case = Case::load(DType::F64);
    let untouched = Case::load(DType::F64);
    let run = &case.facts["run"];
    let config = OptimizerConfig {
        learning_rate: run["learning_rate"].as_f64().unwrap(),
        betas: serde_json::from_value(run["betas"].clone()).unwrap(),
        eps: run["eps"].as_f64().unwrap(),
        weight_decay: run["weight_decay"].as_f64().unwrap(),
        ..OptimizerConfig::default()
    };
    let mut optimizer = Optimizer::new(&case.parameters, &case.shape, &config).unwrap();
    let expected: Vec<f64> = serde_json::from_value(run["losses"].clone()).unwrap();
    for (step, expected) in (0..).zip(expected) {
        let (batches, pools) = (Piece::in_order([case.batch()]), WorkerPools::alone());
        let (rate, shape) = (config.learning_rate, &case.shape);
        let pending =
            train_step(shape, &case.parameters, &mut optimizer, &batches, step, rate, &SETTINGS, &pools).unwrap();
        let outcome = pending.read(&mut optimizer).unwrap();
        assert!((outcome.loss.mean() - expected).abs() < LOGITS, "update {step}");
    }
    for (name, parameter) in case.parameters.iter() {
        match parameter.role.kind {
            Kind::Adapter => {
                let expected = &case.expected[&expected_name(&case.shape, "after", name)];
                assert!(max_difference(parameter.var.as_tensor(), expected) < GRADIENT, "{name}");
            }
            _ => {
                let before = &untouched.parameters.get(name).unwrap().var;
                assert_eq!(max_difference(parameter.var.as_tensor(), before.as_tensor()), 0.0, "{name}");
            }
        }
    }
    let of_adapter = case.parameters.iter().filter(|(_, parameter)| parameter.role.kind == Kind::Adapter).count();
    assert_eq!(optimizer.moments().count(), of_adapter, "moments are kept of the adapter alone");
}

#[test]
fn a_merged_model_equals_the_one_with_its_adapter_beside_it() {
    let case = Case::load(DType::F32);
    let merged = case.parameters.without_adapter(true).unwrap();
    assert!(merged.iter().all(|(_, parameter)| parameter.role.kind != Kind::Adapter));
    let difference = max_difference(&case.logits(&merged), &case.logits(&case.parameters));
    assert!(difference < MERGED, "{difference}");
    assert_eq!(case.greedy(&merged), case.greedy(&case.parameters));
    let bare = case.parameters.without_adapter(false).unwrap();
    assert!(max_difference(&case.logits(&bare), &case.logits(&case.parameters)) > 0.1);
}

#[test]
fn an_adapter_is_written_as_peft_writes_it() {
    let case = Case::load(DType::F32);
    let folder = tempfile::tempdir().unwrap();
    let lora = config_of_fixture();
    let written = Adapter { shape: &case.shape, parameters: &case.parameters, lora: &lora, base: Some("owner/name") };
    adapter::write(written, folder.path()).unwrap();
    let expected = load(&fixture().join("adapter/adapter_model.safetensors"));
    let found = load(&folder.path().join("adapter_model.safetensors"));
    assert_eq!(found.len(), expected.len());
    for (name, tensor) in &expected {
        assert_eq!(max_difference(&found[name], tensor), 0.0, "{name}");
    }
    let config = |folder: &Path| -> Value {
        serde_json::from_str(&std::fs::read_to_string(folder.join("adapter_config.json")).unwrap()).unwrap()
    };
    let (found, expected) = (config(folder.path()), config(&fixture().join("adapter")));
    for key in ["peft_type", "bias", "fan_in_fan_out", "r", "task_type", "use_rslora", "use_dora", "inference_mode"] {
        assert_eq!(found[key], expected[key], "{key}");
    }
    assert_eq!(found["lora_alpha"].as_f64(), expected["lora_alpha"].as_f64());
    assert_eq!(found["base_model_name_or_path"], "owner/name");
    let modules = found["target_modules"].as_array().unwrap();
    assert!(modules.contains(&"encoder.layers.2.attention.q_proj".into()), "{modules:?}");
    assert!(modules.contains(&"decoder.transformer.h.0.mlp.c_proj".into()), "{modules:?}");
    assert_eq!(modules.len(), 3 * 3 + 4);
}

/// The small model with an adapter of random values in all targeted layers.
fn adapted(kind: &str, lora: &LoraConfig, trained: Trained) -> (CaptionerShape, Parameters) {
    let shape = shape(kind, true, true);
    let base = random_parameters(&shape, DType::F64);
    let mut tensors: BTreeMap<String, Tensor> =
        base.iter().map(|(name, parameter)| (name.to_owned(), parameter.var.as_detached_tensor())).collect();
    let mut specs = shape.parameter_specs().unwrap();
    let num_blocks = shape.encoder.num_layers();
    let adapter = lora.specs(&specs, |role| !trained.trains(role, num_blocks)).unwrap();
    for spec in &adapter {
        let mut stream = Stream::new(11, "test adapter", &spec.name);
        let values: Vec<f64> = (0..spec.shape.iter().product()).map(|_| 0.25 * stream.normal()).collect();
        tensors.insert(spec.name.clone(), Tensor::from_vec(values, spec.shape.clone(), &Device::Cpu).unwrap());
    }
    specs.extend(adapter);
    let parameters = Parameters::from_complete(&specs, tensors, DType::F64, &Device::Cpu).unwrap();
    let mut parameters = parameters.adapted_by(lora);
    shape.freeze(&mut parameters, trained);
    (shape, parameters)
}

const CAPTIONS: [&[u32]; 4] = [&[1, 5, 7, 2], &[1, 6, 9, 11, 4, 2], &[1, 3, 2], &[1, 12, 8, 2]];

#[test]
fn every_trained_parameter_beside_an_adapter_gets_a_gradient() {
    for kind in ENCODERS {
        for (encoder, decoder, has_new_connections) in
            [(true, true, false), (true, false, true), (false, true, false), (false, true, true)]
        {
            let lora = LoraConfig { encoder, decoder, dropout: 0.1, ..LoraConfig::default() };
            let adapted_parts = AdaptedParts { encoder, decoder, has_new_connections };
            let trained = Trained { encoder: EncoderTraining::Frozen, adapted: Some(adapted_parts) };
            let (shape, parameters) = adapted(kind, &lora, trained);
            let batch = batch(&shape, &CAPTIONS, DType::F64);
            let (_, gradients) =
                compute_gradients(&shape, &parameters, &Piece::in_order([batch]), 0, &SETTINGS, &WorkerPools::alone())
                    .unwrap();
            for (name, _) in parameters.trainable() {
                let size = gradients.get(name).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap();
                assert!(size > 0.0 || name.ends_with("key.bias"), "{name}");
            }
            for (name, parameter) in parameters.iter() {
                let role = parameter.role;
                let expected = match (role.kind, role.part) {
                    (Kind::Adapter, _) => true,
                    (_, Part::Encoder) => false,
                    (_, Part::Projection | Part::Decoder) if decoder => role.connects && has_new_connections,
                    (_, Part::Projection | Part::Decoder) => true,
                };
                assert_eq!(parameter.trainable, expected, "{name}");
                // Beside what is trained itself there is no adapter.
                let layer = name.strip_suffix(".weight").unwrap_or(name);
                let has_adapter = parameters.get(&format!("{layer}{DOWN}")).is_some();
                assert!(!(has_adapter && parameter.trainable), "{name}");
            }
        }
    }
}

#[test]
fn masks_of_an_adapter_do_not_depend_on_how_a_batch_is_split() {
    let lora = LoraConfig { dropout: 0.4, ..LoraConfig::default() };
    for kind in ENCODERS {
        let (shape, parameters) = adapted(kind, &lora, BOTH);
        let gradients = |batches: &[Batch], update: u64| {
            let pools = WorkerPools::alone();
            let pieces = Piece::in_order(batches.to_vec());
            let (losses, gradients) =
                compute_gradients(&shape, &parameters, &pieces, update, &SETTINGS, &pools).unwrap();
            (losses.read().unwrap().sum, gradients)
        };
        let part = |captions: &[&[u32]]| batch(&shape, captions, DType::F64);
        let (whole_loss, whole) = gradients(&[part(&CAPTIONS)], 3);
        let (parts_loss, parts) = gradients(&[part(&CAPTIONS[..1]), part(&CAPTIONS[1..])], 3);
        assert!((whole_loss - parts_loss).abs() < LOGITS, "{kind}: {whole_loss} {parts_loss}");
        for (name, _) in parameters.trainable() {
            assert!(max_difference(whole.get(name).unwrap(), parts.get(name).unwrap()) < GRADIENT, "{name}");
        }
        assert!((gradients(&[part(&CAPTIONS)], 4).0 - whole_loss).abs() > 1e-6, "each update has masks of its own");
    }
}

#[test]
fn an_adapter_begins_with_nothing_to_add() {
    let shape = shape("vit", true, true);
    let specs = shape.parameter_specs().unwrap();
    let lora = LoraConfig { rank: 4, ..LoraConfig::default() };
    let mut with_adapter = specs.clone();
    with_adapter.extend(lora.specs(&specs, |_| true).unwrap());
    let parameters = Parameters::create(&with_adapter, BTreeMap::new(), 1, DType::F64, &Device::Cpu).unwrap();
    let parameters = parameters.adapted_by(&lora);
    for (layer, [down, up]) in parameters.adapters() {
        assert_eq!((down.dim(0).unwrap(), up.dim(1).unwrap()), (4, 4), "{layer}");
        let largest = |tensor: &Tensor| tensor.abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap();
        let bound = (down.dim(1).unwrap() as f64).powf(-0.5);
        assert!((0.5 * bound..=bound).contains(&largest(down)), "{layer}: {}", largest(down));
        assert_eq!(largest(up), 0.0, "{layer}");
    }
    // Queries and values of three blocks of the encoder; c_attn twice and q_attn in two of the decoder.
    assert_eq!(parameters.adapters().count(), 2 * 3 + 3 * 2);
}

#[test]
fn targets_are_ends_of_names_or_an_expression_and_each_must_be_there() {
    let specs = shape("vit", true, true).parameter_specs().unwrap();
    let chosen = |targets: Targets, encoder: bool| {
        let lora = LoraConfig { targets: Some(targets), encoder, ..LoraConfig::default() };
        let found = lora.specs(&specs, |_| true)?;
        anyhow::Ok(
            found.into_iter().filter_map(|spec| Some(spec.name.strip_suffix(DOWN)?.to_owned())).collect::<Vec<_>>(),
        )
    };
    let ends = |ends: &[&str]| Targets::Ends(ends.iter().map(|&end| end.to_owned()).collect());
    assert_eq!(chosen(ends(&["mlp.c_fc", "enc_to_dec_proj"]), false).unwrap().len(), 3);
    assert_eq!(chosen(ends(&["h.1.attn.c_attn"]), false).unwrap(), ["decoder.transformer.h.1.attn.c_attn"]);
    let expression = Targets::Expression(r".*\.0\..*(c_attn|query)".to_owned());
    assert_eq!(chosen(expression, true).unwrap().len(), 3);
    // The end of a word is no end of a name, and an expression is for the whole name.
    for (targets, encoder, expected) in [
        (ends(&["attn"]), false, "no dense layer of the adapted parts ends in \"attn\""),
        (ends(&["wte"]), false, "choose from c_attn, c_fc, c_proj, enc_to_dec_proj, q_attn"),
        (ends(&["projection", "c_attn"]), true, "ends in \"projection\""),
        (ends(&["c_attn"]), true, "match no dense layer of the encoder"),
        (Targets::Expression("c_attn".to_owned()), false, "match no dense layer of the decoder"),
        (Targets::Expression("(".to_owned()), false, "is no regular expression"),
    ] {
        let text = describe(&chosen(targets, encoder).unwrap_err());
        assert!(text.contains(expected), "{text}");
    }
}

/// A config that adapts a model of the fixtures; `model` comes after `init_from`.
fn config(output: &Path, base: &Path, model: &str) -> String {
    format!(
        "output_dir = {:?}\nname = \"run\"\n[data]\ndirectory = {:?}\ncache_directory = {:?}\n[model]\ninit_from = {:?}\n\
         {model}\n[training]\nbatch_size = 250\nnum_epochs = 2\nlog_interval = 1\n[optimizer]\nlearning_rate = 0.01\n\
         [schedule]\nwarmup_steps = 2\n",
        output.display().to_string(),
        shapes_folder().display().to_string(),
        output.join("cache").display().to_string(),
        base.display().to_string(),
    )
}

fn copy_of(name: &str, folder: &Path) -> PathBuf {
    let copy = folder.join(name);
    std::fs::create_dir_all(&copy).unwrap();
    for entry in std::fs::read_dir(model_fixture(name)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
    }
    copy
}

const LORA: &str = "lora = { rank = 2, dropout = 0.1 }";

#[test]
fn a_run_with_an_adapter_is_resumed_to_the_bit_from_checkpoints_without_the_base() {
    let folder = tempfile::tempdir().unwrap();
    let base = copy_of("vit_gpt2", folder.path());
    let output = train(folder.path(), &config(folder.path(), &base, LORA), &["--set", "checkpoint.keep_last=20"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let run = folder.path().join("run");
    let (metadata, tensors) = read_metadata(&last_checkpoint(&run)).unwrap();
    assert!(tensors.iter().all(|(name, _)| name.contains("lora_")), "{tensors:?}");
    let recorded = metadata.base.unwrap();
    assert_eq!(recorded.folders.captioner.as_deref(), Some(base.canonicalize().unwrap().as_path()));
    assert_eq!(recorded.digest.len(), 64);

    let expected = losses(&run);
    let after_first_epoch = run.join(format!("checkpoints/last_step_{}.safetensors", expected.len() / 2));
    let output = binary().arg("--resume").arg(&after_first_epoch).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let resumed = folder.path().join("run-2");
    let digest = |run: &Path| read_checkpoint(&last_checkpoint(run)).unwrap().metadata.tensors_digest;
    assert_eq!(digest(&resumed), digest(&run));
    assert_eq!(losses(&resumed), expected[expected.len() / 2..]);
}

#[test]
fn the_mean_of_adapters_is_beside_the_same_base_and_another_base_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let base = copy_of("vit_gpt2", folder.path());
    let output = train(folder.path(), &config(folder.path(), &base, LORA), &["--set", "checkpoint.keep_last=20"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let parts = [8, 16].map(|step| folder.path().join(format!("run/checkpoints/last_step_{step}.safetensors")));
    let average = |parts: &[PathBuf], output: &Path| {
        binary().arg("average").args(parts).arg("--output").arg(output).output().unwrap()
    };
    let mean = folder.path().join("mean.safetensors");
    let output = average(&parts, &mean);
    assert!(output.status.success(), "{}", stderr(&output));
    let [one, other] = parts.each_ref().map(|path| load(path));
    let found = load(&mean);
    assert!(found.keys().all(|name| name.starts_with("model.") && name.contains("lora_")));
    for (name, tensor) in &found {
        let expected = ((&one[name] + &other[name]).unwrap() / 2.0).unwrap();
        assert!(max_difference(tensor, &expected) < 1e-8, "{name}");
    }
    let exported = folder.path().join("exported");
    let mut command = binary();
    let output = command.arg("export").arg("--checkpoint").arg(&mean).arg("--output").arg(&exported).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let (header, mut metadata, values) = split_checkpoint(&std::fs::read(&parts[1]).unwrap());
    metadata["base"]["digest"] = "0".repeat(64).into();
    let foreign = folder.path().join("foreign.safetensors");
    std::fs::write(&foreign, join_checkpoint(header, &metadata, &values)).unwrap();
    let output = average(&[parts[0].clone(), foreign], &folder.path().join("other.safetensors"));
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("they hold adapters of different models"), "{}", stderr(&output));
}

#[test]
fn another_base_than_the_recorded_one_is_refused_with_both_digests() {
    let folder = tempfile::tempdir().unwrap();
    let base = copy_of("vit_gpt2", folder.path());
    let output = train(folder.path(), &config(folder.path(), &base, LORA), &["--set", "training.num_epochs=1"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let last = last_checkpoint(&folder.path().join("run"));
    let digest = read_metadata(&last).unwrap().0.base.unwrap().digest;
    let path = base.join("model.safetensors");
    let original = std::fs::read(&path).unwrap();
    let mut tensors = load(&path);
    let name = "encoder.layernorm.bias";
    tensors.insert(name.to_owned(), (&tensors[name] + 0.5).unwrap());
    candle_core::safetensors::save(&tensors, &path).unwrap();
    let export = |name: &str| {
        let mut command = binary();
        command.arg("export").arg("--checkpoint").arg(&last).arg("--output").arg(folder.path().join(name));
        command.output().unwrap()
    };
    for output in [binary().arg("--resume").arg(&last).output().unwrap(), export("a")] {
        assert!(!output.status.success());
        let text = stderr(&output);
        assert!(text.contains(&format!("expected SHA-256 {digest}, found ")) && text.contains("hint: "), "{text}");
    }
    std::fs::rename(&base, folder.path().join("moved")).unwrap();
    let text = stderr(&export("b"));
    assert!(text.contains("vit_gpt2") && text.contains("hint: "), "{text}");
    std::fs::rename(folder.path().join("moved"), &base).unwrap();
    std::fs::write(&path, original).unwrap();
    let output = export("c");
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn the_exports_of_a_run_with_an_adapter_belong_together() {
    let folder = tempfile::tempdir().unwrap();
    let base = copy_of("vit_gpt2", folder.path());
    let lora = "lora = { rank = 2, alpha = 8.0 }";
    let output = train(folder.path(), &config(folder.path(), &base, lora), &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    let last = last_checkpoint(&folder.path().join("run"));
    let export = |what: &str| {
        let path = folder.path().join(what);
        let mut command = binary();
        command.arg("export").arg("--checkpoint").arg(&last).arg("--output").arg(&path).args(["--lora", what]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        path
    };
    let weights = |folder: &Path| load(&folder.join("model.safetensors"));
    let (merged, bare, adapter) = (weights(&export("merged")), weights(&export("base")), export("adapter"));
    let original = weights(&base);
    let mut changed = 0;
    for (name, tensor) in &original {
        assert_eq!(max_difference(&bare[name], tensor), 0.0, "{name}");
        changed += usize::from(max_difference(&merged[name], tensor) > 0.0);
    }
    let config: Value =
        serde_json::from_str(&std::fs::read_to_string(adapter.join("adapter_config.json")).unwrap()).unwrap();
    assert_eq!(changed, config["target_modules"].as_array().unwrap().len());
    assert_eq!(config["base_model_name_or_path"].as_str(), base.to_str());
    let caption = |checkpoint: &Path| {
        let image = std::fs::read_dir(shapes_folder().join("images")).unwrap().next().unwrap().unwrap().path();
        let output = binary().args(["caption", "--checkpoint"]).arg(checkpoint).arg(image).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        output.stdout
    };
    assert_eq!(caption(&last), caption(&folder.path().join("merged")));
}

#[test]
fn an_adapter_in_the_encoder_goes_with_a_decoder_from_scratch() {
    let folder = tempfile::tempdir().unwrap();
    let base = copy_of("vit_gpt2", folder.path());
    let config = |lora: &str| {
        format!(
            "{}\n[model.encoder]\nname = {:?}\n[model.decoder]\nhidden_size = 16\nnum_layers = 1\nnum_heads = 2\n\
             intermediate_size = 32\nmax_seq_len = 24\n",
            config(folder.path(), &base, lora).replace("init_from", "# init_from"),
            base.display().to_string()
        )
    };
    let output = train(folder.path(), &config("lora = { decoder = false }"), &["--set", "tokenizer.vocab_size=280"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let (metadata, tensors) = read_metadata(&last_checkpoint(&folder.path().join("run"))).unwrap();
    assert!(metadata.base.is_some());
    let has = |start: &str| tensors.iter().any(|(name, _)| name.starts_with(start));
    assert!(
        has("model.decoder.transformer.wte") && has("model.enc_to_dec_proj") && has("model.encoder.encoder.layer.0")
    );
    assert!(tensors.iter().all(|(name, _)| !name.contains(".encoder.") || name.contains("lora_")), "{tensors:?}");
    assert!(!folder.path().join("cache").exists(), "the output of an adapted encoder is not kept");

    for (lora, expected) in [
        ("lora = {}", "model.lora.decoder is true, but neither model.init_from nor model.decoder.name is set"),
        ("lora = { encoder = false, decoder = false }", "model.lora.encoder and model.lora.decoder are both false"),
        ("lora = { decoder = false, rank = 0 }", "model.lora.rank must be"),
        ("lora = { decoder = false, use_dora = true }", "unknown key"),
    ] {
        let output = train(folder.path(), &config(lora), &[]);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    }
    let output = train(folder.path(), &config("lora = { decoder = false }"), &["--set", "model.encoder.train=full"]);
    assert!(stderr(&output).contains("model.encoder.train asks for the encoder's own weights"), "{}", stderr(&output));
}
