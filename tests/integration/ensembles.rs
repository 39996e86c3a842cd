//! Models that caption together: against whole forward passes, and from the command line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use candle_core::{DType, Device, Tensor};
use caption_train::config::DecodingConfig;
use caption_train::decoding::{DecodedCaption, Decoding, Member, Strategy, decode_after};
use caption_train::model::captioner::{Captioner, CaptionerShape};
use caption_train::model::decoders::{DecoderConfig, Mode};
use caption_train::run::checkpoint::reader::read_metadata;
use serde_json::Value;

use crate::commands::{picture, trained};
use crate::support::{
    VOCABULARY, alone, binary, join_checkpoint, last_checkpoint, model_fixture, random_parameters, random_tensor,
    shape, shape_with_bert, shapes_folder, small_config, split_checkpoint, stderr, train,
};

const START: u32 = 1;
const END: u32 = 2;
const PICTURES: usize = 3;
const UNPROMPTED: [&[u32]; PICTURES] = [&[]; PICTURES];
/// Decoding takes logits as f32.
const ROUNDING: f64 = 1e-5;

/// A model, the pictures as it takes them, and their keys and values.
struct Seeing {
    model: Captioner,
    pixels: Tensor,
    key_values: Vec<Tensor>,
}

impl Seeing {
    fn new(shape: &CaptionerShape) -> Self {
        let parameters = random_parameters(shape, DType::F64);
        let model = Captioner::build(shape, &parameters.detached()).unwrap();
        let side = shape.encoder.image_size();
        let pixels = random_tensor("pictures", &[PICTURES, 3, side, side], DType::F64);
        let key_values = model.cross_key_values(&model.encode(&pixels).unwrap()).unwrap();
        Self { model, pixels, key_values }
    }

    fn member(&self) -> Member<'_> {
        Member { decoder: self.model.decoder(), key_values: &self.key_values }
    }

    /// Logits of the token after these, by a pass over all of them.
    fn logits(&self, picture: usize, tokens: &[u32]) -> Vec<f64> {
        let pixels = self.pixels.narrow(0, picture, 1).unwrap();
        let ids = Tensor::new(tokens, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
        self.model.forward(&pixels, &ids, Mode::Eval).unwrap().to_vec3().unwrap()[0][tokens.len() - 1].clone()
    }
}

/// A GPT-2 that sees pictures of 21 pixels, and a BERT that sees others of 23, has two tokens and a position more.
fn two_models() -> [Seeing; 2] {
    let mut other = shape_with_bert(false, false);
    other.encoder = shape("siglip_vision", true, true).encoder;
    let DecoderConfig::Bert(config) = &mut other.decoder else { unreachable!("it is a BERT") };
    (config.vocab_size, config.num_positions) = (VOCABULARY + 2, 9);
    [Seeing::new(&shape("vit", true, true)), Seeing::new(&other)]
}

fn log_softmax(logits: &[f64]) -> Vec<f64> {
    let log_sum = logits.iter().map(|logit| logit.exp()).sum::<f64>().ln();
    logits.iter().map(|logit| logit - log_sum).collect()
}

/// The definition: the mean of the log-probabilities of the tokens that all have, normalised.
fn log_probabilities(models: &[Seeing], picture: usize, tokens: &[u32]) -> Vec<f64> {
    let each: Vec<Vec<f64>> = models.iter().map(|model| log_softmax(&model.logits(picture, tokens))).collect();
    let mean = |token: usize| each.iter().map(|of| of[token]).sum::<f64>() / each.len() as f64;
    log_softmax(&(0..VOCABULARY).map(mean).collect::<Vec<f64>>())
}

/// The tokens of a caption and its end, each with its log-probability.
fn expected_log_probabilities(models: &[Seeing], picture: usize, prompt: &[u32], found: &DecodedCaption) -> Vec<f64> {
    let written: Vec<u32> = found.tokens.iter().copied().chain([END]).take(found.log_probabilities.len()).collect();
    let before = |place: usize| [&[START], prompt, &written[..place]].concat();
    let of_token = |place: usize| log_probabilities(models, picture, &before(place))[written[place] as usize];
    (0..written.len()).map(of_token).collect()
}

#[track_caller]
fn assert_near(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < ROUNDING), "{found:?} {expected:?}");
}

fn decoding(config: &DecodingConfig) -> Decoding {
    Decoding::from_config(config, START, END, 8)
}

/// Greedy, with beams, and sampled.
fn every_way() -> [Decoding; 3] {
    let beams = DecodingConfig { num_beams: 3, ..DecodingConfig::default() };
    let strategy = Strategy::Sample { temperature: 1.2, top_k: 0, top_p: 1.0, seed: 5 };
    let greedy = decoding(&DecodingConfig::default());
    [greedy, Decoding { num_captions: 3, ..decoding(&beams) }, Decoding { strategy, num_captions: 4, ..greedy }]
}

#[test]
fn captions_of_two_models_have_the_normalised_mean_of_their_log_probabilities() {
    let models = two_models();
    let members = [models[0].member(), models[1].member()];
    let prompts: [&[u32]; PICTURES] = [&[5, 6], &[], &[7, 3]];
    let mut num_compared = 0;
    for decoding in every_way() {
        let found = decode_after(&members, &prompts, &decoding, |image| image).unwrap();
        for (picture, captions) in found.iter().enumerate() {
            for caption in captions {
                let expected = expected_log_probabilities(&models, picture, prompts[picture], caption);
                assert_near(&caption.log_probabilities, &expected);
                num_compared += expected.len();
            }
        }
        let by_one = decode_after(&members[..1], &prompts, &decoding, |image| image).unwrap();
        assert_ne!(found[0][0].log_probabilities, by_one[0][0].log_probabilities);
    }
    assert!(num_compared > 60, "{num_compared}");
}

#[test]
fn greedy_takes_the_most_probable_token_of_both_and_beams_find_the_best_of_all_captions() {
    let models = two_models();
    let members = [models[0].member(), models[1].member()];
    let greedy = decode_after(&members, &UNPROMPTED, &decoding(&DecodingConfig::default()), |image| image).unwrap();
    // As many beams as there are beginnings: nothing is left out.
    let all = DecodingConfig { num_beams: 200, max_new_tokens: Some(3), ..DecodingConfig::default() };
    let all = Decoding { num_captions: 5, ..decoding(&all) };
    let best = decode_after(&members, &UNPROMPTED, &all, |image| image).unwrap();
    for picture in 0..PICTURES {
        let mut tokens = vec![START];
        while tokens.len() <= 8 && (tokens.len() == 1 || tokens.last() != Some(&END)) {
            let next = log_probabilities(&models, picture, &tokens);
            tokens.push((0..VOCABULARY).max_by(|&a, &b| next[a].total_cmp(&next[b])).unwrap() as u32);
        }
        let without_end: Vec<u32> = tokens[1..].iter().copied().filter(|&token| token != END).collect();
        assert_eq!(greedy[picture][0].tokens, without_end);

        // Every caption of three tokens, or with an end before.
        let (mut open, mut captions) = (vec![(Vec::new(), 0.0)], Vec::new());
        for length in 1..=3 {
            for (tokens, sum) in std::mem::take(&mut open) {
                let next = log_probabilities(&models, picture, &[&[START], &tokens[..]].concat());
                for (token, log_probability) in (0..).zip(next) {
                    let longer = ([&tokens[..], &[token]].concat(), sum + log_probability);
                    if token == END || length == 3 { captions.push(longer) } else { open.push(longer) }
                }
            }
        }
        let score = |(tokens, sum): &(Vec<u32>, f64)| sum / tokens.len() as f64;
        captions.sort_by(|a, b| score(b).total_cmp(&score(a)));
        for (found, (tokens, sum)) in best[picture].iter().zip(&captions) {
            let without_end: Vec<u32> = tokens.iter().copied().filter(|&token| token != END).collect();
            assert_eq!(found.tokens, without_end);
            assert!((found.log_probability() - sum).abs() < ROUNDING, "{} {sum}", found.log_probability());
        }
        assert_eq!(best[picture].len(), 5);
    }
}

#[test]
fn a_model_with_itself_writes_what_it_writes_alone_and_the_order_of_models_changes_nothing() {
    let models = two_models();
    let [one, other] = [models[0].member(), models[1].member()];
    for decoding in every_way() {
        let write = |members: &[Member<'_>]| decode_after(members, &UNPROMPTED, &decoding, |image| image).unwrap();
        let by_itself = write(&alone(&models[0].model, &models[0].key_values));
        assert_eq!(write(&[one, one]), by_itself);
        assert_eq!(write(&[one, one, one]), by_itself);
        for (found, expected) in write(&[one, other]).concat().iter().zip(write(&[other, one]).concat()) {
            assert_eq!(found.tokens, expected.tokens);
            assert_near(&found.log_probabilities, &expected.log_probabilities);
        }
    }
}

#[test]
fn models_that_see_different_numbers_of_pictures_are_an_error() {
    let [one, other] = two_models();
    let fewer: Vec<Tensor> = other.key_values.iter().map(|tensor| tensor.narrow(0, 0, 2).unwrap()).collect();
    let members = [one.member(), Member { key_values: &fewer, ..other.member() }];
    let error = decode_after(&members, &UNPROMPTED, &every_way()[0], |image| image).unwrap_err();
    assert!(error.to_string().contains("a prompt for each of 2 images, found 3"), "{error}");
    assert!(decode_after(&[], &UNPROMPTED, &every_way()[0], |image| image).is_err());
}

fn run(command: &str, checkpoints: &[&Path], more: &[&str]) -> Output {
    let mut all = binary();
    all.arg(command);
    for path in checkpoints {
        all.arg("--checkpoint").arg(path);
    }
    all.args(more).output().unwrap()
}

#[track_caller]
fn data(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
fn refused(output: &Output, code: i32, expected: &str) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains(expected) && text.contains("hint: "), "{text}");
}

/// A run with the tokenizer of `of`, another encoder, larger pictures and a random split.
fn another_run(folder: &Path, of: &Path) -> PathBuf {
    let config = small_config(folder)
        .replace("vocab_size = 280", &format!("vocab_size = 280\ndirectory = \"{}\"", of.join("tokenizer").display()))
        .replace(
            "image_size = 32, patch_size = 16, hidden_size = 16",
            "image_size = 48, patch_size = 16, hidden_size = 24",
        )
        .replace("[tokenizer]", "split = \"random\"\n[tokenizer]");
    let output = train(folder, &config, &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    last_checkpoint(&folder.join("run"))
}

#[test]
fn several_checkpoints_caption_and_are_evaluated_together() {
    let folder = tempfile::tempdir().unwrap();
    let (run_of_one, picture) = (trained().join("run"), picture().display().to_string());
    let one = last_checkpoint(&run_of_one);
    let other = another_run(folder.path(), &run_of_one);
    let caption = |checkpoints: &[&Path]| {
        let lines = data(&run("caption", checkpoints, &["--num-beams", "3", "--json", &picture]));
        serde_json::from_str::<Value>(&lines).unwrap()
    };
    let (by_one, by_both) = (caption(&[&one]), caption(&[&one, &other]));
    assert_eq!(caption(&[&one, &one]), by_one);
    let probability = |caption: &Value| caption["log_probability"].as_f64().unwrap();
    assert_ne!(probability(&by_both), probability(&by_one));
    let turned = caption(&[&other, &one]);
    assert_eq!(turned["tokens"], by_both["tokens"]);
    assert!((probability(&turned) - probability(&by_both)).abs() < 1e-4, "{turned} {by_both}");
    // A folder has the tokenizer of the checkpoint that it was exported from.
    let exported = folder.path().join("exported");
    data(&run("export", &[&one], &["--output", &exported.display().to_string()]));
    assert_eq!(caption(&[&one, &exported])["tokens"], by_one["tokens"]);

    refused(&run("caption", &[&one, &other], &["--json", "--attention", &picture]), 2, "where one model looks");
    let foreign = run("caption", &[&one, &model_fixture("vit_gpt2")], &[&picture]);
    refused(&foreign, 1, "cannot caption together: their tokenizers have ");
    let (header, mut metadata, values) = split_checkpoint(&fs::read(&other).unwrap());
    metadata["config"]["data"]["prompt"] = "a drawing of".into();
    let prompted = folder.path().join("prompted.safetensors");
    fs::write(&prompted, join_checkpoint(header, &metadata, &values)).unwrap();
    let warned =
        "prompted.safetensors was trained with another prompt (\"a drawing of\") than the one that is used (none)";
    assert!(stderr(&run("caption", &[&one, &prompted], &[&picture])).contains(warned));
    let silent = run("caption", &[&one, &prompted], &["--prompt", "a", &picture]);
    assert!(!stderr(&silent).contains("another prompt"), "{}", stderr(&silent));

    refused(&run("evaluate", &[&one, &other], &["--split", "val"]), 2, "so there is no default folder");
    let evaluate = |checkpoints: &[&Path], name: &str| {
        let output = folder.path().join(name);
        let to = output.display().to_string();
        let arguments = ["--split", "val", "--bootstrap", "0", "--temperature", "1", "--output", &to];
        let evaluated = run("evaluate", checkpoints, &arguments);
        data(&evaluated);
        let read = |file: &str| fs::read_to_string(output.join(file)).unwrap();
        (read("val.json"), serde_json::from_str::<Value>(&read("val.scores.json")).unwrap(), stderr(&evaluated))
    };
    let (captions_of_one, scores_of_one, _) = evaluate(&[&one], "one");
    assert!(scores_of_one.get("ensemble").is_none());
    let (captions, scores, text) = evaluate(&[&one, &one], "twice");
    assert_eq!((&captions, text.contains("are among those")), (&captions_of_one, false), "{text}");
    assert_eq!(scores["report"]["scores"], scores_of_one["report"]["scores"]);
    let (captions, scores, text) = evaluate(&[&one, &other], "both");
    assert_ne!(captions, captions_of_one);
    assert!(
        text.contains(&format!("of the 12 images are among those that {} was trained on", other.display())),
        "{text}"
    );
    assert_eq!(
        (&scores["checkpoint"], &scores["epoch"]),
        (&"last.safetensors + last.safetensors".into(), &Value::Null)
    );
    let signature = scores["report"]["signature"].as_str().unwrap();
    let mut expected = "|ensemble:mean-log-probability".to_owned();
    for (member, path) in scores["ensemble"].as_array().unwrap().iter().zip([&one, &other]) {
        let digest = read_metadata(path).unwrap().0.tensors_digest;
        assert_eq!(member["checkpoint"], path.display().to_string());
        assert_eq!((&member["epoch"], &member["tensors_digest"]), (&1.into(), &digest.as_str().into()));
        expected.push_str(&format!(",last.safetensors@{}", &digest[..12]));
    }
    assert!(signature.ends_with(&expected), "{signature} {expected}");
    let elsewhere = shapes_folder().display().to_string();
    let output = folder.path().join("elsewhere").display().to_string();
    data(&run("evaluate", &[&one, &exported], &["--data", &elsewhere, "--output", &output]));
}
