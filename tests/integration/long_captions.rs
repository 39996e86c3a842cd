//! Captions that are longer than the decoder: how many are cut is said beforehand, and where the user looks later.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::support::{binary, data_set, model_fixture, small_config, stderr, train};

/// About two bytes a character, about three, and one.
const GEORGIAN: &str = "ორი ძაღლი თამაშობს თოვლში დიდი წითელი ბურთით";
const THAI: &str = "สุนัขสองตัวเล่นลูกบอลสีแดงในหิมะ";
const ENGLISH: &str = "a dog";

/// A config for a data set of these training and validation captions, one of each picture.
fn config(folder: &Path, train: &[&'static str], val: &[&'static str]) -> String {
    let of = |split: &'static str, captions: &[&'static str]| -> Vec<(&'static str, [&'static str; 1])> {
        captions.iter().map(|caption| (split, [*caption])).collect()
    };
    let all = [of("train", train), of("val", val)].concat();
    let all: Vec<(&str, &[&str])> = all.iter().map(|(split, captions)| (*split, captions.as_slice())).collect();
    data_set(&folder.join("set"), &all);
    let text = small_config(folder)
        .replace("max_seq_len = 24", "max_seq_len = 20")
        .replace("vocab_size = 280", "vocab_size = 260");
    let (start, rest) = text.split_once("directory = ").unwrap();
    let (_, rest) = rest.split_once('\n').unwrap();
    format!("{start}directory = {:?}\n{rest}", folder.join("set").display().to_string())
}

fn plan(folder: &Path, config: &str) -> (Output, String) {
    let path = folder.join("run.toml");
    fs::write(&path, config).unwrap();
    let output = binary().args(["plan", "--config"]).arg(&path).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &stderr(&output);
    assert!(output.status.success(), "{text}");
    (output, text)
}

#[test]
fn captions_that_are_cut_are_reported_by_plan_console_log_metrics_and_report() {
    let folder = tempfile::tempdir().unwrap();
    let (train_captions, val) = ([GEORGIAN, THAI, ENGLISH, GEORGIAN], [THAI, ENGLISH, ENGLISH]);
    let config = config(folder.path(), &train_captions, &val);
    // Every byte is a token here, beside the end token.
    let (georgian, thai) = (GEORGIAN.len() + 1, THAI.len() + 1);
    let longest = georgian.max(thai);
    let told = format!(
        "3 of 4 training captions and 1 of 3 validation captions are longer than 20 tokens and are cut; the longest has \
         {longest}"
    );
    let way_out = format!("train with model.decoder.max_seq_len = {longest} to keep all of them whole");
    let (_, planned) = plan(folder.path(), &config);
    assert!(planned.contains(&format!("warning: {told}: {way_out}")), "{planned}");

    let output = train(folder.path(), &config, &[]);
    let text = stderr(&output);
    assert!(output.status.success() && text.contains(&told) && text.contains(&way_out), "{text}");
    let run = folder.path().join("run");
    let read = |name: &str| fs::read_to_string(run.join(name)).unwrap();
    assert!(read("train.log").contains(&told));
    assert!(read("report.html").contains(&told) && read("report.html").contains(&way_out));
    let first: Value = serde_json::from_str(read("metrics.jsonl").lines().next().unwrap()).unwrap();
    let expected = json!({
        "max_seq_len": 20,
        "most_positions": null,
        "train": { "captions": 4, "cut": 3, "longest": longest },
        "val": { "captions": 3, "cut": 1, "longest": thai },
        "fits_99_percent": longest,
    });
    assert_eq!((&first["kind"], &first["fit"]), (&json!("captions"), &expected));

    // A run that does what was proposed cuts nothing, and says nothing.
    let proposed = format!("model.decoder.max_seq_len={longest}");
    let output = train(folder.path(), &config, &["--set", &proposed]);
    assert!(output.status.success() && !stderr(&output).contains("are cut"), "{}", stderr(&output));
    let report = fs::read_to_string(folder.path().join("run-2/report.html")).unwrap();
    assert!(!report.contains("are cut"));
}

#[test]
fn a_few_captions_that_are_cut_do_not_warn() {
    let folder = tempfile::tempdir().unwrap();
    let mut captions = vec![ENGLISH; 120];
    captions[7] = GEORGIAN;
    let (_, planned) = plan(folder.path(), &config(folder.path(), &captions, &[ENGLISH]));
    assert!(planned.contains("\ncaptions    1 of 120 training captions and 0 of 1 validation captions"), "{planned}");
    assert!(!planned.contains("warning: 1 of"), "{planned}");
}

#[test]
fn the_positions_of_a_pretrained_captioner_are_the_most_that_is_proposed() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), &[THAI, GEORGIAN, ENGLISH], &[ENGLISH]);
    let (start, rest) = config.split_once("[tokenizer]").unwrap();
    let (_, rest) = rest.split_once("[training]").unwrap();
    let planned = |max_seq_len: &str| {
        let model = format!(
            "[model]\ninit_from = {:?}\n[model.decoder]\n{max_seq_len}\n",
            model_fixture("vit_gpt2").display().to_string()
        );
        plan(folder.path(), &format!("{start}{model}[training]{rest}")).1
    };
    // It has 24 positions.
    let text = planned("");
    assert!(text.contains("longer than 24 tokens and are cut"), "{text}");
    assert!(
        text.contains("the pretrained decoder has 24 positions and cannot have more; shorten the captions"),
        "{text}"
    );
    let text = planned("max_seq_len = 6");
    assert!(text.contains("longer than 6 tokens and are cut"), "{text}");
    assert!(text.contains("can be at most 24, the positions of the pretrained decoder"), "{text}");
    assert!(!text.contains("train with"), "{text}");
}
