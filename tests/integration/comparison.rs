//! Runs and captions beside each other: `report` with several runs, `score --compare`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::OnceLock;

use base::digest::sha256;
use serde_json::{Value, json};

use crate::support::{binary, files_below, shapes_folder, small_config, stderr, train};

/// The test images of [`shapes_folder`].
const NUM_IMAGES: usize = 12;

/// Two runs, `one` and `two`, with captions of the test split.
fn trained() -> &'static Path {
    static RUNS: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = RUNS.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        for (name, seed) in [("one", 0), ("two", 1)] {
            let config = small_config(folder.path())
                .replace("name = \"run\"", &format!("name = \"{name}\"\nseed = {seed}"))
                + "\n[evaluation]\ncaption_split = \"test\"\n";
            let output = train(folder.path(), &config, &[]);
            assert!(output.status.success(), "{}", stderr(&output));
        }
        folder
    });
    folder.path()
}

/// Copies of both runs that may be changed.
fn copies() -> (tempfile::TempDir, [PathBuf; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let runs = ["one", "two"].map(|name| {
        for file in files_below(&trained().join(name)) {
            let target = folder.path().join(file.strip_prefix(trained()).unwrap());
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::copy(file, target).unwrap();
        }
        folder.path().join(name)
    });
    (folder, runs)
}

fn report(runs: &[&Path], options: &[&str]) -> Output {
    binary().arg("report").args(runs).args(options).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The images of a data set's test split: id and references.
fn references() -> Vec<(Value, Vec<String>)> {
    let data = read(&shapes_folder().join("dataset.json"));
    let images = data["images"].as_array().unwrap().iter().enumerate().filter(|(_, image)| image["split"] == "test");
    let found: Vec<(Value, Vec<String>)> = images
        .map(|(index, image)| {
            let raw = |sentence: &Value| sentence["raw"].as_str().unwrap().to_owned();
            let id = image.get("cocoid").or(image.get("imgid")).cloned().unwrap_or(json!(index));
            (id, image["sentences"].as_array().unwrap().iter().map(raw).collect())
        })
        .collect();
    assert_eq!(found.len(), NUM_IMAGES);
    found
}

/// Replaces what a run wrote of the test images, as an evaluation would.
fn write_captions(run: &Path, captions: &[(Value, String)]) {
    let list: Vec<Value> = captions.iter().map(|(id, text)| json!({ "image_id": id, "caption": text })).collect();
    let text = Value::from(list).to_string();
    fs::write(run.join("predictions/test.json"), &text).unwrap();
    set_score_field(run, "predictions_sha256", &sha256(text.as_bytes()));
}

fn set_score_field(run: &Path, key: &str, value: &str) {
    let path = run.join("predictions/test.scores.json");
    let mut scores = read(&path);
    scores[key] = value.into();
    fs::write(path, scores.to_string()).unwrap();
}

#[test]
fn runs_are_compared_on_a_page_of_their_own_and_in_a_table() {
    let (folder, [one, two]) = copies();
    let before = fs::read(one.join("report.html")).unwrap();
    let output = report(&[&one, &two], &["--num-images", "3"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let (table, path) = (stdout(&output), folder.path().join("comparison.html"));
    assert!(stderr(&output).contains(&format!("comparison  {}", path.display())), "{}", stderr(&output));
    assert!(!stderr(&output).contains("warning"), "nothing differs but the seed: {}", stderr(&output));
    let kept = [&one, &two].map(|run| read(&run.join("predictions/test.scores.json"))["report"]["scores"].clone());
    for name in ["Bleu_4", "METEOR", "CIDEr"] {
        let line = table.lines().find(|line| line.starts_with(name)).unwrap();
        let cells: Vec<&str> = line.split_whitespace().collect();
        let [a, b] = [0, 1].map(|run| kept[run][name].as_f64().unwrap());
        assert_eq!(cells[1..3], [format!("{a:.3}"), format!("{b:.3}")], "the scores that the runs have: {line}");
        assert!((cells[3].parse::<f64>().unwrap() - (b - a)).abs() < 0.000_6, "{line}");
    }
    let page = fs::read_to_string(&path).unwrap();
    for part in [
        "<title>one, two – comparison of runs</title>",
        ">seed</th><td>0</td><td>1</td>",
        "Training loss",
        "Words gained",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert_eq!((page.matches("<img ").count(), page.matches("data:image/jpeg;base64,").count()), (3, 3));
    assert!(page.contains("id=\"plot-validation-loss\"") && !page.contains("id=\"plot-reward\""));
    assert_eq!(fs::read(one.join("report.html")).unwrap(), before);
    assert!(report(&[&one, &two], &["--num-images", "0"]).status.success(), "a comparison replaces a comparison");
    let pages = [one.join("report.html"), folder.path().join("mine.html")];
    fs::write(&pages[1], "<title>my holidays</title>").unwrap();
    for page in &pages {
        let kept = fs::read(page).unwrap();
        let output = report(&[&one, &two], &["--output", page.to_str().unwrap()]);
        assert!(
            !output.status.success() && stderr(&output).contains("is not a comparison of runs"),
            "{}",
            stderr(&output)
        );
        assert_eq!(fs::read(page).unwrap(), kept);
    }
}

#[test]
fn a_run_whose_captions_are_references_is_really_better_and_the_other_is_really_worse() {
    let (folder, [one, two]) = copies();
    let references = references();
    let caption = |text: &dyn Fn(&[String]) -> String| -> Vec<(Value, String)> {
        references.iter().map(|(id, references)| (id.clone(), text(references))).collect()
    };
    write_captions(&one, &caption(&|_| "a thing with a".to_owned()));
    write_captions(&two, &caption(&|references| references[0].clone()));
    for (runs, sign, verdict) in [
        ([&one, &two], '+', "two is higher than one in Bleu_1"),
        ([&two, &one], '-', "one is lower than two in Bleu_1"),
    ] {
        let output = report(&runs.map(PathBuf::as_path), &[]);
        assert!(output.status.success(), "{}", stderr(&output));
        let text = stdout(&output);
        let cells: Vec<&str> =
            text.lines().find(|line| line.starts_with("CIDEr")).unwrap().split_whitespace().collect();
        assert!(cells[3].starts_with(sign) && cells[4].starts_with(sign) && cells[7] == "0.002", "{cells:?}");
        assert!(text.contains(&format!("The difference is real (p < 0.05): {verdict}")), "{text}");
    }
    let page = fs::read_to_string(folder.path().join("comparison.html")).unwrap();
    let row = |name: &str| page.lines().find(|line| line.contains(&format!(">{name}"))).unwrap().to_owned();
    assert!(row("Bad endings").contains("<td>0.0 %</td><td>100.0 %</td>"), "{}", row("Bad endings"));
    assert!(row("Distinct captions").ends_with("<td>1</td></tr>"), "{}", row("Distinct captions"));
    assert!(row("thing</th>").contains("<td>0</td><td>12</td>"), "{}", row("thing</th>"));
    assert_eq!(page.matches("<img ").count(), NUM_IMAGES);
}

#[test]
fn what_is_not_the_same_in_the_runs_is_said_and_left_out() {
    let (folder, [one, two]) = copies();
    // Another data set: one test image is not in it, another has a reference of its own.
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    let mut set = read(&shapes_folder().join("dataset.json"));
    let images = set["images"].as_array_mut().unwrap();
    let of_test: Vec<usize> = (0..images.len()).filter(|&index| images[index]["split"] == "test").collect();
    images[of_test[1]]["sentences"][0]["raw"] = "something else".into();
    images.remove(of_test[0]);
    let text = set.to_string();
    fs::write(data.join("dataset.json"), &text).unwrap();
    let path = two.join("config.resolved.toml");
    let config = fs::read_to_string(&path).unwrap();
    let changed = config.replace(&shapes_folder().display().to_string(), &data.display().to_string());
    assert_ne!(config, changed);
    fs::write(&path, changed).unwrap();
    let outdated = report(&[&one, &two], &[]);
    assert!(stderr(&outdated).contains("are of another data set than"), "{}", stderr(&outdated));
    set_score_field(&two, "dataset_digest", &sha256(text.as_bytes()));
    let (scores, mut changed) =
        (two.join("predictions/test.scores.json"), read(&two.join("predictions/test.scores.json")));
    changed["decoding"]["strategy"] =
        json!({ "beam": { "num_beams": 3, "length_penalty": 1.0, "early_stopping": false } });
    let signature = changed["report"]["signature"].as_str().unwrap().replace("exact+stem", "exact+stem+synonym");
    changed["report"]["signature"] = format!("{signature}|reward:cider-D").into();
    fs::write(&scores, changed.to_string()).unwrap();
    fs::write(one.join("predictions/test.json"), fs::read_to_string(one.join("predictions/test.json")).unwrap() + "\n")
        .unwrap();
    let output = report(&[&one, &two], &["--num-images", "0"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stderr(&output);
    for expected in [
        "test.json is not what was scored in its folder",
        "the data sets differ: one: ",
        "only the 11 images are compared that all runs captioned (one: 12 images; two: 11 images)",
        "1 of these images are left out",
        "different ways (one: greedy search, 0 to 24 tokens; two: 3 beams, length penalty 1, 0 to 24 tokens)",
        "the scores in the folder of two have a different signature (meteor:1.5,exact+stem+synonym)",
        "two was trained on CIDEr-D (reward:cider-D)",
    ] {
        assert!(text.contains(&format!("warning: {expected}")) || text.contains(expected), "{expected}: {text}");
    }
    assert!(stdout(&output).contains("|images:10|"), "{}", stdout(&output));
    let page = fs::read_to_string(folder.path().join("comparison.html")).unwrap();
    assert!(page.contains("only the 11 images") && page.contains("captions of 10 images of test"));
}

#[test]
fn what_cannot_be_compared_is_an_error_that_says_what_to_do_and_the_curves_are_compared_all_the_same() {
    let (folder, [one, two]) = copies();
    let page = folder.path().join("comparison.html");
    for (runs, expected) in [
        (vec![&*one, folder.path()], "is not a run folder"),
        (vec![&*one, &two, &two.join(".")], "is given twice"),
        (vec![&*one; 9], "too many"),
    ] {
        let output = report(&runs, &[]);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains(expected) || expected == "too many", "{}", stderr(&output));
        assert!(!page.exists());
    }
    let assert_without_captions = |expected: &[&str]| {
        let output = report(&[&one, &two], &[]);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        for expected in expected {
            assert!(text.contains(expected), "{expected}: {text}");
        }
        let html = fs::read_to_string(&page).unwrap();
        assert!(html.contains("id=\"plot-training-loss\"") && html.contains("captions are not compared: "), "{text}");
        fs::remove_file(&page).unwrap();
    };
    let (captions, scores) = (two.join("predictions/test.json"), two.join("predictions/test.scores.json"));
    let texts = [&captions, &scores].map(|path| fs::read_to_string(path).unwrap());
    fs::write(&captions, "[{").unwrap();
    assert_without_captions(&["cannot use", "test.json"]);
    fs::write(&scores, "{}").unwrap();
    assert_without_captions(&["cannot use", "test.scores.json"]);
    fs::write(&scores, &texts[1]).unwrap();
    write_captions(&two, &[]);
    assert_without_captions(&["no image in common", "hint: compare runs of one data set"]);
    fs::remove_file(&scores).unwrap();
    let checkpoint = two.join("checkpoints/checkpoint_epoch_1_val_loss_");
    let command = format!("hint: write them with `caption-train evaluate --checkpoint {}", checkpoint.display());
    assert_without_captions(&["none of test by two", &command, " --split test`"]);
}

#[test]
fn captions_from_anywhere_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, lines: &[(&str, &str)]| {
        let text: String = lines.iter().map(|(image, caption)| format!("{image}.jpg\t{caption}\n")).collect();
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let subjects = ["dog", "cat", "man", "car", "tree", "boat", "bird", "horse", "child", "house", "train", "plane"];
    let captions = |text: fn(&str) -> String| subjects.map(|subject| (subject, text(subject)));
    let right = captions(|subject| format!("a {subject} in the sun"));
    let wrong = captions(|_| "a thing in the rain".to_owned());
    fn list<'a>(captions: &'a [(&'a str, String)]) -> Vec<(&'a str, &'a str)> {
        captions.iter().map(|(image, text)| (*image, text.as_str())).collect()
    }
    let (right, wrong) = (list(&right), list(&wrong));
    let [references, good, bad, fewer] =
        [("r.txt", &right[..]), ("good.txt", &right), ("bad.txt", &wrong), ("few.txt", &right[1..])]
            .map(|(name, it)| put(name, it));
    let score = |candidates: &str, other: &str, extra: &[&str]| {
        let arguments = ["score", "--references", &references, "--candidates", candidates, "--compare", other];
        binary().args(arguments).args(extra).output().unwrap()
    };
    let output = score(&good, &bad, &[]);
    let text = stdout(&output);
    assert!(
        text.contains(&format!("The difference is real (p < 0.05): {good} is higher than {bad} in Bleu_1")),
        "{text}"
    );
    let same: Value = serde_json::from_str(&stdout(&score(&good, &good, &["--json"]))).unwrap();
    assert_eq!(
        same["differences"][0]["CIDEr"],
        json!({ "value": 0.0, "interval": { "low": 0.0, "high": 0.0 }, "p": 1.0 })
    );
    for (other, extra, expected) in
        [(&fewer, &[][..], " has 12 images, "), (&bad, &["--bootstrap", "39"], "--compare needs at least 40 resamples")]
    {
        let output = score(&good, other, extra);
        assert!(!output.status.success() && stderr(&output).contains(expected), "{}", stderr(&output));
    }
}
