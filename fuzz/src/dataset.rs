//! Annotations of a data set: as they are distributed, and as the program keeps them.

use std::collections::HashSet;
use std::path::{Component, Path};

use caption_train::config::SplitSource;
use caption_train::data::split::split_images;
use datasets::annotations::flickr8k::{Texts, parse};
use datasets::annotations::{RawDataset, Reading, Selector, choose, read_captions, read_scored};
use datasets::output::ownership;
use datasets::output::{About, Preparation, finish, finished};
use datasets::prepared::{DATASET_FILE, Dataset, PREPARATION_FILE, Split};
use datasets::source::Source;
use serde_json::json;

use super::{json, scratch};

/// The texts of Flickr8k, one after the other with lines `===` between them: captions, lists of training, validation
/// and test images. A list that is missing or just the word `absent` does not exist.
pub fn flickr8k(data: &[u8]) {
    let mut parts = split(data, b"\n===\n").into_iter();
    let mut part = || parts.next().filter(|part| *part != b"absent").map(<[u8]>::to_vec);
    let token = part().unwrap_or_default();
    let texts = Texts { token, train: part(), val: part(), test: part() };
    let Ok(raw) = parse(&texts) else { return };
    let splits = raw.images.iter().filter(|image| image.split.is_some()).count();
    assert!(splits == 0 || splits == raw.images.len());
    check_raw(&raw);
}

/// Annotations of any format, as a data set and as captions to score. The first byte chooses the file's name, and so
/// the expected format. The images `0.jpg` to `3.jpg` are beside it.
pub fn annotations(data: &[u8]) {
    const NAMES: [&str; 15] = [
        "dataset_flickr30k.json",
        "flickr_annotations_30k.csv",
        "results_20130124.token",
        "results.csv",
        "captions.txt",
        "captions_train2014.json",
        "flickr30k_train.json",
        "metadata.jsonl",
        "metadata.csv",
        "captions.csv",
        "captions.tsv",
        "captions.json",
        "0.txt",
        "captions.jsonl",
        "0.json",
    ];
    let Some((&kind, content)) = data.split_first() else { return };
    let folder = scratch::folder("annotations");
    for image in 0..4 {
        scratch::write(&folder.join(format!("{image}.jpg")), b"");
    }
    let path = folder.join(NAMES[usize::from(kind) % NAMES.len()]);
    scratch::write(&path, content);
    let source = Source::open(&folder, None).expect("a folder of files can be listed");
    if let Ok(choice) = choose(&source, Selector::Any)
        && let Ok(raw) = choice.found.read(&source)
    {
        check_raw(&raw);
    }
    // Captions that are scored are read as they are.
    for reading in [Reading::Candidates, Reading::References] {
        if let Ok(raw) = read_captions(&path, reading) {
            assert!(raw.images.iter().all(|image| !image.captions.is_empty()));
        }
    }
    if let Ok(Some((scored, _))) = read_scored(&path) {
        assert!(scored.iter().all(|one| !one.candidates.is_empty() && !one.references.is_empty()));
    }
    scratch::remove(&path);
}

/// A Parquet file that is all of a source: its images and captions.
pub fn parquet(data: &[u8]) {
    let folder = scratch::folder("parquet");
    let path = folder.join("train.parquet");
    scratch::write(&path, data);
    let source = Source::open(&folder, None).expect("a folder of files can be listed");
    let images: Vec<usize> =
        (0..source.files().len()).filter(|&file| source.origin(file) != source.files()[file].path).collect();
    let length = |_: usize, content: anyhow::Result<Vec<u8>>| Ok(content.map(|content| content.len() as u64).ok());
    let lengths = source.for_each(&images, length).expect("the file stays where it is");
    for (&file, length) in images.iter().zip(lengths) {
        let file = &source.files()[file];
        assert_eq!(length, Some(file.bytes), "an image that was listed can be read");
        let inside = Path::new(file.path.strip_prefix("train.parquet/").expect("an image lies in its file"));
        assert!(inside.components().all(|part| matches!(part, Component::Normal(_))), "{}", inside.display());
    }
    if let Ok(choice) = choose(&source, Selector::Any)
        && let Ok(raw) = choice.found.read(&source)
    {
        check_raw(&raw);
    }
}

/// What must hold for everything that was read. It can also be written and read back unchanged.
fn check_raw(raw: &RawDataset) {
    let mut seen = HashSet::new();
    for image in &raw.images {
        assert!(seen.insert(&image.filename), "an image is there once: {}", image.filename);
        assert!(!image.captions.is_empty());
        assert!(image.captions.iter().all(|caption| !caption.is_empty() && caption.trim() == caption));
    }
    if raw.images.is_empty() || !raw.images.iter().all(|image| is_plain(&image.filename)) {
        return;
    }
    let folder = scratch::folder("raw_dataset");
    let names = raw.images.iter().map(|image| image.filename.as_str());
    let ours = ownership::begin(&folder, names).expect("a scratch folder is ours");
    scratch::remove(&folder.join(PREPARATION_FILE));
    scratch::remove(&folder.join(DATASET_FILE));
    let report = finish(&folder, raw, About::default(), &ours, &[]).expect("what was read can be written");
    let dataset = Dataset::open(&folder).expect("what was written can be read");
    assert_eq!(dataset.digest, report.dataset_sha256);
    assert_eq!(dataset.images.len(), raw.images.len());
    for (kept, image) in dataset.images.iter().zip(&raw.images) {
        assert_eq!((kept.filename(), kept.owned_captions()), (image.filename.as_str(), image.captions.clone()));
        assert_eq!(kept.split(), image.split.unwrap_or(Split::Train));
    }
}

/// Whether a reference could be the name of a file; a preparation takes the name of the file itself.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name != "."
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        && !name.starts_with('.')
}

fn split<'a>(mut data: &'a [u8], separator: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    while let Some(at) = data.windows(separator.len()).position(|window| window == separator) {
        parts.push(&data[..at]);
        data = &data[at + separator.len()..];
    }
    parts.push(data);
    parts
}

/// `dataset.json`, whole or as edits of a valid one; after a byte 16, `preparation.json` in the same way.
pub fn dataset_json(data: &[u8]) {
    let folder = scratch::folder("dataset_json");
    let sentence = json!({ "raw": "A dog.", "tokens": ["a", "dog"], "sentid": 0, "imgid": 0 });
    let image = |name: &str, split: &str| json!({ "filename": name, "split": split, "sentids": [0], "imgid": 0, "sentences": [sentence] });
    let sound = json!({ "dataset": "x", "images": [image("a.jpg", "train"), image("b.jpg", "val")] });
    let counts = json!({ "train": 1, "val": 1, "test": 0 });
    let mut report = json!({
        "format_version": 1, "dataset": "x", "sources": [{ "name": "s.zip", "bytes": 1, "sha256": "0" }],
        "images": counts, "captions": counts, "repairs": [{ "what": "a", "repair": "b" }],
        "rejects": [{ "what": "a", "reason": "b" }], "dataset_sha256": ""
    });
    let path = folder.join(DATASET_FILE);
    match data.split_first() {
        Some((16, data)) => {
            scratch::write(&path, sound.to_string().as_bytes());
            let digest = Dataset::open(&folder).expect("the sound data set can be read").digest;
            report["dataset_sha256"] = json!(digest);
            scratch::write(&folder.join(PREPARATION_FILE), &json::document(data, &[report]));
            if let Ok(Some(preparation)) = finished(Some("x"), &folder) {
                check_report(&preparation);
            }
        }
        _ => {
            scratch::write(&path, &json::document(data, &[sound]));
            if let Ok(dataset) = Dataset::open(&folder) {
                check_dataset(&dataset, &folder);
            }
        }
    }
}

fn check_report(preparation: &Preparation) {
    let text = serde_json::to_vec(preparation).expect("a report can be written");
    let read: Preparation = serde_json::from_slice(&text).expect("a report that was written can be read");
    assert_eq!(read, *preparation);
}

fn check_dataset(dataset: &Dataset, folder: &Path) {
    let mut seen = HashSet::new();
    for (index, image) in dataset.images.iter().enumerate() {
        let picture = dataset.picture(index);
        let path = picture.path();
        let inside = path.strip_prefix(folder.join("images")).expect("an image lies in the folder of images");
        assert!(inside.components().all(|part| matches!(part, Component::Normal(_))), "{}", path.display());
        assert!(seen.insert(image.filename()), "an image is listed once: {}", image.filename());
        assert!(image.num_captions() > 0);
        assert!(image.captions().all(|caption| !caption.is_empty() && caption.trim() == caption));
    }
    assert!(!seen.is_empty());
    for source in [SplitSource::File, SplitSource::Random] {
        let Ok(indices) = split_images(dataset, source, 0.1, 0) else { continue };
        let mut all = [indices.train, indices.val, indices.test].concat();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..dataset.images.len()), "a split takes each image once");
    }
}
