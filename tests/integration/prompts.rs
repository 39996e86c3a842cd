//! Prompts and weights of captions: against PyTorch and transformers (`tests/reference/prompts.py`), and from a data set
//! through training to captions.

use std::collections::BTreeMap;
use std::path::Path;

use base::error::describe;
use base::worker_pools::WorkerPools;
use candle_core::{DType, Device, Tensor};
use caption_train::config::{self, DecodingConfig};
use caption_train::data::batch::Batch;
use caption_train::data::collate::Framed;
use caption_train::data::image_source::ImageInput;
use caption_train::data::pieces::Piece;
use caption_train::decoding::{DecodedCaption, Decoding, Strategy, decode, decode_after};
use caption_train::evaluation::pair_scores::target_log_probabilities;
use caption_train::evaluation::token_loss::evaluate_batch;
use caption_train::hf::folder::read_config;
use caption_train::hf::read::read_captioner;
use caption_train::model::captioner::{Captioner, CaptionerShape};
use caption_train::model::parameters::Parameters;
use caption_train::run::initial_model::ModelFolders;
use caption_train::run::setup::Setup;
use caption_train::training::collective::Alone;
use caption_train::training::loss::TokenCrossEntropy;
use caption_train::training::train_step::{StepSettings, compute_gradients};
use ops::Precision;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::{
    alone, batch, binary, data_set, model_fixture, random_parameters, shape, shapes_folder, small_config,
};

/// Both sides compute in f64.
const LOSS: f64 = 1e-9;
const GRADIENT: f64 = 1e-8;

#[derive(Deserialize)]
struct Expected {
    frames: Vec<Vec<u32>>,
    captions: Vec<Generated>,
    losses: Vec<Weighed>,
}

/// What `generate` wrote after a prompt.
#[derive(Deserialize)]
struct Generated {
    prompt: Vec<u32>,
    end: u32,
    setting: serde_json::Map<String, Value>,
    captions: Vec<Vec<Vec<u32>>>,
}

#[derive(Deserialize)]
struct Weighed {
    prompt_lengths: [usize; 2],
    weights: [f64; 2],
    loss: f64,
    smoothed_loss: f64,
    log_probabilities: Option<Vec<Vec<f64>>>,
    smoothed_gradients: Option<BTreeMap<String, f64>>,
}

fn expected() -> Expected {
    let path = model_fixture("../prompts/expected.json");
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; tests/reference/prompts.py makes it", path.display()));
    serde_json::from_str(&text).unwrap()
}

/// The model of `tests/reference/models.py` and its pictures.
struct Model {
    shape: CaptionerShape,
    parameters: Parameters,
    pixels: Tensor,
    start: u32,
    pad: u32,
}

impl Model {
    fn load(dtype: DType) -> Self {
        let folder = model_fixture("vit_gpt2");
        let read = read_captioner(&folder, None).unwrap();
        let specs = read.config.parameter_specs().unwrap();
        let parameters = Parameters::from_complete(&specs, read.tensors, dtype, &Device::Cpu).unwrap();
        let config = read_config(&folder).unwrap();
        let id = |key: &str| u32::try_from(config[key].as_u64().unwrap()).unwrap();
        let tensors = model_fixture("expected_vit_gpt2.safetensors");
        let pixels = &candle_core::safetensors::load(tensors, &Device::Cpu).unwrap()["pixel_values"];
        let (start, pad) = (id("decoder_start_token_id"), id("pad_token_id"));
        Self { shape: read.config, parameters, pixels: pixels.to_dtype(dtype).unwrap(), start, pad }
    }

    fn captioner(&self) -> Captioner {
        Captioner::build(&self.shape, &self.parameters.detached()).unwrap()
    }

    fn key_values(&self) -> Vec<Tensor> {
        let model = self.captioner();
        model.cross_key_values(&model.encode(&self.pixels).unwrap()).unwrap()
    }

    fn decoding(&self, config: &DecodingConfig, end: u32, num_captions: usize) -> Decoding {
        let num_positions = self.shape.decoder.num_positions();
        Decoding { num_captions, ..Decoding::from_config(config, self.start, end, num_positions) }
    }

    /// The first two pictures with these captions.
    fn batch(&self, captions: &[Framed<'_>]) -> Batch {
        let pixels = ImageInput::Pixels(self.pixels.narrow(0, 0, 2).unwrap());
        Batch::of_framed(pixels, None, vec![0, 1], captions, self.pad, &Device::Cpu).unwrap()
    }
}

fn tokens(found: &[Vec<DecodedCaption>]) -> Vec<Vec<Vec<u32>>> {
    found.iter().map(|captions| captions.iter().map(|caption| caption.tokens.clone()).collect()).collect()
}

#[test]
fn captions_after_a_prompt_equal_those_of_generate_under_every_setting() {
    let expected = expected();
    assert!(expected.captions.len() > 40);
    for dtype in [DType::F64, DType::F32] {
        let model = Model::load(dtype);
        let (captioner, key_values) = (model.captioner(), model.key_values());
        for Generated { prompt, end, setting, captions } in &expected.captions {
            let mut setting = setting.clone();
            let num_captions = setting.remove("num_return_sequences").map_or(1, |count| count.as_u64().unwrap());
            let config: DecodingConfig = serde_json::from_value(setting.into()).unwrap();
            let decoding = model.decoding(&config, *end, usize::try_from(num_captions).unwrap());
            let prompts = vec![prompt.as_slice(); captions.len()];
            let found = decode_after(&alone(&captioner, &key_values), &prompts, &decoding, |image| image).unwrap();
            assert_eq!(tokens(&found), *captions, "{prompt:?} in {dtype:?}: {config:?}");
        }
    }
}

#[test]
fn prompts_of_different_lengths_in_a_batch_give_the_captions_that_they_give_alone() {
    let model = Model::load(DType::F32);
    let (captioner, key_values) = (model.captioner(), model.key_values());
    let prompts: [&[u32]; 3] = [&[24, 24, 167], &[], &[24, 50, 9]];
    let beams = DecodingConfig { num_beams: 3, ..DecodingConfig::default() };
    let sample = Strategy::Sample { temperature: 1.5, top_k: 8, top_p: 0.95, seed: 3 };
    for decoding in [
        model.decoding(&DecodingConfig::default(), 84, 1),
        model.decoding(&beams, 84, 3),
        Decoding { strategy: sample, ..model.decoding(&beams, 84, 2) },
    ] {
        let together = decode_after(&alone(&captioner, &key_values), &prompts, &decoding, |image| 5 + image).unwrap();
        for (image, prompt) in prompts.iter().enumerate() {
            let own: Vec<Tensor> = key_values.iter().map(|tensor| tensor.narrow(0, image, 1).unwrap()).collect();
            let by_itself = decode_after(&alone(&captioner, &own), &[prompt], &decoding, |_| 5 + image).unwrap();
            assert_eq!(tokens(&together)[image], tokens(&by_itself)[0], "{decoding:?}");
            if prompt.is_empty() {
                assert_eq!(by_itself, decode(captioner.decoder(), &own, &decoding, 5 + image).unwrap());
            }
        }
    }
}

#[test]
fn a_caption_after_a_prompt_ends_at_the_last_position() {
    let model = Model::load(DType::F32);
    let (captioner, key_values) = (model.captioner(), model.key_values());
    // No token of the vocabulary ends a caption.
    let decoding = model.decoding(&DecodingConfig::default(), 301, 1);
    for length in [20, 23] {
        let prompt = vec![50; length];
        let prompts = vec![prompt.as_slice(); 3];
        let found = decode_after(&alone(&captioner, &key_values), &prompts, &decoding, |image| image).unwrap();
        assert!(found.iter().all(|captions| captions[0].log_probabilities.len() <= 24 - length));
    }
    let whole = vec![50; 24];
    let error =
        decode_after(&alone(&captioner, &key_values), &[&whole, &whole, &whole], &decoding, |image| image).unwrap_err();
    assert!(error.to_string().contains("a prompt of 24 tokens leaves none of 24 positions"), "{error}");
}

fn settings(loss: &TokenCrossEntropy) -> StepSettings<'_> {
    StepSettings {
        loss,
        precision: Precision::Full,
        seed: 0,
        dropout: 0.0,
        recompute: false,
        max_grad_norm: None,
        collective: &Alone,
    }
}

#[test]
fn loss_and_gradients_with_prompts_and_weights_equal_those_of_torch() {
    let expected = expected();
    let model = Model::load(DType::F64);
    let mut num_compared = 0;
    for case in &expected.losses {
        let framed = |place: usize| Framed {
            tokens: &expected.frames[place],
            prompt_length: case.prompt_lengths[place],
            weight: case.weights[place],
        };
        let batch = model.batch(&[framed(0), framed(1)]);
        for (label_smoothing, wanted) in [(0.0, case.loss), (0.1, case.smoothed_loss)] {
            let loss = TokenCrossEntropy { label_smoothing };
            let (losses, gradients) = compute_gradients(
                &model.shape,
                &model.parameters,
                &Piece::in_order([batch.clone()]),
                0,
                &settings(&loss),
                &WorkerPools::alone(),
            )
            .unwrap();
            let found = losses.read().unwrap();
            assert!((found.mean() - wanted).abs() < LOSS, "{:?}: {} {wanted}", case.weights, found.mean());
            let count: f64 = (0..2)
                .map(|place| {
                    case.weights[place] * (expected.frames[place].len() - 1 - case.prompt_lengths[place]) as f64
                })
                .sum();
            assert_eq!(found.count, count);
            let Some(products) = case.smoothed_gradients.as_ref().filter(|_| label_smoothing > 0.0) else { continue };
            for (name, _) in model.parameters.trainable() {
                let gradient = gradients.get(name).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
                let found: f64 = gradient.iter().enumerate().map(|(i, slope)| slope * (0.37 * i as f64).sin()).sum();
                let wanted = products[name];
                assert!((found - wanted).abs() < GRADIENT * wanted.abs().max(1.0), "{name}: {found} {wanted}");
                num_compared += 1;
            }
        }
    }
    assert!(num_compared > 50, "{num_compared}");
}

#[test]
fn scores_of_given_captions_equal_the_log_softmax_of_torch_and_a_validation_ignores_weights() {
    let expected = expected();
    let mut num_compared = 0;
    for (dtype, bound) in [(DType::F64, LOSS), (DType::F32, 2e-5)] {
        let model = Model::load(dtype);
        for case in &expected.losses {
            let Some(wanted) = &case.log_probabilities else { continue };
            let framed = |place: usize| Framed {
                tokens: &expected.frames[place],
                prompt_length: case.prompt_lengths[place],
                weight: case.weights[place],
            };
            let batch = model.batch(&[framed(0), framed(1)]);
            let found = target_log_probabilities(&model.captioner(), &batch).unwrap();
            let wanted = wanted.concat();
            assert_eq!(found.len(), wanted.len());
            for (found, wanted) in found.iter().zip(&wanted) {
                assert!((found - wanted).abs() < bound, "{dtype:?}: {found} {wanted}");
            }
            let validated = evaluate_batch(&model.captioner(), &batch).unwrap();
            assert_eq!(validated.count, wanted.len() as f64);
            assert!((validated.sum + wanted.iter().sum::<f64>()).abs() < 100.0 * bound);
            num_compared += 1;
        }
    }
    assert_eq!(num_compared, 2);
}

#[test]
fn batch_size_and_number_of_pools_change_neither_loss_nor_gradient_of_weighed_captions() {
    let shape = shape("vit", true, true);
    let parameters = random_parameters(&shape, DType::F64);
    let captions: [&[u32]; 4] = [&[1, 5, 6, 7, 2], &[1, 8, 2], &[1, 9, 10, 11, 12, 3, 2], &[1, 4, 4, 8, 2]];
    let (prompts, weights) = ([2, 0, 3, 1], [0.5, 2.0, 1.0, 3.25]);
    // Parts of the batch have their own pictures: those that `batch` draws for these captions.
    let part = |range: std::ops::Range<usize>| {
        let whole = batch(&shape, &captions[range.clone()], DType::F64);
        let framed: Vec<Framed<'_>> = range
            .map(|place| Framed { tokens: captions[place], prompt_length: prompts[place], weight: weights[place] })
            .collect();
        Batch::of_framed(whole.images, None, whole.image_indices, &framed, 0, &Device::Cpu).unwrap()
    };
    let loss = TokenCrossEntropy { label_smoothing: 0.1 };
    let run = |bounds: &[usize], pools: &WorkerPools| {
        let batches = Piece::in_order(bounds.windows(2).map(|bound| part(bound[0]..bound[1])));
        let (losses, gradients) = compute_gradients(&shape, &parameters, &batches, 0, &settings(&loss), pools).unwrap();
        (losses.read().unwrap(), gradients)
    };
    let (whole, expected) = run(&[0, 4], &WorkerPools::alone());
    assert_eq!(whole.count, 0.5 * 2.0 + 2.0 * 2.0 + 3.0 + 3.25 * 3.0);
    for (bounds, pools) in [(vec![0, 1, 4], 1), (vec![0, 2, 4], 2), (vec![0, 1, 2, 3, 4], 3)] {
        let (found, gradients) = run(&bounds, &WorkerPools::new(pools, 1).unwrap());
        assert_eq!(found.count, whole.count);
        assert!((found.sum - whole.sum).abs() < 1e-11 * whole.sum, "{bounds:?}");
        for (name, _) in parameters.trainable() {
            let difference = crate::support::max_difference(gradients.get(name).unwrap(), expected.get(name).unwrap());
            assert!(difference < 1e-12, "{name}: {difference}");
        }
    }
}

/// A data set of drawn pictures, with a sentence for each picture.
fn prompted_data_set(folder: &Path, sentences: &[(&str, Value)]) {
    let images: Vec<(&str, &[&str])> = sentences.iter().map(|(split, _)| (*split, &["x"][..])).collect();
    data_set(folder, &images);
    let path = folder.join("dataset.json");
    let mut dataset: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    for (image, (_, sentence)) in dataset["images"].as_array_mut().unwrap().iter_mut().zip(sentences) {
        image["sentences"] = json!([sentence]);
    }
    std::fs::write(path, dataset.to_string()).unwrap();
}

fn set_up(config: &str) -> anyhow::Result<Setup> {
    Setup::fresh(config::parse(config, "test", &[])?, &ModelFolders::default(), &Device::Cpu, 1)
}

fn config_of(data: &Path, prompt: &str) -> String {
    small_config(&data.join("runs"))
        .replace(&shapes_folder().display().to_string(), &data.display().to_string())
        .replace("[tokenizer]", &format!("{prompt}\n[tokenizer]"))
}

#[test]
fn prompts_of_captions_and_of_the_run_become_prompts_of_examples() {
    let folder = tempfile::tempdir().unwrap();
    prompted_data_set(
        folder.path(),
        &[
            ("train", json!({ "raw": "a red circle" })),
            ("train", json!({ "raw": "a red circle", "prompt": "a photo of", "weight": 2.5 })),
            ("train", json!({ "raw": "a green circle", "weight": 0 })),
            ("val", json!({ "raw": "a red circle", "prompt": "a photo of", "weight": 0 })),
            ("test", json!({ "raw": "a red circle" })),
        ],
    );
    let plain = set_up(&config_of(folder.path(), "")).unwrap();
    let tokenizer = &plain.tokenizer;
    let encode = |text: &str| tokenizer.encode(text).unwrap();
    let (first, second) = (plain.train.get(0), plain.train.get(1));
    assert_eq!(plain.train.len(), 2, "a caption of weight 0 is not trained on");
    assert_eq!((first.prompt_length, first.weight), (0, 1.0));
    assert_eq!(first.tokens, [vec![1], encode("a red circle"), vec![2]].concat());
    let prompt = encode("a photo of");
    assert_eq!((second.prompt_length, second.weight), (prompt.len(), 2.5));
    // What follows a prompt begins with a space, as within a text.
    assert_eq!(second.tokens, [vec![1], prompt.clone(), encode(" a red circle"), vec![2]].concat());
    assert_eq!(second.tokens[1..second.tokens.len() - 1], encode("a photo of a red circle"));
    assert_eq!(
        (plain.val.get(0).weight, plain.val.get(0).prompt_length),
        (1.0, prompt.len()),
        "a validation weighs nothing"
    );
    assert_eq!(plain.prompts.of_image(3).tokens, prompt);
    assert!(plain.plan.describe().contains("1 more training captions have weight 0"), "{}", plain.plan.describe());
    let with = set_up(&config_of(folder.path(), "prompt = \"a picture of\"")).unwrap();
    let of_run = with.tokenizer.encode("a picture of").unwrap();
    assert_eq!(with.train.get(0).prompt_length, of_run.len());
    assert_eq!(with.train.get(0).tokens[1..=of_run.len()], of_run);
    assert_eq!(with.train.get(1).prompt_length, with.tokenizer.encode("a photo of").unwrap().len());
    assert_eq!(with.prompts.of_image(3).text, "a photo of");
    assert!(with.plan.describe().contains("prompt      \"a picture of\""), "{}", with.plan.describe());
}

#[test]
fn a_prompt_that_leaves_no_room_and_captions_without_weight_are_errors_that_say_which() {
    let folder = tempfile::tempdir().unwrap();
    let long = "word ".repeat(30);
    let usual = |split| (split, json!({ "raw": "a red circle" }));
    let refused = |sentences: &[(&str, Value)]| {
        std::fs::remove_dir_all(folder.path().join("images")).ok();
        prompted_data_set(folder.path(), sentences);
        describe(&set_up(&config_of(folder.path(), "")).err().unwrap())
    };
    let text = refused(&[usual("train"), ("train", json!({ "raw": "x", "prompt": long })), usual("val")]);
    assert!(
        text.contains("cannot use caption 0 of image 1.png") && text.contains("no room for a caption in 24"),
        "{text}"
    );
    assert!(text.contains("dataset.json") && text.contains("hint: "), "{text}");
    let text = refused(&[("train", json!({ "raw": "x", "weight": 0 })), usual("val")]);
    assert!(text.contains("all 1 captions of the training images have weight 0"), "{text}");
    let text = refused(&[("train", json!({ "raw": "x", "weight": -1 })), usual("val")]);
    assert!(text.contains("the weight of caption 0 of image 0.png is -1"), "{text}");
}

/// Runs the program; its output and its messages.
fn run(arguments: &[&str], folder: &Path) -> (bool, String, String) {
    let output = binary().args(arguments).current_dir(folder).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_table_with_prompts_and_weights_is_prepared_trained_on_captioned_and_scored() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let pictures = folder.path().join("source");
    std::fs::create_dir_all(&pictures).unwrap();
    let mut table = "image,prompt,caption,weight,split\n".to_owned();
    for number in 0..40 {
        let name = format!("{number:06}.jpg");
        std::fs::copy(shapes_folder().join("images").join(&name), pictures.join(&name)).unwrap();
        let (prompt, split) = (["", "a drawing of"][number % 2], if number < 32 { "train" } else { "val" });
        table.push_str(&format!("{name},{prompt},a shape number {},{},{split}\n", number % 4, 1 + number % 3));
    }
    std::fs::write(pictures.join("captions.csv"), &table).unwrap();
    let (_, _, text) = run(&["prepare-data", "--source", &at("source"), "--output", &at("data")], folder.path());
    assert!(std::fs::read_to_string(at("data/preparation.json")).unwrap().contains("have a prompt"), "{text}");
    let mut config = config_of(&folder.path().join("data"), "prompt = \"a picture of\"");
    for (small, enough) in [
        ("num_epochs = 1", "num_epochs = 30"),
        ("batch_size = 32", "batch_size = 8"),
        ("vocab_size = 280", "vocab_size = 300"),
        ("max_seq_len = 24", "max_seq_len = 32"),
        ("dropout = 0.1", "dropout = 0.0"),
        ("[schedule]", "[optimizer]\nlearning_rate = 0.01\n[schedule]"),
    ] {
        config = config.replace(small, enough);
    }
    std::fs::write(at("run.toml"), config).unwrap();
    let (trained, _, text) = run(&["--config", "run.toml"], folder.path());
    assert!(trained, "{text}");
    let checkpoint = at("data/runs/run/checkpoints/last.safetensors");
    let picture = at("source/000001.jpg");
    let captioned = |more: &[&str]| {
        let mut arguments = vec!["caption", "--checkpoint", &checkpoint, "--json", "--attention", &picture];
        arguments.extend(more);
        let (is_done, output, text) = run(&arguments, folder.path());
        assert!(is_done, "{text}");
        serde_json::from_str::<Value>(&output).unwrap()
    };
    let of_run = captioned(&[]);
    assert_eq!(of_run["prompt"], "a picture of");
    assert!(of_run["caption"].as_str().unwrap().starts_with("a shape number"), "{of_run}");
    let rows = of_run["attention"].as_array().unwrap().len();
    assert_eq!(rows, of_run["token_log_probabilities"].as_array().unwrap().len());
    assert_eq!(captioned(&["--prompt", "a drawing of"])["prompt"], "a drawing of");
    assert!(captioned(&["--prompt", ""]).get("prompt").is_none());
    let (is_done, _, text) =
        run(&["caption", "--checkpoint", &checkpoint, "--prompt", &"x ".repeat(40), &picture], folder.path());
    assert!(!is_done && text.contains("too many for a caption after it in 32 positions"), "{text}");
    let (is_done, _, text) = run(&["evaluate", "--checkpoint", &checkpoint, "--split", "val"], folder.path());
    assert!(is_done, "{text}");

    // What the model wrote has the same probability when it is given.
    let given = json!({ "image": picture, "prompt": "a picture of", "caption": of_run["caption"] });
    let lines = [
        given.to_string(),
        json!({ "image": "absent.jpg", "caption": "a" }).to_string(),
        json!({ "image": "source/000002.jpg", "caption": "a shape number 2", "prompt": "a drawing of" }).to_string(),
        json!({ "image": "source/000001.jpg", "caption": "word ".repeat(40) }).to_string(),
        json!({ "image": "source/000002.jpg", "caption": "a shape number 2" }).to_string(),
    ];
    std::fs::write(at("pairs.jsonl"), lines.join("\n")).unwrap();
    let mut outputs = Vec::new();
    for batch_size in ["64", "2"] {
        let arguments = ["score-pairs", "--checkpoint", &checkpoint, "pairs.jsonl", "--batch-size", batch_size];
        let (is_done, output, text) = run(&arguments, folder.path());
        assert!(!is_done && text.contains("2 of 5 pairs could not be scored"), "{text}");
        outputs.push(output.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>());
    }
    for scores in &outputs {
        assert_eq!(scores.len(), 5);
        let all = |line: &Value| line["token_log_probabilities"].as_array().unwrap().clone();
        let (written, found) = (all(&of_run), all(&scores[0]));
        assert_eq!(written.len(), found.len(), "{} {of_run}", scores[0]);
        for (written, found) in written.iter().zip(&found) {
            assert!((written.as_f64().unwrap() - found.as_f64().unwrap()).abs() < 1e-4, "{written} {found}");
        }
        assert!(scores[1]["error"].as_str().unwrap().contains("absent.jpg"), "{}", scores[1]);
        assert!(scores[3]["error"].as_str().unwrap().contains("too many for 32 positions"), "{}", scores[3]);
        let texts: String =
            scores[2]["token_texts"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
        assert_eq!((texts.as_str(), &scores[2]["prompt"]), (" a shape number 2<end>", &json!("a drawing of")));
        assert_eq!(scores[4]["prompt"], "a picture of");
        let number = |key: &str| scores[2][key].as_f64().unwrap();
        assert!((number("mean_log_probability") * number("num_tokens") - number("log_probability")).abs() < 1e-9);
        assert!((number("perplexity").ln() + number("mean_log_probability")).abs() < 1e-9);
    }
    let (is_done, output, text) = run(
        &[
            "score-pairs",
            "--checkpoint",
            &checkpoint,
            "--data",
            &at("data"),
            "--split",
            "val",
            "--output",
            "scores.jsonl",
        ],
        folder.path(),
    );
    assert!(is_done && output.is_empty(), "{text}");
    let scores = std::fs::read_to_string(at("scores.jsonl")).unwrap();
    assert_eq!(scores.lines().count(), 8);
    assert!(scores.lines().next().unwrap().contains("\"image\":\"000032.jpg\""), "{scores}");
    // A preparation leaves out what has a low score.
    let mean = |line: &str| serde_json::from_str::<Value>(line).unwrap()["mean_log_probability"].as_f64().unwrap();
    let mut means: Vec<f64> = scores.lines().map(mean).collect();
    means.sort_by(f64::total_cmp);
    let least = means[3].midpoint(means[4]).to_string();
    let filter = ["--scores", "scores.jsonl", "--min-score", &least];
    let (source, clean) = (at("source"), at("clean"));
    let arguments = [&["prepare-data", "--source", &source, "--output", &clean], &filter[..]].concat();
    let (is_done, _, text) = run(&arguments, folder.path());
    assert!(is_done && text.contains(&format!("--min-score {least}: 4 images and 4 captions left out")), "{text}");
    assert!(text.contains("32 captions: have no score, and were kept"), "{text}");
    let (is_done, _, text) =
        run(&["score-pairs", "--checkpoint", &checkpoint, "pairs.jsonl", "--output", "scores.jsonl"], folder.path());
    assert!(!is_done && text.contains("scores.jsonl exists"), "{text}");
}
