//! The filters of `prepare-data`, from the command line.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{binary, files_below, shapes_folder, stderr};

/// Prepares `source` in `folder` with these options; whether that was done, and what was said.
fn prepare(folder: &Path, output: &str, options: &[&str]) -> (bool, String) {
    let mut command = binary();
    command.current_dir(folder).args(["prepare-data", "--source", "source", "--output", output]).args(options);
    let output = command.output().unwrap();
    (output.status.success(), stderr(&output))
}

#[test]
fn a_preparation_with_filters_counts_what_each_took_and_is_done_once() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    fs::create_dir(&source).unwrap();
    let mut pictures = files_below(&shapes_folder().join("images"));
    pictures.sort();
    for number in 0..8 {
        // The last two show what the first does.
        fs::copy(&pictures[if number < 6 { number } else { 0 }], source.join(format!("{number}.png"))).unwrap();
    }
    let captions = ["a red square", "dog", "собака бежит домой", "one two three four five six", "a blue circle"];
    let text = |number: usize| captions.get(number).copied().unwrap_or("a picture here");
    let table: String = (0..8).map(|number| format!("{number}.png,{}\n", text(number))).collect();
    fs::write(source.join("captions.csv"), format!("image,caption\n{table}")).unwrap();
    fs::write(folder.path().join("drop.txt"), "4.png\n").unwrap();
    let options = [
        "--min-words",
        "2",
        "--max-words",
        "5",
        "--script",
        "latin",
        "--drop-duplicates",
        "exact",
        "--drop-ids",
        "drop.txt",
        "--max-aspect",
        "1.5",
        "--min-side",
        "8",
    ];
    let (is_done, said) = prepare(folder.path(), "data", &options);
    assert!(is_done, "{said}");
    let report: Value =
        serde_json::from_slice(&fs::read(folder.path().join("data/preparation.json")).unwrap()).unwrap();
    let counts: Vec<(&str, u64, u64)> = report["filtered"]
        .as_array()
        .unwrap()
        .iter()
        .map(|count| {
            let number = |key: &str| count[key].as_u64().unwrap();
            (count["filter"].as_str().unwrap(), number("images"), number("captions"))
        })
        .collect();
    let expected = [
        ("--drop-ids", 1, 1),
        ("--script Latin", 1, 1),
        ("--min-words 2", 1, 1),
        ("--max-words 5", 1, 1),
        ("--min-side 8", 0, 0),
        ("--max-aspect 1.5", 0, 0),
        ("--drop-duplicates exact", 2, 2),
    ];
    assert_eq!(counts, expected);
    assert!(said.contains("--drop-duplicates exact: 2 images and 2 captions left out"), "{said}");
    let mut left: Vec<String> = files_below(&folder.path().join("data/images"))
        .iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    left.sort();
    assert_eq!(left, ["0.png", "5.png"]);
    let (is_done, said) = prepare(folder.path(), "data", &options);
    assert!(is_done && said.contains("was prepared before, nothing to do"), "{said}");
    let (is_done, said) = prepare(folder.path(), "data", &["--min-words", "2"]);
    assert!(!is_done && said.contains("was prepared with other options"), "{said}");
    let (is_done, said) = prepare(folder.path(), "other", &["--min-words", "7"]);
    assert!(!is_done && said.contains("--min-words 7 took 8 images and 8 captions"), "{said}");
}

#[test]
fn shards_that_stay_where_they_are_are_not_filtered() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = binary();
    command.current_dir(folder.path()).args(["prepare-data", "--shards", "a.tar", "--output", "data"]);
    let output = command.args(["--min-words", "3"]).output().unwrap();
    assert!(!output.status.success() && stderr(&output).contains("cannot be used with"), "{}", stderr(&output));
}

#[test]
fn a_score_needs_its_file_and_the_other_way_round() {
    let folder = tempfile::tempdir().unwrap();
    for options in [&["--min-score", "-3"][..], &["--scores", "scores.jsonl"]] {
        let (is_done, said) = prepare(folder.path(), "data", options);
        assert!(!is_done && said.contains("required arguments were not provided"), "{said}");
    }
}
