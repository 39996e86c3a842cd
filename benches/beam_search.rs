//! Our side of `benches/peers/torch_beam_search.py`: captions of images whose encoder outputs are given, by beam search
//! with an exported model. Prints one line of JSON; `--captions FILE` gets the tokens of each caption.

#![expect(clippy::disallowed_methods, reason = "a bench writes files of its own")]
#![expect(clippy::print_stdout, reason = "its result is its output")]

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, Result};
use base::process;
use base::worker_pools::WorkerPools;
use candle_core::Tensor;
use caption_train::commands::device::select_device;
use caption_train::config::DecodingConfig;
use caption_train::decoding::{Decoding, decode};
use caption_train::run::captioning_model::CaptioningModel;
use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Arguments {
    /// A folder that `caption-train export` wrote
    #[arg(long)]
    model: PathBuf,
    /// A safetensors file with `encoder_hidden_states` (images, N, D)
    #[arg(long)]
    features: PathBuf,
    #[arg(long, default_value_t = 50)]
    batch: usize,
    #[arg(long, default_value_t = 5)]
    num_beams: usize,
    #[arg(long)]
    captions: Option<PathBuf>,
    /// cpu or cuda:N, in a build with CUDA.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// cargo bench adds it
    #[arg(long)]
    bench: bool,
}

fn main() -> Result<()> {
    process::prepare();
    let arguments = Arguments::parse();
    let device = select_device(&arguments.device)?;
    let opened = CaptioningModel::open(&arguments.model, &device)?;
    let model = &opened.captioner;
    let tensors = candle_core::safetensors::load(&arguments.features, &device)?;
    let features = tensors.get("encoder_hidden_states").context("the file holds no encoder_hidden_states")?;
    let config = DecodingConfig { num_beams: arguments.num_beams, ..opened.decoding.clone() };
    let specials = opened.tokenizer.special_ids();
    let decoding = Decoding::from_config(&config, specials.start, specials.end, opened.shape.decoder.num_positions());
    let num_images = features.dim(0)?;
    // A GPU takes whole batches.
    let num_threads = if device.is_cpu() { rayon::current_num_threads() } else { 1 };
    let pools = WorkerPools::new(num_threads, 1)?;

    let captions_of = |images: usize| -> Result<Vec<Vec<u32>>> {
        let mut captions = Vec::with_capacity(images);
        for first in (0..images).step_by(arguments.batch) {
            let count = arguments.batch.min(images - first);
            let share = count.div_ceil(num_threads);
            let write = |member: usize| -> Result<Vec<Vec<u32>>> {
                let (start, end) = ((member * share).min(count), ((member + 1) * share).min(count));
                if start == end {
                    return Ok(Vec::new());
                }
                let states: Tensor = features.narrow(0, first + start, end - start)?.contiguous()?;
                let found = decode(model.decoder(), &model.cross_key_values(&states)?, &decoding, first + start)?;
                Ok(found.into_iter().map(|captions| captions.into_iter().next().unwrap_or_default().tokens).collect())
            };
            for found in pools.each(write) {
                captions.extend(found?);
            }
        }
        Ok(captions)
    };
    captions_of(arguments.batch.min(num_images))?;
    let started = Instant::now();
    let captions = captions_of(num_images)?;
    let seconds = started.elapsed().as_secs_f64();
    if let Some(path) = &arguments.captions {
        std::fs::write(path, serde_json::to_string(&captions)?)?;
    }
    println!("{}", serde_json::json!({ "seconds": seconds, "images": num_images }));
    Ok(())
}
