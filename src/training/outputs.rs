//! Passes events to the observers and the state to the checkpointer.

use crate::model::parameters::Parameters;
use crate::training::checkpointer::{Checkpointer, SavePoint};
use crate::training::events::{Event, Observer};
use crate::training::optimizer::Optimizer;
use crate::training::train_state::TrainState;

/// Passes everything on in the process that writes, and nothing in the others.
pub(super) struct Outputs<'a> {
    pub(super) observer: &'a mut dyn Observer,
    pub(super) checkpointer: &'a mut dyn Checkpointer,
    pub(super) is_main: bool,
}

impl Outputs<'_> {
    pub(super) fn observe(&mut self, event: &Event<'_>) -> anyhow::Result<()> {
        if self.is_main { self.observer.observe(event) } else { Ok(()) }
    }

    pub(super) fn save(
        &mut self,
        point: SavePoint,
        state: &TrainState,
        parameters: &Parameters,
        optimizer: &Optimizer,
    ) -> anyhow::Result<()> {
        if self.is_main { self.checkpointer.save(point, state, parameters, optimizer) } else { Ok(()) }
    }
}
