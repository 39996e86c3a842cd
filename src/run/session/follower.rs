//! The part of a process in a run that another one, the main one, has in its hands: it computes, and writes nothing.

use std::rc::Rc;

use anyhow::Result;
use candle_core::Device;

use crate::model::parameters::Parameters;
use crate::run::image_cache;
use crate::run::session::final_captions::FinalCaptions;
use crate::run::session::pools_of;
use crate::run::setup::Setup;
use crate::training::checkpointer::{Checkpointer, SavePoint};
use crate::training::collective::Collective;
use crate::training::events::{Event, Observer};
use crate::training::optimizer::Optimizer;
use crate::training::train_state::TrainState;
use crate::training::trainer::Outcome;
use base::stop::StopFlag;

/// Computes in step with the main process, from the image cache to the captions at the end.
///
/// # Errors
/// Errors of training; a process that is gone.
pub fn follow(setup: Setup, device: Device, collective: Rc<dyn Collective>, stop: &StopFlag) -> Result<Outcome> {
    stop.attend();
    let pools = pools_of(&setup)?;
    let mut keep_going = || !stop.is_raised();
    let source = image_cache::image_source(&setup, &device, &pools, &*collective, &mut keep_going)?;
    let Some(source) = source else { return Ok(Outcome::Interrupted) };
    let final_captions = FinalCaptions::of(&setup);
    let mut trainer = setup.into_trainer(source, device, pools, collective);
    let outcome = trainer.run(&mut Nothing, &mut Nothing, stop)?;
    if let (Outcome::Completed, Some(captions)) = (outcome, final_captions) {
        captions.help(&trainer, keep_going)?;
    }
    Ok(outcome)
}

/// Neither observed nor saved.
struct Nothing;

impl Observer for Nothing {
    fn observe(&mut self, _: &Event<'_>) -> Result<()> {
        Ok(())
    }
}

impl Checkpointer for Nothing {
    fn save(&mut self, _: SavePoint, _: &TrainState, _: &Parameters, _: &Optimizer) -> Result<()> {
        Ok(())
    }
}
