//! The loop: epochs of updates, save points, validation. Readable from top to bottom.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;
use candle_core::Device;

use crate::config::SaveInterval;
use crate::data::batch::{Batch, Example};
use crate::data::image_source::{ImageSource, Purpose};
use crate::data::loader::Loader;
use crate::data::sampler;
use crate::evaluation::captioning::{CaptionWriter, CaptioningSettings};
use crate::evaluation::token_loss::{LossSum, evaluate_batch};
use crate::model::captioner::Captioner;
use crate::model::parameters::Parameters;
use crate::training::alarms::alarms;
use crate::training::captioned_split::{Captioned, CaptionedSplit};
use crate::training::events::{Event, Observer, SavePoint, StepReport};
use crate::training::optimizer::Optimizer;
use crate::training::plan::RunPlan;
use crate::training::schedule::learning_rate_factor;
use crate::training::train_state::TrainState;
use crate::training::train_step::{PendingStep, StepOutcome, StepSettings, train_step};
use base::fault::{explained, fault};
use base::stop::StopFlag;
use base::team::Team;

/// Skipped updates one after the other at which a run gives up.
const MAX_SKIPPED_IN_A_ROW: u64 = 10;
/// Updates or batches that wait in memory for the loop, beside one for each thread that loads.
pub(crate) const LOADED_AHEAD: usize = 1;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All epochs are done.
    Completed,
    /// A stop was asked for; the newest state was saved.
    Interrupted,
}

/// The pairs of both splits and where their images come from.
#[derive(Clone, Debug)]
pub struct TrainingData {
    /// Pairs to learn from.
    pub train: Arc<Vec<Example>>,
    /// Pairs to validate on.
    pub val: Arc<Vec<Example>>,
    /// Their images.
    pub source: ImageSource,
    /// Fills up batches.
    pub pad_id: u32,
    /// What is captioned at validations.
    pub captioned: Arc<CaptionedSplit>,
}

/// The updates of an epoch that are not reported yet.
#[derive(Default)]
struct Flight {
    last: Option<Launched>,
    /// When the update before it was reported.
    reported: Option<Instant>,
}

/// An update on its way, and what its report needs.
struct Launched {
    step: PendingStep,
    global_step: u64,
    epoch: u64,
    learning_rate: f64,
    num_examples: usize,
    started: Instant,
    waited: Duration,
}

/// A run: what will happen, with what, and how far it is.
pub struct Trainer {
    /// What will happen.
    pub plan: RunPlan,
    /// Pairs and images.
    pub data: TrainingData,
    /// The model.
    pub parameters: Parameters,
    /// Its optimizer.
    pub optimizer: Optimizer,
    /// Progress.
    pub state: TrainState,
    /// Where it computes.
    pub device: Device,
    /// Who computes.
    pub team: Team,
}

impl Trainer {
    /// Trains to the end, or until `stop` is raised.
    ///
    /// # Errors
    /// An unreadable image, an observer that fails, ten updates in a row that are not finite.
    pub fn run(&mut self, observer: &mut dyn Observer, stop: &StopFlag) -> anyhow::Result<Outcome> {
        self.run_through(observer, stop).map_err(explain)
    }

    fn run_through(&mut self, observer: &mut dyn Observer, stop: &StopFlag) -> anyhow::Result<Outcome> {
        let interval = self.plan.config.training.validation_interval as u64;
        let num_epochs = self.plan.config.training.num_epochs as u64;
        observer.observe(&Event::Started { plan: &self.plan, state: &self.state })?;
        let mut outcome = Outcome::Completed;
        loop {
            if self.state.needs_validation(interval, num_epochs) {
                if self.validate(observer, stop)? == Outcome::Interrupted {
                    outcome = Outcome::Interrupted;
                    break;
                }
                continue;
            }
            if self.state.epoch >= num_epochs {
                break;
            }
            if self.state.is_out_of_patience(self.plan.config.training.patience) {
                observer.observe(&Event::EndedEarly { state: &self.state })?;
                break;
            }
            if self.train_epoch(observer, stop)? == Outcome::Interrupted {
                outcome = Outcome::Interrupted;
                break;
            }
        }
        let interrupted = outcome == Outcome::Interrupted;
        observer.observe(&Event::Finished { state: &self.state, interrupted })?;
        Ok(outcome)
    }

    fn train_epoch(&mut self, observer: &mut dyn Observer, stop: &StopFlag) -> anyhow::Result<Outcome> {
        let epoch = self.state.epoch + 1;
        let save_interval = self.plan.config.training.save_interval;
        let mut saved = Instant::now();
        observer.observe(&Event::EpochStarted {
            epoch,
            num_updates: self.plan.updates_per_epoch,
            updates_done: self.state.updates_in_epoch,
        })?;
        let mut updates = self.load_updates(epoch);
        let mut flight = Flight::default();
        loop {
            if stop.is_raised() {
                self.report_last(&mut flight, observer)?;
                self.save(observer, SavePoint::Last)?;
                return Ok(Outcome::Interrupted);
            }
            let started = Instant::now();
            let Some(batches) = updates.next() else { break };
            let waited = started.elapsed();
            let batches = match batches {
                Ok(batches) => batches,
                // The state between two updates is whole: an unreadable image must not cost the epoch.
                Err(error) => {
                    self.report_last(&mut flight, observer)?;
                    self.save(observer, SavePoint::Last)?;
                    return Err(error);
                }
            };
            let launched = self.launch(&batches, started, waited)?;
            let previous = flight.last.replace(launched);
            if let Some(previous) = previous {
                self.report(previous, &mut flight, observer)?;
            }
            // A GPU is given the next update while it makes this one; to wait for its report here would leave it idle.
            if self.device.is_cpu() {
                self.report_last(&mut flight, observer)?;
            }
            // The end of the epoch is a save point of its own.
            let is_last = self.state.updates_in_epoch >= self.plan.updates_per_epoch;
            if !is_last && is_save_due(save_interval, self.state.updates_in_epoch, saved.elapsed()) {
                self.report_last(&mut flight, observer)?;
                self.save(observer, SavePoint::Last)?;
                saved = Instant::now();
            }
        }
        self.report_last(&mut flight, observer)?;
        self.complete_epoch();
        observer.observe(&Event::EpochTrained { state: &self.state })?;
        self.save(observer, SavePoint::Last)?;
        Ok(Outcome::Completed)
    }

    /// The batches of the epoch's updates that are still to be made, in order.
    fn load_updates(&self, epoch: u64) -> Loader<Vec<Batch>> {
        let training = &self.plan.config.training;
        let order = sampler::epoch_order(self.plan.config.seed, epoch, &self.data.train, training.batch_by);
        let done = usize::try_from(self.state.updates_in_epoch).unwrap_or(usize::MAX);
        let jobs: Vec<Vec<Vec<u32>>> =
            sampler::updates(&order, training.batch_size, training.gradient_accumulation_steps)
                .into_iter()
                .skip(done)
                .collect();
        let (data, device, num_parts) = (self.data.clone(), self.device.clone(), self.team.size());
        let purpose = Purpose::Training { epoch };
        let load = move |update: Vec<Vec<u32>>| {
            let mut batches = Vec::new();
            for indices in update {
                let examples: Vec<&Example> = indices.iter().map(|&index| &data.train[index as usize]).collect();
                batches.extend(Batch::load_parts(&data.source, &examples, purpose, num_parts, data.pad_id, &device)?);
            }
            Ok(batches)
        };
        let workers = self.plan.num_workers;
        Loader::start(jobs, workers, workers + LOADED_AHEAD, Arc::new(load))
    }

    /// Starts the next update.
    fn launch(&mut self, batches: &[Batch], started: Instant, waited: Duration) -> anyhow::Result<Launched> {
        let config = &self.plan.config;
        let settings = StepSettings {
            precision: self.plan.precision(),
            seed: config.seed,
            dropout: self.plan.shape.decoder.dropout(),
            label_smoothing: config.training.label_smoothing,
            max_grad_norm: config.training.max_grad_norm,
        };
        let factor = learning_rate_factor(&config.schedule, self.state.global_step, self.plan.total_updates);
        let learning_rate = config.optimizer.learning_rate * factor;
        let step = train_step(
            &self.plan.shape,
            &self.parameters,
            &mut self.optimizer,
            batches,
            self.state.global_step,
            learning_rate,
            &settings,
            &self.team,
        )?;
        let mut num_examples = 0;
        for batch in batches {
            num_examples += batch.num_examples()?;
        }
        let state = &mut self.state;
        state.global_step += 1;
        state.updates_in_epoch += 1;
        let (global_step, epoch) = (state.global_step, state.epoch + 1);
        Ok(Launched { step, global_step, epoch, learning_rate, num_examples, started, waited })
    }

    /// Waits for an update and tells of it.
    fn report(&mut self, launched: Launched, flight: &mut Flight, observer: &mut dyn Observer) -> anyhow::Result<()> {
        let Launched { step, global_step, epoch, learning_rate, num_examples, started, waited } = launched;
        let StepOutcome { loss, grad_norm, skipped } = step.read(&mut self.optimizer)?;
        // From the end of the update before, where that was still being made when this one began.
        let began = flight.reported.map_or(started, |reported| reported.max(started));
        let now = Instant::now();
        flight.reported = Some(now);
        let seconds = (now - began).as_secs_f64();
        let state = &mut self.state;
        state.epoch_seconds += seconds;
        if skipped {
            state.skipped_updates += 1;
            state.skipped_in_a_row += 1;
        } else {
            state.skipped_in_a_row = 0;
            state.epoch_loss_sum += loss.sum;
            state.epoch_loss_count += loss.count;
            state.loss_watch.observe(global_step, loss.mean());
        }
        let report = StepReport {
            global_step,
            epoch,
            loss: loss.mean(),
            learning_rate,
            grad_norm,
            num_examples,
            seconds,
            wait_seconds: waited.as_secs_f64(),
            skipped,
        };
        observer.observe(&Event::Step(report))?;
        self.check_skipped()
    }

    /// The same for the update that a GPU is still making, so that state and parameters belong together.
    fn report_last(&mut self, flight: &mut Flight, observer: &mut dyn Observer) -> anyhow::Result<()> {
        flight.last.take().map_or(Ok(()), |launched| self.report(launched, flight, observer))
    }

    fn check_skipped(&self) -> anyhow::Result<()> {
        if self.state.skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW {
            return Err(fault(
                format!("loss or gradient was not finite in {MAX_SKIPPED_IN_A_ROW} updates in a row"),
                "start a new run with a lower optimizer.learning_rate, a longer schedule.warmup_steps or \
                 training.max_grad_norm = 1.0",
            ));
        }
        Ok(())
    }

    fn complete_epoch(&mut self) {
        let state = &mut self.state;
        state.epoch += 1;
        state.updates_in_epoch = 0;
        state.train_loss = (state.epoch_loss_count > 0).then(|| state.epoch_loss_sum / state.epoch_loss_count as f64);
        state.train_seconds = state.epoch_seconds;
        (state.epoch_loss_sum, state.epoch_loss_count, state.epoch_seconds) = (0.0, 0, 0.0);
    }

    /// Validates; the newest state was saved before, so an interruption here loses only the validation.
    fn validate(&mut self, observer: &mut dyn Observer, stop: &StopFlag) -> anyhow::Result<Outcome> {
        let started = Instant::now();
        let model =
            Captioner::build(&self.plan.shape, &self.parameters.detached().in_precision(self.plan.precision()))?;
        let examples = Arc::clone(&self.data.val);
        let size = self.plan.config.evaluation.batch_size;
        let jobs: Vec<_> =
            (0..examples.len()).step_by(size).map(|first| first..(first + size).min(examples.len())).collect();
        observer.observe(&Event::ValidationStarted { num_batches: jobs.len() as u64 })?;
        let (data, device, num_parts) = (self.data.clone(), self.device.clone(), self.team.size());
        let load = move |range: std::ops::Range<usize>| {
            let examples: Vec<&Example> = data.val[range].iter().collect();
            Batch::load_parts(&data.source, &examples, Purpose::Evaluation, num_parts, data.pad_id, &device)
        };
        let mut loss = LossSum::default();
        let workers = self.plan.num_workers;
        for parts in Loader::start(jobs, workers, workers + LOADED_AHEAD, Arc::new(load)) {
            if stop.is_raised() {
                return Ok(Outcome::Interrupted);
            }
            let parts = parts?;
            let evaluate = |member: usize| parts.get(member).map(|part| evaluate_batch(&model, part)).transpose();
            for part in self.team.each(evaluate) {
                loss.add(part?.unwrap_or_default());
            }
            observer.observe(&Event::ValidationBatch)?;
        }
        if loss.count == 0 {
            bail!("the validation split has no caption");
        }
        let val_loss = loss.mean();
        // Weights that give no finite loss give no captions either.
        let captioned = if val_loss.is_finite() { self.caption(observer, stop)? } else { Some(Captioned::default()) };
        let Some(captioned) = captioned else { return Ok(Outcome::Interrupted) };
        let previous = self.state.val_loss;
        let alarms = alarms(val_loss, previous, self.state.loss_watch.take_jumps(), &captioned.captions);
        let cider = captioned.scores.as_ref().map(|signed| signed.scores.CIDEr);
        let is_best = self.state.record_validation(val_loss, cider, self.plan.config.training.best_metric);
        let (seconds, scores) = (started.elapsed().as_secs_f64(), captioned.scores.as_ref());
        let (state, alarms) = (&self.state, alarms.as_slice());
        let samples = self.data.captioned.samples(&captioned);
        observer.observe(&Event::Validated { state, val_loss, scores, seconds, is_best, alarms, samples: &samples })?;
        if is_best {
            self.save(observer, SavePoint::Best { val_loss })?;
        }
        // The newest state now knows its validation, so that a resume does not repeat it.
        self.save(observer, SavePoint::Last)?;
        Ok(Outcome::Completed)
    }

    /// Captions of the samples, or of the whole validation split with their scores where that is due; in f32 as all
    /// captions. `None`: stopped.
    fn caption(&self, observer: &mut dyn Observer, stop: &StopFlag) -> anyhow::Result<Option<Captioned>> {
        let captioned = &self.data.captioned;
        let model = Captioner::build(&self.plan.shape, &self.parameters.detached())?;
        let config = &self.plan.config;
        let mut decoding = config.decoding_of_captions();
        let is_scored = config.evaluation.metrics_interval.is_some_and(|interval| {
            self.state.epoch.is_multiple_of(interval as u64) || self.state.epoch == config.training.num_epochs as u64
        });
        let images = if is_scored { &captioned.images } else { &captioned.samples };
        if !is_scored {
            // Greedy: samples show whether captions are any good, in little time.
            decoding.num_beams = 1;
        }
        let writer = CaptionWriter::new(&model, &captioned.tokenizer, &decoding);
        let settings = CaptioningSettings {
            batch_size: config.evaluation.batch_size,
            workers: self.plan.num_workers,
            device: self.device.clone(),
        };
        observer.observe(&Event::CaptioningStarted { num_images: images.len() as u64 })?;
        let mut told = Ok(());
        let advance = |count| {
            told = observer.observe(&Event::ImagesCaptioned { num_images: count as u64 });
            told.is_ok() && !stop.is_raised()
        };
        let written = writer.write_all(&self.data.source, images, &settings, &self.team, advance)?;
        told?;
        Ok(written.map(|captions| {
            let scores = is_scored.then(|| captioned.score(&captions, config.seed));
            Captioned { captions, scores }
        }))
    }

    fn save(&self, observer: &mut dyn Observer, point: SavePoint) -> anyhow::Result<()> {
        let (state, parameters, optimizer) = (&self.state, &self.parameters, &self.optimizer);
        observer.observe(&Event::Save { point, state, parameters, optimizer })
    }
}

/// Adds what to do where a GPU says that its memory is full.
fn explain(error: anyhow::Error) -> anyhow::Error {
    let is_full = |text: &str| text.contains("OUT_OF_MEMORY") || text.contains("CUBLAS_STATUS_ALLOC_FAILED");
    if !error.chain().any(|link| is_full(&link.to_string())) {
        return error;
    }
    explained(
        error,
        "the memory of the GPU is full",
        "in a new run lower training.batch_size and raise training.gradient_accumulation_steps as much; \
         evaluation.batch_size and data.workers, whose batches wait there, can be lowered at any time",
    )
}

/// Whether the state is to be saved behind this update of the epoch, so long after it was saved last.
fn is_save_due(interval: Option<SaveInterval>, updates_in_epoch: u64, since_saved: Duration) -> bool {
    match interval {
        Some(SaveInterval::Updates(interval)) => updates_in_epoch.is_multiple_of(interval),
        Some(SaveInterval::Minutes(minutes)) => since_saved.as_secs() / 60 >= minutes,
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_whose_memory_is_full_says_what_to_do() {
        use base::fault::describe;
        let full = explain(anyhow::anyhow!("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")"));
        assert!(describe(&full).contains("lower training.batch_size"), "{}", describe(&full));
        let other = describe(&explain(anyhow::anyhow!("DriverError(CUDA_ERROR_UNKNOWN)")));
        assert!(!other.contains("batch_size"), "{other}");
    }

    #[test]
    fn a_save_is_due_by_updates_or_by_minutes_as_asked() {
        let updates = Some(SaveInterval::Updates(3));
        let minutes = Some(SaveInterval::Minutes(2));
        let (short, long) = (Duration::from_secs(119), Duration::from_secs(120));
        assert!(is_save_due(updates, 6, short) && !is_save_due(updates, 7, long));
        assert!(is_save_due(minutes, 7, long) && !is_save_due(minutes, 6, short));
        assert!(!is_save_due(None, 6, long));
    }
}
