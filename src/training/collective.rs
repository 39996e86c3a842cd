//! What the loop asks of the other processes that train the same model. Another way to connect them is a file like this
//! one; the loop knows none of them.
//!
//! Each process runs the whole loop and makes the same decisions, since it uses only what all of them know: sums over
//! all processes, and questions that [`Collective::any`] settles. Gradients, losses and counts are added up and divided
//! once. Every process therefore calls these functions in the same order, from the thread that trains.

use std::fmt;

use anyhow::{Context as _, Result};
use candle_core::Tensor;

use crate::data::pieces::Share;
use base::error::one_line;

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

    /// Its place among them.
    fn share(&self) -> Share {
        Share { rank: self.rank(), size: self.size() }
    }

    /// Whether it is the first process on its machine, which does there what is done once for each disk.
    fn is_first_here(&self) -> bool {
        self.is_main()
    }

    /// Replaces each tensor by its sum over all processes, which has the same bits everywhere. All processes pass
    /// tensors of the same shapes in the same order. On a GPU the sum is queued, and nothing waits for it.
    ///
    /// # Errors
    /// A process that is gone.
    fn sum_tensors(&self, tensors: &mut [&mut Tensor]) -> Result<()>;

    /// Whether the sums that were queued on a GPU are whole: to be asked after waiting for it, before what it computed
    /// is used.
    ///
    /// # Errors
    /// A process that was gone when they were made.
    fn check_sums(&self) -> Result<()> {
        Ok(())
    }

    /// The sums of numbers over all processes, in the place of the numbers.
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

    /// The bytes of every process, in the order of their ranks.
    ///
    /// # Errors
    /// A process that is gone.
    fn gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>>;

    /// Waits until every process is here.
    ///
    /// # Errors
    /// A process that is gone.
    fn barrier(&self) -> Result<()>;

    /// Announces that this process ends because of an error, so that the others do not wait for it. Only the first
    /// announcement counts.
    fn abort(&self, reason: &str);

    /// Takes leave of the others when all of them are done.
    ///
    /// # Errors
    /// A process that is gone.
    fn finish(&self) -> Result<()>;
}

/// What each process did, unless another one failed: then all of them stop. `what` is what they did, as in "could not
/// read its images".
///
/// # Errors
/// The error of this process; [`AnotherFailed`]; a process that is gone.
pub fn agreed<T>(collective: &dyn Collective, what: &str, done: Result<T>) -> Result<T> {
    let has_failed = collective.any(done.is_err())?;
    let done = done?;
    if has_failed {
        return Err(AnotherFailed(format!("another process could not {what}; its messages say why")).into());
    }
    Ok(done)
}

/// Announces that this process ends because of `error`, unless that is another's, which announces it itself.
pub fn leave(collective: &dyn Collective, error: &anyhow::Error) {
    if !error.chain().any(|cause| cause.is::<AnotherFailed>()) {
        collective.abort(&one_line(error));
    }
}

/// Does something in the main process first, then in the first one of each machine, then in all others, so that what
/// it leaves on a disk is made once.
///
/// # Errors
/// As [`agreed`].
pub fn in_turns<T>(collective: &dyn Collective, what: &str, mut work: impl FnMut() -> Result<T>) -> Result<T> {
    let own_turn = match (collective.is_main(), collective.is_first_here()) {
        (true, _) => 0,
        (false, true) => 1,
        (false, false) => 2,
    };
    let mut done = None;
    for turn in 0..if collective.size() > 1 { 3 } else { 1 } {
        let here = if turn == own_turn { work().map(Some) } else { Ok(None) };
        done = agreed(collective, what, here)?.or(done);
    }
    done.context("every process has its turn")
}

/// This process has no error of its own.
#[derive(Debug)]
pub struct AnotherFailed(pub String);

impl fmt::Display for AnotherFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for AnotherFailed {}

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

    fn gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        Ok(vec![bytes.to_vec()])
    }

    fn barrier(&self) -> Result<()> {
        Ok(())
    }

    fn abort(&self, _: &str) {}

    fn finish(&self) -> Result<()> {
        Ok(())
    }
}
