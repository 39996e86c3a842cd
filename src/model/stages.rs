//! How the parts of a forward pass follow one another.

use candle_core::{Result, Tensor};

/// A part of a forward pass: a function of its inputs and of parameters alone, so that it can be computed again.
pub type Stage = Box<dyn Fn(&[Tensor]) -> Result<Tensor>>;

/// Runs the stages of a forward pass. Training cuts the graph between them.
pub trait Stages {
    /// States between two stages, as the next one takes them: the states themselves, or an equal tensor that begins a
    /// graph of its own.
    ///
    /// # Errors
    /// A device without memory for a copy.
    fn cut(&mut self, states: Tensor) -> Result<Tensor>;

    /// The result of `stage` for `inputs`.
    ///
    /// # Errors
    /// Those of the stage; a device without memory for a copy.
    fn run(&mut self, inputs: &[Tensor], stage: Stage) -> Result<Tensor>;
}

/// One stage after the other, without cuts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Uncut;

impl Stages for Uncut {
    fn cut(&mut self, states: Tensor) -> Result<Tensor> {
        Ok(states)
    }

    fn run(&mut self, inputs: &[Tensor], stage: Stage) -> Result<Tensor> {
        stage(inputs)
    }
}
