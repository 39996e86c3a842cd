//! The loop as a library, stopped or broken at chosen moments and resumed.

use std::path::Path;
use std::rc::Rc;

use anyhow::bail;
use base::stop::StopFlag;
use base::worker_pools::WorkerPools;
use candle_core::Device;
use caption_train::config;
use caption_train::data::image_source::ImageSource;
use caption_train::run::checkpoint::keeper::CheckpointKeeper;
use caption_train::run::checkpoint::reader::read_checkpoint;
use caption_train::run::initial_model::ModelFolders;
use caption_train::run::run_directory::RunDirectory;
use caption_train::run::setup::Setup;
use caption_train::training::collective::Alone;
use caption_train::training::events::{Event, Observer};
use caption_train::training::trainer::Outcome;

use crate::support::{last_checkpoint, small_config};

/// What an interruption at an event does.
pub(crate) enum Then {
    Continue,
    Stop,
    Fail,
}

/// Writes down the losses, and interrupts.
struct Watcher<F> {
    stop: StopFlag,
    decide: F,
    /// Update or epoch, and the bits of its loss.
    steps: Vec<(u64, u64)>,
    validations: Vec<(u64, u64)>,
}

impl<F: FnMut(&Event<'_>) -> Then> Observer for Watcher<F> {
    fn observe(&mut self, event: &Event<'_>) -> anyhow::Result<()> {
        match event {
            Event::Step(record) => self.steps.push((record.step, record.loss.unwrap().to_bits())),
            Event::Validated { state, val_loss, .. } => self.validations.push((state.epoch, val_loss.to_bits())),
            _ => {}
        }
        match (self.decide)(event) {
            Then::Continue => {}
            Then::Stop => self.stop.raise(),
            Then::Fail => bail!("an observer failed"),
        }
        Ok(())
    }
}

pub(crate) type Losses = Vec<(u64, u64)>;

/// Runs the loop with two members; gives how it ended, the losses of its updates and those of its validations.
pub(crate) fn run(
    setup: Setup,
    folder: &RunDirectory,
    decide: impl FnMut(&Event<'_>) -> Then,
) -> (anyhow::Result<Outcome>, Losses, Losses) {
    let stop = StopFlag::default();
    let source = ImageSource::files(setup.image_files(), setup.plan.views());
    let mut keeper = CheckpointKeeper::new(folder.clone(), setup.checkpoint_metadata("a test".to_owned()).unwrap());
    let mut watcher = Watcher { stop: stop.clone(), decide, steps: Vec::new(), validations: Vec::new() };
    let mut trainer = setup.into_trainer(source, Device::Cpu, WorkerPools::new(2, 1).unwrap(), Rc::new(Alone));
    let outcome = trainer.run(&mut watcher, &mut keeper, &stop);
    (outcome, watcher.steps, watcher.validations)
}

pub(crate) fn fresh(folder: &Path, extra: &str) -> Setup {
    let text = small_config(folder)
        .replace("batch_size = 32", "batch_size = 500")
        .replace("num_epochs = 1", &format!("num_epochs = 2\n{extra}"));
    Setup::fresh(config::parse(&text, "test", &[]).unwrap(), &ModelFolders::default(), &Device::Cpu, 1).unwrap()
}

fn resumed(folder: &RunDirectory) -> Setup {
    let checkpoint = read_checkpoint(&last_checkpoint(folder.path())).unwrap();
    let config = checkpoint.metadata.config.clone();
    Setup::resumed(config, checkpoint, &Device::Cpu, 1).unwrap()
}

pub(crate) fn directory(folder: &Path) -> RunDirectory {
    RunDirectory::create(folder, "run").unwrap()
}

/// A moment in a run.
type Moment = fn(&Event<'_>) -> bool;

#[test]
fn a_stop_at_any_moment_changes_no_later_loss_and_repeats_none() {
    let folder = tempfile::tempdir().unwrap();
    let (outcome, steps, validations) = run(fresh(folder.path(), ""), &directory(folder.path()), |_| Then::Continue);
    assert_eq!(outcome.unwrap(), Outcome::Completed);
    // 2000 pairs in batches of 500, two epochs.
    assert_eq!((steps.len(), validations.len()), (8, 2));
    let moments: [(&str, Moment); 6] = [
        ("first update", |event| matches!(event, Event::Step(record) if record.step == 1)),
        ("an epoch's last update", |event| matches!(event, Event::Step(record) if record.step == 4)),
        ("between training and validation", |event| matches!(event, Event::EpochTrained { .. })),
        ("inside the validation", |event| matches!(event, Event::ValidationStarted { .. })),
        ("while the validation captions", |event| matches!(event, Event::ImagesCaptioned { .. })),
        ("end of the validation", |event| matches!(event, Event::Validated { .. })),
    ];
    for (name, moment) in moments {
        let folder = tempfile::tempdir().unwrap();
        let directory = directory(folder.path());
        let decide = |event: &Event<'_>| if moment(event) { Then::Stop } else { Then::Continue };
        let (outcome, mut found_steps, mut found_validations) = run(fresh(folder.path(), ""), &directory, decide);
        assert_eq!(outcome.unwrap(), Outcome::Interrupted, "{name}");
        assert!(found_steps.len() < 8, "{name}: nothing was left to do");
        let (outcome, more_steps, more_validations) = run(resumed(&directory), &directory, |_| Then::Continue);
        assert_eq!(outcome.unwrap(), Outcome::Completed, "{name}");
        found_steps.extend(more_steps);
        found_validations.extend(more_validations);
        assert_eq!(found_steps, steps, "{name}");
        assert_eq!(found_validations, validations, "{name}");
    }
}

#[test]
fn a_crash_costs_only_the_updates_since_the_last_save_point() {
    let folder = tempfile::tempdir().unwrap();
    let extra = "save_interval = 2";
    let (_, steps, _) = run(fresh(folder.path(), extra), &directory(folder.path()), |_| Then::Continue);
    let folder = tempfile::tempdir().unwrap();
    let directory = directory(folder.path());
    let third = |event: &Event<'_>| matches!(event, Event::Step(record) if record.step == 3);
    let decide = |event: &Event<'_>| if third(event) { Then::Fail } else { Then::Continue };
    let (outcome, before, _) = run(fresh(folder.path(), extra), &directory, decide);
    assert_eq!(outcome.unwrap_err().to_string(), "an observer failed");
    assert_eq!(before, steps[..3]);
    let (_, after, _) = run(resumed(&directory), &directory, |_| Then::Continue);
    assert_eq!(after, steps[2..]);
}

#[test]
fn a_folder_of_checkpoints_that_vanishes_stops_the_run_with_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let directory = directory(folder.path());
    let decide = |event: &Event<'_>| {
        if matches!(event, Event::Step(record) if record.step == 3) {
            std::fs::remove_dir_all(directory.checkpoints()).unwrap();
        }
        Then::Continue
    };
    let (outcome, steps, _) = run(fresh(folder.path(), "save_interval = 2"), &directory, decide);
    let message = format!("{:#}", outcome.unwrap_err());
    assert!(message.contains("cannot write the checkpoint") && message.contains("hint: "), "{message}");
    assert_eq!(steps.len(), 4);
}

#[test]
fn ten_updates_in_a_row_that_are_not_finite_end_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let mut setup = fresh(folder.path(), "");
    setup.plan.config.training.batch_size = 100;
    let (_, norm) = setup.parameters.trainable().find(|(name, _)| name.ends_with("ln_f.weight")).unwrap();
    norm.set(&(norm.as_tensor() * f64::NAN).unwrap()).unwrap();
    let (outcome, steps, _) = run(setup, &directory(folder.path()), |_| Then::Continue);
    let message = format!("{:#}", outcome.unwrap_err());
    assert!(message.contains("not finite in 10 updates in a row"), "{message}");
    assert_eq!(steps.len(), 10);
}
