//! What a run keeps on disk of its images, so that each is encoded (frozen encoder) or decoded and resized (trained
//! encoder) once: not once for each caption, not once for each epoch, not once for each run.
//!
//! A store's folder is named by everything that its rows depend on beside the image, a row by the image's content. Another
//! encoder, image processor, precision or picture is another row, so that none is ever out of date.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use candle_core::{DType, Device};
use rayon::prelude::*;
use serde_json::json;

use crate::base::fault::fault;
use crate::base::team::Team;
use crate::base::terminal::{self, Progress};
use crate::base::{digest, disk};
use crate::config::FeatureType;
use crate::data::feature_store::{Appender, Description, FeatureStore, Key};
use crate::data::image_source::{ImageFiles, ImageSource, ImageView, StoredContent, StoredImages, feature_bytes};
use crate::data::loader::Loader;
use crate::evaluation::image_features::{EncodeSettings, encode_images};
use crate::model::captioner::{Captioner, ENCODER};
use crate::model::parameters::Parameters;
use crate::run::setup::Setup;
use crate::training::forecast::ENCODE_BATCH;
use crate::training::plan::{ImagePath, RunPlan};
use crate::training::stop::StopFlag;

/// Where the loop gets its images; what is not in the cache yet is put there first. `None`: stopped; what was put
/// there until then stays.
///
/// # Errors
/// An image that cannot be read, a disk that cannot be written or has no room, an encoder whose output is of no use.
pub fn image_source(setup: &Setup, device: &Device, team: &Team, stop: &StopFlag) -> Result<Option<ImageSource>> {
    let (plan, files) = (&setup.plan, setup.image_files());
    let (title, content, description) = match plan.image_path {
        ImagePath::EncodedOnce => {
            let encoder = &plan.shape.encoder;
            let (shape, number) = ((encoder.sequence_length(), encoder.hidden_size), plan.config.data.cache_number);
            let content = StoredContent::Features { shape, number };
            ("encoding images", content, features(plan, &setup.parameters, &files)?)
        }
        _ if plan.config.data.cache_images => {
            ("reading images", StoredContent::Pixels(setup.processor.clone()), pixels(plan, &files))
        }
        _ => return Ok(Some(ImageSource::files(files, plan.views()))),
    };
    let wanted = wanted_views(setup);
    let keys = keys(&files, &wanted)?;
    let folder = plan.cache_folder().join(folder_name(title, &description));
    let mut store = FeatureStore::open(&folder, &description)?;
    if wanted.iter().any(|view| !store.contains(&keys[view])) {
        let waiting = || terminal::message("waiting for another run that fills the same cache");
        let mut appender = store.append(waiting)?;
        let missing = missing_views(appender.store(), &wanted, &keys);
        announce(appender.store(), &wanted, missing.len())?;
        let job = Filling { setup, files: &files, keys: &keys, title, device, team, stop };
        let filled = match &content {
            StoredContent::Features { number, .. } => job.encode(&missing, *number, &mut appender),
            StoredContent::Pixels(_) => job.resize(&missing, &mut appender),
        };
        // What was made is kept, whatever came then.
        appender.finish()?;
        if !filled? {
            return Ok(None);
        }
    } else {
        terminal::message(&format!("cache       {} has all images", folder.display()));
    }
    let images = StoredImages { store, keys, content };
    Ok(Some(ImageSource::stored(Arc::new(images), plan.views())))
}

/// What the rows of a frozen encoder's outputs are.
fn features(plan: &RunPlan, parameters: &Parameters, files: &ImageFiles) -> Result<Description> {
    let encoder = &plan.shape.encoder;
    let number = plan.config.data.cache_number;
    let number_bytes = match number {
        FeatureType::F16 => 2,
        FeatureType::F32 => 4,
    };
    let content = json!({
        "kind": "features",
        "encoder": encoder,
        "weights": encoder_digest(parameters)?,
        "processor": files.processor,
        "precision": plan.config.training.precision,
        "number": number,
        "byte_order": BYTE_ORDER,
    });
    Ok(Description { content, row_bytes: encoder.sequence_length() * encoder.hidden_size * number_bytes })
}

/// What the rows of resized pictures are.
fn pixels(plan: &RunPlan, files: &ImageFiles) -> Description {
    let size = plan.shape.encoder.image_size;
    let content = json!({ "kind": "pixels", "geometry": files.processor.geometry() });
    Description { content, row_bytes: 3 * size * size }
}

const GIGABYTE: f64 = 1e9;
const BYTE_ORDER: &str = if cfg!(target_endian = "little") { "little" } else { "big" };

/// The SHA-256 of the encoder's parameters: names, shapes, values.
fn encoder_digest(parameters: &Parameters) -> Result<String> {
    let prefix = format!("{ENCODER}.");
    let mut hasher = digest::Hasher::new();
    for (name, parameter) in parameters.iter().filter(|(name, _)| name.starts_with(&prefix)) {
        let values: Vec<f32> = parameter.var.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
        hasher.update(format!("{name} {:?}\n", parameter.var.dims()).as_bytes());
        hasher.update(bytemuck::cast_slice(&values));
    }
    Ok(hasher.finish())
}

fn folder_name(title: &str, description: &Description) -> String {
    let kind = if title.starts_with("encoding") { "features" } else { "pixels" };
    let text = json!([description.content, description.row_bytes]).to_string();
    format!("{kind}-{}", &digest::sha256(text.as_bytes())[..16])
}

/// Training's views and the whole images of validation and captioning, each once.
fn wanted_views(setup: &Setup) -> Vec<ImageView> {
    let training = |&image: &usize| setup.plan.training_views().map(move |view| ImageView { image, view });
    let mut wanted: Vec<ImageView> = setup.split.train.iter().flat_map(training).collect();
    wanted.extend(setup.evaluation_images().into_iter().map(|image| ImageView { image, view: 0 }));
    wanted.sort_unstable_by_key(|view| (view.image, view.view));
    wanted.dedup();
    wanted
}

/// The key of each view: the digest of the image's file, with what a random view depends on.
fn keys(files: &ImageFiles, wanted: &[ImageView]) -> Result<HashMap<ImageView, Key>> {
    let mut images: Vec<usize> = wanted.iter().map(|view| view.image).collect();
    images.dedup();
    let hash = |&image: &usize| {
        let path = &files.paths[image];
        let hasher = digest::hash_file(path).with_context(|| format!("cannot read image {}", path.display()))?;
        Ok((image, hasher.finish_bytes()))
    };
    let images: HashMap<usize, Key> = images.par_iter().map(hash).collect::<Result<_>>()?;
    let key = |view: &ImageView| match (view.view, &files.augmentation) {
        (1.., Some(augmentation)) => {
            let drawn_by = json!({
                "view": view.view,
                "name": files.name(view.image),
                "seed": augmentation.seed,
                "min_area": augmentation.min_area,
                "flip": augmentation.flip,
            });
            let mut hasher = digest::Hasher::new();
            hasher.update(&images[&view.image]);
            hasher.update(drawn_by.to_string().as_bytes());
            hasher.finish_bytes()
        }
        _ => images[&view.image],
    };
    Ok(wanted.iter().map(|view| (*view, key(view))).collect())
}

/// The views whose row is not there; of equal images one.
fn missing_views(store: &FeatureStore, wanted: &[ImageView], keys: &HashMap<ImageView, Key>) -> Vec<ImageView> {
    let mut seen = std::collections::HashSet::new();
    wanted.iter().filter(|view| !store.contains(&keys[view]) && seen.insert(keys[view])).copied().collect()
}

/// Says how much will be written and where; there must be room for it.
fn announce(store: &FeatureStore, wanted: &[ImageView], missing: usize) -> Result<()> {
    let bytes = (missing * store.row_bytes()) as u64;
    let free = disk::free_bytes(store.folder());
    let views = if wanted.iter().any(|view| view.view > 0) { "views of images" } else { "images" };
    let room = free.map_or_else(String::new, |free| format!(" of {:.1} GB that are free", free as f64 / GIGABYTE));
    terminal::message(&format!(
        "cache       writing {missing} {views}, {:.2} GB{room}, to {}",
        bytes as f64 / GIGABYTE,
        store.folder().display()
    ));
    check_room(store.folder(), bytes, free)
}

fn check_room(folder: &Path, bytes: u64, free: Option<u64>) -> Result<()> {
    match free {
        Some(free) if free < bytes => Err(fault(
            format!(
                "the cache needs {:.2} GB in {}, and {:.2} GB are free there",
                bytes as f64 / GIGABYTE,
                folder.display(),
                free as f64 / GIGABYTE
            ),
            "name a folder on a larger disk in data.cache_directory, or set data.cache_features = false (the encoder \
             then runs in every update) and data.cache_images = false",
        )),
        _ => Ok(()),
    }
}

/// The making of rows.
struct Filling<'a> {
    setup: &'a Setup,
    files: &'a Arc<ImageFiles>,
    keys: &'a HashMap<ImageView, Key>,
    title: &'a str,
    device: &'a Device,
    team: &'a Team,
    stop: &'a StopFlag,
}

impl Filling<'_> {
    /// Puts the encoder's outputs into the store; says whether it came to the end.
    fn encode(&self, missing: &[ImageView], number: FeatureType, appender: &mut Appender<'_>) -> Result<bool> {
        let plan = &self.setup.plan;
        let model = Captioner::build(&plan.shape, &self.setup.parameters.detached().in_precision(plan.precision()))?;
        let settings =
            EncodeSettings { batch_size: ENCODE_BATCH, workers: plan.config.data.workers, device: self.device.clone() };
        let source = ImageSource::files(Arc::clone(self.files), plan.views());
        self.shown(missing.len(), |progress| {
            encode_images(&model, &source, missing, &settings, self.team, |views, values| {
                self.push(views, &feature_bytes(values, number)?, appender, progress)
            })
        })
    }

    /// Puts the pictures in the encoder's size into the store; says whether it came to the end.
    fn resize(&self, missing: &[ImageView], appender: &mut Appender<'_>) -> Result<bool> {
        let workers = rayon::current_num_threads();
        let files = Arc::clone(self.files);
        let load = move |view: ImageView| Ok((view, files.pixels(view)?));
        self.shown(missing.len(), |progress| {
            for loaded in Loader::start(missing.to_vec(), workers, 4 * workers, Arc::new(load)) {
                let (view, row) = loaded?;
                if !self.push(&[view], &row, appender, progress)? {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    fn push(&self, views: &[ImageView], rows: &[u8], appender: &mut Appender<'_>, progress: &Progress) -> Result<bool> {
        let keys: Vec<Key> = views.iter().map(|view| self.keys[view]).collect();
        appender.push(&keys, rows)?;
        progress.advance(views.len() as u64, "");
        Ok(!self.stop.is_raised())
    }

    fn shown(&self, count: usize, fill: impl FnOnce(&Progress) -> Result<bool>) -> Result<bool> {
        let progress = Progress::new(self.title, count as u64, 0);
        let started = Instant::now();
        let filled = fill(&progress)?;
        progress.finish();
        if filled {
            terminal::message(&format!("cache       {count} written in {:.1} s", started.elapsed().as_secs_f64()));
        }
        Ok(filled)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::base::fault::describe;

    #[test]
    fn a_folder_is_named_by_all_that_its_rows_depend_on() {
        let name = |content: Value, row_bytes| folder_name("encoding images", &Description { content, row_bytes });
        assert_eq!(name(json!({"weights": "a"}), 2), name(json!({"weights": "a"}), 2));
        assert_ne!(name(json!({"weights": "a"}), 2), name(json!({"weights": "b"}), 2));
        assert_ne!(name(json!({"weights": "a"}), 2), name(json!({"weights": "a"}), 4));
    }

    #[test]
    fn a_disk_without_room_is_an_error_before_anything_is_written() {
        let text = describe(&check_room(Path::new("cache"), 3_000_000_000, Some(1_000_000_000)).unwrap_err());
        assert!(text.contains("needs 3.00 GB in cache, and 1.00 GB are free") && text.contains("hint: "), "{text}");
        check_room(Path::new("cache"), 3, Some(3)).unwrap();
        check_room(Path::new("cache"), 3, None).unwrap();
    }
}
