//! `caption-train --config` and `caption-train --resume`: trains a model from a config, or resumes from a checkpoint.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use candle_core::Device;

use crate::commands::dataset_source::{self, OnChange};
use crate::commands::device::training_device;
use crate::commands::given_paths::expand_config;
use crate::commands::hub_uploads::HubUploads;
use crate::commands::model_source::{base_folders, keep_commits, model_folders, settle_revisions};
use crate::commands::signals::watch_signals;
use crate::commands::version::written_by;
use crate::config::{self, HubUpload, RunConfig};
use crate::run::checkpoint::find_latest::{latest_in_run, latest_of_runs};
use crate::run::checkpoint::reader::{Checkpoint, read_checkpoint};
use crate::run::session::Session;
use crate::run::setup::Setup;
use crate::run::tracking;
use crate::training::trainer::Outcome;
use base::error::usage_error;
use base::home::expand;
use base::stop::StopFlag;
use base::{terminal, visible};

/// What to train.
#[derive(Clone, Debug)]
pub enum TrainRequest {
    /// A new run of this config file.
    Config(PathBuf),
    /// A run resumed from this checkpoint, from the latest whole one of the run in this folder, or (`auto`) of the
    /// latest run.
    Resume(PathBuf),
}

/// The value of `--resume` for the latest run.
const AUTO: &str = "auto";

/// Trains; says whether the run was completed or stopped.
///
/// # Errors
/// Everything that can be wrong with config, data, encoder, checkpoint or disk.
pub fn run(request: &TrainRequest, overrides: &[String]) -> Result<Outcome> {
    let stop = watch_signals("stopped before the run began; run the same command to continue")?;
    match request {
        TrainRequest::Config(path) => {
            let config = settle(config::load(path, overrides)?, path)?;
            match resume_point(&config) {
                Some(checkpoint) => resume_with(&checkpoint, config, stop),
                None => start(config, path, stop),
            }
        }
        TrainRequest::Resume(path) => {
            let (path, checkpoint) = find_checkpoint(path, overrides)?;
            let known = &checkpoint.metadata.config;
            let mut config = config::apply_safe_overrides(known, overrides)?;
            expand_config(&mut config, Some(known))?;
            resume(&path, checkpoint, config, stop)
        }
    }
}

fn start(config: RunConfig, config_path: &Path, stop: StopFlag) -> Result<Outcome> {
    check_places(&config)?;
    let device = training_device(&config.training)?;
    let written = config::read_text(config_path)?;
    let setup = fresh_setup(config, &device)?;
    train(Session::fresh(setup, &written, device, stop, written_by())?)
}

fn resume(path: &Path, checkpoint: Checkpoint, config: RunConfig, stop: StopFlag) -> Result<Outcome> {
    check_places(&config)?;
    let device = training_device(&config.training)?;
    prepare_when_absent(&config, OnChange::Warn)?;
    let metadata = checkpoint.metadata.clone();
    let setup = Setup::resumed(config, checkpoint.with_base(&base_folders)?, &device)?;
    train(Session::resume(setup, path, &metadata, device, stop, written_by())?)
}

fn train(session: Session) -> Result<Outcome> {
    session.run(|run, config| HubUploads::start(run, &config.hub))
}

/// Resumes from the checkpoint that the config names; the two must agree on everything that affects the updates.
fn resume_with(path: &Path, mut config: RunConfig, stop: StopFlag) -> Result<Outcome> {
    let checkpoint = read_checkpoint(path)?;
    keep_commits(&mut config.model, &checkpoint.metadata.config.model);
    if let Some(key) = config::first_unsafe_difference(&checkpoint.metadata.config, &config) {
        return Err(usage_error(
            format!("{key} in the config is not what the checkpoint {} was trained with", path.display()),
            "set it back, or remove training.resume_from to start a new run",
        ));
    }
    if config.model.brings_decoder() {
        // What the pretrained model brought is in the checkpoint; where the user wrote it, it is the same.
        config.tokenizer = checkpoint.metadata.config.tokenizer.clone();
        config.model.decoder = checkpoint.metadata.config.model.decoder.clone();
    }
    resume(path, checkpoint, config, stop)
}

/// What `--resume` names.
fn find_checkpoint(named: &Path, overrides: &[String]) -> Result<(PathBuf, Checkpoint)> {
    let (path, checkpoint) = if named == Path::new(AUTO) && !named.exists() {
        let output = match config::overridden_text(overrides, "output_dir")? {
            Some(written) => expand(Path::new(&written))?,
            None => RunConfig::default().output_dir,
        };
        latest_of_runs(&output, read_checkpoint)?
    } else if named.is_dir() {
        latest_in_run(named, read_checkpoint)?
    } else {
        return Ok((named.to_owned(), read_checkpoint(named)?));
    };
    terminal::message(&format!("from        {}", path.display()));
    Ok((path, checkpoint))
}

/// Fills in what follows from the config file's name, the data set's, and the home folder.
pub(crate) fn settle(mut config: RunConfig, path: &Path) -> Result<RunConfig> {
    if config.name.is_none() {
        config.name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    }
    if config.data.directory.is_none() {
        let dataset = config.data.dataset.as_ref().context("neither data.dataset nor data.directory is set")?;
        config.data.directory = Some(Path::new("data").join(dataset));
    }
    expand_config(&mut config, None)?;
    settle_revisions(&mut config)?;
    Ok(config)
}

/// The checkpoint of `training.resume_from`; `None` when it is not set, or not there.
fn resume_point(config: &RunConfig) -> Option<PathBuf> {
    let path = config.training.resume_from.as_ref().filter(|path| !path.as_os_str().is_empty())?;
    if path.exists() {
        return Some(path.clone());
    }
    terminal::warning(&format!(
        "the checkpoint of training.resume_from, {}, does not exist: training from scratch",
        visible::line(&path.to_string_lossy())
    ));
    None
}

/// Data, encoder and model of a new run, from a settled config.
pub(crate) fn fresh_setup(mut config: RunConfig, device: &Device) -> Result<Setup> {
    prepare_when_absent(&config, OnChange::Refuse)?;
    let folders = model_folders(&mut config.model)?;
    Setup::fresh(config, &folders, device)
}

fn prepare_when_absent(config: &RunConfig, on_change: OnChange) -> Result<()> {
    match (&config.data.dataset, &config.data.directory) {
        (Some(name), Some(directory)) => {
            dataset_source::ensure(name, directory, config.data.source.as_deref(), on_change)
        }
        _ => Ok(()),
    }
}

/// Finds mistakes in where the run is logged and uploaded to, before anything else is done.
fn check_places(config: &RunConfig) -> Result<()> {
    tracking::check(config)?;
    match &config.hub.repo {
        Some(repo) if config.hub.upload != HubUpload::Never => hub::check_target(repo),
        _ => Ok(()),
    }
}
