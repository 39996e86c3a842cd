//! What the loop tells its observers. An observer that fails stops the loop.

use crate::evaluation::captioning::WrittenCaption;
use crate::model::parameters::Parameters;
use crate::training::alarms::Alarm;
use crate::training::optimizer::Optimizer;
use crate::training::plan::RunPlan;
use crate::training::train_state::TrainState;
use metrics::score::SignedScores;

/// Why a checkpoint is due.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SavePoint {
    /// The newest state.
    Last,
    /// A new best model.
    Best {
        /// Its validation loss, in nats per token.
        val_loss: f64,
    },
}

/// One update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Number of the update, from 1.
    pub global_step: u64,
    /// Epoch it belongs to, from 1.
    pub epoch: u64,
    /// Mean token loss, in nats.
    pub loss: f64,
    /// Learning rate of the decoder.
    pub learning_rate: f64,
    /// 2-norm of all gradients before clipping.
    pub grad_norm: f64,
    /// Pairs in the update.
    pub num_examples: usize,
    /// Its duration in seconds, waiting for data included.
    pub seconds: f64,
    /// How much of that was spent waiting for data.
    pub wait_seconds: f64,
    /// The update was skipped because loss or gradient was not finite.
    pub skipped: bool,
}

/// An image of the validation split with what a validation wrote about it.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// Its number in the data set.
    pub image: usize,
    /// The model's caption.
    pub caption: &'a WrittenCaption,
    /// What people wrote.
    pub references: &'a [String],
}

/// Something that happened.
pub enum Event<'a> {
    /// The loop begins or goes on.
    Started {
        /// What will happen.
        plan: &'a RunPlan,
        /// Where it begins.
        state: &'a TrainState,
    },
    /// An epoch begins or goes on.
    EpochStarted {
        /// Its number, from 1.
        epoch: u64,
        /// Its updates.
        num_updates: u64,
        /// Those done before.
        updates_done: u64,
    },
    /// An update was made.
    Step(StepReport),
    /// An epoch's updates are done.
    EpochTrained {
        /// Progress so far; `state.epoch` is the epoch.
        state: &'a TrainState,
    },
    /// A validation begins.
    ValidationStarted {
        /// Its batches.
        num_batches: u64,
    },
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
        /// Its duration in seconds.
        seconds: f64,
        /// Whether the model is the best so far.
        is_best: bool,
        /// What it warns of.
        alarms: &'a [Alarm],
        /// The images that every validation captions (`evaluation.num_samples`); none where the loss was not finite.
        samples: &'a [Sample<'a>],
    },
    /// The run ends before its last epoch, since validations no longer bring a better model.
    EndedEarly {
        /// Progress so far.
        state: &'a TrainState,
    },
    /// A checkpoint is due.
    Save {
        /// Which.
        point: SavePoint,
        /// Progress so far.
        state: &'a TrainState,
        /// The model.
        parameters: &'a Parameters,
        /// Its optimizer.
        optimizer: &'a Optimizer,
    },
    /// The loop ends.
    Finished {
        /// Progress so far.
        state: &'a TrainState,
        /// It was asked to stop.
        interrupted: bool,
    },
}

/// Someone who is told what happens.
pub trait Observer {
    /// Takes an event.
    ///
    /// # Errors
    /// A failure that must stop the run, such as a checkpoint that cannot be written.
    fn observe(&mut self, event: &Event<'_>) -> anyhow::Result<()>;
}

impl<O: Observer + ?Sized> Observer for &mut O {
    fn observe(&mut self, event: &Event<'_>) -> anyhow::Result<()> {
        (**self).observe(event)
    }
}

/// Passes events on in the process that writes, and nowhere else.
pub(super) struct MainOnly<'a> {
    pub(super) observer: &'a mut dyn Observer,
    pub(super) is_main: bool,
}

impl Observer for MainOnly<'_> {
    fn observe(&mut self, event: &Event<'_>) -> anyhow::Result<()> {
        if self.is_main { self.observer.observe(event) } else { Ok(()) }
    }
}
