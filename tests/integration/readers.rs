//! Files of captions that are not read, or only in part: nothing of them vanishes in silence, and nothing that was held
//! out becomes training data because of them.

use std::fs;

use crate::captions::{coco, prepared, reason, refused, source, table};
use crate::formats::zip;

#[test]
fn a_training_file_that_is_not_read_is_an_error_and_never_makes_training_images_of_others() {
    let val = table(4..6);
    let val_coco = coco(4..6).to_string();
    let train = table(0..4);
    let damaged = &zip(&[("train.csv".to_owned(), train.clone().into_bytes())])[..60];
    let nested = zip(&[("train.csv.gz".to_owned(), b"\x1f\x8b".to_vec())]);
    type Case<'a> = (&'a str, &'a [u8], &'a str, &'a str, &'a str);
    let cases: [Case<'_>; 23] = [
        ("train.csv.gz", b"\x1f\x8b", "val.csv", &val, "download it again"),
        ("train.jsonl.bz2", b"BZh", "val.csv", &val, "unpack it"),
        ("train.csv.xz", b"\xfd7zXZ", "val.csv", &val, "unpack it"),
        ("train.csv.zst", b"(\xb5/\xfd", "val.csv", &val, "download it again"),
        ("train.gz", b"\x1f\x8b", "val.csv", &val, "unpack it"),
        ("train.tar.gz", b"\x1f\x8b", "val.csv", &val, "download it again"),
        ("captions_train2017.json.gz", b"\x1f\x8b", "captions_val2017.json", &val_coco, "download it again"),
        ("captions_train2017.json.bz2", b"BZh", "captions_val2017.json", &val_coco, "unpack it"),
        ("train.csv.zip", damaged, "val.csv", &val, "was skipped"),
        ("data.zip", &nested, "val.csv", &val, "data.zip/train.csv.gz"),
        ("train.csv~", train.as_bytes(), "val.csv", &val, "it is a backup"),
        ("train.csv.bak", train.as_bytes(), "val.csv", &val, "it is a backup"),
        ("train.csv.gz.part", b"\x1f\x8b", "val.csv", &val, "its download is not finished"),
        ("train.lst", b"\0\x01\xff", "val.csv", &val, "give it an extension such as .csv"),
        ("train", train.as_bytes(), "val.csv", &val, "give it an extension such as .csv"),
        ("train.dat", train.as_bytes(), "val.csv", &val, "give it an extension such as .csv"),
        ("captions.train", train.as_bytes(), "captions.val.csv", &val, "give it an extension such as .csv"),
        ("train.parquet", b"PAR1", "val.csv", &val, "it is truncated"),
        ("train.xlsx", b"PK", "val.csv", &val, "a spreadsheet"),
        ("my_training_data.pkl", b"\x80", "val.csv", &val, "a pickle"),
        ("train_labels.csv", b"image,label\n0.jpg,3\n", "val.csv", &val, "none of them for captions"),
        ("train/notes.dat", b"\0", "val/captions.csv", &val, "give it an extension such as .csv"),
        ("train.txt", b"0.jpg\n1.jpg\n2.jpg\n3.jpg\n", "val.csv", &val, "--split-file"),
    ];
    for (train, bytes, held_out, text, expected) in cases {
        let source = source(&[(train, bytes), (held_out, text.as_bytes())]);
        let text = refused(source.path(), &[]);
        assert!(text.contains(train) && text.contains(expected), "{train}: {text}");
        assert!(refused(source.path(), &["--validation-fraction", "0.5"]).contains(train));
    }
    // Nor do many of which each is that of an image that is not there.
    let texts: Vec<String> = (0..120).map(|number| format!("train/{number}.txt")).collect();
    let mut files: Vec<(&str, &[u8])> = texts.iter().map(|path| (path.as_str(), b"A dog".as_slice())).collect();
    files.push(("val.csv", val.as_bytes()));
    let text = refused(source(&files).path(), &[]);
    assert!(text.contains("no image with its name is beside it (nor are many more)"), "{text}");
    // Nor does one that is read and has no caption for any image.
    let empty = source(&[("train.csv", b"image,caption\n0.jpg,\n"), ("val.csv", val.as_bytes())]);
    let text = refused(empty.path(), &[]);
    assert!(text.contains("train.csv, which is for training by its name, has no caption for any image"), "{text}");
    // Asking for a format does not make training images either.
    let lines = "{\"image\":\"0.jpg\",\"caption\":\"A\"}\n";
    let two = source(&[("train.jsonl", lines.as_bytes()), ("val.csv", val.as_bytes())]);
    let text = refused(two.path(), &["--dataset", "table"]);
    assert!(text.contains("train.jsonl") && text.contains("is in the format jsonl"), "{text}");
}

#[test]
fn lists_of_splits_beside_captions_are_no_reason_to_draw_another_split() {
    let captions = table(0..6);
    let files: [(&str, &[u8]); 3] = [
        ("captions.csv", captions.as_bytes()),
        ("train.txt", b"0.jpg\n1.jpg\n2.jpg\n3.jpg\n"),
        ("val.txt", b"4.jpg\n5.jpg\n"),
    ];
    let source = source(&files);
    let text = refused(source.path(), &[]);
    assert!(text.contains("train.txt") && text.contains("`--split-file`"), "{text}");
    let lists = tempfile::tempdir().unwrap();
    for (name, bytes) in &files[1..] {
        fs::write(lists.path().join(name), bytes).unwrap();
    }
    assert_eq!(prepared(source.path(), &["--split-file", lists.path().to_str().unwrap()]).0, [4, 2, 0]);
    assert_eq!(prepared(source.path(), &["--validation-fraction", "0.5"]).0, [3, 3, 0]);
}

#[test]
fn other_files_of_training_stop_nobody() {
    let (train, val) = (table(0..4), table(4..6));
    let with = |name: &str, bytes: &[u8], files: &[(&str, &str)]| {
        let mut all: Vec<(&str, &[u8])> = files.iter().map(|(name, text)| (*name, text.as_bytes())).collect();
        all.push((name, bytes));
        source(&all)
    };
    // A backup or a packed copy of what is read.
    for name in ["train.csv~", "train.csv.gz", "train.csv.bak", "train"] {
        let source = with(name, b"x", &[("train.csv", &train), ("val.csv", &val)]);
        assert_eq!(prepared(source.path(), &[]).0, [4, 2, 0], "{name}");
    }
    // Programs, settings and notes.
    let all = table(0..6);
    for name in ["train.py", "train.sh", "training_notes.txt", "train.log", "README_train.md", "trainer_state.json"] {
        let source = with(name, b"words", &[("captions.csv", &all)]);
        assert_eq!(prepared(source.path(), &["--validation-fraction", "0"]).0, [6, 0, 0], "{name}");
    }
    let source = with("train.py", b"words", &[("val.csv", &val)]);
    assert_eq!(prepared(source.path(), &["--validation-fraction", "0"]).0, [2, 0, 0]);
}

#[test]
fn a_packed_file_of_another_split_beside_training_captions_is_an_error() {
    let train = table(0..4);
    for (name, way_out) in [("val.csv.gz", "download it again"), ("test.jsonl.bz2", "unpack it")] {
        let source = source(&[("train.csv", train.as_bytes()), (name, b"\x1f\x8b")]);
        let text = refused(source.path(), &[]);
        assert!(text.contains(&format!("train.csv can be used, but {name}")) && text.contains(way_out), "{text}");
    }
}

#[test]
fn a_text_beside_an_image_that_cannot_be_read_costs_that_image_alone() {
    let source = self::source(&[
        ("0.txt", b"A dog"),
        ("1.txt", b"Caf\xe9 x"),
        ("2.txt", b"A cat"),
        ("3.txt", b"\xff\xfea\0b"),
        ("4.txt", b"A bird"),
        ("5.txt", b"A fish"),
    ]);
    let (splits, _, text, report) = prepared(source.path(), &["--validation-fraction", "0"]);
    assert_eq!(splits, [4, 0, 0], "{text}");
    for (name, expected) in [("1.jpg", "line 1 of 1.txt is not UTF-8 text"), ("3.jpg", "3.txt ends within a character")]
    {
        assert!(reason(&report, name).contains(expected), "{}", reason(&report, name));
    }
    let source = self::source(&[
        ("0.json", b"{\"caption\": \"A dog\"}"),
        ("1.json", b"{\"caption\": \"A ca"),
        ("2.json", b"{\"caption\": \"Caf\xe9\"}"),
        ("3.json", b"[\"A\"]"),
        ("4.json", b"{\"label\": 3, \"size\": 2}"),
        ("5.json", b""),
    ]);
    let (splits, _, text, report) = prepared(source.path(), &["--validation-fraction", "0"]);
    assert_eq!(splits, [1, 0, 0], "{text}");
    for (name, expected) in [
        ("1.jpg", "1.json cannot be read: it is cut off"),
        ("2.jpg", "2.json is not UTF-8 text"),
        ("3.jpg", "3.json is not a JSON object"),
        ("4.jpg", "4.json contains no captions: a JSON object with the keys label, size"),
        ("5.jpg", "5.json cannot be read"),
    ] {
        assert!(reason(&report, name).contains(expected), "{}", reason(&report, name));
    }
    // Where none can be read it is an error.
    for (name, bytes) in [("0.txt", b"Caf\xe9".as_slice()), ("0.json", b"{\"caption\": \"A")] {
        let source = self::source(&[(name, bytes)]);
        let text = refused(source.path(), &[]);
        assert!(text.contains("none of the 1 caption files beside the images can be used"), "{text}");
        assert!(text.contains(name), "{text}");
    }
}

#[test]
fn json_beside_images_without_captions_is_named() {
    let labels = br#"{"label": 3, "size": [1, 2]}"#;
    let source = self::source(&[
        ("0.json", labels),
        ("1.json", labels),
        ("2.json", labels),
        ("3.json", labels),
        ("4.json", labels),
        ("5.json", labels),
    ]);
    let expected = "6 files beside images contain no captions, such as 0.json: a JSON object with the keys label, size";
    let text = refused(source.path(), &[]);
    assert!(text.contains(expected), "{text}");
    fs::write(source.path().join("captions.csv"), table(0..6)).unwrap();
    let (splits, _, text, _) = prepared(source.path(), &["--validation-fraction", "0"]);
    assert!(splits == [6, 0, 0] && text.contains(expected), "{text}");
}

#[test]
fn captions_of_many_images_are_read_as_such_though_their_file_is_called_like_one() {
    let (coco, table) = (coco(0..6).to_string(), table(0..6));
    let rows = |row: fn(usize) -> String| (0..6).map(row).collect::<String>();
    for (name, text, format) in [
        ("0.json", r#"{"0.jpg":"A 0","1.jpg":"A 1"}"#.to_owned(), "json"),
        ("0.json", r#"[{"image":"0.jpg","caption":"A 0"},{"image":"1.jpg","caption":"A 1"}]"#.to_owned(), "blip"),
        ("0.json", coco, "coco-captions"),
        ("0.json", rows(|n| format!("{{\"image\":\"{n}.jpg\",\"text\":\"A {n}\"}}\n")), "jsonl"),
        ("0.txt", table, "table"),
        ("0.txt", rows(|n| format!("{n}.jpg\tA {n}\n")), "pairs"),
        ("0.txt", rows(|n| format!("{n}.jpg#0\tA {n}\n")), "token-lines"),
    ] {
        let source = source(&[(name, text.as_bytes())]);
        let (splits, captions, _, report) = prepared(source.path(), &["--validation-fraction", "0"]);
        assert!(splits[0] >= 2 && captions[1] == ["A 1"], "{name}: {text}");
        assert_eq!(report.format, format, "{text}");
    }
    // One about the image that it lies beside stays what it was.
    let own = source(&[
        ("0.json", br#"{"file_name":"0.jpg","caption":"A"}"#),
        ("1.json", br#"{"caption":"B","url":"https://x.org/y/cat.jpg","key":"7"}"#),
    ]);
    let (_, captions, _, report) = prepared(own.path(), &["--validation-fraction", "0"]);
    assert_eq!((captions, report.format.as_str()), (vec![vec!["A".to_owned()], vec!["B".to_owned()]], "sidecar"));
}

#[test]
fn captions_that_fit_no_image_and_lists_within_lists_say_what_is_wrong() {
    let mut file = coco(0..3);
    for place in 0..3 {
        file["annotations"][place]["image_id"] = serde_json::json!(1000 + place);
    }
    let source = source(&[("captions.json", file.to_string().as_bytes())]);
    let text = refused(source.path(), &[]);
    let expected = "none of the 3 captions of captions.json is of an image that it lists: their image_id is 1000 and 1001, \
                    the ids of its images are 0 (0.jpg) and 1 (1.jpg)";
    assert!(text.contains(expected), "{text}");
    let nested = r#"[{"image":"0.jpg","captions":[["One"],["Two"]]},{"image":"1.jpg","captions":[["a","dog"],["b"]]}]"#;
    let source = self::source(&[("captions.json", nested.as_bytes())]);
    let (_, captions, text, _) = prepared(source.path(), &[]);
    assert_eq!(captions, [["One", "Two"]]);
    assert!(text.contains("a caption of 1.jpg: it is lists within a list, not a text"), "{text}");
    let nested = r#"[{"image":"1.jpg","captions":[["a","dog"],["b"]]}]"#;
    let source = self::source(&[("captions.json", nested.as_bytes())]);
    let text = refused(source.path(), &[]);
    assert!(text.contains("no image with a caption, in json (captions.json); left out: 2, such as"), "{text}");
    assert!(text.contains("a caption of 1.jpg: it is lists within a list"), "{text}");
}

#[test]
fn cells_that_are_not_captions_as_they_stand_are_read_or_reported_with_their_line() {
    let rows = [
        ("0.jpg", "\"{'One', 'Two'}\""),
        ("0.jpg", "\"array(['Three'], dtype=object)\""),
        ("1.jpg", "\"[{'raw': 'One'}]\""),
        ("1.jpg", "b'Two'"),
        ("2.jpg", "\"['ok', None]\""),
        ("3.jpg", "nan"),
        ("3.jpg", "none"),
        ("3.jpg", "None of them runs."),
        ("4.jpg", "<NA>"),
        ("5.jpg", "\"['cut\""),
        ("5.jpg", "\"[1, 2]\""),
        ("5.jpg", "A fish"),
    ];
    let text: String = rows.iter().map(|(image, cell)| format!("{image},{cell}\n")).collect();
    let source = source(&[("captions.csv", format!("image,caption\n{text}").as_bytes())]);
    let (_, captions, _, report) = prepared(source.path(), &["--validation-fraction", "0"]);
    let expected: [&[&str]; 5] =
        [&["One", "Two", "Three"], &["One", "Two"], &["ok"], &["none", "None of them runs."], &["A fish"]];
    assert_eq!(captions, expected);
    let rejects: Vec<String> =
        report.rejects.iter().map(|reject| format!("{}: {}", reject.what, reject.reason)).collect();
    for expected in [
        "3 captions: pandas writes this word for a missing value: first None for 2.jpg",
        "4.jpg: has no caption left",
        "a caption of 5.jpg: line 11 of captions.csv: it is a list that is cut off",
        "a caption of 5.jpg: line 12 of captions.csv: it is a list of something other than texts, not a text",
    ] {
        assert!(rejects.iter().any(|reject| reject.starts_with(expected)), "{expected}: {rejects:?}");
    }
}
