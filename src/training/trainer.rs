//! The loop: epochs of updates, save points, validation. Readable from top to bottom.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use candle_core::Device;

use crate::config::SaveInterval;
use crate::data::batch::Batch;
use crate::data::example_list::ExampleList;
use crate::data::image_source::{ImageInput, ImageSource, Purpose};
use crate::data::loader::Loader;
use crate::data::pieces::{self, Cut, Piece};
use crate::data::sampler;
use crate::evaluation::captioning::CaptionWriter;
use crate::evaluation::token_loss::{LossSum, evaluate_batch};
use crate::model::captioner::Captioner;
use crate::model::parameters::Parameters;
use crate::training::alarms::alarms;
use crate::training::captioned_split::{Captioned, CaptionedSplit};
use crate::training::checkpointer::{Checkpointer, SavePoint};
use crate::training::collective::{Collective, agreed, leave};
use crate::training::events::{Event, Observer};
use crate::training::gpu_memory::explain;
use crate::training::loss::Loss;
use crate::training::optimizer::Optimizer;
use crate::training::outputs::Outputs;
use crate::training::plan::RunPlan;
use crate::training::reward_watch::RewardWatch;
use crate::training::schedule::learning_rate_factor;
use crate::training::shared_captions::{Team, caption_together};
use crate::training::train_state::TrainState;
use crate::training::train_step::{PendingStep, StepOutcome, train_step};
use base::error::failure;
use base::stop::StopFlag;
use base::worker_pools::WorkerPools;
use records::record::{RewardsRecord, StepRecord};

/// Skipped updates in a row after which a run gives up.
const MAX_SKIPPED_IN_A_ROW: u64 = 10;
/// Updates or batches that wait in memory for the loop, in addition to one for each thread that loads.
pub(crate) const LOADED_AHEAD: usize = 1;

/// What a process may fail to do, so that the others stop too.
const LOAD: &str = "load its images";

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All epochs are done.
    Completed,
    /// A stop was requested; the newest state was saved.
    Interrupted,
}

/// The pairs of both splits and where their images come from.
#[derive(Clone, Debug)]
pub struct TrainingData {
    /// Pairs to learn from.
    pub train: Arc<ExampleList>,
    /// Pairs to validate on.
    pub val: Arc<ExampleList>,
    /// Their images.
    pub source: ImageSource,
    /// Fills up batches.
    pub pad_id: u32,
    /// What is captioned at validations.
    pub captioned: Arc<CaptionedSplit>,
}

/// The updates of an epoch that are not reported yet.
#[derive(Default)]
struct Unreported {
    last: Option<InFlight>,
    /// When the update before it was reported.
    reported: Option<Instant>,
}

/// An update on its way, and what its report needs.
struct InFlight {
    step: PendingStep,
    global_step: u64,
    epoch: u64,
    learning_rate: f64,
    started: Instant,
    waited: Duration,
}

/// A run: its plan, its parts and its progress.
pub struct Trainer {
    /// What will happen.
    pub plan: RunPlan,
    /// Pairs and images.
    pub data: TrainingData,
    /// The model.
    pub parameters: Parameters,
    pub optimizer: Optimizer,
    /// What its updates minimise.
    pub loss: Arc<dyn Loss>,
    /// The model that self-critical training began from; `None` where there is none to compare with.
    pub start: Option<Parameters>,
    /// Progress.
    pub state: TrainState,
    /// Where it computes.
    pub device: Device,
    /// The threads that compute.
    pub pools: WorkerPools,
    /// The processes that compute.
    pub collective: Rc<dyn Collective>,
}

impl Trainer {
    /// Trains to the end, or until `stop` is raised.
    ///
    /// # Errors
    /// An unreadable image, a checkpoint that cannot be written, an observer that fails, ten updates in a row that are
    /// not finite.
    pub fn run(
        &mut self,
        observer: &mut dyn Observer,
        checkpointer: &mut dyn Checkpointer,
        stop: &StopFlag,
    ) -> anyhow::Result<Outcome> {
        // Here, and nowhere else in the loop, it is decided who writes.
        let mut outputs = Outputs { observer, checkpointer, is_main: self.collective.is_main() };
        let outcome = self.run_through(&mut outputs, stop).inspect_err(|error| leave(&*self.collective, error));
        outcome.map_err(explain)
    }

    fn run_through(&mut self, outputs: &mut Outputs<'_>, stop: &StopFlag) -> anyhow::Result<Outcome> {
        let interval = self.plan.config.training.validation_interval as u64;
        let num_epochs = self.plan.config.training.num_epochs as u64;
        let every = self.validation_of_updates();
        let loss = Arc::clone(&self.loss);
        outputs.observe(&Event::Started { plan: &self.plan, state: &self.state })?;
        let mut outcome = Outcome::Completed;
        loop {
            if self.state.needs_validation(interval, num_epochs) || self.state.needs_validation_of_update(every) {
                // An interruption loses only the validation.
                if self.state.global_step == 0 {
                    self.save(outputs, SavePoint::Last)?;
                }
                if self.validate(outputs, stop)? == Outcome::Interrupted {
                    outcome = Outcome::Interrupted;
                    break;
                }
                continue;
            }
            if self.state.epoch >= num_epochs {
                break;
            }
            if self.collective.any(self.state.is_out_of_patience(self.plan.config.training.patience))? {
                outputs.observe(&Event::EndedEarly { state: &self.state })?;
                break;
            }
            if self.train_epoch(&*loss, outputs, stop)? == Outcome::Interrupted {
                outcome = Outcome::Interrupted;
                break;
            }
        }
        let interrupted = outcome == Outcome::Interrupted;
        outputs.observe(&Event::Finished { state: &self.state, interrupted })?;
        self.collective.barrier()?;
        Ok(outcome)
    }

    /// Updates between two validations within epochs, where there are any.
    fn validation_of_updates(&self) -> Option<u64> {
        self.plan.config.training.scst.as_ref().map(|scst| scst.validate_every as u64)
    }

    /// The updates of an epoch, or those up to a validation within it.
    fn train_epoch(&mut self, loss: &dyn Loss, outputs: &mut Outputs<'_>, stop: &StopFlag) -> anyhow::Result<Outcome> {
        let epoch = self.state.epoch + 1;
        let save_interval = self.plan.config.training.save_interval;
        let every = self.validation_of_updates();
        let mut saved = Instant::now();
        outputs.observe(&Event::EpochStarted {
            epoch,
            num_updates: self.plan.updates_per_epoch,
            updates_done: self.state.updates_in_epoch,
        })?;
        let mut updates = self.load_updates(epoch);
        let mut unreported = Unreported::default();
        loop {
            if self.collective.any(stop.is_raised())? {
                self.report_last(&mut unreported, outputs)?;
                self.save(outputs, SavePoint::Last)?;
                return Ok(Outcome::Interrupted);
            }
            let started = Instant::now();
            let Some(pieces) = updates.next() else { break };
            let waited = started.elapsed();
            let pieces = match agreed(&*self.collective, LOAD, pieces) {
                Ok(pieces) => pieces,
                // The state between two updates is whole: an unreadable image must not cost the epoch.
                Err(error) => {
                    self.report_last(&mut unreported, outputs)?;
                    self.save(outputs, SavePoint::Last)?;
                    // The error says more than that another process is gone.
                    let _ = self.collective.barrier();
                    return Err(error);
                }
            };
            let next = self.launch(loss, &pieces, started, waited)?;
            let previous = unreported.last.replace(next);
            if let Some(previous) = previous {
                self.report(previous, &mut unreported, outputs)?;
            }
            // A GPU gets the next update while it computes this one; waiting for its report here would leave it idle.
            if self.device.is_cpu() {
                self.report_last(&mut unreported, outputs)?;
            }
            // The end of the epoch is a save point anyway.
            let is_last = self.state.updates_in_epoch >= self.plan.updates_per_epoch;
            let is_due = is_save_due(save_interval, self.state.updates_in_epoch, saved.elapsed());
            let is_validated = !is_last && self.state.needs_validation_of_update(every);
            if !is_last && (self.collective.any(is_due)? || is_validated) {
                self.report_last(&mut unreported, outputs)?;
                self.save(outputs, SavePoint::Last)?;
                saved = Instant::now();
            }
            if is_validated {
                // The epoch goes on after it.
                return Ok(Outcome::Completed);
            }
        }
        self.report_last(&mut unreported, outputs)?;
        self.complete_epoch();
        outputs.observe(&Event::EpochTrained { state: &self.state })?;
        self.save(outputs, SavePoint::Last)?;
        Ok(Outcome::Completed)
    }

    /// This process's pieces of the epoch's remaining updates, in order.
    fn load_updates(&self, epoch: u64) -> Loader<Vec<Piece>> {
        let training = &self.plan.config.training;
        let order = sampler::epoch_order(self.plan.config.seed, epoch, &self.data.train, self.plan.batch_by);
        let done = usize::try_from(self.state.updates_in_epoch).unwrap_or(usize::MAX);
        let num_parts = self.plan.num_parts;
        let share = self.collective.share().parts(num_parts);
        let (size, steps) = (training.batch_size, training.gradient_accumulation_steps);
        let jobs: Vec<usize> = (done..sampler::num_updates(order.len(), size, steps)).collect();
        let (data, device) = (self.data.clone(), self.device.clone());
        let purpose = Purpose::Training { epoch };
        let load = move |number: usize| {
            let cuts = pieces::cut(&sampler::update(&order, number, size, steps), num_parts, share.clone());
            data.pieces(&cuts, &device, |images| data.source.load(images, purpose, &device))
        };
        let workers = self.plan.num_workers;
        Loader::start(jobs, workers, workers + LOADED_AHEAD, Arc::new(load))
    }

    /// Starts the next update.
    fn launch(
        &mut self,
        loss: &dyn Loss,
        pieces: &[Piece],
        started: Instant,
        waited: Duration,
    ) -> anyhow::Result<InFlight> {
        let config = &self.plan.config;
        let settings = self.plan.step_settings(loss, &*self.collective);
        let factor = learning_rate_factor(&config.schedule, self.state.global_step, self.plan.total_updates);
        let learning_rate = config.optimizer.learning_rate * factor;
        let step = train_step(
            &self.plan.shape,
            &self.parameters,
            &mut self.optimizer,
            pieces,
            self.state.global_step,
            learning_rate,
            &settings,
            &self.pools,
        )?;
        let state = &mut self.state;
        state.global_step += 1;
        state.updates_in_epoch += 1;
        let (global_step, epoch) = (state.global_step, state.epoch + 1);
        Ok(InFlight { step, global_step, epoch, learning_rate, started, waited })
    }

    /// Waits for an update and reports it.
    fn report(
        &mut self,
        update: InFlight,
        unreported: &mut Unreported,
        outputs: &mut Outputs<'_>,
    ) -> anyhow::Result<()> {
        let InFlight { step, global_step, epoch, learning_rate, started, waited } = update;
        let StepOutcome { loss, num_examples, grad_norm, skipped, rewards } = step.read(&mut self.optimizer)?;
        self.collective.check_sums()?;
        // From the end of the previous update, if this one began before that.
        let began = unreported.reported.map_or(started, |reported| reported.max(started));
        let now = Instant::now();
        unreported.reported = Some(now);
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
            match &rewards {
                Some(means) => state.reward_watch.get_or_insert_default().observe(means),
                None => state.loss_watch.observe(global_step, loss.mean()),
            }
        }
        outputs.observe(&Event::Step(StepRecord {
            step: global_step,
            epoch: Some(epoch),
            loss: Some(loss.mean()),
            learning_rate: Some(learning_rate),
            grad_norm: Some(grad_norm),
            images_per_second: Some(num_examples as f64 / seconds),
            seconds: Some(seconds),
            wait_seconds: Some(waited.as_secs_f64()),
            skipped,
            rewards: rewards.map(RewardsRecord::from).unwrap_or_default(),
        }))?;
        self.check_skipped()
    }

    /// The same for the update that a GPU is still making, so that state and parameters belong together.
    fn report_last(&mut self, unreported: &mut Unreported, outputs: &mut Outputs<'_>) -> anyhow::Result<()> {
        unreported.last.take().map_or(Ok(()), |update| self.report(update, unreported, outputs))
    }

    fn check_skipped(&self) -> anyhow::Result<()> {
        if self.state.skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW {
            return Err(failure(
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
        state.train_loss = (state.epoch_loss_count > 0.0).then(|| state.epoch_loss_sum / state.epoch_loss_count);
        state.train_seconds = state.epoch_seconds;
        (state.epoch_loss_sum, state.epoch_loss_count, state.epoch_seconds) = (0.0, 0.0, 0.0);
    }

    /// Validates; the newest state was saved before, so an interruption here loses only the validation.
    fn validate(&mut self, outputs: &mut Outputs<'_>, stop: &StopFlag) -> anyhow::Result<Outcome> {
        let started = Instant::now();
        let model =
            Captioner::build(&self.plan.shape, &self.parameters.detached().in_precision(self.plan.precision()))?;
        let examples = Arc::clone(&self.data.val);
        let num_batches = examples.len().div_ceil(self.plan.config.evaluation.batch_size) as u64;
        outputs.observe(&Event::ValidationStarted { num_batches })?;
        let mut advance = |count: usize| (0..count).try_for_each(|_| outputs.observe(&Event::ValidationBatch));
        let Some(loss) = self.loss_of(&model, &examples, stop, &mut advance)? else { return Ok(Outcome::Interrupted) };
        ensure!(loss.count > 0.0, "the validation split has no caption");
        let val_loss = loss.mean();
        // Weights without a finite loss write no captions.
        let captioned = if val_loss.is_finite() { self.caption(outputs, stop)? } else { Some(Captioned::default()) };
        let Some(captioned) = captioned else { return Ok(Outcome::Interrupted) };
        let Some(distance) = self.distance(&captioned, stop)? else { return Ok(Outcome::Interrupted) };
        let is_rewarded = self.plan.config.training.scst.is_some() && !captioned.captions.is_empty();
        let bad_endings = is_rewarded.then(|| captioned.bad_endings());
        let previous = self.state.val_loss;
        let jumps = self.state.loss_watch.take_jumps();
        let rewards = self.state.reward_watch.as_mut().map(RewardWatch::take_alarms).unwrap_or_default();
        let alarms = alarms(val_loss, previous, jumps, rewards, &captioned.captions);
        let cider = captioned.scores.as_ref().map(|signed| signed.scores.CIDEr);
        if self.validation_of_updates().is_some() {
            self.state.count_validation_by_update();
        }
        let is_best = self.state.record_validation(val_loss, cider, self.plan.config.training.best_metric);
        let (seconds, scores) = (started.elapsed().as_secs_f64(), captioned.scores.as_ref());
        let (state, alarms) = (&self.state, alarms.as_slice());
        let samples = &self.data.captioned.samples(&captioned);
        outputs.observe(&Event::Validated {
            state,
            val_loss,
            scores,
            distance,
            bad_endings,
            seconds,
            is_best,
            alarms,
            samples,
        })?;
        if is_best {
            self.save(outputs, SavePoint::Best { val_loss })?;
        }
        // The newest state now knows its validation, so that a resume does not repeat it.
        self.save(outputs, SavePoint::Last)?;
        Ok(Outcome::Completed)
    }

    /// The cross-entropy of `model` on `examples`, of which each process has a share. `advance` gets how many more batches
    /// all processes have done. `None`: stopped.
    fn loss_of(
        &self,
        model: &Captioner,
        examples: &Arc<ExampleList>,
        stop: &StopFlag,
        advance: &mut dyn FnMut(usize) -> anyhow::Result<()>,
    ) -> anyhow::Result<Option<LossSum>> {
        let size = self.plan.config.evaluation.batch_size;
        let (share, num_batches) = (self.collective.share(), examples.len().div_ceil(size));
        // All processes take the same number of turns, in which they agree.
        let jobs: Vec<_> =
            (0..share.num_turns(examples.len(), size)).map(|turn| share.batch(turn, examples.len(), size)).collect();
        let (data, device, num_parts) = (self.data.clone(), self.device.clone(), self.plan.parts_of_evaluation());
        let examples = Arc::clone(examples);
        let load = move |range: std::ops::Range<usize>| {
            let examples: Vec<_> = range.map(|number| examples.get(number)).collect();
            if examples.is_empty() {
                return Ok(Vec::new());
            }
            let load = |images: &[usize]| data.source.load(images, Purpose::Evaluation, &device);
            Batch::load_parts(&examples, num_parts, data.pad_id, &device, load)
        };
        // Added up in the order of the batches, whoever computed which.
        let mut of_batches = vec![0.0; 2 * num_batches];
        let workers = self.plan.num_workers;
        for (turn, parts) in Loader::start(jobs, workers, workers + LOADED_AHEAD, Arc::new(load)).enumerate() {
            if self.collective.any(stop.is_raised())? {
                return Ok(None);
            }
            let parts = agreed(&*self.collective, LOAD, parts)?;
            let place = turn * share.size + share.rank;
            for part in self.pools.map(&parts, |part| evaluate_batch(model, part)) {
                let LossSum { sum, count } = part?;
                of_batches[2 * place] += sum;
                of_batches[2 * place + 1] += count;
            }
            advance(share.size.min(num_batches - turn * share.size))?;
        }
        self.collective.sum(&mut of_batches)?;
        let of_batch = |values: &[f64]| LossSum { sum: values[0], count: values[1] };
        let mut loss = LossSum::default();
        of_batches.chunks_exact(2).map(of_batch).for_each(|batch| loss.add(batch));
        Ok(Some(loss))
    }

    /// How much more probable the captions of a validation are for the model than for the one that training began from:
    /// the mean difference of their tokens' log-probabilities. `Some(None)`: there is none to compare with, or no caption;
    /// `None`: stopped.
    fn distance(&self, captioned: &Captioned, stop: &StopFlag) -> anyhow::Result<Option<Option<f64>>> {
        let Some(start) = &self.start else { return Ok(Some(None)) };
        let examples = Arc::new(self.data.captioned.as_examples(captioned));
        if examples.is_empty() {
            return Ok(Some(None));
        }
        let model = Captioner::build(&self.plan.shape, &start.detached())?;
        let Some(loss) = self.loss_of(&model, &examples, stop, &mut |_| Ok(()))? else { return Ok(None) };
        let now: f64 = captioned.captions.iter().map(|caption| caption.decoded.log_probability()).sum();
        Ok(Some(Some(now / loss.count + loss.mean())))
    }

    /// Captions of the samples, or of the whole validation split with their scores where that is due; in f32 as all
    /// captions. `None`: stopped.
    fn caption(&self, outputs: &mut Outputs<'_>, stop: &StopFlag) -> anyhow::Result<Option<Captioned>> {
        let captioned = &self.data.captioned;
        let model = Captioner::build(&self.plan.shape, &self.parameters.detached())?;
        let config = &self.plan.config;
        let mut decoding = config.decoding_of_captions();
        let by_updates = self.validation_of_updates().is_some();
        let epoch = self.state.epoch;
        let is_scored = config.evaluation.metrics_interval.is_some_and(|interval| {
            by_updates || epoch.is_multiple_of(interval as u64) || epoch == config.training.num_epochs as u64
        });
        let images = if is_scored { &captioned.images } else { &captioned.samples };
        if !is_scored {
            // Greedy: samples are quick to write and show whether captions are any good.
            decoding.num_beams = 1;
        }
        let writer = CaptionWriter::new(&model, &captioned.tokenizer, &decoding);
        let settings = self.plan.captioning_settings(&self.device);
        outputs.observe(&Event::CaptioningStarted { num_images: images.len() as u64 })?;
        let advance = |count| {
            outputs.observe(&Event::ImagesCaptioned { num_images: count as u64 })?;
            Ok(!stop.is_raised())
        };
        let team = Team { pools: &self.pools, collective: &*self.collective };
        let sources = std::slice::from_ref(&self.data.source);
        let written = caption_together(&writer, sources, images, &captioned.prompts, &settings, team, advance)?;
        Ok(written.map(|captions| {
            let scores = is_scored.then(|| captioned.score(&captions, config.seed));
            Captioned { captions, scores }
        }))
    }

    /// Observers first: whatever they buffer must be on disk before the checkpoint claims that it is.
    fn save(&self, outputs: &mut Outputs<'_>, point: SavePoint) -> anyhow::Result<()> {
        let state = &self.state;
        outputs.observe(&Event::Saving { state })?;
        outputs.save(point, state, &self.parameters, &self.optimizer)?;
        outputs.observe(&Event::Saved { point, state })
    }
}

impl TrainingData {
    /// Pieces of an update; `load` loads images.
    ///
    /// # Errors
    /// What `load` returns.
    pub(crate) fn pieces(
        &self,
        cuts: &[Cut],
        device: &Device,
        load: impl Fn(&[usize]) -> anyhow::Result<ImageInput>,
    ) -> anyhow::Result<Vec<Piece>> {
        cuts.iter().map(|cut| cut.load(&self.train, self.pad_id, device, &load)).collect()
    }
}

/// Whether to save the state after this update of the epoch, given the time since the last save.
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
    fn a_save_is_due_by_updates_or_by_minutes_as_asked() {
        let updates = Some(SaveInterval::Updates(3));
        let minutes = Some(SaveInterval::Minutes(2));
        let (short, long) = (Duration::from_secs(119), Duration::from_secs(120));
        assert!(is_save_due(updates, 6, short) && !is_save_due(updates, 7, long));
        assert!(is_save_due(minutes, 7, long) && !is_save_due(minutes, 6, short));
        assert!(!is_save_due(None, 6, long));
    }
}
