//! `caption-train --config` and `caption-train --resume`: trains a model from a config, or resumes from a checkpoint.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context as _, Result};
use candle_core::Device;

use crate::commands::dataset_source::{self, OnChange};
use crate::commands::given_paths::expand_config;
use crate::commands::hub_uploads::HubUploads;
use crate::commands::model_source::{base_folders, keep_commits, model_folders, settle_revisions};
use crate::commands::processes::Connected;
use crate::commands::shards;
use crate::commands::signals::watch_signals;
use crate::commands::version::written_by;
use crate::config::{self, HubUpload, RunConfig};
use crate::run::agreement;
use crate::run::checkpoint::find_latest::{best_in_run, latest_in_run, latest_of_runs};
use crate::run::checkpoint::reader::{Checkpoint, read_checkpoint, read_model};
use crate::run::session::Session;
use crate::run::session::follower::follow;
use crate::run::setup::Setup;
use crate::run::tracking;
use crate::training::collective::{Collective, agreed, in_turns};
use crate::training::trainer::Outcome;
use base::bounded_file;
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

/// Trains, together with the processes that were started with this one; says whether the run was completed or stopped.
///
/// # Errors
/// Everything that can be wrong with config, data, encoder, checkpoint or disk; a process that is gone.
pub(crate) fn run(request: &TrainRequest, overrides: &[String], processes: &Connected) -> Result<Outcome> {
    processes.part(train(request, overrides, processes))
}

fn train(request: &TrainRequest, overrides: &[String], processes: &Connected) -> Result<Outcome> {
    let stop = watch_signals("stopped before the run began; run the same command to continue")?;
    let collective = &*processes.collective;
    match request {
        TrainRequest::Config(path) => {
            let config = in_turns(collective, "read the config", || settle(config::load(path, overrides)?, path))?;
            match agree_on(collective, resume_point(&config))? {
                Some(checkpoint) => resume_with(&checkpoint, config, processes, stop),
                None => start(config, path, processes, stop),
            }
        }
        TrainRequest::Resume(named) => {
            let found = if collective.is_main() { find_checkpoint(named, overrides).map(Some) } else { Ok(None) };
            let found = agreed(collective, "find the checkpoint", found)?;
            let path = agree_on(collective, found.as_ref().map(|(path, _)| path.clone()))?;
            let path = path.context("the main process found a checkpoint")?;
            let checkpoint = everywhere(collective, &path, found.map(|(_, checkpoint)| checkpoint))?;
            let known = &checkpoint.metadata.config;
            let mut config = config::apply_safe_overrides(known, overrides)?;
            expand_config(&mut config, Some(known))?;
            resume(&path, checkpoint, config, processes, stop)
        }
    }
}

/// The path that the main process has found.
fn agree_on(collective: &dyn Collective, path: Option<PathBuf>) -> Result<Option<PathBuf>> {
    let mut bytes = path.map(|path| path.into_os_string().into_encoded_bytes()).unwrap_or_default();
    collective.broadcast(&mut bytes)?;
    let text =
        String::from_utf8(bytes).context("the path of the checkpoint is no UTF-8, which several processes need")?;
    Ok(Some(text).filter(|text| !text.is_empty()).map(PathBuf::from))
}

/// The checkpoint that the main process has read (`read`), in every process: from the same path, or, where that machine
/// does not have the file, as the main process sends it.
fn everywhere(collective: &dyn Collective, path: &Path, read: Option<Checkpoint>) -> Result<Checkpoint> {
    let known = read.as_ref().map(|checkpoint| checkpoint.metadata.tensors_digest.clone()).unwrap_or_default();
    let mut digest = known.into_bytes();
    collective.broadcast(&mut digest)?;
    let is_known = |checkpoint: &Checkpoint| checkpoint.metadata.tensors_digest.as_bytes() == digest;
    let mut here = read.or_else(|| read_checkpoint(path).ok().filter(is_known));
    if collective.any(here.is_none())? {
        let read = if collective.is_main() { bounded_file::read(path, u64::MAX) } else { Ok(Vec::new()) };
        let read = read.with_context(|| format!("cannot read {}", path.display()));
        let mut bytes = agreed(collective, "read the checkpoint again", read)?;
        collective.broadcast(&mut bytes)?;
        if here.is_none() {
            let copy = tempfile::Builder::new().prefix("caption-train-").suffix(".safetensors").tempfile();
            let mut copy = copy.context("cannot keep the checkpoint that the main process sent")?;
            copy.write_all(&bytes).with_context(|| format!("cannot write {}", copy.path().display()))?;
            here = Some(read_checkpoint(copy.path())?);
        }
    }
    here.context("the checkpoint was read")
}

fn start(config: RunConfig, config_path: &Path, processes: &Connected, stop: StopFlag) -> Result<Outcome> {
    check_places(&config)?;
    let device = processes.device(&config.training)?;
    let written = config::read_text(config_path)?;
    let setup = fresh_setup(config, &device, &*processes.collective)?;
    let make = |setup, device| {
        Session::fresh(setup, &written, device, Rc::clone(&processes.collective), stop.clone(), written_by())
    };
    go(setup, device, processes, &stop, make)
}

fn resume(
    path: &Path,
    checkpoint: Checkpoint,
    config: RunConfig,
    processes: &Connected,
    stop: StopFlag,
) -> Result<Outcome> {
    checkpoint.metadata.check_resumable(path)?;
    check_places(&config)?;
    let collective = &*processes.collective;
    let device = processes.device(&config.training)?;
    in_turns(collective, PREPARE, || prepare_when_absent(&config, OnChange::Warn))?;
    let metadata = checkpoint.metadata.clone();
    let read = |checkpoint: Checkpoint| {
        Setup::resumed(config.clone(), checkpoint.with_base(&base_folders)?, &device, collective.size())
    };
    let mut setup = agreed(collective, SET_UP, read(checkpoint))?;
    setup.read_start(&base_folders, &device);
    // All of them compare, or none.
    if collective.any(setup.start_parameters.is_none())? {
        setup.start_parameters = None;
    }
    let make = |setup, device| {
        let collective = Rc::clone(&processes.collective);
        Session::resume(setup, path, &metadata, device, collective, stop.clone(), written_by())
    };
    go(setup, device.clone(), processes, &stop, make)
}

/// Trains: the main process with the run that `make` opens, the others as it needs them.
fn go(
    setup: Setup,
    device: Device,
    processes: &Connected,
    stop: &StopFlag,
    make: impl FnOnce(Setup, Device) -> Result<Session>,
) -> Result<Outcome> {
    let collective = &processes.collective;
    processes.reduce_by(setup.plan.config.training.reduction);
    agreement::check(&setup, &**collective, &written_by())?;
    if !collective.is_main() {
        agreed(&**collective, OPEN, Ok(()))?;
        return follow(setup, device, Rc::clone(collective), stop);
    }
    let session = agreed(&**collective, OPEN, make(setup, device))?;
    session.run(|run, config| HubUploads::start(run, &config.hub))
}

/// What a process may fail to do, so that the others stop too.
const PREPARE: &str = "prepare the data set";
const SET_UP: &str = "put the run together";
const OPEN: &str = "open the run";

/// Resumes from the checkpoint that the config names; the two must agree on everything that affects the updates.
fn resume_with(path: &Path, mut config: RunConfig, processes: &Connected, stop: StopFlag) -> Result<Outcome> {
    let collective = &*processes.collective;
    let read = if collective.is_main() { read_checkpoint(path).map(Some) } else { Ok(None) };
    let checkpoint = everywhere(collective, path, agreed(collective, "read the checkpoint", read)?)?;
    // What the run decided when it began.
    config.training.parts = config.training.parts.or(checkpoint.metadata.config.training.parts);
    config.training.batch_by = config.training.batch_by.or(checkpoint.metadata.config.training.batch_by);
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
    resume(path, checkpoint, config, processes, stop)
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
        config.data.directory = Some(Path::new("data").join(hub::ModelId::split(dataset).0));
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
pub(crate) fn fresh_setup(mut config: RunConfig, device: &Device, collective: &dyn Collective) -> Result<Setup> {
    in_turns(collective, PREPARE, || prepare_when_absent(&config, OnChange::Refuse))?;
    if let Some(scst) = &config.training.scst {
        let named = scst.checkpoint.clone();
        let found = if collective.is_main() { starting_point(&named).map(Some) } else { Ok(None) };
        let found = agreed(collective, "find the checkpoint to begin from", found)?;
        let path = agree_on(collective, found.as_ref().map(|(path, _)| path.clone()))?;
        let path = path.context("the main process found a checkpoint")?;
        let checkpoint = everywhere(collective, &path, found.map(|(_, checkpoint)| checkpoint))?;
        let continued = |checkpoint: Checkpoint| {
            Setup::continued(config, checkpoint.with_base(&base_folders)?, &path, device, collective.size())
        };
        return agreed(collective, SET_UP, continued(checkpoint));
    }
    let folders = in_turns(collective, "find the model to start from", || model_folders(&mut config.model))?;
    agreed(collective, SET_UP, Setup::fresh(config, &folders, device, collective.size()))
}

/// The checkpoint file of `training.scst.checkpoint`, or the best of the run in that folder.
fn starting_point(named: &Path) -> Result<(PathBuf, Checkpoint)> {
    let path = if named.is_dir() { best_in_run(named)? } else { named.to_owned() };
    let checkpoint = read_model(&path).with_context(|| format!("cannot begin from {}", path.display()))?;
    Ok((path, checkpoint))
}

fn prepare_when_absent(config: &RunConfig, on_change: OnChange) -> Result<()> {
    match (&config.data.dataset, &config.data.directory) {
        (_, Some(directory)) if !config.data.shards.is_empty() => {
            shards::ensure(&config.data.shards, directory, on_change)
        }
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
