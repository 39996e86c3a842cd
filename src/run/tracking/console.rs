//! The console: a progress bar for each epoch and validation, a line of a table for each epoch.

use std::time::{Duration, Instant};

use crate::config::RunConfig;
use crate::run::tracking::console_table::{ConsoleTable, EpochLine};
use crate::training::events::{Event, Observer};
use crate::training::plan::RunPlan;
use crate::training::schedule::learning_rate_factor;
use crate::training::train_state::TrainState;
use base::terminal::{self, Progress};
use records::record::StepRecord;

#[derive(Default)]
pub struct Console {
    progress: Option<Progress>,
    /// Mean loss of the last updates, smoothed for the eye.
    smoothed_loss: Option<f64>,
    plan: Option<RunPlan>,
    table: ConsoleTable,
    /// The line of an epoch whose validation is not done.
    waiting: Option<EpochLine<'static>>,
    /// When this process began, and how many epochs were done by then.
    started: Option<(Instant, u64)>,
}

/// Weight of the newest update in the loss that the bar shows.
const NEWEST: f64 = 0.05;

impl Console {
    fn start(&mut self, plan: &RunPlan, state: &TrainState) {
        let RunConfig { training, evaluation, .. } = &plan.config;
        self.table = ConsoleTable::new(training.num_epochs, evaluation.metrics_interval.is_some());
        self.started = Some((Instant::now(), state.epoch));
        if state.global_step > 0 {
            terminal::message(&format!(
                "resuming after update {} of {} (epoch {})",
                state.global_step,
                plan.total_updates,
                state.epoch + 1
            ));
        }
        self.plan = Some(plan.clone());
    }

    fn num_epochs(&self) -> usize {
        self.plan.as_ref().map_or(0, |plan| plan.config.training.num_epochs)
    }

    /// The line of the last completed epoch, without its validation. It is the same in a run that is resumed after that
    /// epoch's updates.
    fn row(&self, state: &TrainState) -> Option<EpochLine<'static>> {
        let plan = self.plan.as_ref()?;
        let RunConfig { optimizer, schedule, .. } = &plan.config;
        let factor = learning_rate_factor(schedule, state.global_step.saturating_sub(1), plan.total_updates);
        Some(EpochLine {
            epoch: state.epoch,
            train_loss: state.train_loss,
            learning_rate: optimizer.learning_rate * factor,
            images_per_second: plan.counts.train_examples as f64 / state.train_seconds,
            seconds: state.train_seconds,
            left: self.time_left(state.epoch),
            ..EpochLine::default()
        })
    }

    /// About how long the epochs that are left take, at the pace of those that were done; `None` for none.
    fn time_left(&self, epoch: u64) -> Option<Duration> {
        let (started, before) = self.started?;
        let done = epoch.checked_sub(before).filter(|&done| done > 0)?;
        let left = (self.num_epochs() as u64).checked_sub(epoch).filter(|&left| left > 0)?;
        Some(started.elapsed().mul_f64(left as f64 / done as f64))
    }

    fn epoch_trained(&mut self, state: &TrainState) {
        self.progress = None;
        self.waiting = self.row(state);
        let training = self.plan.as_ref().map(|plan| &plan.config.training);
        let is_validated = training.is_some_and(|training| {
            state.needs_validation(training.validation_interval as u64, training.num_epochs as u64)
        });
        if !is_validated {
            self.end_epoch();
        }
    }

    /// Shows the line of an epoch that has no validation, or whose validation did not come to its end.
    fn end_epoch(&mut self) {
        self.progress = None;
        if let Some(row) = self.waiting.take() {
            self.show(&row);
        }
    }

    fn advance(&self, units: u64) {
        if let Some(progress) = &self.progress {
            progress.advance(units, "");
        }
    }

    fn show(&mut self, row: &EpochLine<'_>) {
        self.table.lines(row).iter().for_each(|line| terminal::message(line));
    }

    fn step(&mut self, record: &StepRecord) {
        let known = |value: Option<f64>| value.unwrap_or(f64::NAN);
        let loss = known(record.loss);
        if record.skipped {
            terminal::warning(&format!(
                "step {} was skipped: loss {loss}, gradient norm {}",
                record.step,
                known(record.grad_norm)
            ));
        } else {
            let smoothed = self.smoothed_loss.unwrap_or(loss);
            self.smoothed_loss = Some(smoothed + NEWEST * (loss - smoothed));
        }
        if let Some(progress) = &self.progress {
            let (rate, learning_rate) = (known(record.images_per_second), known(record.learning_rate));
            let loss = known(self.smoothed_loss);
            let reward = record.rewards.reward.map_or_else(String::new, |reward| format!("reward {reward:.3}  "));
            progress.advance(1, &format!("{reward}loss {loss:.4}  lr {learning_rate:.2e}  {rate:.1} images/s"));
        }
    }
}

impl Observer for Console {
    fn observe(&mut self, event: &Event<'_>) -> anyhow::Result<()> {
        match event {
            Event::Started { plan, state } => self.start(plan, state),
            Event::EpochStarted { epoch, num_updates, updates_done } => {
                let title = format!("epoch {epoch}/{}", self.num_epochs());
                self.progress = Some(Progress::new(&title, *num_updates, *updates_done));
            }
            Event::Step(record) => self.step(record),
            Event::EpochTrained { state } => self.epoch_trained(state),
            Event::ValidationStarted { num_batches } => {
                self.progress = Some(Progress::new("validation", *num_batches, 0));
            }
            Event::CaptioningStarted { num_images } => {
                self.progress = Some(Progress::new("captioning", *num_images, 0));
            }
            Event::ValidationBatch => self.advance(1),
            Event::ImagesCaptioned { num_images } => self.advance(*num_images),
            Event::Validated { state, val_loss, scores, distance, bad_endings, seconds, is_best, alarms, .. } => {
                (self.progress, self.waiting) = (None, None);
                let total = self.plan.as_ref().map_or(0, |plan| plan.total_updates);
                let mut found = format!("update {}/{total}  val loss {val_loss:.4}", state.global_step);
                found.extend(scores.map(|signed| format!("  CIDEr {:.3}", signed.scores.CIDEr)));
                found.extend(bad_endings.map(|share| format!("  bad endings {:.1} %", 100.0 * share)));
                found.extend(distance.map(|distance| format!("  distance {distance:.4}")));
                found.extend(is_best.then_some("  best"));
                // A run whose validations are counted by updates has a line for each of them.
                if state.validated_update.is_some() {
                    terminal::message(&found);
                }
                if let Some(row) = self.row(state).filter(|_| !state.is_within_epoch()) {
                    self.show(&EpochLine {
                        val_loss: Some(*val_loss),
                        scores: scores.map(|signed| &signed.scores),
                        seconds: row.seconds + seconds,
                        is_best: *is_best,
                        ..row
                    });
                }
                alarms.iter().for_each(|alarm| terminal::warning(&alarm.to_string()));
            }
            Event::EndedEarly { state } => terminal::message(&format!(
                "the run ends after epoch {}: {} validations in a row brought no better model than epoch {} \
                 (training.patience)",
                state.epoch, state.validations_since_best, state.best_epoch
            )),
            Event::Finished { .. } => self.end_epoch(),
            Event::Saving { .. } | Event::Saved { .. } => {}
        }
        Ok(())
    }
}

impl Drop for Console {
    /// A run that fails within a validation has its epoch's line too.
    fn drop(&mut self) {
        self.end_epoch();
    }
}
