//! The console: a progress bar for each epoch and validation, a line for each epoch.

use std::time::{Duration, Instant};

use crate::base::terminal::{self, Progress};
use crate::training::events::{Event, Observer, StepReport};

/// The observer.
#[derive(Default)]
pub struct Console {
    progress: Option<Progress>,
    /// Mean loss of the last updates, smoothed for the eye alone.
    smoothed_loss: Option<f64>,
    num_epochs: usize,
    /// When this process began, and how many epochs were done by then.
    started: Option<(Instant, u64)>,
}

/// Weight of the newest update in the loss that the bar shows.
const NEWEST: f64 = 0.05;

impl Console {
    /// About how long the epochs that are left take, at the pace of those that were done; `None` for none.
    fn time_left(&self, epoch: u64) -> Option<String> {
        let (started, before) = self.started?;
        let done = epoch.checked_sub(before).filter(|&done| done > 0)?;
        let left = (self.num_epochs as u64).checked_sub(epoch).filter(|&left| left > 0)?;
        Some(rounded(started.elapsed().mul_f64(left as f64 / done as f64)))
    }

    fn step(&mut self, report: &StepReport) {
        if report.skipped {
            terminal::warning(&format!(
                "step {} was skipped: loss {}, gradient norm {}",
                report.global_step, report.loss, report.grad_norm
            ));
        } else {
            let smoothed = self.smoothed_loss.unwrap_or(report.loss);
            self.smoothed_loss = Some(smoothed + NEWEST * (report.loss - smoothed));
        }
        if let Some(progress) = &self.progress {
            let rate = report.num_examples as f64 / report.seconds;
            let loss = self.smoothed_loss.unwrap_or(f64::NAN);
            progress.advance(1, &format!("loss {loss:.4}  lr {:.2e}  {rate:.1} images/s", report.learning_rate));
        }
    }
}

/// A duration as one says it.
fn rounded(duration: Duration) -> String {
    let minutes = (duration.as_secs() + 30) / 60;
    match (minutes / 60, minutes % 60) {
        (0, 0) => "less than a minute".to_owned(),
        (0, minutes) => format!("{minutes} min"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

impl Observer for Console {
    fn observe(&mut self, event: &Event<'_>) -> anyhow::Result<()> {
        match event {
            Event::Started { plan, state } => {
                self.num_epochs = plan.config.training.num_epochs;
                self.started = Some((Instant::now(), state.epoch));
                if state.global_step > 0 {
                    terminal::message(&format!(
                        "going on behind update {} of {} (epoch {})",
                        state.global_step,
                        plan.total_updates,
                        state.epoch + 1
                    ));
                }
            }
            Event::EpochStarted { epoch, num_updates, updates_done } => {
                let title = format!("epoch {epoch}/{}", self.num_epochs);
                self.progress = Some(Progress::new(&title, *num_updates, *updates_done));
            }
            Event::Step(report) => self.step(report),
            Event::EpochTrained { state } => {
                self.progress = None;
                terminal::message(&format!(
                    "epoch {}/{}  train loss {:.4}  {:.1} s",
                    state.epoch,
                    self.num_epochs,
                    state.train_loss.unwrap_or(f64::NAN),
                    state.train_seconds
                ));
            }
            Event::ValidationStarted { num_batches } => {
                self.progress = Some(Progress::new("validation", *num_batches, 0));
            }
            Event::ValidationBatch => {
                if let Some(progress) = &self.progress {
                    progress.advance(1, "");
                }
            }
            Event::Validated { state, val_loss, scores, seconds, is_best, alarms, .. } => {
                self.progress = None;
                let mark = if *is_best { "  best so far" } else { "" };
                let left = self.time_left(state.epoch).map_or_else(String::new, |left| format!("  {left} left"));
                terminal::message(&format!(
                    "epoch {}/{}  val loss   {val_loss:.4}  {seconds:.1} s{mark}{left}",
                    state.epoch, self.num_epochs
                ));
                if let Some(scores) = scores {
                    let named = scores.scores.named().map(|(name, value)| format!("{name} {value:.3}"));
                    terminal::message(&format!("            {}", named.join("  ")));
                }
                alarms.iter().for_each(|alarm| terminal::warning(&alarm.to_string()));
            }
            Event::EndedEarly { state } => terminal::message(&format!(
                "the run ends after epoch {}: {} validations in a row brought no better model than epoch {} \
                 (training.patience)",
                state.epoch, state.validations_since_best, state.best_epoch
            )),
            Event::Finished { .. } => self.progress = None,
            Event::Save { .. } => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_said_in_hours_and_minutes() {
        let said = |seconds| rounded(Duration::from_secs(seconds));
        assert_eq!([29, 89, 3_599, 5_430].map(said), ["less than a minute", "1 min", "1 h 0 min", "1 h 31 min"]);
    }
}
