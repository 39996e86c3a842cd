//! The trackers that record a run. A new tracker is a file with its [`TrackerKind`] and a line in [`TRACKERS`].

pub mod console;
mod console_table;
pub mod jsonl;
pub mod log_lines;
pub mod ownership;
pub mod results_table;
pub mod sample_pictures;
pub mod scalars;
pub mod system_monitor;
pub mod tensorboard;
pub mod tracker;
#[cfg_attr(not(feature = "wandb"), path = "wandb_absent.rs")]
pub mod wandb;

use std::sync::mpsc::Receiver;

use anyhow::Result;

use crate::config::RunConfig;
use crate::run::tracking::log_lines::LogLine;
use crate::run::tracking::tracker::{Tracker, TrackerContext, TrackerKind};
use crate::training::events::{Event, Observer};
use base::error::one_line;
use base::stop::StopFlag;
use base::terminal;
use metrics::score::Scores;

/// Every tracker, in the order in which they get what happens.
const TRACKERS: [&TrackerKind; 3] = [&results_table::KIND, &tensorboard::KIND, &wandb::KIND];

/// Finds mistakes in the settings of all trackers.
///
/// # Errors
/// An invalid setting.
pub fn check(config: &RunConfig) -> Result<()> {
    TRACKERS.iter().try_for_each(|kind| (kind.check)(config))
}

/// A tracker whose failure does not stop the run: it is dropped after one warning.
struct BestEffort {
    name: &'static str,
    /// `None` once it has failed.
    tracker: Option<Box<dyn Tracker>>,
}

impl BestEffort {
    fn attempt(&mut self, action: impl FnOnce(&mut dyn Tracker) -> Result<()>) {
        let Some(tracker) = &mut self.tracker else { return };
        if let Err(error) = action(tracker.as_mut()) {
            self.tracker = None;
            terminal::warning(&format!("stopped logging to {}: {}", self.name, one_line(&error)));
        }
    }
}

/// The trackers of a run.
pub struct Trackers {
    trackers: Vec<BestEffort>,
    log: Receiver<LogLine>,
    stop: StopFlag,
}

impl Trackers {
    /// Starts the trackers that the config enables. `log` yields the lines of the log; `stop` is raised if a tracker
    /// requests it.
    pub fn start(context: &TrackerContext<'_>, log: Receiver<LogLine>, stop: StopFlag) -> Self {
        let mut trackers = Vec::new();
        for &TrackerKind { name, start, .. } in TRACKERS {
            match start(context) {
                Ok(tracker) => trackers.extend(tracker.map(|tracker| BestEffort { name, tracker: Some(tracker) })),
                Err(error) => terminal::warning(&format!("not logging to {name}: {}", one_line(&error))),
            }
        }
        Self { trackers, log, stop }
    }

    /// Whether to continue with what has no events, such as the making of the image cache. Trackers get meanwhile what
    /// came up beside it.
    pub fn keep_going(&mut self) -> bool {
        self.poll();
        !self.stop.is_raised()
    }

    pub fn scores(&mut self, split: &str, scores: &Scores<f64>) {
        self.poll();
        self.each(|tracker| tracker.scores(split, scores));
    }

    pub fn finish(mut self, exit_code: i32) {
        self.poll();
        for BestEffort { name, tracker } in self.trackers {
            if let Some(Err(error)) = tracker.map(|tracker| tracker.finish(exit_code)) {
                terminal::warning(&format!("cannot log the end of the run to {name}: {}", one_line(&error)));
            }
        }
    }

    fn poll(&mut self) {
        let lines: Vec<LogLine> = self.log.try_iter().collect();
        let stop = self.stop.clone();
        self.each(|tracker| tracker.poll(&lines, &stop));
    }

    fn each(&mut self, action: impl Fn(&mut dyn Tracker) -> Result<()>) {
        self.trackers.iter_mut().for_each(|tracker| tracker.attempt(&action));
    }
}

impl Observer for Trackers {
    fn observe(&mut self, event: &Event<'_>) -> Result<()> {
        self.poll();
        self.each(|tracker| tracker.observe(event));
        Ok(())
    }
}

/// Several observers, one after the other. The first failure is returned, after all have seen the event.
pub struct Observers<'a>(pub Vec<&'a mut dyn Observer>);

impl Observer for Observers<'_> {
    fn observe(&mut self, event: &Event<'_>) -> Result<()> {
        let mut result = Ok(());
        for observer in &mut self.0 {
            let observed = observer.observe(event);
            result = result.and(observed);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;
    use std::sync::mpsc;

    use super::*;

    /// Counts its events, and fails at the second.
    struct Counting(Rc<Cell<usize>>);

    impl Tracker for Counting {
        fn observe(&mut self, _: &Event<'_>) -> Result<()> {
            self.0.set(self.0.get() + 1);
            anyhow::ensure!(self.0.get() < 2, "the disk is full");
            Ok(())
        }
    }

    /// Writes down the lines it gets, and asks for a stop.
    struct Listening(Rc<RefCell<Vec<String>>>);

    impl Tracker for Listening {
        fn observe(&mut self, _: &Event<'_>) -> Result<()> {
            Ok(())
        }

        fn poll(&mut self, log: &[LogLine], stop: &StopFlag) -> Result<()> {
            self.0.borrow_mut().extend(log.iter().map(|line| line.text.clone()));
            stop.raise();
            Ok(())
        }

        fn finish(self: Box<Self>, exit_code: i32) -> Result<()> {
            self.0.borrow_mut().push(format!("ended with {exit_code}"));
            Ok(())
        }
    }

    #[test]
    fn a_tracker_that_fails_is_dropped_and_stops_neither_the_run_nor_the_others() {
        let (count, lines) = (Rc::new(Cell::new(0)), Rc::default());
        let (sender, log) = mpsc::channel();
        let best_effort = |tracker| BestEffort { name: "a test", tracker: Some(tracker) };
        let trackers: [Box<dyn Tracker>; 2] =
            [Box::new(Counting(Rc::clone(&count))), Box::new(Listening(Rc::clone(&lines)))];
        let trackers = trackers.into_iter().map(best_effort).collect();
        let mut trackers = Trackers { trackers, log, stop: StopFlag::default() };
        for number in 0..4 {
            sender.send(LogLine { time: 0.0, text: number.to_string() }).unwrap();
            trackers.observe(&Event::ValidationBatch).unwrap();
        }
        assert_eq!(count.get(), 2);
        assert!(trackers.trackers[0].tracker.is_none());
        assert!(!trackers.keep_going(), "a tracker asked for a stop");
        trackers.finish(1);
        assert_eq!(*lines.borrow(), ["0", "1", "2", "3", "ended with 1"]);
    }

    #[test]
    fn all_observers_see_an_event_and_the_first_failure_is_returned() {
        struct Failing(&'static str, usize);
        impl Observer for Failing {
            fn observe(&mut self, _: &Event<'_>) -> Result<()> {
                self.1 += 1;
                anyhow::bail!(self.0)
            }
        }
        let (mut one, mut other) = (Failing("one", 0), Failing("other", 0));
        let error = Observers(vec![&mut one, &mut other]).observe(&Event::ValidationBatch).unwrap_err();
        assert_eq!((error.to_string().as_str(), one.1, other.1), ("one", 1, 1));
    }
}
