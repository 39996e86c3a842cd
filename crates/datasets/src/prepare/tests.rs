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
    let first = dataset.picture(0).load_rgb().unwrap().dimensions();
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
    dataset.picture(1).load_rgb().unwrap();
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

/// Files of Parquet and others that are packed: what is prepared of them is what is prepared of a folder.
mod packed {
    use parquet::basic::Compression;

    use super::*;
    use crate::column_names::ColumnNames;
    use crate::source::Packing;
    use crate::source::packed as pack;
    use crate::source::writing::{self, Column, IMAGES};

    /// Names, splits and captions of what was prepared, and the images.
    type Prepared = (Vec<(String, Split, Vec<String>)>, BTreeMap<String, Vec<u8>>);

    /// Without drawing images for validation.
    #[track_caller]
    fn prepared(source: &Path, columns: &[&str]) -> (Prepared, Outcome) {
        prepared_with(source, columns, Some(0.0))
    }

    #[track_caller]
    fn prepared_with(source: &Path, columns: &[&str], validation_fraction: Option<f64>) -> (Prepared, Outcome) {
        let output = tempfile::tempdir().unwrap();
        let columns = ColumnNames::parse(columns).unwrap();
        let request = Request { columns, validation_fraction, ..request(None, Some(source), output.path()) };
        let outcome = prepare(&request).unwrap_or_else(|error| panic!("{}", describe(&error)));
        let dataset = Dataset::open(output.path()).unwrap();
        let image = |image: Image<'_>| (image.filename().to_owned(), image.split(), image.owned_captions());
        let images: Vec<_> = dataset.images.iter().map(image).collect();
        let mut files = files_below(output.path());
        files.retain(|name, _| images.iter().any(|(image, ..)| image == name));
        ((images, files), outcome)
    }

    #[track_caller]
    fn refused(source: &Path, columns: &[&str]) -> String {
        let output = tempfile::tempdir().unwrap();
        let request =
            Request { columns: ColumnNames::parse(columns).unwrap(), ..request(None, Some(source), output.path()) };
        let text = describe(&prepare(&request).unwrap_err());
        assert!(text.contains("hint: "), "{text}");
        text
    }

    fn named(number: u8) -> (String, String) {
        (format!("{number}.jpg"), format!("a picture of number {number}"))
    }

    /// A Parquet file with the images of these numbers, as `datasets` writes it.
    fn shard(path: &Path, numbers: std::ops::Range<u8>) {
        let all: Vec<(Vec<u8>, (String, String))> = numbers.map(|number| (jpeg(number), named(number))).collect();
        let rows: Vec<(&[u8], &str, &str)> =
            all.iter().map(|(image, (name, caption))| (image.as_slice(), name.as_str(), caption.as_str())).collect();
        let groups = rows.chunks(3).map(writing::images).collect();
        writing::write(path, IMAGES, writing::compressed(Compression::SNAPPY), groups);
    }

    #[test]
    fn shards_of_the_hub_give_the_data_set_of_a_folder() {
        let (source, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(source.path().join("data")).unwrap();
        for (name, numbers) in [
            ("train-00000-of-00002", 0..4),
            ("train-00001-of-00002", 4..8),
            ("validation-00000-of-00001", 8..10),
            ("test-00000-of-00001", 10..12),
        ] {
            shard(&source.path().join(format!("data/{name}.parquet")), numbers);
        }
        let mut text = "image,caption,split\n".to_owned();
        for number in 0..12 {
            let (name, caption) = named(number);
            let split = ["train", "val", "test"][usize::from((number > 7) as u8 + (number > 9) as u8)];
            fs::write(folder.path().join(&name), jpeg(number)).unwrap();
            text.push_str(&format!("{name},{caption},{split}\n"));
        }
        fs::write(folder.path().join("captions.csv"), text).unwrap();
        let (mut found, outcome) = prepared_with(source.path(), &[], None);
        let (mut expected, _) = prepared_with(folder.path(), &[], None);
        found.0.sort();
        expected.0.sort();
        assert_eq!(found.1.len(), 12);
        assert_eq!(found, expected);
        assert_eq!((outcome.report.format.as_str(), outcome.report.sources.len()), ("parquet", 4));
        // One file alone, and folders that are called as the Hub's own conversion calls them.
        let (alone, _) = prepared(&source.path().join("data/train-00001-of-00002.parquet"), &[]);
        assert_eq!(
            alone.0.iter().map(|image| image.0.as_str()).collect::<Vec<_>>(),
            ["4.jpg", "5.jpg", "6.jpg", "7.jpg"]
        );
        let converted = tempfile::tempdir().unwrap();
        for (folder, numbers) in [("train", 0..4), ("validation", 8..10)] {
            fs::create_dir_all(converted.path().join("default").join(folder)).unwrap();
            shard(&converted.path().join("default").join(folder).join("0000.parquet"), numbers);
        }
        let (found, _) = prepared_with(converted.path(), &[], None);
        let splits: Vec<Split> = found.0.iter().map(|image| image.1).collect();
        assert_eq!(splits, [Split::Train, Split::Train, Split::Train, Split::Train, Split::Val, Split::Val]);
    }

    #[test]
    fn a_change_of_a_parquet_file_is_noticed_and_none_is_not() {
        let (source, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = source.path().join("train.parquet");
        shard(&path, 0..4);
        let again = || prepare(&request(None, Some(source.path()), output.path())).unwrap();
        assert_eq!((again().done, again().done), (Done::Prepared, Done::AlreadyPrepared));
        shard(&path, 0..5);
        let changed = again();
        assert_eq!((changed.done, changed.report.images.train + changed.report.images.val), (Done::Prepared, 5));
        shard(&source.path().join("test.parquet"), 5..7);
        assert_eq!(again().report.images.test, 2);
        fs::write(source.path().join("notes.txt"), "words").unwrap();
        assert_eq!(again().done, Done::AlreadyPrepared);
    }

    const MANY: &str = "message schema {
        optional group photo { optional binary bytes; optional binary path (STRING); }
        optional group captions (LIST) { repeated group list { optional binary element (STRING); } }
        optional binary text_de (STRING);
        optional binary question (STRING);
        optional double share;
        optional binary part (STRING);
    }";

    fn many() -> Vec<Column> {
        let some = |texts: &[&str]| writing::texts(texts);
        vec![
            writing::bytes(&[Some(jpeg(0)), Some(jpeg(1)), None, Some(jpeg(3))], 2),
            writing::bytes(&[Some("0.jpg"), Some("1.jpg"), Some("2.jpg"), Some("3.jpg")], 2),
            writing::lists(&[&["A dog", "A cat"], &["A bird"], &["No image"], &[]], 3),
            some(&["Ein Hund", "Ein Vogel", "Kein Bild", "Ein Fisch"]),
            some(&["what?", "where?", "", ""]),
            writing::double(&[Some(0.5), None, None, Some(2.0)]),
            some(&["train", "val", "train", "train"]),
        ]
    }

    #[test]
    fn columns_are_named_by_the_user_where_their_names_say_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.parquet");
        writing::write(&path, MANY, writing::compressed(Compression::SNAPPY), vec![many()]);
        let ((images, _), outcome) = prepared(&path, &[]);
        assert_eq!(
            images,
            [
                ("0.jpg".to_owned(), Split::Train, vec!["A dog".to_owned(), "A cat".into()]),
                ("1.jpg".into(), Split::Train, vec!["A bird".into()])
            ]
        );
        let left_out: Vec<String> =
            outcome.report.rejects.iter().map(|reject| format!("{}: {}", reject.what, reject.reason)).collect();
        assert_eq!(left_out[..2], ["row 2 of x.parquet: it has no image", "x.parquet/3.jpg: has no caption left"]);
        let columns = ["caption=text_de", "prompt=question", "weight=share", "split=part"];
        let ((images, _), outcome) = prepared_with(folder.path(), &columns, None);
        let captions: Vec<(&str, Split, &str)> =
            images.iter().map(|(name, split, captions)| (name.as_str(), *split, captions[0].as_str())).collect();
        assert_eq!(
            captions,
            [
                ("0.jpg", Split::Train, "Ein Hund"),
                ("1.jpg", Split::Val, "Ein Vogel"),
                ("3.jpg", Split::Train, "Ein Fisch")
            ]
        );
        assert_eq!(outcome.report.options.columns, ColumnNames::parse(&columns).unwrap());
        let notes: Vec<&str> = outcome
            .report
            .repairs
            .iter()
            .map(|repair| repair.what.as_str())
            .filter(|what| what.ends_with("captions"))
            .collect();
        assert_eq!(notes, ["2 captions", "2 captions"], "two have a prompt, two a weight");
        let text = refused(&path, &["caption=text_en"]);
        assert!(text.contains("a Parquet file with the columns photo, captions, text_de, question, share, part, none of them for captions"), "{text}");
        let text = refused(&path, &["caption=text_de", "prompt=query"]);
        assert!(text.contains("no column or key is called query"), "{text}");
    }

    #[test]
    fn names_of_images_lead_to_the_files_beside() {
        let source = table(4);
        fs::remove_file(source.path().join("captions.csv")).unwrap();
        let schema = "message schema { optional binary file_name (STRING); optional binary text (STRING); optional binary split (STRING); }";
        let columns = vec![
            writing::texts(&["0.jpg", "../1.jpg", "/etc/passwd", "3.jpg"]),
            writing::texts(&["A", "B", "C", ""]),
            writing::texts(&["train", "test", "train", "train"]),
        ];
        writing::write(
            &source.path().join("metadata.parquet"),
            schema,
            writing::compressed(Compression::SNAPPY),
            vec![columns],
        );
        let ((images, _), outcome) = prepared(source.path(), &[]);
        assert_eq!(
            images.iter().map(|image| (image.0.as_str(), image.1)).collect::<Vec<_>>(),
            [("0.jpg", Split::Train), ("1.jpg", Split::Test)]
        );
        let rejects = format!("{:?}", outcome.report.rejects);
        assert!(rejects.contains("/etc/passwd") && rejects.contains("there is no such image file"), "{rejects}");
        // As `datasets` writes images that stay where they are.
        let paths: Vec<Option<&str>> = vec![Some("0.jpg"), Some("somewhere/2.jpg")];
        let columns =
            vec![writing::bytes::<&str>(&[None, None], 2), writing::bytes(&paths, 2), writing::texts(&["A", "B"])];
        writing::write(
            &source.path().join("metadata.parquet"),
            IMAGES,
            writing::compressed(Compression::SNAPPY),
            vec![columns],
        );
        let ((images, _), _) = prepared(source.path(), &[]);
        assert_eq!(images.iter().map(|image| image.0.as_str()).collect::<Vec<_>>(), ["0.jpg", "2.jpg"]);
    }

    #[test]
    fn rows_of_one_image_are_one_image_with_several_captions() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.parquet");
        let pictures = [jpeg(0), jpeg(1)];
        let rows: Vec<(&[u8], &str, &str)> = vec![
            (&pictures[0], "a.jpg", "One"),
            (&pictures[0], "a.jpg", "Two"),
            (&pictures[1], "a.jpg", "Three"),
            (&pictures[0], "b.jpg", "Four"),
        ];
        writing::write(&path, IMAGES, writing::compressed(Compression::SNAPPY), vec![writing::images(&rows)]);
        let ((images, _), outcome) = prepared(&path, &[]);
        let captions: Vec<(&str, String)> = images.iter().map(|image| (image.0.as_str(), image.2.join(" "))).collect();
        assert_eq!(
            captions,
            [("a.jpg", "One Two".to_owned()), ("a_row2.jpg", "Three".into()), ("b.jpg", "Four".into())]
        );
        let notes = format!("{:?}", outcome.report.repairs);
        assert!(
            notes.contains("1 of its rows have an image of another row")
                && notes.contains("1 of its images have the name of another image"),
            "{notes}"
        );
    }

    #[test]
    fn files_that_do_not_fit_together_say_what_differs() {
        let folder = tempfile::tempdir().unwrap();
        shard(&folder.path().join("train-00000-of-00002.parquet"), 0..3);
        let schema = "message schema { optional binary image; optional binary title (STRING); }";
        let columns = vec![writing::bytes(&[Some(jpeg(4))], 1), writing::texts(&["A"])];
        writing::write(
            &folder.path().join("train-00001-of-00002.parquet"),
            schema,
            writing::compressed(Compression::SNAPPY),
            vec![columns],
        );
        let text = refused(folder.path(), &[]);
        assert!(text.contains("train-00001-of-00002.parquet has other columns than train-00000-of-00002.parquet: images in image, captions in title"), "{text}");
        // One that cannot be read belongs to those that can.
        fs::write(folder.path().join("train-00001-of-00002.parquet"), b"PAR1").unwrap();
        let text = refused(folder.path(), &[]);
        assert!(
            text.contains(
                "train-00000-of-00002.parquet can be used, but train-00001-of-00002.parquet, which belongs with it"
            ),
            "{text}"
        );
        assert!(text.contains("it is truncated"), "{text}");
    }

    #[test]
    fn two_columns_of_images_are_a_mistake_of_usage_until_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.parquet");
        let schema =
            "message schema { optional binary image; optional binary mask; optional binary caption (STRING); }";
        let columns =
            vec![writing::bytes(&[Some(jpeg(0))], 1), writing::bytes(&[Some(jpeg(1))], 1), writing::texts(&["A"])];
        writing::write(&path, schema, writing::compressed(Compression::SNAPPY), vec![columns]);
        let text = refused(&path, &[]);
        assert!(
            text.contains("x.parquet has several columns of images: image, mask")
                && text.contains("`--columns image=image`"),
            "{text}"
        );
        let ((images, files), _) = prepared(&path, &["image=mask"]);
        assert_eq!((images.len(), files.into_values().next().unwrap()), (1, jpeg(1)));
    }

    #[test]
    fn an_image_that_cannot_be_decoded_is_left_out_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.parquet");
        let (whole, mut cut) = (jpeg(0), jpeg(1));
        cut.truncate(cut.len() / 2);
        let rows: Vec<(&[u8], &str, &str)> = vec![(&whole, "a.jpg", "A"), (&cut, "b.jpg", "B"), (b"words", "c", "C")];
        writing::write(&path, IMAGES, writing::compressed(Compression::SNAPPY), vec![writing::images(&rows)]);
        let ((images, _), outcome) = prepared(&path, &[]);
        assert_eq!(images.len(), 1);
        let left_out: Vec<&str> = outcome.report.rejects.iter().map(|reject| reject.what.as_str()).collect();
        assert_eq!(left_out, ["b.jpg", "c.bin"]);
    }

    /// A tar archive with images and a text for each.
    fn web_dataset() -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut add = |name: &str, bytes: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            builder.append_data(&mut header, name, bytes).unwrap();
        };
        for number in 0..150 {
            let (name, caption) = named(number);
            add(&name, &jpeg(number));
            add(&format!("{number}.txt"), caption.as_bytes());
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn a_packed_archive_gives_the_data_set_of_one_that_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let tar = web_dataset();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("x.tar"), &tar).unwrap();
        let (expected, _) = prepared(&path("x.tar"), &[]);
        for (name, packing) in [("x.tar.gz", Packing::Gzip), ("x.tgz", Packing::Gzip), ("x.tar.zst", Packing::Zstd)] {
            fs::write(path(name), pack(&tar, packing)).unwrap();
            let (found, outcome) = prepared(&path(name), &[]);
            assert!(found == expected, "{name}");
            assert_eq!(
                (outcome.report.dataset.as_str(), outcome.report.format.as_str()),
                ("x", "webdataset"),
                "{name}"
            );
        }
    }

    #[test]
    fn packed_texts_are_read_like_others() {
        let json = |number: u8| format!("{{\"image\": \"{number}.jpg\", \"caption\": [\"A {number}\", \"B\"]}}\n");
        let lines: String = (0..3).map(json).collect();
        let list = format!("[{}]", (0..3).map(json).collect::<Vec<_>>().join(","));
        let csv = "image,caption\n0.jpg,A 0\n1.jpg,A 1\n2.jpg,A 2\n".to_owned();
        for (name, text, format) in [
            ("train.jsonl.gz", &lines, "jsonl"),
            ("train.ndjson.zst", &lines, "jsonl"),
            ("train.json.gz", &list, "blip"),
            ("train.csv.gz", &csv, "table"),
        ] {
            let source = table(4);
            fs::remove_file(source.path().join("captions.csv")).unwrap();
            let packing = if name.ends_with("gz") { Packing::Gzip } else { Packing::Zstd };
            fs::write(source.path().join(name), pack(text.as_bytes(), packing)).unwrap();
            let one = "{\"image\": \"3.jpg\", \"caption\": \"C\"}\n";
            let val = if format == "table" { "val.csv.gz" } else { "val.jsonl.gz" };
            let val_text = if format == "table" { "image,caption\n3.jpg,C\n" } else { one };
            if format != "blip" {
                fs::write(source.path().join(val), pack(val_text.as_bytes(), Packing::Gzip)).unwrap();
            }
            let ((images, _), outcome) = prepared_with(source.path(), &[], (format == "blip").then_some(0.0));
            assert_eq!((outcome.report.format.as_str(), images[0].2[0].as_str()), (format, "A 0"), "{name}");
            assert_eq!(outcome.report.images.val, usize::from(format != "blip"), "{name}");
        }
    }

    #[test]
    fn keys_of_json_and_columns_of_tables_are_named_by_the_user() {
        for (name, text) in [
            (
                "x.jsonl",
                "{\"bild\":\"0.jpg\",\"caption\":\"no\",\"de\":\"Ein Hund\",\"wo\":\"train\"}\n{\"bild\":\"1.jpg\",\"de\":\"Ein Vogel\",\"wo\":\"val\"}\n",
            ),
            (
                "x.json",
                "[{\"bild\":\"0.jpg\",\"caption\":\"no\",\"de\":\"Ein Hund\",\"wo\":\"train\"},{\"bild\":\"1.jpg\",\"de\":[\"Ein Vogel\"],\"wo\":\"val\"}]",
            ),
            ("x.csv", "bild,caption,de,wo\n0.jpg,no,Ein Hund,train\n1.jpg,,Ein Vogel,val\n"),
            ("x.tsv", "Bild\tcaption\tDe\tWo\n0.jpg\tno\tEin Hund\ttrain\n1.jpg\t\tEin Vogel\tval\n"),
        ] {
            let source = table(2);
            fs::remove_file(source.path().join("captions.csv")).unwrap();
            fs::write(source.path().join(name), text).unwrap();
            let columns = ["image=bild", "caption=de", "split=wo"];
            let ((images, _), _) = prepared_with(source.path(), &columns, None);
            let found: Vec<(Split, &str)> = images.iter().map(|image| (image.1, image.2[0].as_str())).collect();
            assert_eq!(found, [(Split::Train, "Ein Hund"), (Split::Val, "Ein Vogel")], "{name}");
            let text = refused(source.path(), &["image=bild", "caption=de", "weight=w"]);
            assert!(text.contains("no column or key is called w"), "{name}: {text}");
        }
    }
}
