//! Files of captions as people have them: broken, nearly of a form, in other encodings, with ids of every kind, several
//! beside one another. What can be meant in one way is read; every other file is named with what is wrong with it.

use std::fs;
use std::path::Path;
use std::process::Output;

use datasets::output::Preparation;
use datasets::prepared::{Dataset, Image, Split};
use serde_json::{Value, json};

use crate::support::{binary, shapes_folder, stderr};

/// A folder with pictures `0.jpg` to `5.jpg`, and these files.
pub(crate) fn source(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let (folder, dataset) = (tempfile::tempdir().unwrap(), Dataset::open(shapes_folder()).unwrap());
    for number in 0..6 {
        fs::copy(dataset.picture(number).path(), folder.path().join(format!("{number}.jpg"))).unwrap();
    }
    for (path, bytes) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    folder
}

pub(crate) fn prepare(source: &Path, extra: &[&str]) -> (Output, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = binary();
    command.arg("prepare-data").arg("--source").arg(source).arg("--output").arg(folder.path().join("out"));
    (command.args(extra).output().unwrap(), folder)
}

/// Why this was left out.
#[track_caller]
pub(crate) fn reason<'a>(report: &'a Preparation, what: &str) -> &'a str {
    let reject = report.rejects.iter().find(|reject| reject.what == what);
    &reject.unwrap_or_else(|| panic!("{what} is not left out: {:?}", report.rejects)).reason
}

/// The images in each split, the console, and the report.
#[track_caller]
pub(crate) fn prepared(source: &Path, extra: &[&str]) -> ([usize; 3], Vec<Vec<String>>, String, Preparation) {
    let (output, folder) = prepare(source, extra);
    assert!(output.status.success(), "{}", stderr(&output));
    let dataset = Dataset::open(&folder.path().join("out")).unwrap();
    let report = serde_json::from_slice(&fs::read(folder.path().join("out/preparation.json")).unwrap()).unwrap();
    let count = |split| dataset.images.iter().filter(|image| image.split() == split).count();
    let captions = dataset.images.iter().map(Image::owned_captions).collect();
    (Split::ALL.map(count), captions, stderr(&output), report)
}

#[track_caller]
pub(crate) fn refused(source: &Path, extra: &[&str]) -> String {
    let (output, folder) = prepare(source, extra);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("hint: ") && !folder.path().join("out").exists(), "{text}");
    text
}

pub(crate) fn coco(numbers: std::ops::Range<usize>) -> Value {
    let images: Vec<Value> = numbers.clone().map(|n| json!({ "id": n, "file_name": format!("{n}.jpg") })).collect();
    let captions: Vec<Value> =
        numbers.map(|n| json!({ "id": n, "image_id": n, "caption": format!("A {n}") })).collect();
    json!({ "images": images, "annotations": captions })
}

pub(crate) fn table(numbers: std::ops::Range<usize>) -> String {
    let rows: String = numbers.map(|n| format!("{n}.jpg,A {n}\n")).collect();
    format!("image,caption\n{rows}")
}

fn utf_16(text: &str) -> Vec<u8> {
    [0xfeff].into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
}

#[test]
fn a_broken_file_beside_others_of_its_set_is_an_error_that_names_it() {
    let (train, val) = (coco(0..4).to_string(), coco(4..6).to_string());
    let cut = &train.as_bytes()[..train.len() / 2];
    let (table_train, table_val) = (table(0..4), table(4..6));
    let latin = table_train.replace("A 0", "Caf\u{e9}");
    let latin: Vec<u8> = latin.chars().map(|character| character as u8).collect();
    let lines = |numbers: std::ops::Range<usize>| -> String {
        numbers.map(|n| format!("{{\"file_name\":\"{n}.jpg\",\"text\":\"A {n}\"}}\n")).collect()
    };
    let (cut_lines, val_lines) = (&lines(0..4)[..50], lines(4..6));
    type Case<'a> = (&'a str, &'a [u8], &'a str, &'a [u8], &'a str);
    let cases: [Case<'_>; 9] = [
        ("captions_train2017.json", cut, "captions_val2017.json", val.as_bytes(), "it is cut off: it ends at byte"),
        ("train.csv", &latin, "val.csv", table_val.as_bytes(), "line 2 is not UTF-8 text"),
        ("train.csv", b"", "val.csv", table_val.as_bytes(), "it is empty"),
        ("train.tsv", b"bild\ttext2\n0.jpg\tA\n", "val.csv", table_val.as_bytes(), "none of them for the image"),
        (
            "my_train.json",
            b"{'0.jpg': 'A'}",
            "my_val.json",
            b"{\"4.jpg\": \"A\"}",
            "single quotes, as Python prints them",
        ),
        ("train.jsonl", cut_lines.as_bytes(), "dev.jsonl", val_lines.as_bytes(), "it is cut off"),
        ("train.parquet", b"PAR1", "val.csv", table_val.as_bytes(), "it is truncated"),
        (
            "a-00000-of-00002.csv",
            b"image,caption\n0.jpg,\xff\n",
            "a-00001-of-00002.csv",
            table_val.as_bytes(),
            "line 2",
        ),
        ("test.json", b"[{\"image\": \"5.jpg\",]", "train.csv", table_train.as_bytes(), "at line 1, column"),
    ];
    for (broken, bytes, good, good_bytes, expected) in cases {
        let source = source(&[(broken, bytes), (good, good_bytes)]);
        let text = refused(source.path(), &[]);
        let both = format!("{good} can be used, but {broken}, which belongs with it by its name");
        assert!(text.contains(&both), "{broken}: {text}");
        assert!(text.contains(expected), "{broken}: {text}");
    }
    // In folders that are called like splits the files are called alike.
    let folders = source(&[
        ("train/metadata.jsonl", cut_lines.as_bytes()),
        ("val/metadata.jsonl", b"{\"file_name\":\"../4.jpg\",\"text\":\"A\"}\n{}"),
    ]);
    assert!(refused(folders.path(), &[]).contains("val/metadata.jsonl can be used, but train/metadata.jsonl"));
    // Both can be read, and not together.
    let two = source(&[("train.jsonl", lines(0..4).as_bytes()), ("val.csv", table_val.as_bytes())]);
    let text = refused(two.path(), &[]);
    assert!(
        text.contains("val.csv is read as table, and train.jsonl, which belongs with it by its name, as jsonl"),
        "{text}"
    );
}

#[test]
fn numbers_that_python_writes_and_texts_of_excel_and_powershell_are_read() {
    let mut train = coco(0..4).to_string();
    train =
        train.replace("\"caption\":\"A 1\"", "\"caption\":NaN").replace("\"id\":3,", "\"id\":3,\"score\":-Infinity,");
    let nan =
        source(&[("captions_train.json", train.as_bytes()), ("captions_val.json", coco(4..6).to_string().as_bytes())]);
    let (splits, _, text, report) = prepared(nan.path(), &[]);
    assert_eq!(splits, [3, 2, 0]);
    assert!(text.contains("captions_train.json: it has NaN or Infinity"), "{text}");
    assert!(report.rejects.iter().any(|reject| reject.what == "1 annotations of captions_train.json"), "{report:?}");

    let (csv, json) =
        (table(0..4), json!([{ "image": "4.jpg", "caption": "A" }, { "image": "5.jpg", "caption": "B" }]));
    let excel = source(&[("TRAIN.CSV", &utf_16(&csv.replace('\n', "\r\n"))), ("VAL.CSV", &utf_16(&table(4..6)))]);
    assert_eq!(prepared(excel.path(), &[]).0, [4, 2, 0]);
    for (name, text) in [
        ("captions.json", json.to_string()),
        ("0.TXT", "A dog".to_owned()),
        ("x.jsonl", "{\"img\":\"0.jpg\",\"text\":\"A\"}".to_owned()),
    ] {
        for bytes in [utf_16(&text), [b"\xef\xbb\xbf", text.as_bytes()].concat()] {
            let source = source(&[(name, &bytes)]);
            let (_, captions, ..) = prepared(source.path(), &[]);
            assert!(captions[0][0].starts_with('A'), "{name}: {captions:?}");
        }
    }
}

#[test]
fn files_that_are_not_read_are_named_and_so_is_one_that_seems_to_hold_the_captions() {
    let tags: Vec<(String, &[u8])> = (0..6).map(|n| (format!("{n}.txt"), b"tag".as_slice())).collect();
    let with_tags = |name: &'static str, bytes: &'static [u8]| {
        let mut files: Vec<(&str, &[u8])> = tags.iter().map(|(name, bytes)| (name.as_str(), *bytes)).collect();
        files.push((name, bytes));
        source(&files)
    };
    for (name, bytes, reason, note) in [
        ("captions.json", b"{\"images\": [{\"id\": 1}".as_slice(), "cannot be read", "cannot be read"),
        ("captions.parquet", b"PAR1", "was skipped", "skipped"),
        ("captions.csv.gz", b"\x1f\x8b", "was skipped", "skipped"),
        ("annotations.csv", b"image,caption\n0.jpg,\xff\n", "cannot be read", "cannot be read"),
        ("labels.json", b"{\"0.jpg\": \"a caption\",", "cannot be read", "cannot be read"),
    ] {
        let source = with_tags(name, bytes);
        let text = refused(source.path(), &[]);
        assert!(text.contains(&format!("{name} {reason}")) && text.contains("--dataset sidecar"), "{text}");
        let (splits, _, text, _) = prepared(source.path(), &["--dataset", "sidecar"]);
        assert!(splits[0] == 5 && text.contains(&format!("note: {name}: {note}")), "{text}");
    }
    // What has nothing to do with captions stops nobody.
    let source = with_tags("config.json", b"{\"a\":");
    let (_, _, text, _) = prepared(source.path(), &[]);
    assert!(text.contains("1 other files: not used") && text.contains("such as config.json"), "{text}");

    let mixed = self::source(&[
        ("captions.csv", table(0..6).as_bytes()),
        ("old_captions.json", b"[{\"image\": \"0.jpg\", \"caption\": \"A\"}"),
        ("labels.csv", b"image,label\n0.jpg,3\n"),
        ("names.txt", b"0.jpg\n1.jpg\n"),
        ("more.xlsx", b"PK"),
        ("0.txt", b"tag"),
        ("README.md", b"words"),
    ]);
    let (splits, _, text, report) = prepared(mixed.path(), &["--validation-fraction", "0"]);
    assert_eq!(splits, [6, 0, 0]);
    for expected in [
        "old_captions.json: cannot be read: it is cut off",
        "labels.csv: contains no captions that can be read: a table with the columns image, label, none of them \
         for captions",
        "also found, and not used: sidecar (0.txt)",
        "2 other files: not used",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert_eq!(report.repairs.iter().filter(|repair| repair.what == "labels.csv").count(), 1);
}

#[test]
fn a_file_that_is_nearly_of_a_form_is_read_where_it_can_be_meant_in_one_way() {
    let pairs = |line: fn(usize) -> String| (0..6).map(line).collect::<String>();
    let list = |object: fn(usize) -> Value| Value::Array((0..6).map(object).collect()).to_string();
    let object =
        |value: fn(usize) -> Value| Value::Object((0..6).map(|n| (format!("{n}.jpg"), value(n))).collect()).to_string();
    for (name, text, format) in [
        ("anything.jsonl", pairs(|n| format!("{{\"image\":\"{n}.jpg\",\"caption\":\"A {n}\"}}\n")), "jsonl"),
        ("data.json", pairs(|n| format!("{{\"Image Path\":\"x/{n}.jpg\",\"sentences\":[\"A {n}\"]}}\n")), "jsonl"),
        ("pretty.ndjson", pairs(|n| format!("{{\n \"img\": \"{n}\",\n \"text\": \"A {n}\"\n}}\n")), "jsonl"),
        ("data.json", list(|n| json!({ "image": format!("{n}.jpg"), "captions": [format!("A {n}")] })), "json"),
        ("data.json", list(|n| json!({ "path": format!("/x/{n}.jpg"), "description": format!("A {n}") })), "json"),
        ("data.json", list(|n| json!({ "image_id": n, "caption": format!("A {n}") })), "json"),
        ("data.json", object(|n| json!({ "caption": format!("A {n}"), "tags": "x" })), "json"),
        ("data.json", format!("{{\"data\":{}}}", list(|n| json!([format!("{n}.jpg"), format!("A {n}")]))), "json"),
        ("captions.txt", pairs(|n| format!("{n}.jpg#0\tA {n}\n")), "token-lines"),
        ("captions.csv", pairs(|n| format!("{n}.jpg\tA {n}\n")), "pairs"),
        ("list", pairs(|n| format!("{n}.jpg|A {n}\n")), ""),
        ("captions", pairs(|n| format!("/x/{n}.jpg|A {n}\n")), "pairs"),
        ("list.txt", pairs(|n| format!("\"{n}.jpg\",\"A {n}\"\n")), "pairs"),
        ("captions.csv", format!("image|caption\n{}", pairs(|n| format!("{n}.jpg|A {n}\n"))), "table"),
        ("captions.txt", format!("file_name;text\r\n{}", pairs(|n| format!("{n}.jpg;A {n}\r\n"))), "table"),
        ("x.csv", format!("image,caption_1,caption_2\n{}", pairs(|n| format!("{n}.jpg,A {n},\n"))), "table"),
        ("x.tsv", format!("id\tcaptions\n{}", pairs(|n| format!("{n}\t['A {n}']\n"))), "table"),
    ] {
        let source = source(&[(name, text.as_bytes())]);
        if format.is_empty() {
            assert!(refused(source.path(), &[]).contains("among 7 files"));
            continue;
        }
        let (splits, captions, _, report) = prepared(source.path(), &["--validation-fraction", "0"]);
        assert_eq!((splits, report.format.as_str()), ([6, 0, 0], format), "{text}");
        assert_eq!(captions, (0..6).map(|n| vec![format!("A {n}")]).collect::<Vec<_>>(), "{text}");
    }
}

#[test]
fn a_file_that_is_nearly_of_a_form_and_cannot_be_read_is_named_with_what_does_not_fit() {
    for (name, text, expected) in [
        ("captions.json", "{\"0.jpg\": \"A\",\n\"1.jpg\": \"B\",\n}", "an extra comma at line 3, column 1"),
        ("captions.json", "[{\"image\": \"0.jpg\"\n \"caption\": \"A\"}]", "found '\"' at line 2, column 2"),
        ("captions.json", "[{\"bild\": \"0.jpg\", \"caption\": \"A\"}]", "none of them names the image"),
        (
            "captions.jsonl",
            "{\"image\": \"0.jpg\", \"label\": 3}\n{\"image\": \"1.jpg\"}\n",
            "none of them contains captions",
        ),
        ("captions.csv", "0.jpg,A,0.5,x\n1.jpg\n", "but not line 2: \"1.jpg\""),
        ("captions.csv", "image,label\n0.jpg,A\n", "none of them for captions"),
        ("captions.txt", "A dog runs.\n", "line 1 is in no known format: \"A dog runs.\""),
        ("instances_train.json", "{\"images\": []}", "COCO's boxes"),
    ] {
        let source = source(&[(name, text.as_bytes())]);
        let text = refused(source.path(), &[]);
        let message = text.split("hint: ").next().unwrap();
        assert!(message.contains(name) && message.contains(expected), "{name}: {text}");
    }
    // What is read and fails later is named with its place too.
    let source = source(&[("captions.csv", format!("{}1.jpg\n", table(0..6)).as_bytes())]);
    assert!(refused(source.path(), &[]).contains("line 8 of captions.csv has 1 values, expected 2"));
}

#[test]
fn ids_of_every_kind_tie_captions_to_images_and_come_back_from_the_data_set() {
    for ids in [
        [json!("img_0"), json!("img_1")],
        [json!(-1), json!(0)],
        [json!(1.0), json!(2.5)],
        [json!("7"), json!(8)],
        [json!("123456789012345678901234"), json!(u64::MAX)],
    ] {
        let mut file = coco(0..2);
        for (place, id) in ids.iter().enumerate() {
            file["images"][place]["id"] = id.clone();
            file["annotations"][place]["image_id"] = id.clone();
        }
        let source = source(&[("captions.json", file.to_string().as_bytes())]);
        let (output, folder) = prepare(source.path(), &["--validation-fraction", "0"]);
        assert!(output.status.success(), "{}", stderr(&output));
        let dataset = folder.path().join("out/dataset.json");
        let read: Vec<String> = Dataset::open(&folder.path().join("out"))
            .unwrap()
            .images
            .iter()
            .map(|image| image.id().to_string())
            .collect();
        assert_eq!(read.len(), 2);
        // Captions as `evaluate` writes them: of the ids that the data set has.
        let results: Vec<Value> = ids
            .iter()
            .enumerate()
            .map(|(place, id)| json!({ "image_id": id, "caption": format!("A {place}") }))
            .collect();
        for references in [dataset.as_path(), &source.path().join("captions.json"), &folder.path().join("out")] {
            let candidates = folder.path().join("results.json");
            fs::write(&candidates, Value::Array(results.clone()).to_string()).unwrap();
            let scored = binary()
                .arg("score")
                .arg("--candidates")
                .arg(&candidates)
                .arg("--references")
                .arg(references)
                .args(["--json", "--bootstrap", "0"])
                .output()
                .unwrap();
            assert!(scored.status.success(), "{ids:?}: {}", stderr(&scored));
            let scored: Value = serde_json::from_slice(&scored.stdout).unwrap();
            assert!((scored["scores"]["Bleu_1"].as_f64().unwrap() - 1.0).abs() < 1e-6, "{ids:?}: {scored}");
        }
    }
    let mut file = coco(0..2);
    file["images"][1]["id"] = json!("0");
    let source = source(&[("captions.json", file.to_string().as_bytes())]);
    assert!(refused(source.path(), &[]).contains("the images 0.jpg and 1.jpg of captions.json have the same id 0"));
}

#[test]
fn of_two_texts_beside_an_image_it_is_said_once_which_is_read() {
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    for n in 0..6 {
        files.push((format!("{n}.caption"), format!("A {n}").into_bytes()));
        files.push((format!("{n}.TXT"), b"tag, tag".to_vec()));
    }
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let source = source(&files);
    let (_, captions, text, _) = prepared(source.path(), &["--validation-fraction", "0"]);
    assert_eq!(captions[5], ["A 5"]);
    let note = "note: 0.caption and 0.TXT: both are beside an image; the first is used (6 images have both)";
    assert_eq!(text.matches(note).count(), 1, "{text}");

    let both = self::source(&[
        ("metadata.csv", b"file_name,text\n0.jpg,A\n1.jpg,B\n"),
        ("metadata.jsonl", b"{\"file_name\":\"0.jpg\",\"text\":\"C\"}\n{\"file_name\":\"1.jpg\",\"text\":\"D\"}\n"),
    ]);
    let (_, captions, text, _) = prepared(both.path(), &["--validation-fraction", "0"]);
    assert_eq!(captions, [["C"], ["D"]]);
    assert!(text.contains("metadata.csv: not used: metadata.jsonl is read instead"), "{text}");
}

#[test]
fn texts_of_pages_and_json_beside_each_image_are_read() {
    let source = source(&[
        ("0.json", b"{\"caption\": \"A man &amp; a &quot;dog&quot;\", \"similarity\": NaN}"),
        ("1.json", b"{\"text\": \"it&#39;s\"}"),
    ]);
    let (_, captions, text, report) = prepared(source.path(), &["--validation-fraction", "0"]);
    assert_eq!(captions, [["A man & a \"dog\""], ["it's"]]);
    assert!(text.contains("2 captions: HTML entities"), "{text}");
    assert_eq!(report.format, "sidecar");
}
