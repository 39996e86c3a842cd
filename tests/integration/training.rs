//! The loop as a library: what it learns, what it skips, what it repeats.

use std::path::Path;

use base::worker_pools::WorkerPools;
use candle_core::{DType, Device};
use caption_train::config::{self, RunConfig};
use caption_train::data::pieces::Piece;
use caption_train::evaluation::token_loss::evaluate_batch;
use caption_train::model::captioner::Captioner;
use caption_train::model::parameters::Parameters;
use caption_train::model::role::{Kind, Part};
use caption_train::run::initial_model::ModelFolders;
use caption_train::run::setup::Setup;
use caption_train::training::collective::Alone;
use caption_train::training::loss::TokenCrossEntropy;
use caption_train::training::optimizer::Optimizer;
use caption_train::training::train_step::{StepSettings, train_step};
use ops::Precision;

use crate::support::{ENCODERS, batch, shape, shapes_folder, small_config};

const CAPTIONS: [&[u32]; 4] = [&[1, 5, 6, 7, 2], &[1, 8, 2], &[1, 9, 10, 11, 12, 3, 2], &[1, 4, 4, 8, 2]];

const SETTINGS: StepSettings<'_> = StepSettings {
    loss: &TokenCrossEntropy { label_smoothing: 0.0 },
    precision: Precision::Full,
    seed: 0,
    dropout: 0.0,
    recompute: false,
    max_grad_norm: Some(1.0),
    collective: &Alone,
};

#[test]
fn one_batch_is_learnt_by_heart() {
    for kind in ENCODERS {
        let shape = shape(kind, true, true);
        let parameters =
            Parameters::create(&shape.parameter_specs().unwrap(), Default::default(), 5, DType::F32, &Device::Cpu)
                .unwrap();
        let config = RunConfig::default();
        let mut optimizer = Optimizer::new(&parameters, &shape, &config.optimizer).unwrap();
        let batches = Piece::in_order([batch(&shape, &CAPTIONS, DType::F32)]);
        for step in 0..400 {
            let pending =
                train_step(&shape, &parameters, &mut optimizer, &batches, step, 0.01, &SETTINGS, &WorkerPools::alone());
            pending.unwrap().read(&mut optimizer).unwrap();
        }
        let evaluation = Captioner::build(&shape, &parameters.detached()).unwrap();
        let loss = evaluate_batch(&evaluation, &batches[0].batch).unwrap().mean();
        assert!(loss < 0.05, "{kind:?}: {loss}");
    }
}

#[test]
fn a_loss_that_is_not_finite_changes_nothing() {
    let shape = shape("vit", true, true);
    let parameters =
        Parameters::create(&shape.parameter_specs().unwrap(), Default::default(), 5, DType::F32, &Device::Cpu).unwrap();
    let mut optimizer = Optimizer::new(&parameters, &shape, &RunConfig::default().optimizer).unwrap();
    let (_, norm) = parameters.trainable().find(|(name, _)| name.ends_with("ln_f.weight")).unwrap();
    let broken = (norm.as_tensor() * f64::NAN).unwrap();
    norm.set(&broken).unwrap();
    let values = |parameters: &Parameters| -> Vec<Vec<u32>> {
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect();
        parameters.iter().map(|(_, p)| bits(p.var.flatten_all().unwrap().to_vec1().unwrap())).collect()
    };
    let before = values(&parameters);
    let batches = Piece::in_order([batch(&shape, &CAPTIONS, DType::F32)]);
    let pending =
        train_step(&shape, &parameters, &mut optimizer, &batches, 0, 0.1, &SETTINGS, &WorkerPools::alone()).unwrap();
    let outcome = pending.read(&mut optimizer).unwrap();
    assert!(outcome.skipped);
    assert_eq!(optimizer.step(), 0);
    assert_eq!(values(&parameters), before);
}

fn setup(config: &str) -> Setup {
    let config = config::parse(config, "test", &[]).unwrap();
    Setup::fresh(config, &ModelFolders::default(), &Device::Cpu, 1).unwrap()
}

#[test]
fn a_random_split_holds_out_a_tenth_of_the_images_and_is_the_same_each_time() {
    let config = small_config(Path::new("unused"))
        .replace("[tokenizer]", "split = \"random\"\nvalidation_fraction = 0.1\n[tokenizer]");
    let (one, other) = (setup(&config), setup(&config));
    assert_eq!((&one.split.train, &one.split.val), (&other.split.train, &other.split.val));
    // 500 + 12 images that are not for testing.
    assert_eq!((one.split.train.len(), one.split.val.len()), (461, 51));
    assert!(one.split.val.iter().all(|image| !one.split.train.contains(image)));
    let trained: std::collections::HashSet<usize> = one.train.iter().map(|example| example.image).collect();
    assert!(one.val.iter().all(|example| !trained.contains(&example.image)));
}

#[test]
fn the_tokenizer_learns_from_training_captions_alone() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir_all(&data).unwrap();
    let text = std::fs::read_to_string(shapes_folder().join("dataset.json")).unwrap();
    let mut dataset: serde_json::Value = serde_json::from_str(&text).unwrap();
    for image in dataset["images"].as_array_mut().unwrap() {
        if image["split"] == "val" {
            for sentence in image["sentences"].as_array_mut().unwrap() {
                sentence["raw"] = "zyzzyva zyzzyva zyzzyva zyzzyva".into();
            }
        }
    }
    std::fs::write(data.join("dataset.json"), dataset.to_string()).unwrap();
    // Setting up reads no image, so the data set needs none here.
    let config =
        small_config(Path::new("unused")).replace(&shapes_folder().display().to_string(), &data.display().to_string());
    let (with, without) = (setup(&config), setup(&small_config(Path::new("unused"))));
    assert_eq!(with.tokenizer.to_json().unwrap(), without.tokenizer.to_json().unwrap());
}

#[test]
fn parameter_groups_follow_encoder_rate_layer_decay_and_decay_scope() {
    use caption_train::config::{DecayScope, OptimizerConfig};
    use caption_train::training::optimizer::group_of;
    let shape = shape("vit", true, true);
    let config = OptimizerConfig {
        learning_rate: 1e-3,
        encoder_learning_rate: Some(1e-4),
        layer_decay: 0.5,
        weight_decay: 0.1,
        decay: DecayScope::Weights,
        ..OptimizerConfig::default()
    };
    let specs = shape.parameter_specs().unwrap();
    let group = |name: &str, config: &OptimizerConfig| {
        let spec = specs.iter().find(|spec| spec.name == name).unwrap_or_else(|| panic!("no parameter {name}"));
        group_of(spec.role, shape.encoder.num_layers(), config)
    };
    let factor = |name: &str| group(name, &config).learning_rate_factor;
    assert_eq!(factor("decoder.transformer.ln_f.weight"), 1.0);
    assert!((factor("encoder.layernorm.weight") - 0.1).abs() < 1e-12);
    assert!((factor("encoder.encoder.layer.2.output.dense.weight") - 0.05).abs() < 1e-12);
    assert!((factor("encoder.embeddings.cls_token") - 0.1 / 16.0).abs() < 1e-12);
    let decay = |name: &str| group(name, &config).weight_decay;
    assert_eq!(decay("decoder.transformer.h.0.mlp.c_fc.weight"), 0.1);
    assert_eq!(decay("decoder.transformer.wte.weight"), 0.1);
    for undecayed in [
        "decoder.transformer.h.0.mlp.c_fc.bias",
        "decoder.transformer.h.0.ln_cross_attn.weight",
        "encoder.layernorm.weight",
        "encoder.encoder.layer.0.layernorm_before.weight",
    ] {
        assert_eq!(decay(undecayed), 0.0, "{undecayed}");
    }
    let all = OptimizerConfig { decay: DecayScope::All, ..config };
    assert_eq!(group("encoder.layernorm.weight", &all).weight_decay, 0.1);
}

#[test]
fn roles_say_what_names_say() {
    for kind in ENCODERS {
        for spec in shape(kind, true, false).parameter_specs().unwrap() {
            let (name, role) = (spec.name.as_str(), spec.role);
            let layer = name.rsplit('.').nth(1).unwrap_or_default();
            // A layer scale is a factor per feature, as a norm's weight.
            let is_norm = layer.starts_with("ln_") || layer.contains("norm") || layer.starts_with("layer_scale");
            let is_table = ["_token", "class_embedding", "position_embedding", "wte", "wpe"];
            let expected = match () {
                () if is_norm => Kind::Norm,
                () if name.ends_with(".bias") => Kind::Bias,
                () if is_table.iter().any(|table| name.contains(table)) => Kind::Embedding,
                () => Kind::Weight,
            };
            assert_eq!(role.kind, expected, "{name}");
            let part = match name.split('.').next() {
                Some("encoder") => Part::Encoder,
                Some("decoder") => Part::Decoder,
                _ => Part::Projection,
            };
            assert_eq!(role.part, part, "{name}");
            let block = name.split('.').find_map(|part| part.parse::<usize>().ok());
            let is_last = ["encoder.layernorm.", ".post_layernorm.", ".ln_f.", "lm_head."];
            let num_blocks = if part == Part::Encoder { 3 } else { 2 };
            let last = if is_last.iter().any(|last| name.contains(last)) { num_blocks + 1 } else { 0 };
            assert_eq!(role.depth, block.map_or(last, |index| index + 1), "{name}");
            // CLIP's own is for its pooled output.
            let is_unused = kind == "clip_vision" && name.contains("post_layernorm");
            assert_eq!(role.used, !is_unused, "{name}");
            let connects = ["crossattention", "ln_cross_attn", "enc_to_dec_proj"];
            assert_eq!(role.connects, connects.iter().any(|part| name.contains(part)), "{name}");
        }
    }
}
