//! What a run does behind its last update: captions a split with its best model, and scores the captions.

use std::path::Path;

use anyhow::Result;

use crate::evaluation::captioning::{CaptionWriter, CaptioningSettings};
use crate::model::captioner::Captioner;
use crate::run::checkpoint::reader::read_model;
use crate::run::run_directory::RunDirectory;
use crate::run::split_evaluation::{self, ModelOrigin};
use crate::tokenizer::CaptionTokenizer;
use crate::training::trainer::Trainer;
use base::terminal;
use datasets::prepared::Dataset;
use metrics::bootstrap::NUM_RESAMPLES;
use metrics::score::{ScoreOptions, Scores};

/// The images that are captioned, and those that were trained on.
pub(super) struct Images<'a> {
    pub(super) dataset: &'a Dataset,
    pub(super) captioned: &'a [usize],
    pub(super) train: &'a [usize],
}

/// Captions the images of `evaluation.caption_split` with the best checkpoint and scores what it wrote. `keep_going` is
/// asked now and then; `None`: it said no.
///
/// # Errors
/// A checkpoint or an image that cannot be read; a disk that cannot be written.
pub(super) fn caption_at_end(
    run: &RunDirectory,
    best: &Path,
    images: &Images<'_>,
    tokenizer: &CaptionTokenizer,
    trainer: &Trainer,
    keep_going: impl FnMut() -> bool,
) -> Result<Option<Scores<f64>>> {
    let Trainer { plan, data, device, team, .. } = trainer;
    let config = &plan.config;
    let checkpoint = read_model(best)?;
    let parameters = checkpoint.parameters(device)?;
    let state = &checkpoint.metadata.state;
    let model = Captioner::build(&plan.shape, &parameters.detached())?;
    let request = split_evaluation::Request {
        dataset: images.dataset,
        split: config.evaluation.caption_split.as_deref().unwrap_or_default(),
        images: images.captioned,
        source: &data.source,
        writer: &CaptionWriter::new(&model, tokenizer, &config.decoding_of_captions()),
        model: ModelOrigin { path: best, progress: Some((state.epoch, state.global_step)) },
        settings: &CaptioningSettings {
            batch_size: config.evaluation.batch_size,
            workers: plan.num_workers,
            device: device.clone(),
        },
        options: &ScoreOptions {
            meteor: &data.captioned.meteor,
            document_references: None,
            training_captions: Some(&images.dataset.captions_of(images.train)),
            num_resamples: NUM_RESAMPLES,
            seed: config.seed,
        },
    };
    let Some(mut found) = split_evaluation::evaluate(&request, team, keep_going)? else { return Ok(None) };
    found.write(&run.predictions())?;
    run.append_metrics(&found.metrics_line())?;
    found.show();
    terminal::message(&format!("scores of {}:", request.split));
    found.report().lines().iter().for_each(|line| terminal::message(&format!("  {line}")));
    Ok(Some(found.report().scores))
}
