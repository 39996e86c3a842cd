//! What a run does after its last update: captions a split with its best model, and scores the captions.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use candle_core::Tensor;

use crate::data::prompts::Prompts;
use crate::data::split::SplitIndices;
use crate::evaluation::captioning::CaptionWriter;
use crate::model::captioner::Captioner;
use crate::model::parameters::Parameters;
use crate::run::checkpoint::reader::read_model;
use crate::run::run_directory::RunDirectory;
use crate::run::setup::Setup;
use crate::run::split_evaluation::{self, ModelOrigin, SplitEvaluation};
use crate::training::collective::Collective;
use crate::training::shared_captions::Team;
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
    /// Which images were trained on.
    trained: Arc<SplitIndices>,
}

impl FinalCaptions {
    /// `None` where no split is captioned.
    pub(super) fn of(setup: &Setup) -> Option<Self> {
        Some(Self {
            split: setup.plan.config.evaluation.caption_split.clone()?,
            dataset: Arc::clone(&setup.dataset),
            images: Some(setup.caption_images().to_owned()).filter(|images| !images.is_empty())?,
            prompts: setup.prompts.clone(),
            trained: Arc::clone(&setup.split),
        })
    }

    /// Captions the images with the checkpoint `best`, together with the other processes, and scores the captions.
    /// `None`: `keep_going`, which is asked now and then, said no.
    pub(super) fn write(
        &self,
        run: &RunDirectory,
        best: &Path,
        trainer: &Trainer,
        keep_going: impl FnMut() -> bool,
    ) -> Result<Option<Scores<f64>>> {
        let Some(mut found) = self.evaluate(Some(best), trainer, keep_going)? else { return Ok(None) };
        found.write(&run.predictions())?;
        run.append_metrics(&found.record()?)?;
        found.show();
        terminal::message(&format!("scores of {}:", self.split));
        found.report().lines().iter().for_each(|line| terminal::message(&format!("  {line}")));
        Ok(Some(found.report().scores))
    }

    /// The part of a process that gets the checkpoint from the main one.
    pub(super) fn help(&self, trainer: &Trainer, keep_going: impl FnMut() -> bool) -> Result<()> {
        self.evaluate(None, trainer, keep_going).map(drop)
    }

    fn evaluate(
        &self,
        best: Option<&Path>,
        trainer: &Trainer,
        keep_going: impl FnMut() -> bool,
    ) -> Result<Option<SplitEvaluation>> {
        let Trainer { plan, data, device, pools, collective, .. } = trainer;
        let config = &plan.config;
        let (parameters, progress) = match best.map(read_model).transpose()? {
            Some(checkpoint) => {
                let state = &checkpoint.metadata.state;
                let progress = Some((state.epoch, state.global_step));
                (checkpoint.parameters_beside(&trainer.parameters, device)?, progress)
            }
            // Not needed any more, and overwritten by those of the main process.
            None => (trainer.parameters.clone(), None),
        };
        broadcast_parameters(&**collective, &parameters)?;
        let model = Captioner::build(&plan.shape, &parameters.detached())?;
        let request = split_evaluation::Request {
            dataset: &self.dataset,
            split: &self.split,
            images: &self.images,
            prompts: &self.prompts,
            sources: std::slice::from_ref(&data.source),
            writer: &CaptionWriter::new(&model, &data.captioned.tokenizer, &config.decoding_of_captions()),
            model: ModelOrigin {
                path: best.unwrap_or(Path::new("")),
                progress,
                reward: data.captioned.reward.as_deref(),
                ensemble: &[],
            },
            team: Team { pools, collective: &**collective },
            settings: &plan.captioning_settings(device),
            options: &ScoreOptions {
                meteor: &data.captioned.meteor,
                document_references: None,
                training_captions: Some(&self.dataset.captions_of(&self.trained.train)),
                num_resamples: NUM_RESAMPLES,
                seed: config.seed,
            },
        };
        split_evaluation::evaluate(&request, keep_going)
    }
}

/// Gives all processes the values of the main one.
fn broadcast_parameters(collective: &dyn Collective, parameters: &Parameters) -> Result<()> {
    if collective.size() == 1 {
        return Ok(());
    }
    for (name, parameter) in parameters.iter() {
        let var = &parameter.var;
        let mut bytes = match collective.is_main() {
            true => bytemuck::cast_slice(&var.flatten_all()?.to_vec1::<f32>()?).to_vec(),
            false => Vec::new(),
        };
        collective.broadcast(&mut bytes)?;
        if !collective.is_main() {
            let values: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
            let received = Tensor::from_vec(values, var.shape(), var.device());
            var.set(&received.with_context(|| format!("the values of {name} that the main process sent"))?)?;
        }
    }
    Ok(())
}
