//! What a run keeps on disk of its images, so that each is encoded (frozen encoder) or decoded and resized (trained
//! encoder) once: not once for each caption, not once for each epoch, not once for each run.
//!
//! A store's folder is named by everything that its rows depend on beside the image, a row by the image's content.
//! Another encoder, image processor, precision or picture is another row, so that none is ever out of date.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use candle_core::{DType, Device};
use rayon::prelude::*;
use serde_json::json;

use crate::config::{FeatureType, Precision};
use crate::data::feature_store::{Appender, Description, FORMAT_VERSION, FeatureStore, Key, holder_line};
use crate::data::image_source::{ImageFiles, ImageSource, ImageView, StoredContent, StoredImages, feature_bytes};
use crate::data::loader::Loader;
use crate::data::pieces::Share;
use crate::evaluation::image_features::{EncodeSettings, encode_images};
use crate::model::captioner::Captioner;
use crate::model::encoders::EncoderConfig;
use crate::model::parameters::Parameters;
use crate::model::role::Part;
use crate::run::setup::Setup;
use crate::training::collective::{Collective, agreed, in_turns};
use crate::training::forecast::encode_batch;
use crate::training::plan::ImagePath;
use base::error::failure;
use base::lock::Holder;
use base::sorted_map::SortedMap;
use base::terminal::{self, Progress};
use base::worker_pools::WorkerPools;
use base::{digest, disk};
use pixels::image_file::DECODER_VERSION;
use pixels::image_processor::ImageProcessor;

/// Where the loop gets its images; what is not in the cache yet is put there first, by all processes together, and
/// meanwhile `keep_going` is asked now and then. `None`: it said no; what was put there until then stays.
///
/// # Errors
/// An image that cannot be read, a disk that is full or cannot be written, an encoder whose output cannot be used.
pub fn image_source(
    setup: &Setup,
    device: &Device,
    pools: &WorkerPools,
    collective: &dyn Collective,
    keep_going: &mut dyn FnMut() -> bool,
) -> Result<Option<ImageSource>> {
    let (plan, files) = (&setup.plan, setup.image_files());
    let Some((content, description)) = wanted_rows(setup, &files)? else {
        return Ok(Some(ImageSource::files(files, plan.views())));
    };
    let wanted = wanted_views(setup);
    let Some(digests) = digests(&files, &wanted, collective, keep_going)? else { return Ok(None) };
    let keys: SortedMap<_, _> = wanted.iter().map(|view| (*view, key(&files, &digests, view))).collect();
    let folder = plan.cache_folder().join(folder_name(&description));
    let mut store = in_turns(collective, OPEN, || FeatureStore::open(&folder, &description))?;
    let is_complete = wanted.iter().all(|view| store.contains(&keys[view]));
    if collective.any(!is_complete)? {
        let files = Arc::new(ImageFiles { digests, ..ImageFiles::clone(&files) });
        let mut filler = CacheFiller { setup, files, keys: &keys, device, pools, collective, keep_going };
        if !filler.fill(&mut store, &wanted, &content)? {
            return Ok(None);
        }
        if collective.size() > 1 {
            collective.barrier()?;
            let reopened = FeatureStore::open(&folder, &description).and_then(|store| {
                let is_complete = wanted.iter().all(|view| store.contains(&keys[view]));
                ensure!(is_complete, "the cache {} lacks images that were written to it", folder.display());
                Ok(store)
            });
            store = agreed(collective, OPEN, reopened)?;
        }
    } else {
        terminal::message(&format!("cache       {} has all images", folder.display()));
    }
    let images = StoredImages::new(store, &keys, content);
    Ok(Some(ImageSource::stored(Arc::new(images), plan.views())))
}

/// What a process may fail to do, so that the others stop too.
const OPEN: &str = "open its image cache";
const READ: &str = "read its images";
const WRITE: &str = "write its image cache";

/// What is kept of an image; nothing when images are read each time.
fn wanted_rows(setup: &Setup, files: &ImageFiles) -> Result<Option<(StoredContent, Description)>> {
    let (plan, encoder) = (&setup.plan, &setup.plan.shape.encoder);
    let data = &plan.config.data;
    if plan.image_path == ImagePath::EncodedOnce {
        let (shape, number) = ((encoder.sequence_length(), encoder.hidden_size()), data.cache_number);
        let weights = encoder_digest(&setup.parameters)?;
        let precision = plan.config.training.precision;
        let description = features(encoder, &weights, &files.processor, precision, number, plan.gpu.is_some());
        return Ok(Some((StoredContent::Features { shape, number }, description)));
    }
    let pixels = || (StoredContent::Pixels(files.processor.clone()), pixels(&files.processor));
    Ok(data.cache_images.then(pixels))
}

/// Raise it after any change to what comes out for the same pixels: the resize, the drawing of views, the arithmetic of
/// an encoder. The decoders have [`DECODER_VERSION`].
const ROWS_VERSION: u32 = 1;

/// What the rows of a frozen encoder's outputs are.
fn features(
    encoder: &EncoderConfig,
    weights: &str,
    processor: &ImageProcessor,
    precision: Precision,
    number: FeatureType,
    is_on_gpu: bool,
) -> Description {
    // In f32 the two differ only in the last digits, and may share rows.
    let rounded_by = (is_on_gpu && precision != Precision::F32).then_some("gpu");
    let mut content = json!({
        "kind": "features",
        "version": ROWS_VERSION,
        "decoder": DECODER_VERSION,
        "encoder": encoder.cache_identity(),
        "weights": weights,
        "processor": processor,
        "precision": precision,
        "number": number,
        "byte_order": BYTE_ORDER,
    });
    if let (Some(device), Some(fields)) = (rounded_by, content.as_object_mut()) {
        fields.insert("device".to_owned(), device.into());
    }
    Description { content, row_bytes: encoder.sequence_length() * encoder.hidden_size() * number.num_bytes() }
}

/// What the rows of resized pictures are.
fn pixels(processor: &ImageProcessor) -> Description {
    let (height, width) = processor.output_size();
    let content = json!({
        "kind": "pixels",
        "version": ROWS_VERSION,
        "decoder": DECODER_VERSION,
        "geometry": processor.geometry(),
    });
    Description { content, row_bytes: 3 * height * width }
}

const BYTE_ORDER: &str = if cfg!(target_endian = "little") { "little" } else { "big" };

/// The SHA-256 of the encoder's parameters: names, shapes, values.
fn encoder_digest(parameters: &Parameters) -> Result<String> {
    let mut hasher = digest::Hasher::new();
    for (name, parameter) in parameters.iter().filter(|(_, parameter)| parameter.role.part == Part::Encoder) {
        let values: Vec<f32> = parameter.var.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
        hasher.update(format!("{name} {:?}\n", parameter.var.dims()).as_bytes());
        hasher.update(bytemuck::cast_slice(&values));
    }
    Ok(hasher.finish())
}

fn folder_name(description: &Description) -> String {
    let text = json!([FORMAT_VERSION, description.content, description.row_bytes]).to_string();
    let kind = description.content["kind"].as_str().unwrap_or("rows");
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

/// Files that are read between two questions whether to continue.
const HASHED_AT_ONCE: usize = 128;

/// The digest of the file of each image in `wanted`; each process reads some of them. `None`: stopped.
fn digests(
    files: &ImageFiles,
    wanted: &[ImageView],
    collective: &dyn Collective,
    keep_going: &mut dyn FnMut() -> bool,
) -> Result<Option<SortedMap<usize, Key>>> {
    let mut images: Vec<usize> = wanted.iter().map(|view| view.image).collect();
    images.dedup();
    let share = collective.share();
    let progress = Progress::new("checking images", images.len() as u64, 0);
    let hash = |&image: &usize| -> Result<Key> { files.dataset.picture(image).digest() };
    let mut digests = SortedMap::with_capacity(images.len());
    for (turn, of_all) in images.chunks(HASHED_AT_ONCE * share.size).enumerate() {
        if collective.any(!keep_going())? {
            return Ok(None);
        }
        let own = &images[share.batch(turn, images.len(), HASHED_AT_ONCE)];
        let found = agreed(collective, READ, own.par_iter().map(hash).collect::<Result<Vec<_>>>())?;
        let found = collective.gather(found.as_flattened())?.concat();
        let (found, _) = found.as_chunks::<{ size_of::<Key>() }>();
        ensure!(found.len() == of_all.len(), "digests of other processes are missing");
        of_all.iter().zip(found).for_each(|(&image, &digest)| digests.push(image, digest));
        progress.advance(of_all.len() as u64, "");
    }
    Ok(Some(digests))
}

/// What a row is found by: the digest of the image's file, with what a random view depends on.
fn key(files: &ImageFiles, digests: &SortedMap<usize, Key>, view: &ImageView) -> Key {
    let digest = digests[&view.image];
    let (1.., Some(augmentation)) = (view.view, &files.augmentation) else { return digest };
    let drawn_by = json!({
        "view": view.view,
        "name": files.dataset.images.get(view.image).filename(),
        "seed": augmentation.seed,
        "min_area": augmentation.min_area,
        "flip": augmentation.flip,
    });
    let mut hasher = digest::Hasher::new();
    hasher.update(&digest);
    hasher.update(drawn_by.to_string().as_bytes());
    hasher.finish_bytes()
}

/// The views whose row is not there; of equal images one.
fn missing_views(store: &FeatureStore, wanted: &[ImageView], keys: &SortedMap<ImageView, Key>) -> Vec<ImageView> {
    let mut seen = HashSet::new();
    wanted.iter().filter(|view| !store.contains(&keys[view]) && seen.insert(keys[view])).copied().collect()
}

/// Prints how much will be written and where. The disk must have space for it.
fn announce(store: &FeatureStore, wanted: &[ImageView], missing: usize) -> Result<()> {
    let bytes = (missing * store.row_bytes()) as u64;
    let free = disk::free_bytes(store.folder());
    let views = if wanted.iter().any(|view| view.view > 0) { "views of images" } else { "images" };
    let room =
        free.map_or_else(String::new, |free| format!(" of {:.1} GB that are free", free as f64 / base::GIGABYTE));
    terminal::message(&format!(
        "cache       writing {missing} {views}, {:.2} GB{room}, to {}",
        bytes as f64 / base::GIGABYTE,
        store.folder().display()
    ));
    check_room(store.folder(), bytes, free)
}

/// A twentieth more than the rows must be free: for the index, and some space for the run itself.
fn check_room(folder: &Path, bytes: u64, free: Option<u64>) -> Result<()> {
    match free {
        Some(free) if free < bytes + bytes / 20 => Err(failure(
            format!(
                "the cache needs {:.2} GB in {}, but only {:.2} GB are free there",
                bytes as f64 / base::GIGABYTE,
                folder.display(),
                free as f64 / base::GIGABYTE
            ),
            "set data.cache_directory to a folder on a larger disk, or start a run with data.cache_features = false \
             (a frozen encoder then runs in every update) and data.cache_images = false",
        )),
        _ => Ok(()),
    }
}

/// Computes the rows that a cache lacks.
struct CacheFiller<'a> {
    setup: &'a Setup,
    files: Arc<ImageFiles>,
    keys: &'a SortedMap<ImageView, Key>,
    device: &'a Device,
    pools: &'a WorkerPools,
    collective: &'a dyn Collective,
    keep_going: &'a mut dyn FnMut() -> bool,
}

impl CacheFiller<'_> {
    /// Adds the missing rows. `false`: `keep_going` returned `false`.
    ///
    /// The main process writes, and so does the first process of a machine that has a disk of its own.
    fn fill(&mut self, store: &mut FeatureStore, wanted: &[ImageView], content: &StoredContent) -> Result<bool> {
        let (collective, folder, mut store) = (self.collective, store.folder().to_owned(), Some(store));
        let mut lock = |this: &mut Self, writes: bool| match store.take_if(|_| writes) {
            Some(store) => this.append(store),
            None => Ok(None),
        };
        let of_main = agreed(collective, WRITE, lock(self, collective.is_main()))?;
        // Who sees the line that the main process wrote shares its disk.
        let mut line = if collective.is_main() { holder_line(&folder) } else { Vec::new() };
        collective.broadcast(&mut line)?;
        let has_own_disk = !collective.is_main() && collective.is_first_here() && holder_line(&folder) != line;
        let own = agreed(collective, WRITE, lock(self, has_own_disk))?;
        let mut appender = own.or(of_main);
        if collective.any((collective.is_main() || has_own_disk) && appender.is_none())? {
            return Ok(false);
        }
        let missing = self.missing_anywhere(appender.as_ref(), wanted)?;
        let has_room = match &appender {
            Some(appender) => announce(appender.store(), wanted, missing.len()),
            None => Ok(()),
        };
        agreed(collective, WRITE, has_room)?;
        let filled = match content {
            StoredContent::Features { number, .. } => self.encode(&missing, *number, appender.as_mut()),
            StoredContent::Pixels(_) => match appender.as_mut() {
                Some(appender) => self.resize(&missing, appender),
                None => Ok(true),
            },
        };
        // Finished rows are kept, whatever stopped the rest.
        let finished = appender.map_or(Ok(()), Appender::finish);
        let filled = agreed(collective, WRITE, filled.and_then(|filled| finished.map(|()| filled)))?;
        Ok(!collective.any(!filled)?)
    }

    /// `None`: `keep_going` said no while another run appended.
    fn append<'s>(&mut self, store: &'s mut FeatureStore) -> Result<Option<Appender<'s>>> {
        let mut is_said = false;
        store.append(|holder: &Holder| {
            if !std::mem::replace(&mut is_said, true) {
                terminal::message(&format!("waiting for another run that fills the same cache: {holder}"));
            }
            (self.keep_going)()
        })
    }

    /// The views that one of those who write lacks, each image once.
    fn missing_anywhere(&self, appender: Option<&Appender<'_>>, wanted: &[ImageView]) -> Result<Vec<ImageView>> {
        // In the order of `wanted`.
        let missing = match appender {
            Some(appender) => missing_views(appender.store(), wanted, self.keys),
            None => Vec::new(),
        };
        let marks: Vec<u8> = wanted.iter().map(|view| u8::from(missing.binary_search(view).is_ok())).collect();
        let all = self.collective.gather(&marks)?;
        let is_missing = |place: usize| all.iter().any(|marks| marks.get(place) == Some(&1));
        Ok((0..wanted.len()).filter(|&place| is_missing(place)).map(|place| wanted[place]).collect())
    }

    /// Puts the encoder's outputs into the store; says whether it came to the end. Each process encodes some, and those
    /// who write get all.
    fn encode(
        &mut self,
        missing: &[ImageView],
        number: FeatureType,
        mut appender: Option<&mut Appender<'_>>,
    ) -> Result<bool> {
        let Self { setup, pools, collective, .. } = *self;
        let plan = &setup.plan;
        let model = Captioner::build(&plan.shape, &setup.parameters.detached().in_precision(plan.precision()))?;
        let settings = EncodeSettings {
            batch_size: encode_batch(plan),
            batches_in_turn: plan.num_parts.div_ceil(plan.num_processes),
            workers: plan.num_workers,
            device: self.device.clone(),
            share: collective.share(),
        };
        let source = ImageSource::files(Arc::clone(&self.files), plan.views());
        shown("encoding images", missing.len(), |progress| {
            encode_images(&model, &source, missing, &settings, pools, |turn, encoded| {
                let views_of = |share: Share| &missing[settings.views_of(share, turn, missing.len())];
                let rows = encoded.and_then(|values| self.rows(views_of(settings.share), &values, number));
                let rows = agreed(collective, READ, rows)?;
                for (rank, rows) in collective.gather(&rows)?.iter().enumerate() {
                    let views = views_of(Share { rank, ..settings.share });
                    let pushed = appender.as_mut().map_or(Ok(()), |appender| self.push(views, rows, appender));
                    agreed(collective, WRITE, pushed)?;
                    progress.advance(views.len() as u64, "");
                }
                Ok(!collective.any(!(self.keep_going)())?)
            })
        })
    }

    /// The rows of these views, one after the other.
    fn rows(&self, views: &[ImageView], values: &[f32], number: FeatureType) -> Result<Vec<u8>> {
        let each = (values.len() / views.len().max(1)).max(1);
        let mut rows = Vec::new();
        for (view, values) in views.iter().zip(values.chunks_exact(each)) {
            let picture = || self.files.dataset.picture(view.image);
            let row = feature_bytes(values, number);
            rows.extend(row.with_context(|| format!("cannot store the features of {}", picture()))?);
        }
        Ok(rows)
    }

    /// Puts the pictures in the encoder's size into the store; says whether it came to the end.
    fn resize(&mut self, missing: &[ImageView], appender: &mut Appender<'_>) -> Result<bool> {
        let workers = self.setup.plan.num_workers;
        let files = Arc::clone(&self.files);
        let load = move |view: ImageView| Ok((view, files.pixels(view)?));
        shown("reading images", missing.len(), |progress| {
            for loaded in Loader::start(missing.to_vec(), workers, 4 * workers, Arc::new(load)) {
                let (view, row) = loaded?;
                self.push(&[view], &row, appender)?;
                progress.advance(1, "");
                if !(self.keep_going)() {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    /// Appends the rows that this store lacks.
    fn push(&self, views: &[ImageView], rows: &[u8], appender: &mut Appender<'_>) -> Result<()> {
        let size = appender.store().row_bytes();
        for (view, row) in views.iter().zip(rows.chunks_exact(size.max(1))) {
            let key = self.keys[view];
            if !appender.store().contains(&key) {
                appender.push(&[key], row)?;
            }
        }
        Ok(())
    }
}

/// Fills with a bar, and says at the end how long it took.
fn shown(title: &str, count: usize, fill: impl FnOnce(&Progress) -> Result<bool>) -> Result<bool> {
    let progress = Progress::new(title, count as u64, 0);
    let started = Instant::now();
    let filled = fill(&progress)?;
    progress.finish();
    if filled {
        terminal::message(&format!("cache       {count} written in {:.1} s", started.elapsed().as_secs_f64()));
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::augmentation::Augmentation;
    use crate::model::encoders::vit::VitConfig;
    use base::error::describe;
    use datasets::prepared::Dataset;

    fn vit() -> VitConfig {
        let config = json!({ "image_size": 32, "patch_size": 16, "hidden_size": 8, "num_hidden_layers": 2,
            "num_attention_heads": 2, "intermediate_size": 16 });
        serde_json::from_value(config).unwrap()
    }

    #[test]
    fn a_store_is_named_by_all_that_its_rows_depend_on() {
        let (encoder, plain) = (EncoderConfig::Vit(vit()), ImageProcessor::plain(32));
        let other_eps = EncoderConfig::Vit(VitConfig { layer_norm_eps: 1e-6, ..vit() });
        let name = |encoder: &EncoderConfig, weights: &str, processor: &ImageProcessor, precision, number| {
            folder_name(&features(encoder, weights, processor, precision, number, false))
        };
        let (f32, f16) = (Precision::F32, FeatureType::F16);
        let names = [
            name(&encoder, "a", &plain, f32, f16),
            name(&other_eps, "a", &plain, f32, f16),
            name(&encoder, "b", &plain, f32, f16),
            name(&encoder, "a", &ImageProcessor::clip(32), f32, f16),
            name(&encoder, "a", &plain, Precision::Bf16, f16),
            name(&encoder, "a", &plain, f32, FeatureType::F32),
            folder_name(&pixels(&plain)),
            folder_name(&pixels(&ImageProcessor::clip(32))),
            folder_name(&pixels(&ImageProcessor::plain(48))),
        ];
        let different: std::collections::HashSet<&String> = names.iter().collect();
        assert_eq!(different.len(), names.len(), "{names:?}");
        assert_eq!(names[0], name(&encoder, "a", &plain, f32, f16));
    }

    #[test]
    fn rows_of_another_version_of_the_decoders_are_another_store() {
        for mut description in [
            features(
                &EncoderConfig::Vit(vit()),
                "a",
                &ImageProcessor::plain(32),
                Precision::F32,
                FeatureType::F16,
                false,
            ),
            pixels(&ImageProcessor::plain(32)),
        ] {
            let now = folder_name(&description);
            assert_eq!(description.content["decoder"], DECODER_VERSION);
            description.content["decoder"] = (DECODER_VERSION - 1).into();
            assert_ne!(now, folder_name(&description));
            // Rows of before knew no such version.
            description.content.as_object_mut().unwrap().remove("decoder");
            assert_ne!(now, folder_name(&description));
        }
    }

    #[test]
    fn a_view_is_found_by_all_that_it_is_drawn_by() {
        let files = |seed, min_area, flip, name: &str| ImageFiles {
            dataset: Arc::new(Dataset::of_names(Path::new(""), [name])),
            digests: SortedMap::default(),
            processor: ImageProcessor::plain(32),
            augmentation: Some(Augmentation { min_area, flip, seed }),
        };
        let found = |files: &ImageFiles, digest: u8, view: u32| {
            key(files, &SortedMap::from_iter([(0, [digest; 32])]), &ImageView { image: 0, view })
        };
        let plain = files(0, 0.5, false, "a");
        let keys = [
            found(&plain, 1, 1),
            found(&plain, 1, 2),
            found(&plain, 2, 1),
            found(&files(1, 0.5, false, "a"), 1, 1),
            found(&files(0, 0.6, false, "a"), 1, 1),
            found(&files(0, 0.5, true, "a"), 1, 1),
            found(&files(0, 0.5, false, "b"), 1, 1),
            found(&plain, 1, 0),
        ];
        let different: std::collections::HashSet<&Key> = keys.iter().collect();
        assert_eq!(different.len(), keys.len());
        assert_eq!(found(&plain, 1, 0), found(&files(1, 0.6, true, "b"), 1, 0), "a whole image is drawn by nothing");
    }

    #[test]
    fn a_disk_without_room_is_an_error_before_anything_is_written() {
        let text = describe(&check_room(Path::new("cache"), 3_000_000_000, Some(1_000_000_000)).unwrap_err());
        assert!(
            text.contains("needs 3.00 GB in cache, but only 1.00 GB are free") && text.contains("hint: "),
            "{text}"
        );
        assert!(check_room(Path::new("cache"), 100, Some(104)).is_err());
        check_room(Path::new("cache"), 100, Some(105)).unwrap();
        check_room(Path::new("cache"), 3, None).unwrap();
    }
}
