//! What is kept on disk of the images, from run to run.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use datasets::shapes::{Drawing, draw_with};

use crate::support::{losses, small_config, stderr, train};

/// Encoder outputs and pixels come back rounded to 11 bits, or whole.
const F16_TOLERANCE: f64 = 2e-3;
/// The encoder sees other batches than those of the updates.
const F32_TOLERANCE: f64 = 1e-5;

fn with(config: &str, data: &str) -> String {
    config.replace("[tokenizer]", &format!("{data}\n[tokenizer]"))
}

fn frozen(folder: &Path) -> String {
    small_config(folder).replace("train = \"full\"", "train = \"frozen\"")
}

/// Runs `config`, whose run is called `name`, and gives its messages and losses.
#[track_caller]
fn run(folder: &Path, name: &str, config: &str) -> (String, Vec<(u64, String)>) {
    let output = train(folder, &config.replace("name = \"run\"", &format!("name = \"{name}\"")), &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    (stderr(&output), losses(&folder.join(name)))
}

fn stores(folder: &Path) -> Vec<PathBuf> {
    let mut stores: Vec<PathBuf> =
        fs::read_dir(folder.join("cache")).unwrap().map(|entry| entry.unwrap().path()).collect();
    stores.sort();
    stores
}

fn rows(store: &Path) -> u64 {
    fs::metadata(store.join("index.bin")).unwrap().len() / 40
}

#[track_caller]
fn assert_near(found: &[(u64, String)], expected: &[(u64, String)], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for ((step, found), (_, expected)) in found.iter().zip(expected) {
        let (found, expected): (f64, f64) = (found.parse().unwrap(), expected.parse().unwrap());
        assert!((found - expected).abs() < tolerance, "step {step}: {found}, expected {expected}");
    }
}

#[test]
fn a_second_run_encodes_nothing_and_gives_the_same_losses() {
    let folder = tempfile::tempdir().unwrap();
    let (first, expected) = run(folder.path(), "first", &frozen(folder.path()));
    assert!(first.contains("writing 512 images"), "{first}");
    let (second, found) = run(folder.path(), "second", &frozen(folder.path()));
    assert!(second.contains("has all images") && !second.contains("writing"), "{second}");
    assert_eq!(found, expected);
}

#[test]
fn another_encoder_or_precision_is_another_store() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), "first", &frozen(folder.path()));
    let other_weights = frozen(folder.path()).replace("name = \"run\"", "name = \"run\"\nseed = 1");
    run(folder.path(), "weights", &other_weights);
    assert_eq!(stores(folder.path()).len(), 2);
    run(folder.path(), "number", &with(&frozen(folder.path()), "cache_number = \"f32\""));
    assert_eq!(stores(folder.path()).len(), 3);
    assert!(stores(folder.path()).iter().all(|store| rows(store) == 512));
}

#[test]
fn a_changed_picture_is_encoded_again_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    draw_with(&Drawing { num_train: 60, num_val: 4, num_test: 4, side: 32, seed: 5 }, &data).unwrap();
    let shapes = crate::support::shapes_folder().display().to_string();
    let config = frozen(folder.path()).replace(&shapes, &data.display().to_string());
    let (_, before) = run(folder.path(), "first", &config);
    let picture = fs::read_dir(data.join("images")).unwrap().map(|entry| entry.unwrap().path()).min().unwrap();
    image::RgbImage::from_pixel(32, 32, image::Rgb([200, 10, 10])).save(&picture).unwrap();
    let (second, after) = run(folder.path(), "second", &config);
    assert!(second.contains("writing 1 images"), "{second}");
    assert_ne!(before, after);
}

#[test]
fn a_cache_that_a_crash_cut_off_is_completed_and_gives_the_same_losses() {
    let folder = tempfile::tempdir().unwrap();
    let (_, expected) = run(folder.path(), "first", &frozen(folder.path()));
    let store = stores(folder.path()).remove(0);
    OpenOptions::new().write(true).open(store.join("index.bin")).unwrap().set_len(100 * 40 + 17).unwrap();
    let (second, found) = run(folder.path(), "second", &frozen(folder.path()));
    assert!(second.contains("writing 412 images"), "{second}");
    assert_eq!(found, expected);
}

#[test]
fn cached_features_give_the_losses_of_an_encoder_that_runs_in_every_update() {
    let folder = tempfile::tempdir().unwrap();
    let (_, expected) = run(folder.path(), "each", &with(&frozen(folder.path()), "cache_features = false"));
    assert!(!folder.path().join("cache").exists());
    let (_, whole) = run(folder.path(), "f32", &with(&frozen(folder.path()), "cache_number = \"f32\""));
    assert_near(&whole, &expected, F32_TOLERANCE);
    let (_, narrow) = run(folder.path(), "f16", &frozen(folder.path()));
    assert_near(&narrow, &expected, F16_TOLERANCE);
}

#[test]
fn cached_pixels_give_the_same_losses_as_files() {
    let folder = tempfile::tempdir().unwrap();
    let (_, expected) = run(folder.path(), "files", &small_config(folder.path()));
    assert!(!folder.path().join("cache").exists());
    let config = with(&small_config(folder.path()), "cache_images = true");
    let (first, found) = run(folder.path(), "pixels", &config);
    assert!(first.contains("writing 512 images"), "{first}");
    assert_eq!(found, expected);
    // The encoder changes from update to update; the pictures do not.
    let (second, _) = run(folder.path(), "again", &config);
    assert!(second.contains("has all images"), "{second}");
}

#[test]
fn random_views_are_kept_for_training_and_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let config = with(&frozen(folder.path()), "augmentation = { min_area = 0.4 }\nviews = 3");
    let (first, expected) = run(folder.path(), "first", &config);
    assert_eq!(rows(&stores(folder.path())[0]), 3 * 500 + 12, "{first}");
    let (_, found) = run(folder.path(), "second", &config);
    assert_eq!(found, expected);
    let (_, whole) = run(folder.path(), "whole", &frozen(folder.path()));
    assert_ne!(found, whole);
    // The validation's images are those of the run with views; training's are new.
    assert_eq!(rows(&stores(folder.path())[0]), 4 * 500 + 12);
}

#[test]
fn fresh_views_differ_from_epoch_to_epoch_and_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let config = with(&small_config(folder.path()), "augmentation = { min_area = 0.4, flip = true }");
    let (_, expected) = run(folder.path(), "first", &config);
    let (_, found) = run(folder.path(), "second", &config);
    assert_eq!(found, expected);
    let (_, whole) = run(folder.path(), "whole", &small_config(folder.path()));
    assert_ne!(found, whole);
}
