//! What a run does after its last update: captions a split with its best model, and scores the captions.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;

use crate::data::prompts::Prompts;
use crate::evaluation::captioning::{CaptionWriter, CaptioningSettings};
use crate::model::captioner::Captioner;
use crate::run::checkpoint::reader::read_model;
use crate::run::run_directory::RunDirectory;
use crate::run::setup::Setup;
use crate::run::split_evaluation::{self, ModelOrigin};
use crate::training::trainer::Trainer;
use base::terminal;
use datasets::prepared::Dataset;
use metrics::bootstrap::NUM_RESAMPLES;
use metrics::score::{ScoreOptions, Scores};

/// The images of `evaluation.caption_split`.
pub(super) struct FinalCaptions {
    pub(super) split: String,
    dataset: Arc<Dataset>,
    images: Vec<usize>,
    prompts: Prompts,
    /// Those that were trained on.
    train: Vec<usize>,
}

impl FinalCaptions {
    /// `None` where no split is captioned.
    pub(super) fn of(setup: &Setup) -> Option<Self> {
        Some(Self {
            split: setup.plan.config.evaluation.caption_split.clone()?,
            dataset: Arc::clone(&setup.dataset),
            images: Some(setup.caption_images()).filter(|images| !images.is_empty())?,
            prompts: setup.prompts.clone(),
            train: setup.split.train.clone(),
        })
    }

    /// Captions the images with the checkpoint `best` and scores the captions. `None`: `keep_going`, which is asked now
    /// and then, said no.
    pub(super) fn write(
        &self,
        run: &RunDirectory,
        best: &Path,
        trainer: &Trainer,
        keep_going: impl FnMut() -> bool,
    ) -> Result<Option<Scores<f64>>> {
        let Trainer { plan, data, device, pools, .. } = trainer;
        let config = &plan.config;
        let checkpoint = read_model(best)?;
        let parameters = checkpoint.parameters_beside(&trainer.parameters, device)?;
        let state = &checkpoint.metadata.state;
        let model = Captioner::build(&plan.shape, &parameters.detached())?;
        let request = split_evaluation::Request {
            dataset: &self.dataset,
            split: &self.split,
            images: &self.images,
            prompts: &self.prompts,
            source: &data.source,
            writer: &CaptionWriter::new(&model, &data.captioned.tokenizer, &config.decoding_of_captions()),
            model: ModelOrigin { path: best, progress: Some((state.epoch, state.global_step)) },
            settings: &CaptioningSettings {
                batch_size: config.evaluation.batch_size,
                workers: plan.num_workers,
                device: device.clone(),
            },
            options: &ScoreOptions {
                meteor: &data.captioned.meteor,
                document_references: None,
                training_captions: Some(&self.dataset.captions_of(&self.train)),
                num_resamples: NUM_RESAMPLES,
                seed: config.seed,
            },
        };
        let Some(mut found) = split_evaluation::evaluate(&request, pools, keep_going)? else { return Ok(None) };
        found.write(&run.predictions())?;
        run.append_metrics(&found.record()?)?;
        found.show();
        terminal::message(&format!("scores of {}:", self.split));
        found.report().lines().iter().for_each(|line| terminal::message(&format!("  {line}")));
        Ok(Some(found.report().scores))
    }
}
