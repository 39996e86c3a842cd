//! Our side of `benches/peers/image_to_tensor.py`: a JPEG file to the normalised values that a ViT reads, on one core.

#![expect(clippy::print_stdout, reason = "its result is its output")]

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};
use base::process;
use pixels::image_file::load_rgb;
use pixels::image_processor::ImageProcessor;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const REPETITIONS: usize = 60;

/// A JPEG with some detail, where none was named.
fn draw(folder: &Path) -> Result<PathBuf> {
    let path = folder.join("drawn.jpg");
    let wave = |x: u32, y: u32, period: f32| (127.5 + 127.0 * ((x * x + y * 7) as f32 / period).sin()) as u8;
    image::RgbImage::from_fn(640, 480, |x, y| image::Rgb([wave(x, y, 900.0), wave(y, x, 700.0), wave(x, x, 90.0)]))
        .save(&path)
        .context("cannot draw a picture")?;
    Ok(path)
}

fn main() -> Result<()> {
    process::prepare();
    process::keep_freed_memory();
    let folder = tempfile::tempdir()?;
    // `cargo bench` gives an argument of its own.
    let named = std::env::args_os().nth(1).filter(|argument| argument != "--bench").map(PathBuf::from);
    let path = named.map_or_else(|| draw(folder.path()), Ok)?;
    let processor = ImageProcessor::plain(224);
    let mut seconds = Vec::new();
    let mut sum = 0.0;
    for _ in 0..REPETITIONS {
        let started = Instant::now();
        let picture = load_rgb(&path)?;
        let values = processor.process(&picture)?;
        seconds.push(started.elapsed().as_secs_f64());
        sum = values.iter().sum::<f32>();
    }
    seconds.sort_by(f64::total_cmp);
    println!("{}", serde_json::json!({ "seconds": seconds[seconds.len() / 2], "sum": sum }));
    Ok(())
}
