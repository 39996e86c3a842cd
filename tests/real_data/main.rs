//! Checks on real data, against what `tests/reference/real_data.py` computed: `scripts/check-real-data.sh` runs them,
//! and `cargo test` alone does not, since the data are not part of the project.

#![expect(clippy::disallowed_methods, reason = "a check outside of the program reads and writes as it likes")]
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by a panic, and its figures are wanted")]

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use caption_train::config::TokenizerConfig;
use caption_train::hf::read::{read_captioner, read_encoder};
use caption_train::model::builder::record;
use caption_train::model::captioner::Captioner;
use caption_train::model::decoders::Mode;
use caption_train::model::parameters::Parameters;
use caption_train::model::stages::Uncut;
use caption_train::tokenizer::CaptionTokenizer;
use metrics::meteor::{Meteor, MeteorStatistics};
use metrics::ptb_tokenizer::PtbTokenizer;

/// Both sides in f64, twelve layers, states up to 30.
const STATES_F64: f64 = 1e-9;
/// The same where transformers resamples the table of positions in f32.
const STATES_RESAMPLED_F64: f64 = 1e-5;
/// Of the table itself.
const POSITIONS: f64 = 1e-6;
/// Both sides in f32. A picture can stir the network so much that each side is nearly that far from f64, and they from
/// each other further than that; then it is our distance from f64 that must be like PyTorch's.
const STATES_F32: f64 = 3e-4;
/// Our distance from f64 over PyTorch's: two sums of the same numbers in another order.
const LIKE: f64 = 1.5;
/// Both sides in f32, relative to the largest logit.
const LOGITS_F32: f64 = 1e-5;
/// Statistics are whole numbers; the last bit of a power may differ.
const METEOR: f64 = 1e-12;

/// A path that the script gives.
fn path(variable: &str) -> PathBuf {
    std::env::var_os(variable).unwrap_or_else(|| panic!("{variable} is not set: run scripts/check-real-data.sh")).into()
}

/// The largest difference of each image.
fn differences(a: &Tensor, b: &Tensor) -> Vec<f64> {
    let exact = |tensor: &Tensor| tensor.to_dtype(DType::F64).unwrap();
    let difference = (exact(a) - exact(b)).unwrap().abs().unwrap().flatten_from(1).unwrap();
    difference.max(1).unwrap().to_vec1().unwrap()
}

fn largest(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

#[test]
fn hidden_states_of_a_real_encoder_equal_those_of_transformers() {
    compare_states(&path("ENCODER"), "encoder.safetensors", STATES_F64);
}

#[test]
fn hidden_states_of_a_real_dinov2_equal_those_of_transformers() {
    let resampled = path("REFERENCE").join("dinov2_resampled");
    compare_states(&resampled, "dinov2.safetensors", STATES_F64);
    // Here the table is resampled in f64, and rounded to f32 once.
    compare_states(&path("DINOV2"), "dinov2.safetensors", STATES_RESAMPLED_F64);
    let table = |folder: &Path| {
        let tensors = read_encoder(folder, None).unwrap().tensors;
        tensors["embeddings.position_embeddings"].flatten_to(1).unwrap()
    };
    let found = largest(&differences(&table(&path("DINOV2")), &table(&resampled)));
    println!("positions within {found:.1e}");
    assert!(found <= POSITIONS, "{found}");
}

/// Compares the states of an encoder with those in a file of the reference; in f64 they must be within `bound`.
fn compare_states(encoder: &Path, file: &str, bound: f64) {
    let expected = candle_core::safetensors::load(path("REFERENCE").join(file), &Device::Cpu).unwrap();
    let read = read_encoder(encoder, None).unwrap();
    let specs = record(|builder| read.config.build(builder)).unwrap();
    let states = |dtype: DType| {
        let parameters = Parameters::from_complete(&specs, read.tensors.clone(), dtype, &Device::Cpu).unwrap();
        let encoder = read.config.build(&parameters.detached()).unwrap();
        encoder.forward(&expected["pixel_values"].to_dtype(dtype).unwrap(), &mut Uncut).unwrap()
    };
    let (theirs, exact) = (&expected["encoder_hidden_states.f32"], &expected["encoder_hidden_states.f64"]);
    let in_f64 = differences(&states(DType::F64), exact);
    let ours = states(DType::F32);
    let in_f32 = differences(&ours, theirs);
    let (our_error, their_error) = (differences(&ours, exact), differences(theirs, exact));
    let within = in_f32.iter().filter(|&&difference| difference <= STATES_F32).count();
    println!(
        "hidden states of {} images: in f64 within {:.1e}; in f32 within {:.1e}, {within} of them within {STATES_F32}; \
         f32 against f64: ours within {:.1e}, PyTorch's {:.1e}",
        in_f32.len(),
        largest(&in_f64),
        largest(&in_f32),
        largest(&our_error),
        largest(&their_error)
    );
    assert!(largest(&in_f64) <= bound, "{in_f64:?}");
    for (image, difference) in in_f32.iter().enumerate() {
        let fits = *difference <= STATES_F32 || our_error[image] <= LIKE * their_error[image];
        assert!(fits, "image {image}: {difference}, from f64 {} against {}", our_error[image], their_error[image]);
    }
}

#[test]
fn logits_of_an_exported_model_equal_those_of_transformers() {
    let folder = path("EXPORTED");
    let expected = candle_core::safetensors::load(folder.join("check/logits.safetensors"), &Device::Cpu).unwrap();
    let read = read_captioner(&folder, None).unwrap();
    let specs = read.config.parameter_specs().unwrap();
    let parameters = Parameters::create(&specs, read.tensors, 0, DType::F32, &Device::Cpu).unwrap();
    let model = Captioner::build(&read.config, &parameters.detached()).unwrap();
    let input_ids = expected["input_ids"].to_dtype(DType::U32).unwrap();
    let logits = model.forward(&expected["pixel_values"], &input_ids, Mode::Eval).unwrap();
    let theirs = &expected["logits"];
    let (found, bound) =
        (largest(&differences(&logits, theirs)), largest(&differences(theirs, &theirs.zeros_like().unwrap())));
    println!("logits of {} images within {found:.1e} of at most {bound:.1}", input_ids.dim(0).unwrap());
    assert!(found <= LOGITS_F32 * bound, "{found}");
}

#[derive(serde::Deserialize)]
struct Facts {
    training: Vec<String>,
    captions: Vec<String>,
    ids: Vec<Vec<u32>>,
}

#[test]
fn ids_of_real_captions_equal_those_of_python() {
    let text = std::fs::read_to_string(path("REFERENCE").join("tokenizer.json")).unwrap();
    let facts: Facts = serde_json::from_str(&text).unwrap();
    let config = TokenizerConfig { vocab_size: 4096, min_frequency: 2, lowercase: true, ..TokenizerConfig::default() };
    let tokenizer = CaptionTokenizer::train(facts.training.iter().map(String::as_str), &config).unwrap();
    assert_eq!(facts.captions.len(), 5000);
    for (caption, ids) in facts.captions.iter().zip(&facts.ids) {
        assert_eq!(&tokenizer.encode(caption).unwrap(), ids, "{caption}");
    }
    println!("ids of {} captions equal", facts.captions.len());
}

#[test]
fn tokens_of_real_captions_equal_those_of_the_java_tool() {
    let captions = std::fs::read_to_string(path("CAPTIONS")).unwrap();
    let expected = std::fs::read_to_string(path("TOKENS")).unwrap();
    let captions: Vec<&str> = captions.split('\n').collect();
    let tokens = PtbTokenizer::new().tokenize_all(&captions);
    let expected: Vec<&str> = expected.split_terminator('\n').collect();
    assert_eq!(captions.len(), expected.len());
    let differs = |(tokens, expected): &(&Vec<String>, &&str)| tokens.join(" ") != **expected;
    let differing: Vec<_> = tokens.iter().zip(&expected).filter(differs).collect();
    println!("{} captions, {} of them with other tokens", captions.len(), differing.len());
    assert!(differing.is_empty(), "{:?}", &differing[..differing.len().min(5)]);
}

#[test]
fn meteor_of_real_captions_equals_that_of_the_java_tool() {
    #[derive(serde::Deserialize)]
    struct Item {
        candidate: String,
        references: Vec<String>,
    }
    #[derive(serde::Deserialize)]
    struct Expected {
        score: f64,
        segments: Vec<Segment>,
    }
    #[derive(serde::Deserialize)]
    struct Segment {
        score: f64,
    }
    let read = |variable: &str| std::fs::read(path(variable)).unwrap();
    let items: Vec<Item> = serde_json::from_slice(&read("METEOR_INPUT")).unwrap();
    let expected: Expected = serde_json::from_slice(&read("METEOR_EXPECTED")).unwrap();
    let meteor = Meteor::from_resources(&path("METEOR_RESOURCES")).unwrap();
    let statistics: Vec<MeteorStatistics> =
        items.iter().map(|item| meteor.segment(&item.candidate, &item.references)).collect();
    assert_eq!(statistics.len(), expected.segments.len());
    let difference = |(found, expected): (&MeteorStatistics, &Segment)| (meteor.score(found) - expected.score).abs();
    let most = statistics.iter().zip(&expected.segments).map(difference).fold(0.0, f64::max);
    let corpus = meteor.score(&statistics.iter().copied().sum());
    println!("METEOR of {} captions: {corpus}, each within {most:.1e} of the Java tool", items.len());
    assert!(most < METEOR && (corpus - expected.score).abs() < METEOR, "{corpus} {}", expected.score);
}
