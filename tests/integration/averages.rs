//! Means of checkpoints: their values, what can be done with them, and what is refused.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::OnceLock;

use base::error::describe;
use candle_core::{Device, Tensor};
use caption_train::run::checkpoint::find_latest::{best_in_run, latest_in_run};
use caption_train::run::checkpoint::reader::read_metadata;
use serde_json::{Value, json};

use crate::commands::picture;
use crate::self_critical::scst_config;
use crate::support::{binary, join_checkpoint, last_checkpoint, small_config, split_checkpoint, stderr, train};

/// A run whose last three save points are kept.
fn trained() -> &'static Path {
    static RUN: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = RUN.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let config = small_config(folder.path()).replace("[schedule]", "save_interval = 20\n[schedule]")
            + "[checkpoint]\nkeep_last = 3\n";
        let output = train(folder.path(), &config, &[]);
        assert!(output.status.success(), "{}", stderr(&output));
        folder
    });
    folder.path()
}

fn save_points() -> [PathBuf; 3] {
    [40, 60, 63].map(|step| trained().join(format!("run/checkpoints/last_step_{step}.safetensors")))
}

fn average(checkpoints: &[PathBuf], output: &Path) -> Output {
    binary().arg("average").args(checkpoints).arg("--output").arg(output).output().unwrap()
}

fn tensors(path: &Path) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[track_caller]
fn run(arguments: &[&str], checkpoint: &Path, more: &[&str]) -> Output {
    let output = binary().args(arguments).arg(checkpoint).args(more).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    output
}

#[test]
fn the_mean_has_the_values_of_its_checkpoints_rounded_once_and_says_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("mean.safetensors");
    let averaged = average(&save_points(), &output);
    assert!(averaged.status.success(), "{}", stderr(&averaged));
    let parts = save_points().map(|path| tensors(&path));
    let found = tensors(&output);
    let names: Vec<&String> = parts[0].keys().filter(|name| name.starts_with("model.")).collect();
    assert!(names.len() > 40 && found.len() == names.len(), "{} {}", names.len(), found.len());
    let mut num_changed = 0;
    for name in names {
        let each = parts.each_ref().map(|part| values(&part[name]));
        assert_eq!(found[name].dims(), parts[0][name].dims());
        for (place, found) in values(&found[name]).into_iter().enumerate() {
            let sum: f64 = each.iter().map(|values| f64::from(values[place])).sum();
            assert_eq!(found.to_bits(), ((sum / 3.0) as f32).to_bits(), "{name}, value {place}");
            num_changed += usize::from(found.to_bits() != each[2][place].to_bits());
        }
    }
    assert!(num_changed > 1000, "{num_changed}");
    let (metadata, _) = read_metadata(&output).unwrap();
    let (newest, _) = read_metadata(&save_points()[2]).unwrap();
    assert_eq!((metadata.state.global_step, metadata.state.val_loss, metadata.optimizer_step), (63, None, 0));
    assert_eq!((&metadata.config, &metadata.dataset_digest), (&newest.config, &newest.dataset_digest));
    for (source, path) in metadata.average_of.iter().zip(save_points()) {
        assert_eq!(source.checkpoint, path.canonicalize().unwrap());
        assert_eq!(source.tensors_digest, read_metadata(&path).unwrap().0.tensors_digest);
    }
    assert_eq!(metadata.average_of.len(), 3);
    let shown = String::from_utf8(run(&["inspect"], &output, &[]).stdout).unwrap();
    assert!(shown.contains("mean of         ") && shown.contains("last_step_60.safetensors, SHA-256 "), "{shown}");
}

#[test]
fn a_mean_captions_is_evaluated_and_exported() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let output = folder.path().join("mean.safetensors");
    assert!(average(&save_points(), &output).status.success());
    let caption = |checkpoint: &Path| {
        run(&["caption", "--json", "--checkpoint"], checkpoint, &[&picture().display().to_string()]).stdout
    };
    let by_mean = caption(&output);
    assert!(!by_mean.is_empty() && by_mean != caption(&save_points()[2]));
    run(&["evaluate", "--split", "val", "--output", &at("scores"), "--checkpoint"], &output, &[]);
    run(&["export", "--output", &at("exported"), "--checkpoint"], &output, &[]);
    let card = fs::read_to_string(at("exported/README.md")).unwrap();
    assert!(card.contains("| checkpoints of which the weights are the mean | 3 |"), "{card}");
    let weights = tensors(&folder.path().join("exported/model.safetensors"));
    let name = "decoder.transformer.h.0.mlp.c_fc.weight";
    assert_eq!(values(&weights[name]), values(&tensors(&output)[&format!("model.{name}")]));
    assert_eq!(caption(Path::new(&at("exported"))).len(), by_mean.len());
}

#[test]
fn no_run_is_resumed_from_a_mean_and_self_critical_training_begins_with_one() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("copy");
    fs::create_dir_all(run.join("checkpoints")).unwrap();
    for entry in fs::read_dir(trained().join("run/checkpoints")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, run.join("checkpoints").join(path.file_name().unwrap())).unwrap();
    }
    // It has as many updates as the newest, and its name comes last.
    let output = run.join("checkpoints/z.safetensors");
    assert!(average(&save_points(), &output).status.success());
    let refused = binary().arg("--resume").arg(&output).output().unwrap();
    let text = stderr(&refused);
    assert_eq!(refused.status.code(), Some(1), "{text}");
    assert!(text.contains("z.safetensors is the mean of 3 checkpoints and has no optimizer state"), "{text}");
    assert!(
        text.contains("hint: resume from one of them, such as ") && text.contains("last_step_63.safetensors"),
        "{text}"
    );
    assert_eq!(latest_in_run(&run, read_metadata).unwrap().0, last_checkpoint(&run));
    assert!(best_in_run(&run).unwrap().display().to_string().contains("checkpoint_epoch_1_val_loss_"));
    for entry in fs::read_dir(run.join("checkpoints")).unwrap() {
        let path = entry.unwrap().path();
        if path != output {
            fs::remove_file(path).unwrap();
        }
    }
    let none = latest_in_run(&run, read_metadata).unwrap_err();
    assert!(describe(&none).contains("no resumable checkpoint in "), "{}", describe(&none));

    let config = scst_config(folder.path());
    let start = config.lines().find(|line| line.starts_with("checkpoint = ")).unwrap();
    let config = config.replace(start, &format!("checkpoint = \"{}\"", output.display()));
    let begun = train(folder.path(), &config, &["--set", "evaluation.caption_split=val"]);
    assert!(begun.status.success(), "{}", stderr(&begun));
    let (metadata, _) = read_metadata(&last_checkpoint(&folder.path().join("run"))).unwrap();
    assert!(metadata.average_of.is_empty() && metadata.start.unwrap().checkpoint.ends_with("z.safetensors"));
}

/// The last save point with other metadata.
fn changed(folder: &Path, name: &str, change: impl FnOnce(&mut Value)) -> PathBuf {
    let (header, mut metadata, values) = split_checkpoint(&fs::read(last_checkpoint(&trained().join("run"))).unwrap());
    change(&mut metadata);
    let path = folder.join(name);
    fs::write(&path, join_checkpoint(header, &metadata, &values)).unwrap();
    path
}

#[test]
fn what_has_no_mean_is_refused_by_name_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("mean.safetensors");
    let [first, second, third] = save_points();
    let with = |change: &dyn Fn(&mut Value)| changed(folder.path(), "changed.safetensors", |metadata| change(metadata));
    let refuse = |checkpoints: &[PathBuf], code: i32, expected: &str| {
        let refused = average(checkpoints, &output);
        let text = stderr(&refused);
        assert_eq!(refused.status.code(), Some(code), "{text}");
        assert!(text.contains(expected) && !output.exists(), "{expected}: {text}");
    };
    refuse(std::slice::from_ref(&first), 2, "one checkpoint is its own mean");
    refuse(&[first.clone(), first.clone()], 2, "are the same checkpoint");
    let last = last_checkpoint(&trained().join("run"));
    refuse(
        &[first.clone(), third, last],
        2,
        "the last.safetensors of a run is also its newest last_step_N.safetensors",
    );
    refuse(&[first.clone(), folder.path().join("absent.safetensors")], 1, "absent.safetensors");
    let other = with(&|metadata| metadata["shape"]["decoder"]["layer_norm_eps"] = json!(0.001));
    refuse(&[first.clone(), other], 1, "decoder.layer_norm_eps is 0.00001 and 0.001 in their models");
    let other = with(&|metadata| metadata["image_processor"]["rescale_factor"] = json!(0.5));
    refuse(&[first.clone(), other], 1, "they process images differently");
    let other = with(&|metadata| {
        let mut tokenizer: Value = serde_json::from_str(metadata["tokenizer"].as_str().unwrap()).unwrap();
        let vocab = tokenizer["model"]["vocab"].as_object_mut().unwrap();
        let (a, b) = (vocab["a"].clone(), vocab["b"].clone());
        vocab.extend([("a".to_owned(), b), ("b".to_owned(), a)]);
        metadata["tokenizer"] = tokenizer.to_string().into();
    });
    refuse(&[first.clone(), other], 1, "is \"a\" and \"b\" in their tokenizers");
    fs::write(&output, "mine").unwrap();
    let refused = average(&[first.clone(), second.clone()], &output);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("mean.safetensors exists"), "{}", stderr(&refused));
    let refused = average(&[first.clone(), second.clone()], &output.with_file_name("absent").join("mean.safetensors"));
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("absent does not exist"), "{}", stderr(&refused));
    assert_eq!(fs::read_to_string(&output).unwrap(), "mine");

    // Dropout is no part of the model; another data set makes the mean one of no data set.
    let other = with(&|metadata| {
        metadata["shape"]["decoder"]["dropout"] = json!(0.5);
        metadata["dataset_digest"] = "0".repeat(64).into();
    });
    let averaged = average(&[first, other], &folder.path().join("of_two.safetensors"));
    assert!(averaged.status.success(), "{}", stderr(&averaged));
    assert!(stderr(&averaged).contains("were trained on different data sets"), "{}", stderr(&averaged));
    assert_eq!(read_metadata(&folder.path().join("of_two.safetensors")).unwrap().0.dataset_digest, "");
}
