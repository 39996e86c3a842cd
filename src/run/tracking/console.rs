//! The console: a progress bar for each epoch and validation, a line for each epoch.

use crate::base::terminal::{self, Progress};
use crate::training::events::{Event, Observer, StepReport};

/// The observer.
#[derive(Default)]
pub struct Console {
    progress: Option<Progress>,
    /// Mean loss of the last updates, smoothed for the eye alone.
    smoothed_loss: Option<f64>,
    num_epochs: usize,
}

/// Weight of the newest update in the loss that the bar shows.
const NEWEST: f64 = 0.05;

impl Console {
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

impl Observer for Console {
    fn observe(&mut self, event: &Event<'_>) -> anyhow::Result<()> {
        match event {
            Event::Started { plan, state } => {
                self.num_epochs = plan.config.training.num_epochs;
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
                terminal::message(&format!(
                    "epoch {}/{}  val loss   {val_loss:.4}  {seconds:.1} s{mark}",
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
