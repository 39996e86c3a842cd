//! Preparations of small sources.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use tempfile::TempDir;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;
use crate::output::ownership;
use crate::prepared::{Dataset, IMAGE_FOLDER, Image, MARKER_FILE, PREPARATION_FILE, RECORD_FILE, SUMS_FILE, Split};
use base::error::describe;

const GHOST: &str = "2258277193_586949ec62.jpg.1";

fn jpeg(shade: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Two that look alike are a finding of their own.
    let place = |index: u32| index / 3 + 1000 * u32::from(shade);
    let pixel = |index| place(index).wrapping_mul(2_654_435_761).to_le_bytes()[3];
    let pixels: Vec<u8> = (0..16 * 16 * 3).map(pixel).collect();
    image::codecs::jpeg::JpegEncoder::new(&mut bytes).encode(&pixels, 16, 16, image::ExtendedColorType::Rgb8).unwrap();
    bytes
}

/// Images a to e: c is cut, d is in no list, e has a list and captions but no file.
fn images() -> Vec<(String, Vec<u8>)> {
    let mut images: Vec<(String, Vec<u8>)> =
        (0u8..).zip(["a", "b", "c", "d"]).map(|(shade, name)| (format!("{name}.jpg"), jpeg(shade))).collect();
    let half = images[2].1.len() / 2;
    images[2].1.truncate(half);
    images
}

fn texts() -> Vec<(String, Vec<u8>)> {
    let names = ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg", GHOST];
    let token: String = names.iter().map(|name| format!("{name}#0\tA dog .\n{name}#1\tA cat .\n")).collect();
    [
        ("Flickr8k.token.txt", token.as_str()),
        ("Flickr_8k.trainImages.txt", "a.jpg\nc.jpg\ne.jpg\n"),
        ("Flickr_8k.devImages.txt", "b.jpg\n"),
    ]
    .map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()))
    .to_vec()
}

fn zip(path: &Path, folder: &str, files: &[(String, Vec<u8>)]) {
    let mut writer = ZipWriter::new(fs::File::create(path).unwrap());
    for (name, bytes) in files {
        writer.start_file(format!("{folder}{name}"), SimpleFileOptions::default()).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap();
}

fn archives() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    zip(&folder.path().join("Flickr8k_Dataset.zip"), "Flicker8k_Dataset/", &images());
    zip(&folder.path().join("Flickr8k_text.zip"), "", &texts());
    folder
}

fn request(dataset: Option<&str>, source: Option<&Path>, output: &Path) -> Request {
    Request {
        dataset: dataset.map(str::to_owned),
        source: source.map(Path::to_owned),
        output: Some(output.to_owned()),
        ..Request::default()
    }
}

fn prepare_into(output: &Path, source: &TempDir) -> anyhow::Result<Outcome> {
    prepare(&request(Some("flickr8k"), Some(source.path()), output))
}

fn files_below(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for folder in [folder.to_owned(), folder.join(IMAGE_FOLDER)] {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file()) {
            files.insert(entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap());
        }
    }
    files
}

#[test]
fn archives_become_a_data_set_and_everything_left_out_is_reported() {
    let (source, output) = (archives(), tempfile::tempdir().unwrap());
    let outcome = prepare_into(output.path(), &source).unwrap();
    let report = &outcome.report;
    assert_eq!((report.images.train, report.images.val, report.images.test), (1, 1, 0));
    assert_eq!(report.captions.train, 2);
    let names: Vec<&str> = report.sources.iter().map(|source| source.name.as_str()).collect();
    assert_eq!(names, ["Flickr8k_Dataset.zip", "Flickr8k_text.zip"]);
    let reason = |what: &str| {
        report.rejects.iter().find(|reject| reject.what == what).map(|reject| reject.reason.clone()).unwrap()
    };
    assert!(reason(GHOST).contains("none of the split lists"));
    assert!(reason("e.jpg").contains("no such image file (split train)"));
    assert!(reason("d.jpg").contains("none of the split lists"));
    assert!(
        reason("1 image files").contains("no captions name them, such as Flickr8k_Dataset.zip/Flicker8k_Dataset/d.jpg")
    );
    assert!(reason("c.jpg").contains("JPEG"), "{}", reason("c.jpg"));
    assert!(!reason("c.jpg").contains(output.path().to_str().unwrap()) && reason("c.jpg").lines().count() == 1);
    assert_eq!(report.rejects.len(), 5);
    let noted: Vec<&str> = report.repairs.iter().map(|repair| repair.what.as_str()).collect();
    assert_eq!(noted, ["Flickr_8k.testImages.txt", "the split of flickr8k"], "{report:?}");
    assert_eq!((report.format.as_str(), report.statistics.as_ref().unwrap().captions), ("flickr8k-token", 4));
    let dataset = Dataset::open(output.path()).unwrap();
    let splits: Vec<(&str, Split)> = dataset.images.iter().map(|image| (image.filename(), image.split())).collect();
    assert_eq!(splits, [("a.jpg", Split::Train), ("b.jpg", Split::Val)]);
    let files = files_below(output.path());
    assert_eq!(
        files.keys().collect::<Vec<_>>(),
        ["SHA256SUMS", "a.jpg", "b.jpg", "dataset.json", "preparation.json", "samples.jpg", "source.json"]
    );
    let summary = summary(&outcome);
    assert!(summary.contains("left out: 2 times, first d.jpg: in none of the split lists"), "{summary}");
}

#[test]
fn a_finished_preparation_does_nothing_and_an_interrupted_one_continues() {
    let (source, output) = (archives(), tempfile::tempdir().unwrap());
    prepare_into(output.path(), &source).unwrap();
    let files = files_below(output.path());
    assert_eq!(prepare_into(output.path(), &source).unwrap().done, Done::AlreadyPrepared);
    let again = prepare(&request(Some("flickr8k"), None, output.path())).unwrap();
    assert_eq!(again.done, Done::AlreadyPrepared);
    ownership::begin(output.path(), ["b.jpg"].into_iter()).unwrap();
    for name in ["dataset.json", "images/b.jpg"] {
        fs::remove_file(output.path().join(name)).unwrap();
    }
    fs::write(output.path().join("images/b.jpg.99.partial"), b"half").unwrap();
    assert_eq!(prepare_into(output.path(), &source).unwrap().done, Done::Prepared);
    // The record of the source says of times whether they are long past.
    let without_record = |mut files: BTreeMap<String, Vec<u8>>| {
        files.remove(RECORD_FILE).unwrap();
        files
    };
    assert_eq!(without_record(files_below(output.path())), without_record(files));
}

#[test]
fn unpacked_archives_give_the_same_data_set() {
    let (source, outputs) = (archives(), [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()]);
    prepare_into(outputs[0].path(), &source).unwrap();
    let unpacked = tempfile::tempdir().unwrap();
    for (folder, files) in [("Flickr8k_Dataset/Flicker8k_Dataset", images()), ("Flickr8k_text", texts())] {
        fs::create_dir_all(unpacked.path().join(folder)).unwrap();
        for (name, bytes) in files {
            fs::write(unpacked.path().join(folder).join(name), bytes).unwrap();
        }
    }
    prepare_into(outputs[1].path(), &unpacked).unwrap();
    assert_eq!(prepare_into(outputs[1].path(), &unpacked).unwrap().done, Done::AlreadyPrepared);
    let [mut one, mut other] = outputs.each_ref().map(|output| files_below(output.path()));
    for name in [PREPARATION_FILE, RECORD_FILE] {
        assert_ne!(one.remove(name), other.remove(name));
    }
    assert_eq!(one, other);
}

#[test]
fn another_source_or_other_options_do_not_change_what_was_prepared() {
    let (source, output) = (archives(), tempfile::tempdir().unwrap());
    prepare_into(output.path(), &source).unwrap();
    let limited = Request { limit: Some(1), ..request(Some("flickr8k"), Some(source.path()), output.path()) };
    let text = describe(&prepare(&limited).unwrap_err());
    assert!(text.contains("was prepared with other options: {}") && text.contains("hint: "), "{text}");
    let text = describe(&prepare(&request(Some("table"), None, output.path())).unwrap_err());
    assert!(text.contains("was prepared from captions of format flickr8k-token"), "{text}");
    let (other, mut more) = (archives(), images());
    more.push(("z.jpg".to_owned(), jpeg(99)));
    zip(&other.path().join("Flickr8k_Dataset.zip"), "Flicker8k_Dataset/", &more);
    let text = describe(&prepare_into(output.path(), &other).unwrap_err());
    assert!(text.contains("was prepared from other files") && text.contains("(Flickr8k_Dataset.zip)"), "{text}");
    assert_eq!(describe(&prepare(&request(Some("flickr30k"), None, output.path())).unwrap_err()).lines().count(), 2);
}

#[test]
fn a_source_is_never_written_into() {
    let source = table(2);
    for output in [source.path().to_owned(), source.path().parent().unwrap().to_owned()] {
        let text = describe(&prepare(&request(None, Some(source.path()), &output)).unwrap_err());
        assert!(text.contains("contains the source") && text.contains("hint: "), "{text}");
    }
    assert_eq!(fs::read_dir(source.path()).unwrap().count(), 3);
}

#[test]
fn an_interrupted_preparation_inside_its_source_continues() {
    let source = table(4);
    let inside = Request { resize: Some(8), ..request(None, Some(source.path()), &source.path().join("data/x")) };
    let first = prepare(&inside).unwrap();
    ownership::begin(&first.directory, std::iter::empty()).unwrap();
    assert!(!first.directory.join(PREPARATION_FILE).exists());
    assert!(!is_there("x", &first.directory).unwrap());
    assert_eq!(prepare(&inside).unwrap().report, first.report);
    assert!(!first.directory.join(MARKER_FILE).exists());
}

#[test]
fn an_image_of_the_same_name_in_another_folder_is_not_taken() {
    let (source, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (folder, text) in [
        ("train", "{\"file_name\":\"1.jpg\",\"text\":\"A\"}\n"),
        ("validation", "{\"file_name\":\"2.jpg\",\"text\":\"B\"}\n"),
    ] {
        fs::create_dir_all(source.path().join(folder)).unwrap();
        fs::write(source.path().join(folder).join("metadata.jsonl"), text).unwrap();
    }
    fs::write(source.path().join("validation/1.jpg"), jpeg(1)).unwrap();
    let text = describe(&prepare(&request(None, Some(source.path()), output.path())).unwrap_err());
    assert!(text.contains("none of the image files was found"), "{text}");
}

#[test]
fn captions_without_images_and_images_without_captions_are_reported() {
    for (absent, expected) in [
        (
            "Flickr8k_Dataset.zip",
            "the annotations have 4 images with 8 captions, and none of the image files was found",
        ),
        ("Flickr8k_text.zip", "found no captions of flickr8k among 4 files, 4 of them images"),
    ] {
        let (source, output) = (archives(), tempfile::tempdir().unwrap());
        fs::remove_file(source.path().join(absent)).unwrap();
        let text = describe(&prepare_into(output.path(), &source).unwrap_err());
        assert!(text.contains(expected) && text.contains("hint: "), "{text}");
    }
}

/// A folder with images 0 to n - 1 and a table with a caption for each.
fn table(num_images: u8) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut text = "image,caption\n".to_owned();
    for number in 0..num_images {
        fs::write(folder.path().join(format!("{number}.jpg")), jpeg(number)).unwrap();
        text.push_str(&format!("{number}.jpg,a picture of number {number}\n"));
    }
    fs::write(folder.path().join("captions.csv"), text).unwrap();
    folder
}

#[test]
fn the_options_limit_draw_and_shrink() {
    let (source, output) = (table(40), tempfile::tempdir().unwrap());
    let with_options = Request {
        limit: Some(20),
        validation_fraction: Some(0.2),
        test_fraction: Some(0.1),
        resize: Some(8),
        ..request(None, Some(source.path()), &output.path().join("data"))
    };
    let dry = prepare(&Request { is_dry_run: true, ..with_options.clone() }).unwrap();
    assert!(dry.done == Done::DryRun && !dry.directory.exists());
    let outcome = prepare(&with_options).unwrap();
    let report = &outcome.report;
    assert_eq!((report.images.train, report.images.val, report.images.test), (14, 4, 2));
    assert_eq!(dry.report.images, report.images);
    let dataset = Dataset::open(&outcome.directory).unwrap();
    let first = pixels::image_file::inspect(&dataset.image_path(0)).unwrap();
    assert_eq!((first, report.options.limit, report.options.resize), ((8, 8), Some(20), Some(8)));
    assert_eq!(prepare(&with_options).unwrap().done, Done::AlreadyPrepared);
    let summary = summary(&outcome);
    assert!(summary.contains("drawn for val") && summary.contains("kept of 40"), "{summary}");
    // What an interrupted run left is continued.
    ownership::begin(&outcome.directory, std::iter::empty()).unwrap();
    assert_eq!(prepare(&with_options).unwrap().report, *report);
}

#[test]
fn images_that_an_older_decoder_resized_are_made_again_where_the_source_is_there() {
    let (source, output) = (table(4), tempfile::tempdir().unwrap());
    let resized = Request { resize: Some(8), ..request(None, Some(source.path()), output.path()) };
    let first = prepare(&resized).unwrap();
    let (report, image) = (output.path().join(PREPARATION_FILE), output.path().join("images/1.jpg"));
    let pixels = fs::read(&image).unwrap();
    let age = || {
        let mut old = first.report.clone();
        old.decoder = None;
        fs::write(&report, serde_json::to_vec(&old).unwrap()).unwrap();
        fs::write(&image, jpeg(99)).unwrap();
        // It wrote none.
        fs::remove_file(output.path().join(SUMS_FILE)).unwrap();
    };
    age();
    assert_eq!(prepare(&Request { source: None, ..resized.clone() }).unwrap().done, Done::AlreadyPrepared);
    let again = prepare(&resized).unwrap();
    assert_eq!((again.done, again.report.decoder), (Done::Prepared, first.report.decoder));
    assert_eq!(fs::read(&image).unwrap(), pixels);
    assert_eq!(prepare(&resized).unwrap().done, Done::AlreadyPrepared);
}

#[test]
fn a_split_of_the_users_own_is_followed() {
    let (source, output) = (table(4), tempfile::tempdir().unwrap());
    let split = source.path().join("split.json");
    fs::write(&split, r#"{"train":["0.jpg","1"],"val":["3.jpg"]}"#).unwrap();
    let with_file = Request {
        dataset: Some("table".to_owned()),
        split_file: Some(split.clone()),
        ..request(None, Some(source.path()), output.path())
    };
    let report = prepare(&with_file).unwrap().report;
    assert_eq!((report.images.train, report.images.val, report.images.test), (2, 1, 0));
    assert!(report.rejects.iter().any(|reject| reject.what == "1 images"), "{:?}", report.rejects);
    fs::write(&split, r#"{"train":["0.jpg"],"val":["3.jpg"]}"#).unwrap();
    assert!(describe(&prepare(&with_file).unwrap_err()).contains("prepared with other options"));
}

#[test]
fn one_picture_in_two_splits_is_noted() {
    let (source, output) = (table(3), tempfile::tempdir().unwrap());
    fs::copy(source.path().join("0.jpg"), source.path().join("2.jpg")).unwrap();
    fs::write(source.path().join("captions.csv"), "image,caption,split\n0.jpg,a,train\n1.jpg,b,train\n2.jpg,c,val\n")
        .unwrap();
    let report = prepare(&request(None, Some(source.path()), output.path())).unwrap().report;
    let noted: Vec<String> =
        report.repairs.iter().map(|repair| format!("{}: {}", repair.what, repair.repair)).collect();
    assert_eq!(noted.len(), 1, "{noted:?}");
    assert!(noted[0].contains("2.jpg") && noted[0].contains("0.jpg") && noted[0].contains("same picture"), "{noted:?}");
}

#[test]
fn several_kinds_of_captions_have_to_be_chosen_from() {
    let (source, output) = (table(2), tempfile::tempdir().unwrap());
    fs::write(source.path().join("captions.json"), r#"{"0.jpg":"one","1.jpg":"two"}"#).unwrap();
    let text = describe(&prepare(&request(None, Some(source.path()), output.path())).unwrap_err());
    assert!(text.contains("table (captions.csv), json (captions.json)"), "{text}");
    let chosen = prepare(&request(Some("json"), Some(source.path()), output.path())).unwrap().report;
    assert_eq!((chosen.format.as_str(), chosen.captions.train + chosen.captions.val), ("json", 2));
    assert!(chosen.repairs.iter().any(|repair| repair.repair.contains("not used: table")), "{:?}", chosen.repairs);
}

#[test]
fn images_of_one_name_in_two_folders_keep_their_folders() {
    let (source, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (place, split) in ["train", "validation"].into_iter().enumerate() {
        let folder = source.path().join(split);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("1.jpg"), jpeg(place as u8)).unwrap();
        fs::write(folder.join("metadata.jsonl"), "{\"file_name\":\"1.jpg\",\"text\":\"A\"}\n").unwrap();
    }
    let outcome = prepare(&request(None, Some(source.path()), output.path())).unwrap();
    let dataset = Dataset::open(&outcome.directory).unwrap();
    let names: Vec<&str> = dataset.images.iter().map(Image::filename).collect();
    assert_eq!(names, ["train/1.jpg", "validation/1.jpg"]);
    assert!(dataset.image_path(1).is_file());
    assert_eq!((outcome.report.images.train, outcome.report.images.val), (1, 1));
}

#[test]
fn an_output_that_cannot_be_written_is_named() {
    let (source, output) = (table(2), tempfile::tempdir().unwrap());
    let file = output.path().join("file");
    fs::write(&file, b"").unwrap();
    let text = describe(&prepare(&request(None, Some(source.path()), &file.join("data"))).unwrap_err());
    assert!(text.contains("cannot write") && text.contains("file/data"), "{text}");
}

#[test]
fn options_that_make_no_sense_are_mistakes_of_usage() {
    let (source, output) = (table(2), tempfile::tempdir().unwrap());
    let base = request(None, Some(source.path()), output.path());
    for wrong in [
        Request { validation_fraction: Some(1.0), ..base.clone() },
        Request { test_fraction: Some(f64::NAN), ..base.clone() },
        Request { validation_fraction: Some(0.6), test_fraction: Some(0.4), ..base.clone() },
        Request { limit: Some(0), ..base.clone() },
        Request { resize: Some(0), ..base.clone() },
        Request { dataset: Some("flickr9k".to_owned()), ..base.clone() },
        Request { source: None, ..base },
    ] {
        let error = prepare(&wrong).unwrap_err();
        assert!(base::error::is_usage_error(&error), "{wrong:?}: {error:?}");
    }
}

#[test]
fn training_gets_its_data_set_or_the_call_that_makes_it() {
    let (source, folder) = (archives(), tempfile::tempdir().unwrap());
    let directory = folder.path().join("flickr8k");
    let text = describe(&ensure_dataset("flickr8k", &directory, None, None).unwrap_err());
    assert!(text.contains("caption-train prepare-data --dataset flickr8k --source DIR --output"), "{text}");
    ensure_dataset("flickr8k", &directory, Some(source.path()), None).unwrap();
    ensure_dataset("flickr8k", &directory, None, None).unwrap();
    // Without its report the folder is your own.
    fs::remove_file(directory.join(PREPARATION_FILE)).unwrap();
    ensure_dataset("flickr30k", &directory, None, None).unwrap();
    assert!(!directory.join(PREPARATION_FILE).exists());
}

#[test]
fn the_data_set_that_is_drawn_takes_no_source() {
    let folder = tempfile::tempdir().unwrap();
    let error = prepare(&request(Some("shapes"), Some(folder.path()), folder.path())).unwrap_err();
    assert!(base::error::is_usage_error(&error));
}
