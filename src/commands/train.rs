//! `caption-train --config` and `caption-train --resume`: trains a model from a config, or goes on from a checkpoint.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use candle_core::Device;

use crate::commands::caption_at_end::{Images, caption_at_end};
use crate::commands::dataset_source::{self, OnChange};
use crate::commands::device::training_device;
use crate::commands::given_paths::expand_config;
use crate::commands::hub_uploads::HubUploads;
use crate::commands::model_source::model_folders;
use crate::commands::report;
use crate::commands::signals::{STOPPED as STOPPED_CODE, watch_signals};
use crate::commands::trackers::{self, Trackers};
use crate::commands::version::written_by;
use crate::config::{self, RunConfig};
use crate::run::checkpoint::layout::{CheckpointMetadata, Provenance, best_file_name};
use crate::run::checkpoint::newest::{newest_in_run, newest_of_runs};
use crate::run::checkpoint::reader::{Checkpoint, read_checkpoint, read_metadata, verify};
use crate::run::environment::Process;
use crate::run::image_cache;
use crate::run::report_data::{FAILED, STOPPED};
use crate::run::room::{disk_complaint, memory_complaint};
use crate::run::run_directory::{Claim, RunDirectory};
use crate::run::setup::Setup;
use crate::run::tracking::Observers;
use crate::run::tracking::checkpoints::CheckpointKeeper;
use crate::run::tracking::console::Console;
use crate::run::tracking::log_lines::LogLines;
use crate::run::tracking::ownership::WhileOwned;
use crate::tokenizer::CaptionTokenizer;
use crate::training::collective::Alone;
use crate::training::events::{Event, Observer as _, SavePoint};
use crate::training::trainer::{Outcome, Trainer, TrainingData};
use base::fault::{WithHint as _, fault, one_line, usage};
use base::home::expand;
use base::quoting::shell_path;
use base::stop::StopFlag;
use base::team::Team;
use base::terminal;
use base::{atomic_file, memory, visible};

/// What to train.
#[derive(Clone, Debug)]
pub enum TrainRequest {
    /// A new run of this config file.
    Config(PathBuf),
    /// A run that goes on from this checkpoint, from the newest whole one of the run in this folder, or (`auto`) of the
    /// newest run.
    Resume(PathBuf),
}

/// Trains; says whether the run was completed or stopped.
///
/// # Errors
/// Everything that can be wrong with config, data, encoder, checkpoint or disk.
pub fn run(request: &TrainRequest, overrides: &[String]) -> Result<Outcome> {
    let stop = watch_signals("stopped before the run began; the same command goes on where this one stopped")?;
    match request {
        TrainRequest::Config(path) => {
            let config = settle(config::load(path, overrides)?, path)?;
            match resume_point(&config) {
                Some(checkpoint) => resume_with(&checkpoint, config, &stop),
                None => start(config, path, &stop),
            }
        }
        TrainRequest::Resume(path) => {
            let (path, checkpoint) = find_checkpoint(path, overrides)?;
            let known = &checkpoint.metadata.config;
            let mut config = config::apply_safe_overrides(known, overrides)?;
            expand_config(&mut config, Some(known))?;
            go_on(&path, checkpoint, config, &stop)
        }
    }
}

/// What `--resume` names.
fn find_checkpoint(named: &Path, overrides: &[String]) -> Result<(PathBuf, Checkpoint)> {
    let (path, checkpoint) = if named == Path::new(AUTO) && !named.exists() {
        let output = match config::overridden_text(overrides, "output_dir")? {
            Some(written) => expand(Path::new(&written))?,
            None => RunConfig::default().output_dir,
        };
        newest_of_runs(&output, read_checkpoint)?
    } else if named.is_dir() {
        newest_in_run(named, read_checkpoint)?
    } else {
        return Ok((named.to_owned(), read_checkpoint(named)?));
    };
    terminal::message(&format!("from        {}", path.display()));
    Ok((path, checkpoint))
}

/// What stands for the newest run.
const AUTO: &str = "auto";

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
    Ok(config)
}

/// The checkpoint of `training.resume_from`; nothing when it is not set, or not there.
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
pub(crate) fn fresh_setup(config: RunConfig, device: &Device) -> Result<Setup> {
    prepare_when_absent(&config, OnChange::Refuse)?;
    let folders = model_folders(&config.model)?;
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

fn start(config: RunConfig, config_path: &Path, stop: &StopFlag) -> Result<Outcome> {
    trackers::check(&config)?;
    let device = training_device(&config.training)?;
    let written = config::read_text(config_path)?;
    let setup = fresh_setup(config, &device)?;
    stop.attend();
    let team = team_of(&setup)?;
    let run = create_run(&setup)?;
    run.write("config.toml", &written)?;
    if let Some(directory) = &setup.plan.config.tokenizer.directory
        && !CaptionTokenizer::is_in(directory)
    {
        setup.tokenizer.save(directory)?;
    }
    train(setup, team, &run, device, stop)
}

fn create_run(setup: &Setup) -> Result<RunDirectory> {
    let config = &setup.plan.config;
    let run = RunDirectory::create(&config.output_dir, config.name.as_deref().unwrap_or("run"))?;
    run.write("config.resolved.toml", &config::to_toml(config))?;
    setup.tokenizer.save(&run.tokenizer())?;
    Ok(run)
}

/// Goes on with the checkpoint that the config names; the two must agree on all that makes the run what it is.
fn resume_with(path: &Path, mut config: RunConfig, stop: &StopFlag) -> Result<Outcome> {
    let checkpoint = read_checkpoint(path)?;
    if let Some(key) = config::first_unsafe_difference(&checkpoint.metadata.config, &config) {
        return Err(usage(
            format!("{key} in the config is not what the checkpoint {} was trained with", path.display()),
            "set it back, or remove training.resume_from to start a new run",
        ));
    }
    if config.model.brings_decoder() {
        // What the pretrained model brought is in the checkpoint; where a person wrote it, it is the same.
        config.tokenizer = checkpoint.metadata.config.tokenizer.clone();
        config.model.decoder = checkpoint.metadata.config.model.decoder.clone();
    }
    go_on(path, checkpoint, config, stop)
}

fn go_on(path: &Path, checkpoint: Checkpoint, config: RunConfig, stop: &StopFlag) -> Result<Outcome> {
    trackers::check(&config)?;
    let device = training_device(&config.training)?;
    prepare_when_absent(&config, OnChange::Warn)?;
    let metadata = checkpoint.metadata.clone();
    let setup = Setup::resumed(config, checkpoint, &device)?;
    stop.attend();
    if setup.plan.total_updates != metadata.total_updates {
        terminal::warning(&format!(
            "the schedule was laid out for {} updates and is now for {}: the learning rate jumps accordingly",
            metadata.total_updates, setup.plan.total_updates
        ));
    }
    let team = team_of(&setup)?;
    let found = RunDirectory::of_checkpoint(path);
    let in_place = match &found {
        Some(found) if same_output(&metadata, &setup) => claim_in_place(found, &metadata)?,
        _ => None,
    };
    let run = if let Some(run) = in_place {
        // First, since it may be what fills the disk.
        run.remove_unfinished();
        run.rewind_metrics(&setup.state)?;
        run.write("config.resolved.toml", &config::to_toml(&setup.plan.config))?;
        run
    } else {
        let run = create_run(&setup)?;
        if let Some(source) = found {
            bring_best(&source, &run, &setup)?;
        }
        // Whatever happens next, the new folder can be gone on from.
        save_last(&run, &setup)?;
        run
    };
    train(setup, team, &run, device, stop)
}

/// The run's folder for this process alone. `None`: the run is to be resumed in a folder of its own, since another process
/// is at work in this one, or since what came after the checkpoint would be overwritten.
fn claim_in_place(run: &RunDirectory, checkpoint: &CheckpointMetadata) -> Result<Option<RunDirectory>> {
    match run.claim()? {
        Claim::Ours(run) => Ok(Some(run).filter(|run| is_newest(run, checkpoint))),
        Claim::InUse(holder) => {
            terminal::warning(&format!(
                "the run in {} is still being trained or is suspended ({holder}): it is resumed in a new folder",
                run.path().display()
            ));
            Ok(None)
        }
    }
}

/// The threads that train.
fn team_of(setup: &Setup) -> Result<Team> {
    Team::new(setup.plan.num_members, setup.plan.threads_each)
}

/// Whether the run holds no checkpoint that is further than this one.
fn is_newest(run: &RunDirectory, checkpoint: &CheckpointMetadata) -> bool {
    let last = read_metadata(&run.last_checkpoint());
    last.is_ok_and(|(metadata, _)| metadata.state.global_step <= checkpoint.state.global_step)
}

/// Whether the person asked for no other place than the run's own.
fn same_output(checkpoint: &CheckpointMetadata, setup: &Setup) -> bool {
    let (old, new) = (&checkpoint.config, &setup.plan.config);
    old.output_dir == new.output_dir && old.name == new.name
}

/// Takes the best checkpoint so far along into the new run's folder.
fn bring_best(from: &RunDirectory, to: &RunDirectory, setup: &Setup) -> Result<()> {
    let Some(val_loss) = setup.state.best_val_loss else { return Ok(()) };
    let name = best_file_name(setup.state.best_epoch, val_loss);
    let source = from.checkpoints().join(&name);
    if !source.is_file() {
        return Ok(());
    }
    let target = to.checkpoints().join(&name);
    atomic_file::copy(&source, &target)
        .with_context(|| format!("cannot copy {} to {}", source.display(), target.display()))
}

fn train(setup: Setup, team: Team, run: &RunDirectory, device: Device, stop: &StopFlag) -> Result<Outcome> {
    let (log, console) = LogLines::new(run.open_log()?);
    terminal::set_log(Some(Box::new(log)));
    terminal::message(&format!("run         {}", run.path().display()));
    let process = Process::of_this(&setup.plan, written_by());
    let begun = process.note(run).and_then(|()| Trackers::start(&setup, &process, run, console, stop));
    let outcome = begun.inspect_err(log_failure).and_then(|mut trackers| {
        // Before the trackers are told the end: they keep what the log says.
        let outcome = train_logged(setup, team, run, device, stop, &mut trackers).inspect_err(log_failure);
        // What they would write is no longer this process's to write.
        if run.check_owned().is_err() {
            return outcome;
        }
        trackers.finish(match &outcome {
            Ok(Outcome::Completed) => 0,
            Ok(Outcome::Interrupted) => STOPPED_CODE,
            Err(_) => 1,
        });
        outcome
    });
    terminal::set_log(None);
    outcome
}

fn log_failure(error: &anyhow::Error) {
    terminal::detail(&format!("{FAILED}{}", one_line(error)));
}

fn train_logged(
    setup: Setup,
    team: Team,
    run: &RunDirectory,
    device: Device,
    stop: &StopFlag,
    trackers: &mut Trackers,
) -> Result<Outcome> {
    let plan = setup.plan.clone();
    plan.describe().lines().for_each(terminal::message);
    for note in &setup.notes {
        terminal::message(&format!("weights     {note}"));
    }
    for warning in plan.warnings().into_iter().chain(memory_complaint(&setup)).chain(disk_complaint(&setup, run)) {
        terminal::warning(&warning);
    }
    let Some(source) = image_cache::image_source(&setup, &device, &team, &mut || trackers.keep_going(stop))? else {
        // Nothing was trained, but a resume needs a file to go on from.
        save_last(run, &setup)?;
        say_how_to_go_on(run);
        return Ok(Outcome::Interrupted);
    };
    let keeper = checkpoint_keeper(run, &setup)?;
    let (caption_images, captioned) = (setup.caption_images(), setup.captioned_split());
    let Setup { dataset, split, tokenizer, parameters, optimizer, state, train, val, .. } = setup;
    let pad_id = tokenizer.special_ids().pad;
    let data = TrainingData { train: Arc::new(train), val: Arc::new(val), source, pad_id, captioned };
    let collective = Box::new(Alone);
    let mut trainer = Trainer { plan, data, parameters, optimizer, state, device: device.clone(), team, collective };
    let mut uploads = HubUploads::start(run, &trainer.plan.config.hub)?;
    let mut observers = Observers(vec![Box::new(Console::default())]);
    observers.0.extend(trackers.observers(run, &trainer.plan.config)?);
    // Behind the others: what they hold is written when a checkpoint says that it is.
    observers.0.push(Box::new(keeper));
    if let Some(uploads) = &mut uploads {
        observers.0.push(Box::new(uploads));
    }
    let mut observers = WhileOwned::new(run.clone(), observers);
    let outcome = trainer.run(&mut observers, stop).hint(|| last_good(run))?;
    drop(observers);
    if outcome == Outcome::Interrupted {
        say_how_to_go_on(run);
        return Ok(outcome);
    }
    let best = best_checkpoint(run, &trainer)?;
    terminal::message(&format!("best model  {}", best.display()));
    if !caption_images.is_empty() {
        let images = Images { dataset: &dataset, captioned: &caption_images, train: &split.train };
        let keep_going = || trackers.keep_going(stop);
        let Some(scores) = caption_at_end(run, &best, &images, &tokenizer, &trainer, keep_going)? else {
            terminal::warning("captioning was stopped; the model is complete");
            say_how_to_go_on(run);
            return Ok(Outcome::Interrupted);
        };
        trackers.scores(trainer.plan.config.evaluation.caption_split.as_deref().unwrap_or_default(), &scores);
    }
    write_report(run);
    if let Some(uploads) = uploads {
        uploads.finish(&best, || trackers.keep_going(stop));
    }
    summarise(run, &best);
    Ok(Outcome::Completed)
}

fn checkpoint_keeper(run: &RunDirectory, setup: &Setup) -> Result<CheckpointKeeper> {
    let plan = &setup.plan;
    let provenance = Provenance {
        written_by: written_by(),
        total_updates: plan.total_updates,
        config: plan.config.clone(),
        shape: plan.shape.clone(),
        image_processor: setup.processor.clone(),
        tokenizer: setup.tokenizer.to_json()?,
        dataset_digest: setup.dataset.digest.clone(),
    };
    Ok(CheckpointKeeper::new(run.clone(), provenance))
}

fn save_last(run: &RunDirectory, setup: &Setup) -> Result<()> {
    let (state, parameters, optimizer) = (&setup.state, &setup.parameters, &setup.optimizer);
    checkpoint_keeper(run, setup)?.observe(&Event::Save { point: SavePoint::Last, state, parameters, optimizer })
}

fn best_checkpoint(run: &RunDirectory, trainer: &Trainer) -> Result<PathBuf> {
    let state = &trainer.state;
    let best = state.best_val_loss.map(|loss| run.checkpoints().join(best_file_name(state.best_epoch, loss)));
    let path = match best {
        Some(path) if path.is_file() => path,
        Some(path) => {
            terminal::warning(&format!("the best checkpoint {} is not there: using the newest", path.display()));
            run.last_checkpoint()
        }
        None => run.last_checkpoint(),
    };
    if !path.is_file() {
        return Err(fault(
            format!("the run left no checkpoint in {}", run.checkpoints().display()),
            "was the folder changed while the run went on?",
        ));
    }
    Ok(path)
}

/// Where a run that failed can be gone on from.
fn last_good(run: &RunDirectory) -> String {
    match newest_in_run(run.path(), verify) {
        Ok((path, metadata)) => {
            format!("the last good checkpoint is {}, behind update {}", path.display(), metadata.state.global_step)
        }
        Err(error) => format!("no checkpoint of the run can be gone on from: {error:#}"),
    }
}

fn say_how_to_go_on(run: &RunDirectory) {
    say_peak_memory();
    terminal::message(&format!("{STOPPED}caption-train --resume {}", shell_path(&run.last_checkpoint())));
}

fn say_peak_memory() {
    if let Some(bytes) = memory::peak_resident_bytes() {
        terminal::message(&format!("peak memory {:.2} GB", bytes as f64 / 1e9));
    }
}

/// A run is complete without its page.
fn write_report(run: &RunDirectory) {
    let path = run.path().join(report::REPORT_FILE);
    match report::write(run, &path, report::NUM_IMAGES) {
        Ok(()) => terminal::message(&format!("report      {}", path.display())),
        Err(error) => terminal::warning(&format!("there is no report: {}", one_line(&error))),
    }
}

fn summarise(run: &RunDirectory, best: &Path) {
    say_peak_memory();
    terminal::message(&format!(
        "done; everything is in {}. Caption a picture of your own, or try the model on a page on this machine:\n  \
         caption-train caption --checkpoint {best} PICTURE\n  caption-train serve --checkpoint {best}",
        run.path().display(),
        best = shell_path(best)
    ));
}
