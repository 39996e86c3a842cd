//! What earlier releases wrote is read: data set, run folder, checkpoint, cache and export of
//! `tests/fixtures/release_*`, made by `tests/reference/release.py`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;

use crate::support::{binary, files_below, stderr};

/// A copy of the fixture that may be written.
fn release(folder: &Path) -> PathBuf {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/release_0_1");
    for file in files_below(&fixture) {
        let target = folder.join(file.strip_prefix(&fixture).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(&file, target).unwrap();
    }
    folder.to_owned()
}

fn in_folder(folder: &Path, arguments: &[&str]) -> Output {
    let output = binary().current_dir(folder).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    output
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Captions, tokens and probabilities as the release wrote them. Other processors round otherwise.
fn assert_same_captions(output: &Output, folder: &Path) {
    let expected = lines(&fs::read_to_string(folder.join("captions.jsonl")).unwrap());
    let found = lines(std::str::from_utf8(&output.stdout).unwrap());
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!((&found["caption"], &found["tokens"]), (&expected["caption"], &expected["tokens"]));
        let [a, b] = [found, expected].map(|line| line["log_probability"].as_f64().unwrap());
        assert!((a - b).abs() < 1e-4, "{a} and {b}");
    }
}

const PICTURES: [&str; 4] = ["data/images/00.png", "data/images/01.png", "data/images/07.png", "data/images/11.png"];

#[test]
fn a_checkpoint_and_an_export_of_an_earlier_release_caption_as_they_did() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = release(scratch.path());
    for model in ["runs/run/checkpoints/last.safetensors", "export"] {
        let mut arguments = vec!["caption", "--json", "--num-beams", "3", "--checkpoint", model];
        arguments.extend(PICTURES);
        assert_same_captions(&in_folder(&folder, &arguments), &folder);
    }
}

#[test]
fn a_run_of_an_earlier_release_is_resumed_with_its_cache_to_the_same_losses() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = release(scratch.path());
    let output = in_folder(&folder, &["--resume", "runs/run", "--set", "training.num_epochs=42"]);
    assert!(stderr(&output).contains("has all images"), "the cache is used: {}", stderr(&output));
    let expected = lines(&fs::read_to_string(folder.join("resumed.jsonl")).unwrap());
    let found = lines(&fs::read_to_string(folder.join("runs/run/metrics.jsonl")).unwrap());
    for expected in &expected {
        let same = |line: &&Value| ["kind", "epoch", "step"].iter().all(|key| line[*key] == expected[*key]);
        let found = found.iter().find(same).unwrap();
        let key = if expected["kind"] == "epoch" { "train_loss" } else { "val_loss" };
        let [a, b] = [found, expected].map(|line| line[key].as_f64().unwrap());
        assert!((a - b).abs() < 1e-4, "{key}: {a} and {b}");
    }
    let rows = fs::read_to_string(folder.join("runs/run/results.csv")).unwrap();
    assert_eq!(rows.lines().count(), 43, "the rows of both releases");
    let before = fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/release_0_1/runs/run/results.csv"),
    )
    .unwrap();
    assert!(rows.starts_with(&before), "the rows of the release are as it wrote them");
}

#[test]
fn an_export_of_a_checkpoint_is_the_one_that_the_release_wrote() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = release(scratch.path());
    in_folder(&folder, &["export", "--checkpoint", "runs/run/checkpoints/last.safetensors", "--output", "again"]);
    let expected = folder.join("export");
    for file in files_below(&expected) {
        let name = file.strip_prefix(&expected).unwrap();
        let is_prose = name == Path::new("README.md");
        let found = fs::read(folder.join("again").join(name)).unwrap();
        assert!(is_prose || found == fs::read(&file).unwrap(), "{}", name.display());
    }
}

#[test]
fn a_run_folder_of_an_earlier_release_is_evaluated_and_reported() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = release(scratch.path());
    let last = "runs/run/checkpoints/last.safetensors";
    in_folder(
        &folder,
        &["evaluate", "--checkpoint", last, "--data", "data", "--split", "test", "--output", "runs/run/predictions"],
    );
    in_folder(&folder, &["report", "runs/run"]);
    let page = fs::read_to_string(folder.join("runs/run/report.html")).unwrap();
    for part in ["finished", "0.2562", "a red square", "CIDEr"] {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn a_data_set_prepared_by_an_earlier_release_is_trained_on() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = release(scratch.path());
    let output = in_folder(&folder, &["--config", "run.toml", "--set", "training.num_epochs=1", "--set", "name=again"]);
    assert!(stderr(&output).contains("32 images with 64 captions"), "{}", stderr(&output));
}
