//! What happens in the loop, for observers. An observer that fails stops the loop.

use crate::evaluation::captioning::WrittenCaption;
use crate::training::alarms::Alarm;
use crate::training::checkpointer::SavePoint;
use crate::training::plan::RunPlan;
use crate::training::train_state::TrainState;
use metrics::score::SignedScores;
use records::record::{CaptionsRecord, EpochRecord, Record, StepRecord, ValidationRecord};

/// An image of the validation split with the caption that a validation generated.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// Its number in the data set.
    pub image: usize,
    /// The model's caption.
    pub caption: &'a WrittenCaption,
    pub references: &'a [String],
}

/// Something that happened.
pub enum Event<'a> {
    /// The loop begins or resumes.
    Started {
        /// What will happen.
        plan: &'a RunPlan,
        /// Where it begins.
        state: &'a TrainState,
    },
    /// An epoch begins or resumes.
    EpochStarted {
        /// Its number, from 1.
        epoch: u64,
        num_updates: u64,
        /// Those done before.
        updates_done: u64,
    },
    /// An update is done.
    Step(StepRecord),
    /// An epoch's updates are done.
    EpochTrained {
        /// Progress so far; `state.epoch` is the epoch.
        state: &'a TrainState,
    },
    /// A validation begins.
    ValidationStarted { num_batches: u64 },
    /// A batch of a validation is done.
    ValidationBatch,
    /// A validation has its loss and begins to caption.
    CaptioningStarted {
        /// Images that it captions.
        num_images: u64,
    },
    /// Some of these images have their captions.
    ImagesCaptioned {
        /// How many more.
        num_images: u64,
    },
    /// A validation is done.
    Validated {
        /// Progress so far.
        state: &'a TrainState,
        /// Mean token loss on the validation split.
        val_loss: f64,
        /// Scores of the captions of that split, where they were scored.
        scores: Option<&'a SignedScores>,
        /// How much more probable its captions are, a token, than for the model that self-critical training began from.
        distance: Option<f64>,
        /// In self-critical training, the share of its captions that end as no sentence does.
        bad_endings: Option<f64>,
        /// Its duration in seconds.
        seconds: f64,
        /// Whether the model is the best so far.
        is_best: bool,
        /// Its warnings.
        alarms: &'a [Alarm],
        /// The images that every validation captions (`evaluation.num_samples`); none where the loss was not finite.
        samples: &'a [Sample<'a>],
    },
    /// The run ends before its last epoch, since validations no longer bring a better model.
    EndedEarly {
        /// Progress so far.
        state: &'a TrainState,
    },
    /// A checkpoint is about to be written. Anything an observer buffers must be on disk when it returns: a resume from
    /// the checkpoint does not repeat what came before it.
    Saving {
        /// Progress so far.
        state: &'a TrainState,
    },
    /// The checkpoint is on the disk.
    Saved {
        /// Which.
        point: SavePoint,
        /// Progress so far.
        state: &'a TrainState,
    },
    /// The loop ends.
    Finished {
        /// Progress so far.
        state: &'a TrainState,
        /// It was asked to stop.
        interrupted: bool,
    },
}

impl Event<'_> {
    /// The line of `metrics.jsonl` for the event, if it has one.
    pub fn record(&self) -> Option<Record> {
        Some(match self {
            Event::Started { plan, state } => Record::Captions(CaptionsRecord {
                step: state.global_step,
                epoch: state.epoch,
                fit: plan.counts.captions,
            }),
            Event::Step(record) => Record::Step(*record),
            Event::EpochTrained { state } => Record::Epoch(EpochRecord {
                epoch: state.epoch,
                step: Some(state.global_step),
                train_loss: state.train_loss,
                train_seconds: Some(state.train_seconds),
                skipped_updates: Some(state.skipped_updates),
            }),
            Event::Validated { state, val_loss, scores, distance, bad_endings, seconds, is_best, alarms, .. } => {
                Record::Validation(ValidationRecord {
                    epoch: state.epoch,
                    step: Some(state.global_step),
                    val_loss: Some(*val_loss),
                    scores: scores
                        .map(|signed| signed.scores.named().map(|(name, value)| (name.to_owned(), Some(value))).into()),
                    signature: scores.map(|signed| signed.signature.clone()),
                    val_seconds: Some(*seconds),
                    distance: *distance,
                    bad_endings: *bad_endings,
                    best: *is_best,
                    alarms: alarms.iter().map(ToString::to_string).collect(),
                })
            }
            _ => return None,
        })
    }
}

/// Takes events.
pub trait Observer {
    /// # Errors
    /// A failure that must stop the run, such as a `metrics.jsonl` that cannot be written.
    fn observe(&mut self, event: &Event<'_>) -> anyhow::Result<()>;
}

impl<O: Observer + ?Sized> Observer for &mut O {
    fn observe(&mut self, event: &Event<'_>) -> anyhow::Result<()> {
        (**self).observe(event)
    }
}
