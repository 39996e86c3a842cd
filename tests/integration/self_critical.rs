//! Self-critical training: its loss against PyTorch, its gradients against all captions that there are, its draws, and
//! runs of the program.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use base::random::{Stream, mix_key};
use base::worker_pools::WorkerPools;
use candle_core::{DType, Device, Tensor};
use caption_train::config::{Baseline, ScstConfig, WithPrompt};
use caption_train::data::batch::{Batch, Example};
use caption_train::data::image_source::ImageInput;
use caption_train::data::pieces::Piece;
use caption_train::decoding::{Constraints, DecodedCaption};
use caption_train::evaluation::token_loss::scalar;
use caption_train::hf::read::read_captioner;
use caption_train::model::captioner::{Captioner, CaptionerShape};
use caption_train::model::decoders::{DecoderConfig, Mode};
use caption_train::model::parameters::Parameters;
use caption_train::model::stages::{Stages, Uncut};
use caption_train::run::checkpoint::reader::read_metadata;
use caption_train::training::collective::Alone;
use caption_train::training::loss::{Loss, Prepared};
use caption_train::training::rewards::Reward;
use caption_train::training::self_critical::{Sampled, SelfCritical};
use caption_train::training::train_step::{StepSettings, compute_gradients};
use metrics::cider_reward::Judged;
use ops::Precision;
use serde::Deserialize;
use serde_json::Value;

use crate::support::{
    binary, data_set, decoder_config, last_checkpoint, losses, model_fixture, random_parameters, random_tensor, shape,
    shapes_folder, small_config, split_checkpoint, stderr, train,
};

/// Rewards a caption by a number that its tokens draw.
#[derive(Debug)]
struct Drawn;

impl Reward for Drawn {
    fn judge(&self, image: usize, caption: &DecodedCaption) -> anyhow::Result<Judged> {
        Ok(Judged { reward: reward_of(image, &caption.tokens, caption.has_end()), ..Judged::default() })
    }
}

fn reward_of(image: usize, tokens: &[u32], has_end: bool) -> f64 {
    let words: Vec<u64> =
        tokens.iter().map(|&token| u64::from(token)).chain([u64::from(has_end), image as u64]).collect();
    (mix_key(&words) >> 40) as f64 / f64::from(1 << 24)
}

fn loss(config: ScstConfig, start: u32, end: u32, max_new_tokens: usize) -> SelfCritical {
    SelfCritical {
        config,
        reward: Arc::new(Drawn),
        constraints: Constraints {
            start,
            end,
            min_new_tokens: 0,
            max_new_tokens,
            with_prompt: WithPrompt::default(),
            no_repeat_ngram_size: 0,
        },
        prompt: Vec::new(),
        references: HashMap::new(),
        pad_id: end,
        seed: 3,
        is_encoder_frozen: false,
    }
}

mod against_torch {
    use super::*;

    /// Both sides compute in f64.
    const F64: f64 = 1e-10;

    /// Tokens, whether the end follows, reward.
    type Sample = (Vec<u32>, bool, f64);

    #[derive(Deserialize)]
    struct Facts {
        samples: Vec<Vec<Sample>>,
        greedy: Vec<f64>,
        /// Tokens and weight.
        references: Vec<Vec<(Vec<u32>, f64)>>,
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        greedy: bool,
        share: f64,
        loss: f64,
        /// Norm, and product with cos(0), cos(1), ...
        gradients: BTreeMap<String, (f64, f64)>,
    }

    /// The loss of samples that are given.
    #[derive(Debug)]
    struct Fixed(SelfCritical, Vec<Sampled>);

    impl Loss for Fixed {
        fn prepare(
            &self,
            _: &dyn Fn() -> anyhow::Result<Captioner>,
            batch: &Batch,
            _: u64,
        ) -> anyhow::Result<Prepared> {
            self.0.batch_of(batch.images.clone(), &self.1, &Device::Cpu)
        }

        fn sum(
            &self,
            model: &Captioner,
            batch: &Batch,
            mode: Mode,
            stages: &mut dyn Stages,
        ) -> candle_core::Result<Tensor> {
            self.0.sum(model, batch, mode, stages)
        }
    }

    #[test]
    fn loss_and_gradients_equal_those_of_torch() {
        let text = fs::read_to_string(model_fixture("expected_self_critical.json")).unwrap();
        let facts: Facts = serde_json::from_str(&text).unwrap();
        let read = read_captioner(&model_fixture("vit_gpt2"), None).unwrap();
        let specs = read.config.parameter_specs().unwrap();
        let parameters = Parameters::from_complete(&specs, read.tensors, DType::F64, &Device::Cpu).unwrap();
        // Start, end and padding are one token there.
        let end = u32::try_from(read.config.decoder.vocab_size() - 1).unwrap();
        let all = candle_core::safetensors::load(model_fixture("expected_vit_gpt2.safetensors"), &Device::Cpu).unwrap();
        let pixels = all["pixel_values"].to_dtype(DType::F64).unwrap().narrow(0, 0, 2).unwrap();
        for case in &facts.cases {
            let baseline = if case.greedy { Baseline::Greedy } else { Baseline::Others };
            let config = ScstConfig { samples: 3, baseline, cross_entropy: case.share, ..ScstConfig::default() };
            let mut loss = loss(config, end, end, 9);
            let example = |image, (tokens, weight): &(Vec<u32>, f64)| Example {
                image,
                tokens: [&[end], &tokens[..], &[end]].concat(),
                prompt_length: 0,
                weight: *weight,
            };
            if case.share > 0.0 {
                let examples = |(image, references): (usize, &Vec<_>)| {
                    (image, references.iter().map(|reference| example(image, reference)).collect())
                };
                loss.references = facts.references.iter().enumerate().map(examples).collect();
            }
            let sampled = |(image, samples): (usize, &Vec<Sample>)| Sampled {
                image,
                captions: samples
                    .iter()
                    .map(|(tokens, ended, _)| DecodedCaption {
                        tokens: tokens.clone(),
                        log_probabilities: vec![0.0; tokens.len() + usize::from(*ended)],
                    })
                    .collect(),
                judged: samples.iter().map(|&(_, _, reward)| Judged { reward, ..Judged::default() }).collect(),
                greedy: case.greedy.then(|| facts.greedy[image]),
            };
            let sampled = facts.samples.iter().enumerate().map(sampled).collect();
            let batch = Batch::new(
                ImageInput::Pixels(pixels.clone()),
                vec![0, 1],
                &[&[end, end], &[end, end]],
                end,
                &Device::Cpu,
            );
            let settings = StepSettings {
                loss: &Fixed(loss, sampled),
                precision: Precision::Full,
                seed: 0,
                dropout: 0.0,
                recompute: false,
                max_grad_norm: None,
                collective: &Alone,
            };
            let pieces = Piece::in_order([batch.unwrap()]);
            let (found, gradients) =
                compute_gradients(&read.config, &parameters, &pieces, 0, &settings, &WorkerPools::alone()).unwrap();
            let found_loss = found.read().unwrap().mean();
            assert!((found_loss - case.loss).abs() < F64, "{found_loss} {}", case.loss);
            let mut compared = 0;
            for (name, _) in parameters.trainable() {
                let values: Vec<f64> = gradients.get(name).unwrap().flatten_all().unwrap().to_vec1().unwrap();
                let norm = values.iter().map(|value| value * value).sum::<f64>().sqrt();
                let product: f64 = values.iter().enumerate().map(|(index, value)| value * (index as f64).cos()).sum();
                let (expected_norm, expected_product) = case.gradients[name];
                assert!((norm - expected_norm).abs() < F64, "{name}: {norm} {expected_norm}");
                assert!((product - expected_product).abs() < F64, "{name}: {product} {expected_product}");
                compared += 1;
            }
            assert_eq!(compared, case.gradients.len());
        }
    }
}

mod draws {
    use super::*;

    const START: u32 = 0;
    const END: u32 = 1;
    /// Tokens of the longest caption, the end included.
    const LONGEST: usize = 3;
    const IMAGES: usize = 3;

    /// A model of two words that may write the start token too.
    fn two_words() -> (CaptionerShape, Parameters) {
        let mut decoder = decoder_config(true, true);
        (decoder.vocab_size, decoder.num_positions) = (4, LONGEST + 1);
        let shape = CaptionerShape { decoder: DecoderConfig::Gpt2(decoder), ..shape("vit", true, true) };
        let parameters = random_parameters(&shape, DType::F64);
        (shape, parameters)
    }

    fn images(shape: &CaptionerShape, images: &[usize]) -> Batch {
        let size = shape.encoder.image_size();
        let pixels: Vec<Tensor> =
            images.iter().map(|image| random_tensor(&image.to_string(), &[1, 3, size, size], DType::F64)).collect();
        let pixels = ImageInput::Pixels(Tensor::cat(&pixels, 0).unwrap());
        let captions = vec![&[START, END][..]; images.len()];
        Batch::new(pixels, images.to_vec(), &captions, END, &Device::Cpu).unwrap()
    }

    /// Every caption: tokens, and whether the end follows.
    fn all_captions() -> Vec<(Vec<u32>, bool)> {
        let (mut found, mut grown) = (Vec::new(), vec![Vec::new()]);
        for _ in 0..LONGEST {
            found.extend(grown.iter().map(|tokens: &Vec<u32>| (tokens.clone(), true)));
            let longer = |tokens: &Vec<u32>| [START, 2, 3].map(|token| [&tokens[..], &[token]].concat());
            grown = grown.iter().flat_map(longer).collect();
        }
        found.extend(grown.into_iter().map(|tokens| (tokens, false)));
        found
    }

    /// Captions of one image with weights, as a batch.
    fn weighed(
        loss: &SelfCritical,
        whole: &Batch,
        image: usize,
        captions: &[(Vec<u32>, bool)],
        weights: &[f64],
    ) -> Batch {
        let ImageInput::Pixels(pixels) = &whole.images else { panic!("pixels") };
        let captions = captions.iter().map(|(tokens, ended)| DecodedCaption {
            tokens: tokens.clone(),
            log_probabilities: vec![0.0; tokens.len() + usize::from(*ended)],
        });
        // With a baseline of 0 a reward is its weight.
        let sampled = Sampled {
            image,
            captions: captions.collect(),
            judged: weights.iter().map(|&reward| Judged { reward, ..Judged::default() }).collect(),
            greedy: Some(0.0),
        };
        let pixels = ImageInput::Pixels(pixels.narrow(0, image, 1).unwrap());
        loss.batch_of(pixels, &[sampled], &Device::Cpu).unwrap().batch
    }

    /// The gradient of the loss's sum, all parameters in a row.
    fn gradient(shape: &CaptionerShape, parameters: &Parameters, loss: &SelfCritical, batch: &Batch) -> Vec<f64> {
        let model = Captioner::build(shape, &parameters.tracked()).unwrap();
        let store = loss.sum(&model, batch, Mode::Eval, &mut Uncut).unwrap().backward().unwrap();
        let of = |(_, var): (&str, &candle_core::Var)| match store.get(var) {
            Some(gradient) => gradient.flatten_all().unwrap().to_vec1::<f64>().unwrap(),
            None => vec![0.0; var.elem_count()],
        };
        parameters.trainable().flat_map(of).collect()
    }

    #[test]
    fn the_mean_of_sampled_gradients_is_that_of_the_expected_reward() {
        let (shape, parameters) = two_words();
        let captions = all_captions();
        assert_eq!(captions.len(), 1 + 3 + 9 + 27);
        let whole = images(&shape, &[0, 1, 2]);
        for baseline in [Baseline::Others, Baseline::Greedy] {
            let samples = 3;
            let loss = loss(ScstConfig { samples, baseline, ..ScstConfig::default() }, START, END, LONGEST);
            let model = Captioner::build(&shape, &parameters.detached()).unwrap();
            let mut expected: Vec<f64> = Vec::new();
            for image in 0..IMAGES {
                let mut weights = Vec::new();
                let mut total = 0.0;
                for caption in &captions {
                    let alone = weighed(&loss, &whole, image, std::slice::from_ref(caption), &[1.0]);
                    let entropy = loss.sum(&model, &alone, Mode::Eval, &mut Uncut).unwrap();
                    let probability = (-scalar(&entropy).unwrap()).exp();
                    total += probability;
                    weights.push(samples as f64 * probability * reward_of(image, &caption.0, caption.1));
                }
                assert!((total - 1.0).abs() < 1e-9, "all captions have the probability {total}");
                let all = weighed(&loss, &whole, image, &captions, &weights);
                let of_image = gradient(&shape, &parameters, &loss, &all);
                expected.resize(of_image.len(), 0.0);
                expected.iter_mut().zip(of_image).for_each(|(sum, value)| *sum += value);
            }
            let square: f64 = expected.iter().map(|value| value * value).sum();
            // How long each sampled gradient is along the true one, and the sum of them all.
            let (mut along, mut sum) = (Vec::new(), vec![0.0; expected.len()]);
            let build = || Captioner::build(&shape, &parameters.detached());
            for update in 0..1500 {
                let prepared = loss.prepare(&build, &whole, update).unwrap();
                let found = gradient(&shape, &parameters, &loss, &prepared.batch);
                along.push(found.iter().zip(&expected).map(|(a, b)| a * b).sum::<f64>() / square);
                sum.iter_mut().zip(&found).for_each(|(sum, value)| *sum += value);
            }
            let count = along.len() as f64;
            let mean = along.iter().sum::<f64>() / count;
            let variance = along.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
            let error = (variance / count).sqrt();
            // A baseline with the caption's own reward would shorten it by a third.
            assert!(error < 0.07, "{baseline:?}: the error {error} shows nothing");
            assert!((mean - 1.0).abs() < 3.5 * error, "{baseline:?}: {mean} +- {error}");
            let rest = sum.iter().zip(&expected).map(|(sum, value)| (sum / count - value).powi(2)).sum::<f64>();
            assert!(rest < 0.15 * square, "{baseline:?}: {rest} of {square} points elsewhere");
        }
    }

    #[test]
    fn what_is_drawn_depends_on_the_update_and_the_image_and_not_on_the_batch() {
        let (shape, parameters) = two_words();
        let config = ScstConfig { samples: 4, ..ScstConfig::default() };
        let loss = loss(config, START, END, LONGEST);
        let build = || Captioner::build(&shape, &parameters.detached());
        let of = |places: &[usize], update| {
            let batch = loss.prepare(&build, &images(&shape, places), update).unwrap().batch;
            // The captions of each image with the weights of their tokens.
            let packing = batch.target_packing.unwrap();
            let weights = batch.weights.unwrap();
            let mut found: BTreeMap<usize, Vec<(Vec<u32>, u64)>> = BTreeMap::new();
            for (image, rows) in batch.image_indices.iter().zip(packing.sequences()) {
                let caption = (batch.targets[rows.clone()].to_vec(), weights[rows.start].to_bits());
                found.entry(*image).or_default().push(caption);
            }
            found
        };
        let together = of(&[0, 1, 2], 7);
        assert!(together.values().all(|captions| captions.len() == 4));
        for image in 0..IMAGES {
            assert_eq!(of(&[image], 7)[&image], together[&image]);
        }
        assert_eq!(of(&[2, 0], 7)[&2], together[&2]);
        assert_ne!(of(&[0, 1, 2], 8), together);
        assert_ne!(together[&0], together[&1]);
    }

    #[test]
    fn the_draws_of_a_temperature_follow_its_probabilities() {
        let (shape, parameters) = two_words();
        let counts = |temperature| {
            let config = ScstConfig { samples: 200, temperature, ..ScstConfig::default() };
            let build = || Captioner::build(&shape, &parameters.detached());
            let prepared = loss(config, START, END, LONGEST).prepare(&build, &images(&shape, &[0]), 1).unwrap();
            let mut captions: BTreeMap<Vec<u32>, usize> = BTreeMap::new();
            for rows in prepared.batch.target_packing.unwrap().sequences() {
                *captions.entry(prepared.batch.targets[rows].to_vec()).or_default() += 1;
            }
            captions.len()
        };
        assert!(counts(0.05) < counts(1.0) && counts(1.0) < counts(20.0));
    }
}

/// A run that others begin from.
pub(crate) fn trained_run() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let config = small_config(folder.path()).replace("num_epochs = 1", "num_epochs = 2");
        let output = train(folder.path(), &config, &[]);
        assert!(output.status.success(), "{}", stderr(&output));
        folder
    });
    folder.path()
}

/// A config of 32 updates of 16 images with 3 samples each, validated every 10 updates.
pub(crate) fn scst_config(folder: &Path) -> String {
    format!(
        r#"
output_dir = "{folder}"
name = "run"
[data]
directory = "{data}"
cache_directory = "{folder}/cache"
[training]
batch_size = 16
parts = 4
num_epochs = 1
log_interval = 1
max_grad_norm = 1.0
save_interval = 7
best_metric = "cider"
[training.scst]
checkpoint = "{start}"
samples = 3
validate_every = 10
[optimizer]
learning_rate = 1e-3
[schedule]
kind = "constant"
warmup_steps = 5
[evaluation]
metrics_interval = 1
caption_split = "test"
"#,
        folder = folder.display(),
        data = shapes_folder().display(),
        start = trained_run().join("run").display()
    )
}

fn records(run: &Path, kind: &str) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["kind"] == kind).collect()
}

fn best_checkpoints(run: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(run.join("checkpoints")).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.display().to_string().contains("checkpoint_update_")).collect()
}

#[test]
fn a_run_begins_with_the_best_of_another_raises_its_rewards_and_keeps_its_own_best() {
    let folder = tempfile::tempdir().unwrap();
    let output = train(folder.path(), &scst_config(folder.path()), &[]);
    let text = stderr(&output);
    assert!(output.status.success(), "{text}");
    let run = folder.path().join("run");
    let steps = records(&run, "step");
    assert_eq!(steps.len(), 32);
    for name in ["reward", "baseline", "advantage", "length", "bad_endings", "loss"] {
        assert!(steps.iter().all(|step| step[name].is_number()), "{name}: {}", steps[0]);
    }
    let mean =
        |steps: &[Value]| steps.iter().map(|step| step["reward"].as_f64().unwrap()).sum::<f64>() / steps.len() as f64;
    assert!(mean(&steps[24..]) > mean(&steps[..8]), "{} {}", mean(&steps[..8]), mean(&steps[24..]));

    let validations = records(&run, "validation");
    let at: Vec<u64> = validations.iter().map(|line| line["step"].as_u64().unwrap()).collect();
    assert_eq!(at, [0, 10, 20, 30, 32]);
    for line in &validations {
        assert!(line["scores"]["CIDEr"].is_number() && line["bad_endings"].is_number(), "{line}");
        let signature = line["signature"].as_str().unwrap();
        assert!(signature.ends_with("|reward:cider-D,sigma6,eos,df=training,average,samples3"), "{signature}");
    }
    let distances: Vec<f64> = validations.iter().map(|line| line["distance"].as_f64().unwrap()).collect();
    // Decoding and teacher forcing round differently.
    assert!(distances[0].abs() < 1e-4 && distances[4] > 0.01, "{distances:?}");
    let best = validations.iter().max_by(|a, b| {
        let cider = |line: &Value| line["scores"]["CIDEr"].as_f64().unwrap();
        cider(a).total_cmp(&cider(b)).then(b["step"].as_u64().cmp(&a["step"].as_u64()))
    });
    let kept = best_checkpoints(&run);
    let expected = format!("checkpoint_update_{}_val_loss_", best.unwrap()["step"]);
    assert!(kept.len() == 1 && kept[0].display().to_string().contains(&expected), "{kept:?} {expected}");
    let (metadata, _) = read_metadata(&last_checkpoint(&run)).unwrap();
    assert_eq!(metadata.config.model.encoder.config.unwrap().image_size(), 32, "the model came with the checkpoint");
    assert!(metadata.start.unwrap().checkpoint.display().to_string().contains("checkpoint_epoch_"));
    assert!(text.contains("update 10/32  val loss ") && text.contains("  bad endings "), "{text}");
    let report = fs::read_to_string(run.join("report.html")).unwrap();
    assert!(report.contains("Distance to the first model") && report.contains("Bad endings"));
    let table = fs::read_to_string(run.join("results.csv")).unwrap();
    assert!(table.lines().next().unwrap().ends_with(",best,reward,bad_endings,distance"), "{table}");
    let scores = fs::read_to_string(run.join("predictions/test.scores.json")).unwrap();
    assert!(scores.contains("|reward:cider-D,sigma6,eos,df=training,average,samples3"), "{scores}");
}

#[test]
fn a_run_resumed_from_any_checkpoint_ends_as_one_that_was_never_stopped() {
    let folder = tempfile::tempdir().unwrap();
    // Three save points are kept: within an epoch, at a validation, at the end.
    let config = scst_config(folder.path()).replace("caption_split = \"test\"\n", "[checkpoint]\nkeep_last = 30\n");
    assert!(train(folder.path(), &config, &[]).status.success());
    let run = folder.path().join("run");
    let (_, expected, values) = split_checkpoint(&fs::read(last_checkpoint(&run)).unwrap());
    for step in [0, 7, 10, 28] {
        let checkpoint = run.join(format!("checkpoints/last_step_{step}.safetensors"));
        let output = binary().arg("--resume").arg(&checkpoint).args(["--set", "name=again"]).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        let again = folder.path().join("again");
        let (_, found, found_values) = split_checkpoint(&fs::read(last_checkpoint(&again)).unwrap());
        assert!(found_values == values, "after update {step}: other tensors");
        for key in ["best_update", "best_cider", "reward_watch", "validated_update", "val_loss", "epoch_loss_sum"] {
            assert_eq!(found["state"][key], expected["state"][key], "{key} after update {step}");
        }
        assert_eq!(losses(&again), losses(&run)[step..]);
        let distance = |run: &Path| records(run, "validation").pop().unwrap()["distance"].clone();
        assert_eq!(distance(&again), distance(&run));
        fs::remove_dir_all(again).unwrap();
    }
    // Other validations change no update.
    let mut command = binary();
    command.arg("--resume").arg(run.join("checkpoints/last_step_7.safetensors"));
    let output = command.args(["--set", "name=again", "--set", "training.scst.validate_every=16"]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let again = folder.path().join("again");
    let (_, _, found_values) = split_checkpoint(&fs::read(last_checkpoint(&again)).unwrap());
    assert!(found_values == values, "with another training.scst.validate_every: other tensors");
    let validated: Vec<Value> = records(&again, "validation").iter().map(|line| line["step"].clone()).collect();
    assert_eq!(validated, [16, 32]);
}

#[test]
fn a_greedy_baseline_and_a_share_of_cross_entropy_change_the_updates() {
    let reward_and_loss = |extra: &str| {
        let folder = tempfile::tempdir().unwrap();
        let config = scst_config(folder.path()).replace("samples = 3\n", &format!("samples = 3\n{extra}\n"));
        let output = train(folder.path(), &config, &[]);
        assert!(output.status.success(), "{}", stderr(&output));
        let first = records(&folder.path().join("run"), "step").remove(0);
        ["reward", "baseline", "loss"].map(|name| first[name].as_f64().unwrap())
    };
    let [plain, greedy, mixed] = ["", "baseline = \"greedy\"", "cross_entropy = 0.5"].map(reward_and_loss);
    assert!(plain[0] == greedy[0] && plain[0] == mixed[0], "the same samples");
    assert!((plain[0] - plain[1]).abs() < 1e-9, "the mean of the others is the mean of all");
    assert!(greedy[1] > plain[1], "greedy captions are better than samples");
    assert!(mixed[2] > plain[2] + 0.1, "cross-entropy is positive: {mixed:?} {plain:?}");
}

#[test]
fn a_mistake_is_told_before_the_first_update_and_leaves_no_run() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |config: &str| {
        let output = train(folder.path(), config, &[]);
        assert!(!output.status.success() && !folder.path().join("run").exists(), "{}", stderr(&output));
        stderr(&output)
    };
    let config = scst_config(folder.path());
    let text = refused(&config.replace("[training]\n", "[training]\nbatch_by = \"pair\"\n"));
    assert!(text.contains("training.batch_by is \"pair\", but self-critical training takes images"), "{text}");
    let text = refused(&config.replace("samples = 3", "samples = 1"));
    assert!(text.contains("training.scst.samples must be 2 or more, found 1"), "{text}");
    let text = refused(&config.replace("best_metric = \"cider\"\n", ""));
    assert!(text.contains("training.best_metric must be \"cider\" with training.scst"), "{text}");
    let text = refused(&config.replace("[training]\n", "[tokenizer]\nvocab_size = 300\n[training]\n"));
    assert!(text.contains("tokenizer.vocab_size is 300 in the config, but 280 in "), "{text}");
    let text = refused(&config.replace("[training]\n", "[model.decoder]\nnum_layers = 3\n[training]\n"));
    assert!(text.contains("model.decoder.num_layers is 3 in the config, but 2 in "), "{text}");

    // A folder with another tokenizer.
    let other = tempfile::tempdir().unwrap();
    let tokenizer = other.path().join("tokenizer");
    let captions: Vec<String> = (0..300).map(|number| format!("other words {number}")).collect();
    let captions: Vec<&str> = captions.iter().map(String::as_str).collect();
    data_set(&other.path().join("data"), &[("train", &captions), ("val", &["a word"])]);
    let first = small_config(other.path())
        .replace(&shapes_folder().display().to_string(), &other.path().join("data").display().to_string())
        .replace("[tokenizer]\n", &format!("[tokenizer]\ndirectory = \"{}\"\n", tokenizer.display()));
    let output = train(other.path(), &first, &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    let named = format!("[tokenizer]\ndirectory = \"{}\"\n[training]\n", tokenizer.display());
    let text = refused(&config.replace("[training]\n", &named));
    assert!(text.contains("is not that of the checkpoint") && text.contains("remove tokenizer.directory"), "{text}");

    // Images whose captions have no word.
    let data = folder.path().join("data");
    data_set(
        &data,
        &[("train", &["a red disc"]), ("train", &["...", "!"]), ("train", &["a blue disc"]), ("val", &["a disc"])],
    );
    let text = refused(&config.replace(&shapes_folder().display().to_string(), &data.display().to_string()));
    assert!(
        text.contains("1 of 3 training images have no reference with a word in it") && text.contains("1.png"),
        "{text}"
    );

    let text = refused(&config.replace(&trained_run().join("run").display().to_string(), "no/such/run"));
    assert!(text.contains("cannot begin from no/such/run"), "{text}");
}

#[test]
fn a_resumed_run_whose_first_model_is_gone_trains_on_and_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let start = folder.path().join("start.safetensors");
    fs::copy(last_checkpoint(&trained_run().join("run")), &start).unwrap();
    let from = trained_run().join("run").display().to_string();
    let config = scst_config(folder.path()).replace(&from, &start.display().to_string());
    let output = train(folder.path(), &config, &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    fs::remove_file(&start).unwrap();
    let run = folder.path().join("run");
    let output = binary().arg("--resume").arg(last_checkpoint(&run)).args(["--set", "training.num_epochs=2"]).output();
    let text = stderr(&output.unwrap());
    assert!(
        text.contains("validations do not say how far the model is from the one that training began from"),
        "{text}"
    );
    let validations = records(&run, "validation");
    assert!(validations.len() > 5 && validations.last().unwrap()["distance"].is_null(), "{validations:?}");
}

#[test]
fn rewards_are_drawn_evenly() {
    // What the tests above rely on.
    let mut random = Stream::new(1, "test", "tokens");
    let rewards: Vec<f64> =
        (0..1000).map(|_| reward_of(0, &[random.below(99) as u32, random.below(99) as u32], true)).collect();
    let mean = rewards.iter().sum::<f64>() / 1000.0;
    assert!((mean - 0.5).abs() < 0.05 && rewards.iter().all(|reward| (0.0..1.0).contains(reward)), "{mean}");
}
