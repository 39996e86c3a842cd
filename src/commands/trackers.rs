//! Who is told of a run beside its console and its checkpoints.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::mpsc::Receiver;

use anyhow::Result;

use crate::config::{HubUpload, RunConfig};
use crate::run::environment::Process;
use crate::run::run_directory::RunDirectory;
use crate::run::setup::Setup;
use crate::run::tracking::Dispensable;
use crate::run::tracking::jsonl::JsonLines;
use crate::run::tracking::log_lines::LogLine;
use crate::run::tracking::results_table::ResultsTable;
use crate::run::tracking::sample_pictures::SamplePictures;
use crate::run::tracking::tensorboard::TensorBoard;
#[cfg(feature = "wandb")]
use crate::run::tracking::wandb::{About, WeightsAndBiases, settings};
use crate::training::events::Observer;
use base::stop::StopFlag;
use base::{fault::one_line, terminal};
use metrics::score::Scores;

/// The trackers of a run.
pub(super) struct Trackers {
    tensorboard: Option<Dispensable<TensorBoard>>,
    #[cfg(feature = "wandb")]
    wandb: Option<Dispensable<WeightsAndBiases>>,
}

/// Finds mistakes in the settings of trackers before anything else is done.
///
/// # Errors
/// A setting that cannot be.
pub(super) fn check(config: &RunConfig) -> Result<()> {
    #[cfg(feature = "wandb")]
    settings(&config.tracking.wandb, &RunDirectory::at(&config.output_dir))?;
    #[cfg(not(feature = "wandb"))]
    if config.tracking.wandb.mode.is_some_and(|mode| mode != crate::config::WandbMode::Disabled) {
        return Err(base::fault::usage(
            "tracking.wandb.mode is set, and this program was built without the feature wandb",
            "remove it, or build with `--features wandb`",
        ));
    }
    match &config.hub.repo {
        Some(repo) if config.hub.upload != HubUpload::Never => hub::check_target(repo),
        _ => Ok(()),
    }
}

impl Trackers {
    /// Begins those that know a run before its first update. `console` gives what the console shows.
    ///
    /// # Errors
    /// A setting that cannot be.
    pub(super) fn start(
        setup: &Setup,
        process: &Process,
        run: &RunDirectory,
        console: Receiver<LogLine>,
        stop: &StopFlag,
    ) -> Result<Self> {
        let paths = setup.samples().into_iter().map(|image| (image, setup.dataset.image_path(image))).collect();
        let pictures = Rc::new(RefCell::new(SamplePictures::new(paths)));
        #[cfg(feature = "wandb")]
        let wandb = {
            let about = About { config: &setup.plan.config, state: &setup.state, process };
            let start = |settings| {
                let (pictures, stop) = (Rc::clone(&pictures), stop.clone());
                WeightsAndBiases::start(&settings, run, &about, pictures, console, stop)
            };
            match settings(&about.config.tracking.wandb, run)?.map(start).transpose() {
                Ok(started) => started.map(|observer| Dispensable::new("Weights & Biases", observer)),
                Err(error) => {
                    terminal::warning(&format!("Weights & Biases is told nothing: {}", one_line(&error)));
                    None
                }
            }
        };
        #[cfg(not(feature = "wandb"))]
        let _ = (process, console, stop);
        let config = &setup.plan.config;
        let tensorboard =
            config.tracking.tensorboard.then(|| TensorBoard::new(run, pictures, config.training.log_interval));
        Ok(Self {
            tensorboard: tensorboard.map(|observer| Dispensable::new("TensorBoard", observer)),
            #[cfg(feature = "wandb")]
            wandb,
        })
    }

    /// All of them, the ones that a run cannot do without first.
    ///
    /// # Errors
    /// A file that cannot be opened.
    pub(super) fn observers<'a>(
        &'a mut self,
        run: &RunDirectory,
        config: &RunConfig,
    ) -> Result<Vec<Box<dyn Observer + 'a>>> {
        let log_interval = config.training.log_interval;
        let mut observers: Vec<Box<dyn Observer + 'a>> = vec![Box::new(JsonLines::open(run, log_interval)?)];
        match ResultsTable::open(run) {
            Ok(table) => observers.push(Box::new(Dispensable::new("results.csv", table))),
            Err(error) => terminal::warning(&format!("there is no results.csv: {}", one_line(&error))),
        }
        if let Some(tensorboard) = &mut self.tensorboard {
            observers.push(Box::new(tensorboard));
        }
        #[cfg(feature = "wandb")]
        if let Some(wandb) = &mut self.wandb {
            observers.push(Box::new(wandb));
        }
        Ok(observers)
    }

    /// Whether to go on with what has no events of its own, such as the making of the cache. Trackers get meanwhile what came
    /// up beside it, and can ask for a stop.
    pub(super) fn keep_going(&mut self, stop: &StopFlag) -> bool {
        #[cfg(feature = "wandb")]
        if let Some(wandb) = &mut self.wandb {
            wandb.attempt(WeightsAndBiases::pass_on);
        }
        !stop.is_raised()
    }

    /// Tells them the scores of a split that was captioned behind the last update.
    pub(super) fn scores(&mut self, split: &str, scores: &Scores<f64>) {
        let named = scores.named().map(|(name, value)| (format!("{split}/{name}"), value));
        #[cfg(feature = "wandb")]
        if let Some(wandb) = &mut self.wandb {
            wandb.attempt(|wandb| wandb.summarize(&named));
        }
        if let Some(tensorboard) = &mut self.tensorboard {
            tensorboard.attempt(|tensorboard| tensorboard.at_the_end(&named));
        }
    }

    /// Tells them how the run ended.
    pub(super) fn finish(self, exit_code: i32) {
        #[cfg(feature = "wandb")]
        if let Some(wandb) = self.wandb.and_then(Dispensable::into_inner)
            && let Err(error) = wandb.finish(exit_code)
        {
            terminal::warning(&format!("Weights & Biases was not told the end: {}", one_line(&error)));
        }
        #[cfg(not(feature = "wandb"))]
        let _ = exit_code;
    }
}
