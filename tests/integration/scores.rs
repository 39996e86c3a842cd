//! Captions that are scored: by `score`, by `evaluate` and during a run; and the ways in which captions are written.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::support::{binary, data_set, last_checkpoint, shapes_folder, small_config, stderr, train};

/// A run that scores its captions at both of its validations and captions a split at its end.
fn trained() -> &'static Path {
    static RUN: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = RUN.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let config = small_config(folder.path()).replace("num_epochs = 1", "num_epochs = 2\nbest_metric = \"cider\"")
            + "\n[evaluation]\ncaption_split = \"test\"\nmetrics_interval = 1\n[checkpoint]\nkeep_best = 2\n";
        let output = train(folder.path(), &config, &[]);
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(stderr(&output).contains("Bleu_1 to 4 0."), "{}", stderr(&output));
        folder
    });
    folder.path()
}

fn checkpoint() -> PathBuf {
    last_checkpoint(&trained().join("run"))
}

fn lines(kind: &str) -> Vec<Value> {
    let text = fs::read_to_string(trained().join("run/metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["kind"] == kind).collect()
}

fn read(path: impl AsRef<Path>) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn run(arguments: &[&str]) -> Output {
    binary().args(arguments).output().unwrap()
}

#[track_caller]
fn data(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn a_run_scores_its_captions_and_keeps_the_best_by_cider() {
    let validations = lines("validation");
    assert_eq!(validations.len(), 2);
    let ciders: Vec<f64> = validations.iter().map(|line| line["scores"]["CIDEr"].as_f64().unwrap()).collect();
    let is_best: Vec<bool> = validations.iter().map(|line| line["best"].as_bool().unwrap()).collect();
    assert_eq!(is_best, [true, ciders[1] > ciders[0]], "{ciders:?}");
    let evaluation = &lines("evaluation")[0];
    let (best, _) = ciders.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0))).unwrap();
    assert_eq!((&evaluation["split"], &evaluation["step"]), (&json!("test"), &json!(63 * (best + 1))));
    assert_eq!(evaluation["decoding"]["strategy"], "greedy");
    assert!(validations[0]["signature"].as_str().unwrap().contains("meteor:1.5,exact+stem|"));
    let scores = read(trained().join("run/predictions/test.scores.json"));
    assert_eq!(scores["report"]["scores"], evaluation["scores"]);
    assert_eq!(scores["word_for_word"]["num_images"], 12);
    assert!(scores["report"]["intervals"]["CIDEr"]["low"].as_f64().unwrap() >= 0.0);
    assert!(scores["report"]["statistics"]["novel"].is_number());
}

#[test]
fn the_best_by_cider_needs_scores() {
    let folder = tempfile::tempdir().unwrap();
    let config = small_config(folder.path()).replace("num_epochs = 1", "num_epochs = 1\nbest_metric = \"cider\"");
    let output = train(folder.path(), &config, &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("set evaluation.metrics_interval = 1"), "{}", stderr(&output));
}

#[test]
fn evaluate_writes_predictions_that_score_to_the_same_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let (checkpoint, out) = (checkpoint().display().to_string(), folder.path().display().to_string());
    let before = lines("evaluation").len();
    let output = run(&[
        "evaluate",
        "--checkpoint",
        &checkpoint,
        "--split",
        "val",
        "--output",
        &out,
        "--num-beams",
        "3",
        "--json",
        "--bootstrap",
        "0",
    ]);
    let evaluated: Value = serde_json::from_str(&data(&output)).unwrap();
    assert_eq!(evaluated["decoding"]["strategy"]["beam"]["num_beams"], 3);
    let report = &evaluated["report"];
    let predictions = folder.path().join("val.json");
    let references = shapes_folder().join("dataset.json").display().to_string();
    let predictions_name = predictions.display().to_string();
    let scored = run(&[
        "score",
        "--candidates",
        &predictions_name,
        "--references",
        &references,
        "--split",
        "val",
        "--json",
        "--bootstrap",
        "0",
    ]);
    let scored: Value = serde_json::from_str(&data(&scored)).unwrap();
    assert_eq!(scored["scores"], report["scores"]);
    assert_eq!(scored["signature"], report["signature"]);
    assert_eq!(read(&predictions).as_array().unwrap().len(), 12);
    let evaluations = lines("evaluation");
    assert_eq!(evaluations.len(), before + 1);
    assert_eq!(evaluations[before]["scores"], report["scores"]);
}

#[test]
fn evaluate_says_what_it_cannot_do() {
    let checkpoint = checkpoint().display().to_string();
    let lonely = tempfile::tempdir().unwrap();
    let copy = lonely.path().join("model.safetensors");
    fs::copy(&checkpoint, &copy).unwrap();
    let copy = copy.display().to_string();
    for (arguments, code, expected) in [
        (vec!["--checkpoint", &checkpoint, "--split", "dev"], 2, "unknown split \"dev\""),
        (vec!["--checkpoint", &copy], 2, "choose a folder with --output"),
        (vec!["--checkpoint", &checkpoint, "--batch-size", "0"], 2, "must be at least 1"),
        (vec!["--checkpoint", &checkpoint, "--data", "absent"], 1, "absent"),
        (vec!["--checkpoint", &checkpoint, "--meteor-resources", "absent"], 1, "absent"),
        (vec!["--checkpoint", &checkpoint, "--num-beams", "0"], 2, "--num-beams must be"),
    ] {
        let output = run(&[&["evaluate"], arguments.as_slice()].concat());
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn score_prints_a_table_and_warns_of_images_without_a_caption() {
    let folder = tempfile::tempdir().unwrap();
    let (candidates, references) = (folder.path().join("c.json"), folder.path().join("r.json"));
    let annotations = json!([
        { "image_id": 1, "id": 1, "caption": "A dog runs." },
        { "image_id": 1, "id": 2, "caption": "The dog is running." },
        { "image_id": 2, "id": 3, "caption": "A red car." },
        { "image_id": 2, "id": 4, "caption": "A car, parked." },
        { "image_id": 3, "id": 5, "caption": "Nobody captioned this." }
    ]);
    fs::write(&references, json!({ "images": [], "annotations": annotations }).to_string()).unwrap();
    let results =
        json!([{ "image_id": 1, "caption": "a dog is running" }, { "image_id": 2, "caption": "a red car parked" }]);
    fs::write(&candidates, results.to_string()).unwrap();
    let (candidates, references) = (candidates.display().to_string(), references.display().to_string());
    let output = run(&["score", "--candidates", &candidates, "--references", &references]);
    let text = data(&output);
    for expected in
        ["CIDEr     3.971", "Bleu_3    0.794", "ROUGE_L   0.815", "95 % of resamples", "meteor:1.5,exact+stem|"]
    {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(stderr(&output).contains("warning: 1 of 3 images have references but no caption"), "{}", stderr(&output));
    let weighed = run(&[
        "score",
        "--candidates",
        &candidates,
        "--references",
        &references,
        "--document-frequencies",
        &references,
    ]);
    assert!(data(&weighed).contains("df=3 given images"), "{}", data(&weighed));
}

#[test]
fn score_reads_what_caption_prints_and_the_forms_that_can_be_prepared() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let candidates = [
        put("plain.txt", "/pictures/a.jpg\tA dog runs.\n/pictures/b.jpg\tA red car.\n"),
        put(
            "printed.jsonl",
            concat!(
                r#"{"image":"x/a.jpg","caption":"A dog runs.","tokens":[1,2],"alternatives":[{"caption":"no"}]}"#,
                "\n",
                r#"{"image":"x/b.jpg","caption":"A red car.","tokens":[],"log_probability":NaN}"#
            ),
        ),
        put("results.json", r#"[{"image_id":"1","caption":"A dog runs."},{"image_id":2.0,"caption":"A red car."}]"#),
        put("table.csv", "image;prediction;caption\na.jpg;A dog runs.;x\nb.jpg;A red car.;y\n"),
        put("named.json", r#"[{"image":"a","prediction":"A dog runs."},{"image":"b.jpg","prediction":"A red car."}]"#),
        put("object.json", r#"{"a.jpg":"A dog runs.","b.jpg":["A red car."]}"#),
        put("ids.json", r#"{"1":"A dog runs.","2":"A red car."}"#),
        put("ids.tsv", "1\tA dog runs.\n2\tA red car.\n"),
    ];
    let coco = r#"{"images":[{"id":1,"file_name":"a.jpg"},{"id":2,"file_name":"b.jpg"}],"annotations":[
        {"image_id":1,"bbox":[1]},{"image_id":1,"caption":"A dog runs."},{"image_id":2,"caption":"A red car."}]}"#;
    let image = |name: &str, id: u32, split: &str, text: &str| json!({ "filename": name, "cocoid": id, "split": split, "sentences": [{ "raw": text }] });
    let images = [image("a.jpg", 1, "val", "A dog runs."), image("b.jpg", 2, "restval", "A red car.")];
    put("sidecars/a.jpg", "");
    put("sidecars/b.jpg", "");
    put("sidecars/a.txt", "A dog runs.\n");
    put("sidecars/b.txt", "A red car.\n");
    // By name only, and by id too.
    let by_name = [
        put("references.csv", "image,caption_1,caption_2\na.jpg,A dog runs.,\nb.jpg,A red car.,A car.\n"),
        put(
            "references.jsonl",
            "{\"img\":\"y/a.jpg\",\"text\":\"A dog runs.\"}\n{\"img\":\"y/b.jpg\",\"text\":\"A red car.\"}\n",
        ),
        folder.path().join("sidecars").display().to_string(),
    ];
    let by_id = [put("coco.json", coco), put("karpathy.json", &json!({ "images": images }).to_string())];
    let score = |candidates: &str, references: &str, extra: &[&str]| {
        let names = ["score", "--candidates", candidates, "--references", references, "--bootstrap", "0", "--json"];
        run(&[&names, extra].concat())
    };
    for (place, candidates) in candidates.iter().enumerate() {
        let is_by_id = matches!(place, 2 | 6 | 7);
        for references in by_name.iter().filter(|_| !is_by_id).chain(&by_id) {
            let scores: Value = serde_json::from_str(&data(&score(candidates, references, &[]))).unwrap();
            let bleu = scores["scores"]["Bleu_1"].as_f64().unwrap();
            assert!((bleu - 1.0).abs() < 1e-6, "{candidates} {references}: {scores}");
        }
        if is_by_id {
            let text = stderr(&score(candidates, &by_name[0], &[]));
            assert!(text.contains("there are no references for image 1"), "{candidates}: {text}");
        }
    }
    let one = put("one.txt", "a.jpg\tA dog runs.\n");
    let output = score(&one, &by_id[1], &["--split", "val"]);
    assert!(data(&output).contains("Bleu_1") && !stderr(&output).contains("images have references"));
    assert!(stderr(&score(&one, &by_id[0], &[])).contains("left out: 1 annotations of coco.json"));
}

#[test]
fn score_says_which_captions_do_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let references = put("r.csv", "image,caption\nx/a.jpg,A\ny/a.jpg,B\nz/b.jpg,C\n");
    let ids = put(
        "ids.json",
        r#"{"images":[{"filename":"a.jpg","cocoid":7,"sentences":[{"raw":"A"}]},{"filename":"b.jpg","cocoid":7,"sentences":[{"raw":"B"}]},
            {"filename":"c.jpg","cocoid":8,"sentences":[{"raw":"C"}]}]}"#,
    );
    for (name, text, references, expected) in [
        (
            "two.txt",
            "z/b.jpg\tA\nz/b.jpg\tB\n",
            &references,
            "image z/b.jpg has 2 captions, but only one per image can be scored",
        ),
        (
            "same.txt",
            "z/b.jpg\tA\nq/b.jpg\tB\n",
            &references,
            "image q/b.jpg has 2 captions, but only one per image can be scored",
        ),
        ("which.txt", "q/a.jpg\tA\n", &references, "several images with references are called q/a.jpg"),
        ("none.txt", "q/c.jpg\tA\n", &references, "there are no references for image q/c.jpg"),
        ("shared.json", r#"[{"image_id":7,"caption":"A"}]"#, &ids, "two images have the id 7: a.jpg and b.jpg"),
        (
            "other.json",
            r#"[{"image":"a.jpg","image_id":8,"caption":"A"}]"#,
            &ids,
            "has the id 8, which belongs to c.jpg",
        ),
        ("cut.json", r#"[{"image":"a.jpg","caption":"A"}"#, &references, "cut.json cannot be read: it is cut off"),
        ("nothing.json", r#"{"a":1}"#, &references, "nothing.json contains no captions that can be read"),
        ("words.txt", "some words\n", &references, "words.txt contains no captions that can be read"),
        ("split.txt", "z/b.jpg\tA\n", &folder.path().join("absent.json").display().to_string(), "absent.json"),
    ] {
        let candidates = put(name, text);
        let output = run(&["score", "--candidates", &candidates, "--references", references]);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(expected) && text.contains("hint: "), "{name}: {text}");
    }
    // The captions of a model may be empty, and count as they are.
    let empty = put("empty.json", r#"[{"image":"z/b.jpg","caption":""},{"image":"x/a.jpg","caption":"A &amp; B"}]"#);
    let output = run(&["score", "--candidates", &empty, "--references", &references, "--bootstrap", "0"]);
    assert!(data(&output).contains("Bleu_1"), "{}", stderr(&output));
}

#[test]
fn captions_can_be_searched_for_with_beams_or_drawn_and_several_be_had() {
    let checkpoint = checkpoint().display().to_string();
    let pictures = shapes_folder().join("images");
    let mut pictures: Vec<String> =
        fs::read_dir(pictures).unwrap().map(|entry| entry.unwrap().path().display().to_string()).collect();
    pictures.sort();
    let caption = |options: &[&str]| {
        let pictures = [pictures[0].as_str(), pictures[1].as_str()];
        let output = run(&[&["caption", "--checkpoint", &checkpoint], options, pictures.as_slice()].concat());
        data(&output).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let json = |line: &String| serde_json::from_str::<Value>(line).unwrap();
    let beams = caption(&["--num-beams", "4", "--num-captions", "3", "--json"]);
    assert_eq!(beams.len(), 2);
    let first = json(&beams[0]);
    assert_eq!(first["alternatives"].as_array().unwrap().len(), 2);
    let mean = |caption: &Value| {
        let count = caption["token_log_probabilities"].as_array().unwrap().len() as f64;
        caption["log_probability"].as_f64().unwrap() / count
    };
    assert!(mean(&first) >= mean(&first["alternatives"][0]), "{first}");
    assert!(mean(&first["alternatives"][0]) >= mean(&first["alternatives"][1]), "{first}");

    let drawn = ["--temperature", "1.5", "--num-captions", "4", "--seed", "7"];
    assert_eq!(caption(&drawn).len(), 8);
    assert_eq!(caption(&drawn), caption(&drawn));
    assert_ne!(caption(&drawn), caption(&[&drawn[..5], &["8"]].concat()));
    let short = caption(&["--max-new-tokens", "2", "--json"]);
    assert!(json(&short[0])["tokens"].as_array().unwrap().len() <= 2);
    let long = caption(&["--min-new-tokens", "9", "--json"]);
    assert!(json(&long[0])["tokens"].as_array().unwrap().len() >= 9);

    let watched = json(&caption(&["--json", "--attention"])[0]);
    let weights = watched["attention"].as_array().unwrap();
    assert_eq!(weights.len(), watched["token_log_probabilities"].as_array().unwrap().len());
    for weights in weights {
        let weights: Vec<f64> = weights.as_array().unwrap().iter().map(|weight| weight.as_f64().unwrap()).collect();
        assert_eq!(weights.len(), 1 + 2 * 2, "a class token and four patches");
        assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-5, "{weights:?}");
    }
    assert_eq!(watched["patches"], json!([2, 2]));

    let output = run(&["caption", "--checkpoint", &checkpoint, "--num-captions", "2", &pictures[0]]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("a greedy search gives one"), "{}", stderr(&output));
}

#[test]
fn cider_of_one_image_is_zero_and_a_note_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let perfect =
        json!([{ "image_name": "a.jpg", "captions": ["a dog runs", "a dog is running"], "prediction": "a dog runs" }]);
    fs::write(path("one.json"), perfect.to_string()).unwrap();
    let documents: Vec<Value> = (0..12)
        .map(|number| json!({ "filename": format!("{number}.jpg"), "split": "test", "sentences": [{ "raw": format!("cat {number}") }] }))
        .collect();
    fs::write(path("documents.json"), json!({ "images": documents }).to_string()).unwrap();
    let text = data(&run(&["score", "--candidates", &path("one.json")]));
    assert!(text.contains("CIDEr     0.000"), "{text}");
    assert!(
        text.contains("note      CIDEr-D is 0 by definition") && text.contains("--document-frequencies FILE"),
        "{text}"
    );
    let report: Value =
        serde_json::from_str(&data(&run(&["score", "--json", "--candidates", &path("one.json")]))).unwrap();
    assert!(report["notes"][0].as_str().unwrap().contains("there is one image"), "{report}");
    let weighed = ["score", "--candidates", &path("one.json"), "--document-frequencies", &path("documents.json")];
    let text = data(&run(&weighed));
    assert!(!text.contains("note ") && !text.contains("CIDEr     0.000"), "{text}");
}

#[test]
fn plan_and_evaluate_say_what_cider_of_few_images_is_worth() {
    let folder = tempfile::tempdir().unwrap();
    let set = folder.path().join("set");
    let warned = |val: &[(&str, &[&str])], sets: &[&str]| {
        let train: [(&str, &[&str]); 2] = [("train", &["a dog"]), ("train", &["a cat"])];
        data_set(&set, &[&train, val].concat());
        let text = small_config(folder.path())
            .replace(&shapes_folder().display().to_string(), &set.display().to_string())
            + "[evaluation]\nmetrics_interval = 1\n";
        fs::write(folder.path().join("run.toml"), text).unwrap();
        let mut command = binary();
        command.args(["plan", "--config"]).arg(folder.path().join("run.toml"));
        sets.iter().for_each(|set| {
            command.args(["--set", set]);
        });
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        stderr(&output)
    };
    let best = "training.best_metric=cider";
    let one: &[(&str, &[&str])] = &[("val", &["a bird"])];
    let text = warned(one, &[best]);
    assert!(text.contains("CIDEr-D of one validation image is 0 by definition, so that no epoch is better"), "{text}");
    assert!(
        warned(one, &[]).contains("in validations CIDEr-D of one validation image is 0 by definition: validate on")
    );
    let alike: &[(&str, &[&str])] = &[("val", &["a bird"]), ("val", &["a bird"])];
    assert!(warned(alike, &[best]).contains("CIDEr-D of validation images that share their references is 0"));
    let few: &[(&str, &[&str])] = &[("val", &["a bird"]), ("val", &["a fish"])];
    assert!(warned(few, &[best]).contains("CIDEr-D of 2 validation images says little"));
    let many: Vec<String> = (0..10).map(|number| format!("bird {number}")).collect();
    let many: Vec<[&str; 1]> = many.iter().map(|text| [text.as_str()]).collect();
    let many: Vec<(&str, &[&str])> = many.iter().map(|caption| ("val", caption.as_slice())).collect();
    assert!(!warned(&many, &[best]).contains("CIDEr-D"));

    warned(one, &[]);
    let checkpoint = checkpoint().display().to_string();
    let output = path_of(folder.path(), "captions");
    let set = set.display().to_string();
    let text =
        data(&run(&["evaluate", "--checkpoint", &checkpoint, "--data", &set, "--split", "val", "--output", &output]));
    assert!(text.contains("note      CIDEr-D is 0 by definition"), "{text}");
    let scores = read(folder.path().join("captions/val.scores.json"));
    assert!(scores["report"]["notes"][0].as_str().unwrap().contains("there is one image"), "{scores}");
}

fn path_of(folder: &Path, name: &str) -> String {
    folder.join(name).display().to_string()
}
