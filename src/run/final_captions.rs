//! Captions a split with the best checkpoint, keeps them, and shows how many are right beside two baselines.

use std::path::Path;

use anyhow::Result;
use serde_json::json;

use crate::base::stop::StopFlag;
use crate::base::terminal::{self, Progress};
use crate::data::dataset::Dataset;
use crate::data::image_source::ImageSource;
use crate::evaluation::caption_match::match_captions;
use crate::evaluation::captioning::{CaptionWriter, CaptioningSettings};
use crate::model::captioner::Captioner;
use crate::run::checkpoint::reader::read_model;
use crate::run::run_directory::RunDirectory;
use crate::tokenizer::CaptionTokenizer;
use crate::training::trainer::{Outcome, Trainer};

/// Captions shown on the console.
const SHOWN: usize = 3;

/// What to caption, with what.
pub struct Request<'a> {
    /// The run.
    pub run: &'a RunDirectory,
    /// The checkpoint.
    pub checkpoint: &'a Path,
    /// The images, as indices in the data set.
    pub images: &'a [usize],
    /// Where they come from.
    pub source: &'a ImageSource,
}

/// Writes `predictions/SPLIT.json` in the format of COCO results, and `predictions/SPLIT.scores.json`.
///
/// # Errors
/// A checkpoint or an image that cannot be read; a disk that cannot be written.
pub fn write(
    request: &Request<'_>,
    dataset: &Dataset,
    tokenizer: &CaptionTokenizer,
    trainer: &Trainer,
    stop: &StopFlag,
) -> Result<Outcome> {
    let Trainer { plan, device, team, .. } = trainer;
    let split = plan.config.evaluation.caption_split.as_deref().unwrap_or("test");
    let checkpoint = read_model(request.checkpoint)?;
    let parameters = checkpoint.parameters(device)?;
    let model = Captioner::build(&plan.shape, &parameters.detached())?;
    let writer = CaptionWriter { model: &model, tokenizer, max_new_tokens: plan.config.model.decoder.max_seq_len };
    let settings = CaptioningSettings {
        batch_size: plan.config.evaluation.batch_size,
        workers: plan.num_workers,
        device: device.clone(),
    };
    let progress = Progress::new(&format!("captioning {split}"), request.images.len() as u64, 0);
    let written = writer.write_all(request.source, request.images, &settings, team, |count| {
        progress.advance(count as u64, "");
        !stop.is_raised()
    })?;
    progress.finish();
    let Some(captions) = written else {
        terminal::warning("captioning was stopped; the model is complete");
        return Ok(Outcome::Interrupted);
    };
    let captions: Vec<String> = captions.into_iter().map(|caption| caption.text).collect();
    let references: Vec<Vec<String>> =
        request.images.iter().map(|&image| dataset.images[image].captions.clone()).collect();
    let scores = match_captions(&captions, &references, plan.config.seed);
    let predictions: Vec<_> = request
        .images
        .iter()
        .zip(&captions)
        .map(|(&image, caption)| json!({ "image_id": dataset.images[image].image_id, "caption": caption }))
        .collect();
    request.run.write(&format!("predictions/{split}.json"), &serde_json::to_string_pretty(&predictions)?)?;
    request.run.write(&format!("predictions/{split}.scores.json"), &serde_json::to_string_pretty(&scores)?)?;
    for (&image, caption) in request.images.iter().zip(&captions).take(SHOWN) {
        terminal::message(&format!("{:<11} {caption}", dataset.images[image].filename));
    }
    let total = scores.num_images;
    terminal::message(&format!("captions that are one of their picture's own references, of {total} in {split}:"));
    terminal::message(&format!("  the model                         {:>4}", scores.matched));
    terminal::message(&format!(
        "  best constant caption             {:>4}  ({:?})",
        scores.best_constant.1, scores.best_constant.0
    ));
    terminal::message(&format!("  the model's, of shuffled pictures {:>4}", scores.shuffled));
    Ok(Outcome::Completed)
}
