//! Annotations of a data set: as they are distributed, and as the program keeps them.

use std::collections::{BTreeSet, HashSet};
use std::path::{Component, Path};

use caption_train::config::SplitSource;
use caption_train::data::annotations::flickr8k::{Texts, read};
use caption_train::data::dataset::{DATASET_FILE, Dataset};
use caption_train::data::prepare::report::{PREPARATION_FILE, Preparation, finish, finished, make_folders};
use caption_train::data::split::split_images;
use serde_json::json;

use super::{json, scratch};

/// The texts of Flickr8k, one after the other with lines `===` between them: captions, lists of training, validation
/// and test images, names of image files. A list that is missing or that is the one word `absent` is not there.
pub fn flickr8k(data: &[u8]) {
    let mut parts = split(data, b"\n===\n").into_iter();
    let mut part = || parts.next().filter(|part| *part != b"absent").map(<[u8]>::to_vec);
    let token = part().unwrap_or_default();
    let texts = Texts { token, train: part(), val: part(), test: part() };
    let image_files: BTreeSet<String> =
        String::from_utf8_lossy(&part().unwrap_or_default()).lines().map(str::to_owned).collect();
    let Ok(raw) = read(&texts, &image_files) else { return };
    assert!(!raw.images.is_empty(), "a data set has an image");
    let mut seen = HashSet::new();
    for image in &raw.images {
        assert!(image_files.contains(&image.filename) && !image.filename.contains('/'), "{:?}", image.filename);
        assert!(seen.insert(&image.filename), "an image is there once: {}", image.filename);
        assert!(image.split.is_some() && !image.captions.is_empty());
        assert!(image.captions.iter().all(|caption| !caption.is_empty() && caption.trim() == caption));
    }
    let folder = scratch::folder("flickr8k");
    make_folders(&folder).expect("a scratch folder can be made");
    scratch::remove(&folder.join(PREPARATION_FILE));
    scratch::remove(&folder.join(DATASET_FILE));
    let report = finish(&folder, raw.clone(), Vec::new()).expect("what was read can be written");
    let dataset = Dataset::open(&folder).expect("what was written can be read");
    assert_eq!(dataset.digest, report.dataset_sha256);
    assert_eq!(dataset.images.len(), raw.images.len());
    for (kept, image) in dataset.images.iter().zip(&raw.images) {
        assert_eq!((&kept.filename, &kept.captions), (&image.filename, &image.captions));
        assert_eq!(Some(kept.split), image.split);
    }
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

/// `dataset.json`, whole or as edits of a sound one; behind a byte 16 `preparation.json` in the same way.
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
            if let Ok(Some(preparation)) = finished("x", &folder) {
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
        let path = dataset.image_path(index);
        let inside = path.strip_prefix(folder.join("images")).expect("an image lies in the folder of images");
        assert!(inside.components().all(|part| matches!(part, Component::Normal(_))), "{}", path.display());
        assert!(seen.insert(&image.filename), "an image is listed once: {}", image.filename);
        assert!(!image.captions.is_empty());
        assert!(image.captions.iter().all(|caption| !caption.is_empty() && caption.trim() == caption));
    }
    assert!(!seen.is_empty());
    for source in [SplitSource::File, SplitSource::Random] {
        let Ok(indices) = split_images(dataset, source, 0.1, 0) else { continue };
        let mut all = [indices.train, indices.val, indices.test].concat();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..dataset.images.len()), "a split takes each image once");
    }
}
