//! Our side of `benches/peers/image_to_tensor.py`: a JPEG file to the normalised values that a ViT reads, on one core.

#![expect(clippy::print_stdout, reason = "its result is its output")]

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, Result};
use caption_train::base::process;
use caption_train::data::image_file::load_rgb;
use caption_train::data::image_processor::ImageProcessor;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const REPETITIONS: usize = 60;

fn main() -> Result<()> {
    process::prepare();
    let path: PathBuf = std::env::args_os().nth(1).context("name a JPEG file")?.into();
    let processor = ImageProcessor::plain(224);
    let mut seconds = Vec::new();
    let mut sum = 0.0;
    for _ in 0..REPETITIONS {
        let started = Instant::now();
        let values = processor.process(&load_rgb(&path)?)?;
        seconds.push(started.elapsed().as_secs_f64());
        sum = values.iter().sum::<f32>();
    }
    seconds.sort_by(f64::total_cmp);
    println!("{}", serde_json::json!({ "seconds": seconds[seconds.len() / 2], "sum": sum }));
    Ok(())
}
