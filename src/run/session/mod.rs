//! A run from its folder to its end: log, trackers, checkpoints, captions at the end, report.

mod ending;
mod final_captions;
mod folder;
pub mod follower;

use std::path::Path;
use std::rc::Rc;
use std::sync::mpsc::Receiver;

use anyhow::Result;
use candle_core::Device;

use crate::config::RunConfig;
use crate::run::capacity::{disk_complaint, memory_complaint};
use crate::run::checkpoint::keeper::CheckpointKeeper;
use crate::run::checkpoint::layout::CheckpointMetadata;
use crate::run::environment::Process;
use crate::run::image_cache;
use crate::run::run_directory::RunDirectory;
use crate::run::setup::Setup;
use crate::run::status::RunStatus;
use crate::run::tracking::console::Console;
use crate::run::tracking::jsonl::JsonLines;
use crate::run::tracking::log_lines::{LogLine, LogLines};
use crate::run::tracking::ownership::WhileOwned;
use crate::run::tracking::tracker::TrackerContext;
use crate::run::tracking::{Observers, Trackers};
use crate::tokenizer::CaptionTokenizer;
use crate::training::checkpointer::{Checkpointer as _, SavePoint};
use crate::training::collective::Collective;
use crate::training::events::Observer;
use crate::training::trainer::Outcome;
use base::credentials::hidden;
use base::error::{WithHint as _, one_line};
use base::stop::{EXIT_CODE, StopFlag};
use base::terminal;
use base::worker_pools::WorkerPools;
use final_captions::FinalCaptions;

/// A run that is ready to train in its folder, which no other process writes.
pub struct Session {
    setup: Setup,
    run: RunDirectory,
    device: Device,
    pools: WorkerPools,
    collective: Rc<dyn Collective>,
    stop: StopFlag,
    /// Program and version, as files record it.
    written_by: String,
}

/// Takes models elsewhere while a run trains. Its failures are warnings of its own.
pub trait Uploads: Observer {
    /// Uploads the final model, with the scores that are known by now, and waits until all is done, or until
    /// `keep_going`, which is asked now and then, says no.
    fn finish(self: Box<Self>, best: &Path, keep_going: &mut dyn FnMut() -> bool);
}

impl Session {
    /// A new run in a new folder; `written` is its config as the user wrote it.
    ///
    /// # Errors
    /// Threads that cannot be started, a folder that cannot be created.
    pub fn fresh(
        setup: Setup,
        written: &str,
        device: Device,
        collective: Rc<dyn Collective>,
        stop: StopFlag,
        written_by: String,
    ) -> Result<Self> {
        stop.attend();
        let pools = pools_of(&setup)?;
        let run = folder::create(&setup)?;
        run.write("config.toml", written)?;
        if let Some(directory) = &setup.plan.config.tokenizer.directory
            && !CaptionTokenizer::is_in(directory)
        {
            setup.tokenizer.save(directory)?;
        }
        Ok(Self { setup, run, device, pools, collective, stop, written_by })
    }

    /// Resumes the run of the file `checkpoint`, whose metadata are `metadata`: in its folder if nothing there would be
    /// lost and no other process writes there, else in a new one.
    ///
    /// # Errors
    /// As [`Session::fresh`]; a folder that cannot be written.
    pub fn resume(
        setup: Setup,
        checkpoint: &Path,
        metadata: &CheckpointMetadata,
        device: Device,
        collective: Rc<dyn Collective>,
        stop: StopFlag,
        written_by: String,
    ) -> Result<Self> {
        stop.attend();
        if setup.plan.total_updates != metadata.total_updates {
            terminal::warning(&format!(
                "the schedule was planned for {} updates and now has {}: the learning rate jumps accordingly",
                metadata.total_updates, setup.plan.total_updates
            ));
        }
        let pools = pools_of(&setup)?;
        let former = RunDirectory::of_checkpoint(checkpoint);
        if let Some(former) = &former
            && let Some(run) = folder::claim_in_place(former, metadata, &setup)?
        {
            folder::rewind(&run, &setup)?;
            return Ok(Self { setup, run, device, pools, collective, stop, written_by });
        }
        let run = folder::create(&setup)?;
        if let Some(former) = former {
            folder::bring_best(&former, &run, &setup)?;
        }
        let session = Self { setup, run, device, pools, collective, stop, written_by };
        // Whatever happens next, the new folder can be resumed.
        session.save_last(&mut session.checkpointer()?)?;
        Ok(session)
    }

    fn config(&self) -> &RunConfig {
        &self.setup.plan.config
    }

    /// Trains, and does what comes after the last epoch. How the run ended is in its folder, its log and its trackers.
    /// `uploads` starts the uploads of the best model, if there are any.
    ///
    /// # Errors
    /// Errors of training; a disk that cannot be written.
    pub fn run(
        self,
        uploads: impl FnOnce(&RunDirectory, &RunConfig) -> Result<Option<Box<dyn Uploads>>>,
    ) -> Result<Outcome> {
        let (log, lines) = LogLines::new(self.run.open_log()?);
        terminal::set_log(Some(Box::new(log)));
        terminal::message(&format!("run         {}", self.run.path().display()));
        let ended = self.run_logged(lines, uploads);
        terminal::set_log(None);
        Ok(match ended? {
            RunStatus::Interrupted { .. } => Outcome::Interrupted,
            _ => Outcome::Completed,
        })
    }

    fn run_logged(
        self,
        lines: Receiver<LogLine>,
        uploads: impl FnOnce(&RunDirectory, &RunConfig) -> Result<Option<Box<dyn Uploads>>>,
    ) -> Result<RunStatus> {
        let run = self.run.clone();
        let mut trackers = None;
        let ended = match self.begin(lines) {
            Ok(started) => {
                uploads(&run, self.config()).and_then(|uploads| self.train(trackers.insert(started), uploads))
            }
            Err(error) => Err(error),
        };
        // A failure is logged before the trackers learn of the end: they keep what the log says.
        let ended = ended.inspect_err(log_failure);
        // Another process owns the folder now.
        if run.check_owned().is_err() {
            return ended;
        }
        let (status, exit_code) = match &ended {
            Ok(status @ RunStatus::Interrupted { .. }) => (status.clone(), EXIT_CODE.into()),
            Ok(status) => (status.clone(), 0),
            Err(error) => (RunStatus::Failed { message: hidden(&one_line(error)).into_owned() }, 1),
        };
        ending::note(&run, &status);
        if let Some(trackers) = trackers {
            trackers.finish(exit_code);
        }
        ended
    }

    fn begin(&self, lines: Receiver<LogLine>) -> Result<Trackers> {
        let plan = &self.setup.plan;
        let process = Process::of_this(plan, self.written_by.clone());
        process.note(&self.run)?;
        ending::note(&self.run, &RunStatus::Running);
        let context = TrackerContext {
            run: &self.run,
            config: &plan.config,
            state: &self.setup.state,
            process: &process,
            pictures: self.setup.sample_pictures(),
        };
        Ok(Trackers::start(&context, lines, self.stop.clone()))
    }

    fn train(self, trackers: &mut Trackers, mut uploads: Option<Box<dyn Uploads>>) -> Result<RunStatus> {
        self.describe();
        let mut checkpointer = self.checkpointer()?;
        let keep_going = &mut || trackers.keep_going();
        let Some(source) =
            image_cache::image_source(&self.setup, &self.device, &self.pools, &*self.collective, keep_going)?
        else {
            // Nothing was trained, but a resume needs a checkpoint.
            self.save_last(&mut checkpointer)?;
            ending::print_resume_command(&self.run);
            return Ok(RunStatus::Interrupted { step: self.setup.state.global_step });
        };
        checkpointer.number_if_missing(self.setup.state.global_step)?;
        let final_captions = FinalCaptions::of(&self.setup);
        let Self { setup, run, device, pools, collective, stop, .. } = self;
        let mut trainer = setup.into_trainer(source, device, pools, collective);
        let training = trainer.plan.config.training.clone();
        let outcome = {
            let (mut console, mut metrics) = (Console::default(), JsonLines::open(&run, training.log_interval)?);
            let mut observers: Vec<&mut dyn Observer> = vec![&mut console, &mut metrics, trackers];
            if let Some(uploads) = &mut uploads {
                observers.push(uploads.as_mut());
            }
            let mut observers = WhileOwned::new(run.clone(), Observers(observers));
            trainer.run(&mut observers, &mut checkpointer, &stop).hint(|| ending::last_good(&run))?
        };
        let interrupted = RunStatus::Interrupted { step: trainer.state.global_step };
        if outcome == Outcome::Interrupted {
            ending::print_resume_command(&run);
            return Ok(interrupted);
        }
        let best = ending::best_checkpoint(&run, &trainer.state)?;
        terminal::message(&format!("best model  {}", best.display()));
        if let Some(captions) = final_captions {
            let Some(scores) = captions.write(&run, &best, &trainer, || trackers.keep_going())? else {
                terminal::warning("captioning was stopped; the model is complete");
                ending::print_resume_command(&run);
                return Ok(interrupted);
            };
            trackers.scores(&captions.split, &scores);
        }
        let is_whole = trainer.state.epoch >= training.num_epochs as u64;
        let status = if is_whole { RunStatus::Finished } else { RunStatus::EndedEarly };
        // The report shows it.
        ending::note(&run, &status);
        ending::write_report(&run);
        if let Some(uploads) = uploads {
            uploads.finish(&best, &mut || trackers.keep_going());
        }
        ending::summarise(&run, &best);
        Ok(status)
    }

    fn describe(&self) {
        let plan = &self.setup.plan;
        plan.describe().lines().for_each(terminal::message);
        for note in &self.setup.notes {
            terminal::message(&format!("weights     {note}"));
        }
        let complaints = memory_complaint(&self.setup).into_iter().chain(disk_complaint(&self.setup, &self.run));
        for warning in plan.warnings().into_iter().chain(complaints) {
            terminal::warning(&warning);
        }
    }

    fn checkpointer(&self) -> Result<CheckpointKeeper> {
        Ok(CheckpointKeeper::new(self.run.clone(), self.setup.checkpoint_metadata(self.written_by.clone())?))
    }

    fn save_last(&self, checkpointer: &mut CheckpointKeeper) -> Result<()> {
        let Setup { state, parameters, optimizer, .. } = &self.setup;
        checkpointer.save(SavePoint::Last, state, parameters, optimizer)
    }
}

/// The threads that compute.
fn pools_of(setup: &Setup) -> Result<WorkerPools> {
    WorkerPools::new(setup.plan.num_pools, setup.plan.threads_each)
}

fn log_failure(error: &anyhow::Error) {
    terminal::detail(&format!("the run ended with an error: {}", one_line(error)));
}
