//! Caption data sets as people have them: each form with its quirks, made small by the test, goes through the program;
//! Flickr30k comes by its name from a Hub on this machine, and is trained on with the configs that are for it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Cursor, Write as _};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};

use base::digest::sha256;
use datasets::output::Preparation;
use datasets::prepared::{Dataset, Image, Split};
use test_server::Request;

use crate::support::{binary, files_below, model_fixture, shapes_folder, stderr};

/// A drawn picture, each of another content.
pub(crate) fn picture(number: usize) -> Vec<u8> {
    let dataset = Dataset::open(shapes_folder()).unwrap();
    fs::read(dataset.picture(number).path()).unwrap()
}

pub(crate) fn put(folder: &Path, path: &str, bytes: impl AsRef<[u8]>) {
    let path = folder.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

pub(crate) fn zip(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        writer.start_file(name.as_str(), zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

pub(crate) fn tar(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        builder.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

pub(crate) fn prepare(source: &Path, output: &Path, extra: &[&str]) -> Output {
    binary().arg("prepare-data").arg("--source").arg(source).arg("--output").arg(output).args(extra).output().unwrap()
}

pub(crate) fn report(output: &Path) -> Preparation {
    serde_json::from_slice(&fs::read(output.join("preparation.json")).unwrap()).unwrap()
}

/// Split and captions of each image by its name.
pub(crate) type Images = BTreeMap<String, (Split, Vec<String>)>;

/// What was made of a source: its format, its images, and the report.
#[track_caller]
pub(crate) fn prepared(source: &Path, extra: &[&str]) -> (String, Images, Preparation) {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let result = prepare(source, &output, extra);
    assert!(result.status.success(), "{}", stderr(&result));
    let (report, dataset) = (report(&output), Dataset::open(&output).unwrap());
    for image in 0..dataset.images.len() {
        assert!(dataset.picture(image).path().is_file());
    }
    assert!(output.join("samples.jpg").is_file());
    let of_image = |image: Image<'_>| (image.filename().to_owned(), (image.split(), image.owned_captions()));
    let images = dataset.images.iter().map(of_image).collect();
    (report.format.clone(), images, report)
}

#[track_caller]
pub(crate) fn assert_images(found: &Images, expected: &[(&str, Split, &[&str])]) {
    let expected: Images = expected
        .iter()
        .map(|(name, split, captions)| {
            ((*name).to_owned(), (*split, captions.iter().map(|&caption| caption.to_owned()).collect()))
        })
        .collect();
    assert_eq!(*found, expected);
}

pub(crate) const TRAIN: Split = Split::Train;
pub(crate) const VAL: Split = Split::Val;
pub(crate) const TEST: Split = Split::Test;

#[test]
fn karpathys_file_beside_images_of_coco_in_their_archives() {
    let source = tempfile::tempdir().unwrap();
    let train = "COCO_train2014_000000000001.jpg";
    let val = "COCO_val2014_000000000002.jpg";
    put(source.path(), "train2014.zip", zip(&[(format!("train2014/{train}"), picture(0))]));
    put(source.path(), "val2014.zip", zip(&[(format!("val2014/{val}"), picture(1))]));
    let image = |folder: &str, name: &str, split: &str, id: u32| {
        format!(
            r#"{{"filepath":"{folder}","sentids":[1],"filename":"{name}","imgid":0,"split":"{split}","cocoid":{id},
                "sentences":[{{"tokens":["a","dog"],"raw":"A dog.","imgid":0,"sentid":1}}]}}"#
        )
    };
    let (one, two) = (image("train2014", train, "restval", 1), image("val2014", val, "val", 2));
    put(source.path(), "dataset_coco.json", format!(r#"{{"dataset":"coco","images":[{one},{two}]}}"#));
    let (format, images, report) = prepared(source.path(), &["--dataset", "coco"]);
    assert_eq!((format.as_str(), report.dataset.as_str()), ("karpathy", "coco"));
    assert_images(&images, &[(train, TRAIN, &["A dog."]), (val, VAL, &["A dog."])]);
    assert!(report.repairs.iter().any(|repair| repair.repair.contains("113287 / 5000 / 5000")), "{:?}", report.repairs);
    // The same split for the names of 2017.
    let later = tempfile::tempdir().unwrap();
    put(later.path(), "val2017/000000000002.jpg", picture(1));
    fs::copy(source.path().join("dataset_coco.json"), later.path().join("dataset_coco.json")).unwrap();
    let (_, images, _) = prepared(later.path(), &[]);
    assert_images(&images, &[("000000000002.jpg", VAL, &["A dog."])]);
}

#[test]
fn flickr8k_as_its_authors_distribute_it() {
    let source = tempfile::tempdir().unwrap();
    let images = ["1_a.jpg", "2_b.jpg", "3_c.jpg"];
    let members: Vec<_> =
        images.iter().enumerate().map(|(n, name)| (format!("Flicker8k_Dataset/{name}"), picture(n))).collect();
    put(source.path(), "Flickr8k_Dataset.zip", zip(&members));
    let ghost = "2258277193_586949ec62.jpg.1";
    let token: String =
        [images[0], images[1], images[2], ghost].iter().map(|name| format!("{name}#0\tA dog , brown .\n")).collect();
    let texts = [("Flickr8k.token.txt", token.as_str()), ("Flickr_8k.trainImages.txt", "1_a.jpg\n")];
    let lists = [("Flickr_8k.devImages.txt", "2_b.jpg\n"), ("Flickr_8k.testImages.txt", "gone.jpg\n")];
    let texts: Vec<_> =
        texts.iter().chain(&lists).map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect();
    put(source.path(), "Flickr8k_text.zip", zip(&texts));
    let (format, found, report) = prepared(source.path(), &["--dataset", "flickr8k"]);
    assert_eq!(format, "flickr8k-token");
    assert_images(&found, &[(images[0], TRAIN, &["A dog , brown ."]), (images[1], VAL, &["A dog , brown ."])]);
    let left_out: Vec<&str> = report.rejects.iter().map(|reject| reject.what.as_str()).collect();
    assert_eq!(left_out, ["3_c.jpg", ghost, "gone.jpg", "1 image files"]);
}

#[test]
fn flickr8k_and_flickr30k_as_they_are_on_kaggle() {
    let source = tempfile::tempdir().unwrap();
    put(source.path(), "Images/1.jpg", picture(0));
    put(source.path(), "Images/2.jpg", picture(1));
    put(source.path(), "captions.txt", "image,caption\n1.jpg,A dog .\n1.jpg,\"A dog , a cat .\"\n2.jpg,Two .\n");
    let (format, images, report) = prepared(source.path(), &["--validation-fraction", "0"]);
    assert_eq!((format.as_str(), report.options.validation_fraction), ("flickr8k-kaggle", Some(0.0)));
    assert_images(&images, &[("1.jpg", TRAIN, &["A dog .", "A dog , a cat ."]), ("2.jpg", TRAIN, &["Two ."])]);

    let source = tempfile::tempdir().unwrap();
    let text = "image_name| comment_number| comment\n1.jpg| 0| A dog .\n1.jpg| 1   A dog runs .\n2.jpg| 0| Two .\n";
    // The archive nests the images, and holds the captions beside them.
    let nested = "flickr30k_images/flickr30k_images";
    let members = [
        (format!("{nested}/1.jpg"), picture(0)),
        (format!("{nested}/2.jpg"), picture(1)),
        ("flickr30k_images/results.csv".to_owned(), text.into()),
    ];
    put(source.path(), "archive.zip", zip(&members));
    let options = ["--dataset", "flickr30k", "--validation-fraction", "0"];
    let (format, images, report) = prepared(&source.path().join("archive.zip"), &options);
    assert_eq!((format.as_str(), report.dataset.as_str()), ("flickr30k-kaggle", "flickr30k"));
    assert_images(&images, &[("1.jpg", TRAIN, &["A dog .", "A dog runs ."]), ("2.jpg", TRAIN, &["Two ."])]);
    assert!(report.repairs.iter().any(|repair| repair.what == "1.jpg#1"), "{:?}", report.repairs);
}

#[test]
fn flickr30k_as_its_authors_distribute_it_with_a_split_of_the_users_own() {
    let source = tempfile::tempdir().unwrap();
    for number in 0..3 {
        put(source.path(), &format!("flickr30k-images/{number}.jpg"), picture(number));
    }
    let line = |number: usize| format!("{number}.jpg#0\tA man , {number} .\n{number}.jpg#1\tB .\n");
    put(source.path(), "results_20130124.token", (0..3).map(line).collect::<String>());
    let split = source.path().join("split");
    for (name, text) in [("train.txt", "0\n"), ("val.txt", "1\n"), ("test.txt", "2\n")] {
        put(&split, name, text);
    }
    let (format, images, _) = prepared(source.path(), &["--split-file", split.to_str().unwrap()]);
    assert_eq!(format, "flickr30k-token");
    let captions = |number: usize| format!("A man , {number} .");
    let [zero, one, two] = [0, 1, 2].map(captions);
    assert_images(
        &images,
        &[("0.jpg", TRAIN, &[&zero, "B ."]), ("1.jpg", VAL, &[&one, "B ."]), ("2.jpg", TEST, &[&two, "B ."])],
    );
}

#[test]
fn captions_of_coco_2017_beside_their_images_and_other_annotations() {
    let source = tempfile::tempdir().unwrap();
    put(source.path(), "train2017/000000000009.jpg", picture(0));
    put(source.path(), "val2017/000000000007.jpg", picture(1));
    let file = |id: u32| {
        format!(
            r#"{{"info":{{}},"images":[{{"id":{id},"file_name":"{id:012}.jpg","height":4,"width":4}}],"licenses":[],
                "annotations":[{{"id":1,"image_id":{id},"caption":"A bowl."}},{{"id":2,"image_id":{id},"caption":"Two"}}]}}"#
        )
    };
    let instances = file(9).replace("caption", "bbox");
    let members = [
        ("annotations/captions_train2017.json".to_owned(), file(9).into_bytes()),
        ("annotations/captions_val2017.json".to_owned(), file(7).into_bytes()),
        ("annotations/instances_train2017.json".to_owned(), instances.into_bytes()),
    ];
    put(source.path(), "annotations_trainval2017.zip", zip(&members));
    let (format, images, report) = prepared(source.path(), &["--dataset", "coco"]);
    assert_eq!((format.as_str(), report.dataset.as_str()), ("coco-captions", "coco"));
    let captions: &[&str] = &["A bowl.", "Two"];
    assert_images(&images, &[("000000000009.jpg", TRAIN, captions), ("000000000007.jpg", VAL, captions)]);
}

#[test]
fn the_json_of_blip_and_lavis() {
    let source = tempfile::tempdir().unwrap();
    for number in 0..3 {
        put(source.path(), &format!("flickr30k-images/{number}.jpg"), picture(number));
    }
    let train = r#"[{"image":"flickr30k-images/0.jpg","caption":"A","image_id":0},{"image":"flickr30k-images/0.jpg","caption":"B","image_id":0}]"#;
    put(source.path(), "flickr30k_train.json", train);
    put(source.path(), "flickr30k_val.json", r#"[{"image":"flickr30k-images/1.jpg","caption":["C","D"]}]"#);
    put(source.path(), "flickr30k_test.json", r#"[{"image":"flickr30k-images/2.jpg","caption":["E"]}]"#);
    let (format, images, report) = prepared(source.path(), &["--dataset", "flickr30k"]);
    assert_eq!((format.as_str(), report.dataset.as_str()), ("blip", "flickr30k"));
    assert_images(&images, &[("0.jpg", TRAIN, &["A", "B"]), ("1.jpg", VAL, &["C", "D"]), ("2.jpg", TEST, &["E"])]);
}

#[test]
fn folders_of_images_with_metadata() {
    let source = tempfile::tempdir().unwrap();
    put(source.path(), "train/0.png", picture(0));
    put(source.path(), "train/metadata.jsonl", "{\"file_name\":\"0.png\",\"text\":\"A\"}\n");
    put(source.path(), "validation/1.jpg", picture(1));
    put(source.path(), "validation/metadata.csv", "file_name,caption_0,caption_1\n1.jpg,B,\"C, c\"\n");
    let (format, images, _) = prepared(source.path(), &[]);
    assert_eq!(format, "imagefolder");
    assert_images(&images, &[("0.png", TRAIN, &["A"]), ("1.jpg", VAL, &["B", "C, c"])]);
}

#[test]
fn shards_of_a_web_data_set() {
    let source = tempfile::tempdir().unwrap();
    let shard = |first: usize| {
        tar(&[
            ("000.jpg".to_owned(), picture(first)),
            ("000.txt".to_owned(), b"A\n".to_vec()),
            ("000.json".to_owned(), br#"{"caption":"not this one","url":"x"}"#.to_vec()),
            ("001.jpg".to_owned(), picture(first + 1)),
            ("001.json".to_owned(), br#"{"caption":"B"}"#.to_vec()),
            ("002.jpg".to_owned(), picture(first + 2)),
            ("003.jpg".to_owned(), picture(first + 6)),
            ("003.txt".to_owned(), b"C".to_vec()),
        ])
    };
    put(source.path(), "train-0000.tar", shard(0));
    put(source.path(), "val-0000.tar", shard(3));
    let (format, images, report) = prepared(source.path(), &[]);
    assert_eq!(format, "webdataset");
    assert_images(
        &images,
        &[
            ("train-0000.tar/000.jpg", TRAIN, &["A"]),
            ("train-0000.tar/001.jpg", TRAIN, &["B"]),
            ("train-0000.tar/003.jpg", TRAIN, &["C"]),
            ("val-0000.tar/000.jpg", VAL, &["A"]),
            ("val-0000.tar/001.jpg", VAL, &["B"]),
            ("val-0000.tar/003.jpg", VAL, &["C"]),
        ],
    );
    let names: Vec<&str> = report.sources.iter().map(|source| source.name.as_str()).collect();
    assert_eq!(names, ["train-0000.tar", "val-0000.tar"]);
}

#[test]
fn a_text_file_beside_each_image() {
    let source = tempfile::tempdir().unwrap();
    put(source.path(), "a/0.jpg", picture(0));
    put(source.path(), "a/0.txt", "A dog\nA brown dog\n");
    put(source.path(), "a/1.jpg", picture(1));
    put(source.path(), "a/1.txt", "\u{feff}Two");
    put(source.path(), "a/2.jpg", picture(2));
    put(source.path(), "README.txt", "words");
    let (format, images, report) = prepared(source.path(), &["--validation-fraction", "0"]);
    assert_eq!(format, "sidecar");
    assert_images(&images, &[("0.jpg", TRAIN, &["A dog", "A brown dog"]), ("1.jpg", TRAIN, &["Two"])]);
    assert!(report.rejects[0].reason.contains("such as a/2.jpg"), "{:?}", report.rejects);
}

#[test]
fn tables_and_simple_json() {
    let tables = [
        ("captions.csv", "image,caption,split\nx/0.jpg,\"A, a\",train\n/data/1.jpg,B,val\n", "table"),
        ("captions.tsv", "filepath\ttitle\tsplit\n0.jpg\tA, a\ttrain\n1.jpg\tB\tvalidation\n", "table"),
        (
            "predictions.json",
            r#"[{"image_name":"0.jpg","captions":["A, a"],"split":"train"},{"image_name":"1","captions":"B","split":"val"}]"#,
            "json",
        ),
    ];
    for (name, text, expected) in tables {
        let source = tempfile::tempdir().unwrap();
        put(source.path(), "0.jpg", picture(0));
        put(source.path(), "1.jpg", picture(1));
        put(source.path(), name, text);
        let (format, images, _) = prepared(source.path(), &[]);
        assert_eq!(format, expected);
        assert_images(&images, &[("0.jpg", TRAIN, &["A, a"]), ("1.jpg", VAL, &["B"])]);
    }
    let source = tempfile::tempdir().unwrap();
    put(source.path(), "0.jpg", picture(0));
    put(source.path(), "captions.json", r#"{"0.jpg":["A","B"],"gone.jpg":"C"}"#);
    put(source.path(), "config.json", r#"{"name":"x"}"#);
    let (format, images, report) = prepared(source.path(), &[]);
    assert_eq!(format, "json");
    assert_images(&images, &[("0.jpg", TRAIN, &["A", "B"])]);
    assert!(report.rejects[0].reason.contains("no such image file"), "{:?}", report.rejects);
}

#[test]
fn a_folder_without_captions_and_one_with_pickles_say_what_is_read() {
    let source = tempfile::tempdir().unwrap();
    put(source.path(), "0.jpg", picture(0));
    put(source.path(), "captions.pkl", b"\x80\x04");
    let output = prepare(source.path(), &source.path().join("out"), &[]);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("among 1 files, 1 of them images") && text.contains("captions.pkl cannot be read"), "{text}");
    assert!(text.contains("metadata.jsonl") && !source.path().join("out").exists(), "{text}");
}

#[test]
fn an_archive_that_would_leave_its_folder_or_plant_a_link_is_refused_whatever_its_kind() {
    for (name, bytes) in [
        ("a.zip", zip(&[("good.jpg".to_owned(), picture(0)), ("../../evil.jpg".to_owned(), picture(1))])),
        ("a.tar", {
            let mut builder = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            builder.append_link(&mut header, "images", "/tmp").unwrap();
            builder.into_inner().unwrap()
        }),
    ] {
        let source = tempfile::tempdir().unwrap();
        put(source.path(), name, bytes);
        put(source.path(), "captions.csv", "image,caption\ngood.jpg,A\nevil.jpg,B\n");
        let output = prepare(source.path(), &source.path().join("b/out"), &[]);
        assert_eq!(output.status.code(), Some(1));
        let text = stderr(&output);
        assert!(text.contains(&format!("{name} was skipped")) && text.contains("is refused"), "{text}");
        assert_eq!(files_below(source.path()).len(), 2, "nothing was written");
    }
}

/// Flickr30k in the form in which it is on the Hub, of 50 drawn pictures: its two files.
fn look_alike() -> [(&'static str, Vec<u8>); 2] {
    let dataset = Dataset::open(shapes_folder()).unwrap();
    let (mut members, mut text) = (Vec::new(), "raw,sentids,split,filename,img_id\n".to_owned());
    for (number, image) in dataset.images.iter().take(50).enumerate() {
        let name = format!("{}.jpg", 1_000_092_795 + number);
        members.push((format!("flickr30k-images/{name}"), fs::read(dataset.picture(number).path()).unwrap()));
        let mut captions = image.owned_captions();
        captions.push("Two, \"of\" them.".to_owned());
        let list = serde_json::to_string(&captions).unwrap().replace('"', "\"\"");
        let split = match number {
            0..40 => "train",
            40..45 => "val",
            _ => "test",
        };
        text.push_str(&format!("\"{list}\",\"[0, 1, 2, 3, 4]\",{split},{name},{number}\n"));
    }
    [("flickr_annotations_30k.csv", text.into_bytes()), ("flickr30k-images.zip", zip(&members))]
}

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A Hub on this machine that has the look-alike; the address it answers at. The first connection for the archive is
/// cut in its middle.
fn hub() -> String {
    let (files, is_first) = (look_alike(), AtomicBool::new(true));
    test_server::serve(move |request| answer(request, &files, &is_first))
}

fn answer(request: &mut Request, files: &[(&str, Vec<u8>)], is_first: &AtomicBool) -> io::Result<()> {
    let path = request.path.clone();
    if path == "/api/datasets/nlphuji/flickr30k/revision/main" {
        return request.reply("200 OK", "", format!("{{\"sha\":\"{COMMIT}\"}}"));
    }
    let file = files.iter().find(|(name, _)| path.ends_with(&format!("/resolve/{COMMIT}/{name}")));
    let Some((_, body)) = file else { return request.reply("404 Not Found", "", "") };
    let (start, total) = (request.range_start(), body.len());
    let rest = &body[start.unwrap_or(0)..];
    let status = match start {
        Some(start) => format!("206 Partial Content\r\nContent-Range: bytes {start}-{}/{total}", total - 1),
        None => "200 OK".to_owned(),
    };
    let (tag, length) = (sha256(body), rest.len());
    let tags = format!("ETag: \"{tag}\"\r\nX-Linked-Etag: \"{tag}\"\r\nX-Linked-Size: {total}");
    let head = format!(
        "HTTP/1.1 {status}\r\n{tags}\r\nX-Repo-Commit: {COMMIT}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    request.send(head.as_bytes())?;
    if request.method == "HEAD" {
        return Ok(());
    }
    let is_cut = path.ends_with(".zip") && is_first.swap(false, Ordering::Relaxed);
    request.send(if is_cut { &rest[..length / 2] } else { rest })
}

#[test]
fn the_bare_command_fetches_flickr30k_and_prepares_it() {
    let folder = tempfile::tempdir().unwrap();
    let run = |endpoint: &str| {
        let mut command = binary();
        command.arg("prepare-data").current_dir(folder.path());
        command.env("HF_ENDPOINT", endpoint).env("HF_HOME", folder.path().join("hub")).env_remove("HF_HUB_OFFLINE");
        command.output().unwrap()
    };
    let address = hub();
    let output = run(&address);
    let text = stderr(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("only for research and education"), "{text}");
    let directory = folder.path().join("data/flickr30k");
    let report = report(&directory);
    assert_eq!((report.images.train, report.images.val, report.images.test, report.captions.train), (40, 5, 5, 200));
    let origin = report.origin.unwrap();
    assert_eq!((origin.repository.as_str(), origin.commit.as_str()), ("nlphuji/flickr30k", COMMIT));
    let expected: Vec<(String, String)> =
        look_alike().iter().map(|(name, bytes)| ((*name).to_owned(), sha256(bytes))).collect();
    let found: Vec<(String, String)> = origin.files.into_iter().map(|file| (file.name, file.sha256)).collect();
    assert_eq!(found, expected);
    // A finished folder needs no network.
    let again = run("http://127.0.0.1:9");
    assert!(again.status.success() && stderr(&again).contains("nothing to do"), "{}", stderr(&again));
}

#[test]
fn without_a_network_the_bare_command_says_how_to_get_flickr30k_by_hand() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = binary();
    command.args(["prepare-data", "--dataset", "flickr30k"]).current_dir(folder.path());
    command.env("HF_HUB_OFFLINE", "1").env("HF_HOME", folder.path().join("hub"));
    let output = command.output().unwrap();
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for expected in ["flickr_annotations_30k.csv", "flickr30k-images.zip", "--source FOLDER"] {
        assert!(text.contains(expected), "{text}");
    }
    assert!(!folder.path().join("data").exists());
}

/// A ViT of its own in the Hub's form, taken out of a captioner.
fn vit_folder(folder: &Path) -> PathBuf {
    let (from, to) = (model_fixture("vit_gpt2"), folder.join("vit"));
    fs::create_dir_all(&to).unwrap();
    fs::copy(from.join("preprocessor_config.json"), to.join("preprocessor_config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&fs::read(from.join("config.json")).unwrap()).unwrap();
    fs::write(to.join("config.json"), config["encoder"].to_string()).unwrap();
    let tensors = candle_core::safetensors::load(from.join("model.safetensors"), &candle_core::Device::Cpu).unwrap();
    let encoder =
        tensors.into_iter().filter_map(|(name, tensor)| Some((name.strip_prefix("encoder.")?.to_owned(), tensor)));
    candle_core::safetensors::save(&encoder.collect(), to.join("model.safetensors")).unwrap();
    to
}

#[test]
fn the_configs_for_flickr30k_run_from_the_archives_to_scored_captions() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    for (name, bytes) in look_alike() {
        put(&source, name, bytes);
    }
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    let address = hub();
    for (name, encoder, is_fetched) in
        [("flickr30k_vit_base", vit_folder(folder.path()), true), ("flickr30k_clip_base", model_fixture("clip"), false)]
    {
        // Each prepares the data set for itself: by its name from the Hub, or from a folder of the person's own.
        let here = folder.path().join(name);
        fs::create_dir(&here).unwrap();
        let mut command = binary();
        command.arg("--config").arg(configs.join(format!("{name}.toml"))).current_dir(&here);
        if is_fetched {
            command.env("HF_ENDPOINT", &address).env("HF_HOME", here.join("hub")).env_remove("HF_HUB_OFFLINE");
        } else {
            command.arg("--set").arg(format!("data.source={}", source.display()));
        }
        let changes = [format!("model.encoder.name={}", encoder.display()), "training.num_epochs=1".to_owned()];
        for change in changes {
            command.args(["--set", &change]);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(report(&here.join("data/flickr30k")).origin.is_some(), is_fetched);
        let run = here.join("runs").join(name);
        let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
        assert!(metrics.contains("\"CIDEr\""), "{metrics}");
        assert!(run.join("predictions/test.json").is_file(), "{:?}", files_below(&run));
        assert!(run.join("checkpoints/last.safetensors").is_file());
    }
}
