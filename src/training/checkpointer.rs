//! How the loop saves its state for a resume.

use crate::model::parameters::Parameters;
use crate::training::optimizer::Optimizer;
use crate::training::train_state::TrainState;

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

/// Writes checkpoints.
pub trait Checkpointer {
    /// Writes everything a resume needs. When it returns, the checkpoint is on disk.
    ///
    /// # Errors
    /// A checkpoint that cannot be written: the loop stops.
    fn save(
        &mut self,
        point: SavePoint,
        state: &TrainState,
        parameters: &Parameters,
        optimizer: &Optimizer,
    ) -> anyhow::Result<()>;
}
