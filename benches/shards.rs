//! How fast images of shards are loaded: their shards read from one end to the other, and images in random order as
//! training loads them. `scripts/bench-shards.sh` makes the data.
//!
//!     cargo bench --bench shards -- DATA_SET [IMAGES]

#![expect(clippy::print_stdout, reason = "its result is its output")]

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use base::random::Stream;
use base::{bounded_file, process};
use caption_train::data::image_source::{ImageFiles, ImageView};
use caption_train::data::loader::Loader;
use datasets::prepared::Dataset;
use pixels::image_processor::ImageProcessor;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 3;
/// Images that are loaded in a round.
const IMAGES: usize = 20_000;

fn main() -> Result<()> {
    process::prepare();
    process::keep_freed_memory();
    let mut arguments = std::env::args_os().skip(1).filter(|argument| argument != "--bench");
    let folder = PathBuf::from(arguments.next().context("give the folder of a data set")?);
    let num_images = arguments.next().and_then(|count| count.to_str()?.parse().ok()).unwrap_or(IMAGES);
    let started = Instant::now();
    let dataset = Arc::new(Dataset::open(&folder)?);
    let opened = started.elapsed().as_secs_f64();
    let mut images: Vec<usize> = (0..dataset.images.len()).collect();
    Stream::new(0, "bench", "shards").shuffle(&mut images);
    images.truncate(num_images);
    let files = Arc::new(ImageFiles::of_dataset(Arc::clone(&dataset), ImageProcessor::plain(224), None));
    let threads = rayon::current_num_threads();
    for _ in 0..ROUNDS {
        let paths: BTreeSet<PathBuf> = images.iter().map(|&image| dataset.picture(image).path().to_owned()).collect();
        let (raw, bytes) = read_all(paths.iter().map(PathBuf::as_path))?;
        let of_loader = Arc::clone(&files);
        let load = move |image: usize| of_loader.pixels(ImageView { image, view: 0 });
        let started = Instant::now();
        for pixels in Loader::start(images.clone(), threads, 4 * threads, Arc::new(load)) {
            pixels?;
        }
        let loaded = started.elapsed().as_secs_f64();
        let line = serde_json::json!({
            "open_seconds": opened,
            "images": dataset.images.len(),
            "raw_megabytes_per_second": bytes as f64 / raw / 1e6,
            "loaded_images_per_second": images.len() as f64 / loaded,
            "threads": threads,
        });
        println!("{line}");
    }
    Ok(())
}

/// Seconds that reading these files takes, and their bytes.
fn read_all<'a>(paths: impl Iterator<Item = &'a Path>) -> Result<(f64, u64)> {
    let (mut buffer, mut bytes, started) = (vec![0; 4 << 20], 0, Instant::now());
    for path in paths {
        let mut file = bounded_file::open(path)?;
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                read => bytes += read as u64,
            }
        }
    }
    Ok((started.elapsed().as_secs_f64(), bytes))
}
