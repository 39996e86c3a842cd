//! What the loop asks of the other processes that train the same model. Another way to connect them is a file like this
//! one; the loop knows none of them.
//!
//! Each process runs the whole loop and makes the same decisions, since it uses only what all of them know: sums over
//! all processes, and questions that [`Collective::any`] settles. Gradients, losses and counts are added up and divided
//! once. Every process therefore calls these functions in the same order, from the thread that trains.

use std::fmt;

use anyhow::Result;
use candle_core::Tensor;

/// The processes that train one model together.
pub trait Collective: fmt::Debug {
    /// The number of this process, from 0.
    fn rank(&self) -> usize;

    /// How many processes there are.
    fn size(&self) -> usize;

    /// Whether this process writes: checkpoints, logs, progress, uploads. Exactly one does; all of them compute.
    fn is_main(&self) -> bool {
        self.rank() == 0
    }

    /// Replaces each tensor by its sum over all processes, which has the same bits everywhere. All processes pass
    /// tensors of the same shapes in the same order. On a GPU the sum is queued, and nothing waits for it.
    ///
    /// # Errors
    /// A process that is gone.
    fn sum_tensors(&self, tensors: &mut [&mut Tensor]) -> Result<()>;

    /// The same for numbers.
    ///
    /// # Errors
    /// A process that is gone.
    fn sum(&self, values: &mut [f64]) -> Result<()>;

    /// Whether any process says yes.
    ///
    /// # Errors
    /// A process that is gone.
    fn any(&self, here: bool) -> Result<bool>;

    /// Replaces `bytes` by those of the main process.
    ///
    /// # Errors
    /// A process that is gone.
    fn broadcast(&self, bytes: &mut Vec<u8>) -> Result<()>;

    /// Waits until every process is here.
    ///
    /// # Errors
    /// A process that is gone.
    fn barrier(&self) -> Result<()>;

    /// Announces that this process ends with an error, so that the others do not wait for it.
    fn abort(&self);
}

/// A single process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Collective for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn sum_tensors(&self, _: &mut [&mut Tensor]) -> Result<()> {
        Ok(())
    }

    fn sum(&self, _: &mut [f64]) -> Result<()> {
        Ok(())
    }

    fn any(&self, here: bool) -> Result<bool> {
        Ok(here)
    }

    fn broadcast(&self, _: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }

    fn barrier(&self) -> Result<()> {
        Ok(())
    }

    fn abort(&self) {}
}
