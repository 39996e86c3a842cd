//! What a tracker is, and how one is started.

use std::cell::RefCell;
use std::rc::Rc;

use anyhow::Result;

use crate::config::RunConfig;
use crate::run::environment::Process;
use crate::run::run_directory::RunDirectory;
use crate::run::tracking::log_lines::LogLine;
use crate::run::tracking::sample_pictures::SamplePictures;
use crate::training::events::Event;
use crate::training::train_state::TrainState;
use base::stop::StopFlag;
use metrics::score::Scores;

/// Logs a run. Whatever it buffers must be on disk when it returns from [`Event::Saving`], since a run resumed from
/// that checkpoint does not log it again; it is sent elsewhere only after that.
pub trait Tracker {
    /// # Errors
    /// A failure after which it cannot be used for the rest of the run.
    fn observe(&mut self, event: &Event<'_>) -> Result<()>;

    /// Takes what came up beside the loop, such as the lines of the log since the last call, and may ask for a stop.
    /// Called before each event, and every moment or so while there are none.
    ///
    /// # Errors
    /// As [`Tracker::observe`].
    fn poll(&mut self, _log: &[LogLine], _stop: &StopFlag) -> Result<()> {
        Ok(())
    }

    /// Takes the scores of a split that was captioned after the last update.
    ///
    /// # Errors
    /// As [`Tracker::observe`].
    fn scores(&mut self, _split: &str, _scores: &Scores<f64>) -> Result<()> {
        Ok(())
    }

    /// The run has ended; with 0 where all its epochs are done.
    ///
    /// # Errors
    /// An end that cannot be logged.
    fn finish(self: Box<Self>, _exit_code: i32) -> Result<()> {
        Ok(())
    }
}

/// What starting a tracker gives; `None` where the config wants none.
pub type Started = Result<Option<Box<dyn Tracker>>>;

/// How a tracker is started.
pub struct TrackerKind {
    /// What messages call it.
    pub name: &'static str,
    /// Finds mistakes in its settings, before anything else is done.
    pub check: fn(&RunConfig) -> Result<()>,
    pub start: fn(&TrackerContext<'_>) -> Started,
}

/// What a tracker may want to know before the first update.
pub struct TrackerContext<'a> {
    pub run: &'a RunDirectory,
    pub config: &'a RunConfig,
    /// Where the run begins.
    pub state: &'a TrainState,
    /// What computes it.
    pub process: &'a Process,
    /// The images that every validation captions.
    pub pictures: Rc<RefCell<SamplePictures>>,
}
