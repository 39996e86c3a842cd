//! A forward pass in segments, so that its backward pass needs little memory.
//!
//! candle keeps every intermediate result, and every gradient, until the whole backward pass is over. With the graph
//! cut into separate segments, what a segment kept is freed as soon as its own backward pass is done. A segment may also
//! keep nothing but its inputs, and be computed again when its turn comes (Chen et al. 2016).

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, Var};

use crate::model::stages::{Stage, Stages};

/// The segments of one forward pass.
#[derive(Default)]
pub struct Segments {
    /// Whether stages are computed again instead of kept.
    recompute: bool,
    segments: Vec<Segment>,
}

struct Segment {
    /// Equal to the segment's result: what later ones begin with.
    start: Var,
    /// The gradient of the result, once a later segment has passed one.
    gradient: Option<Tensor>,
    result: Kept,
}

/// What is kept of a segment.
enum Kept {
    /// Its result with its graph.
    Graph(Tensor),
    /// What makes the result.
    Inputs(Vec<Tensor>, Stage),
}

impl Segments {
    /// A forward pass whose stages are kept, or computed again in the backward pass.
    pub fn new(recompute: bool) -> Self {
        Self { recompute, segments: Vec::new() }
    }

    /// The backward pass from `loss`, segment by segment from the last; `take` gets the gradients of each.
    ///
    /// # Errors
    /// What `take` returns; an operation without a backward pass.
    pub fn backward(self, loss: Tensor, mut take: impl FnMut(GradStore) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let mut end = loss;
        let mut segments = self.segments;
        loop {
            let mut store = end.backward()?;
            for segment in &mut segments {
                if let Some(gradient) = store.remove(&segment.start) {
                    segment.gradient = Some(match segment.gradient.take() {
                        Some(sum) => (sum + gradient)?,
                        None => gradient,
                    });
                }
            }
            take(store)?;
            // What it keeps must not be there beside what the next segment computes again.
            drop(end);
            // The loss does not depend on a segment without a gradient.
            let passed = loop {
                let Some(Segment { gradient, result, .. }) = segments.pop() else { return Ok(()) };
                if let Some(gradient) = gradient {
                    break (gradient, result);
                }
            };
            end = match passed {
                (gradient, Kept::Graph(states)) => ops::upstream(&states, &gradient)?,
                (gradient, Kept::Inputs(inputs, stage)) => ops::upstream(&stage(&inputs)?, &gradient)?,
            };
        }
    }

    /// Begins a segment with the values of `states`.
    fn begin(&mut self, states: &Tensor, result: Kept) -> Result<Tensor> {
        let start = Var::from_tensor(&states.detach())?;
        let next = start.as_tensor().clone();
        self.segments.push(Segment { start, gradient: None, result });
        Ok(next)
    }
}

impl Stages for Segments {
    /// States without gradient need no cut, and those that begin a segment have theirs.
    fn cut(&mut self, states: Tensor) -> Result<Tensor> {
        let begins = self.segments.iter().any(|segment| segment.start.id() == states.id());
        if begins || !states.track_op() {
            return Ok(states);
        }
        self.begin(&states.clone(), Kept::Graph(states))
    }

    fn run(&mut self, inputs: &[Tensor], stage: Stage) -> Result<Tensor> {
        let inputs = inputs.iter().map(|input| self.cut(input.clone())).collect::<Result<Vec<_>>>()?;
        let states = stage(&inputs)?;
        if self.recompute && states.track_op() {
            return self.begin(&states, Kept::Inputs(inputs, stage));
        }
        Ok(states)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::model::stages::Uncut;

    fn tensor(values: &[f64]) -> Var {
        Var::from_tensor(&Tensor::new(values, &Device::Cpu).unwrap()).unwrap()
    }

    /// A loss of a, b, c and d, where two stages look at the states of the first.
    fn forward([a, b, c, d]: &[Var; 4], stages: &mut dyn Stages) -> Result<Tensor> {
        let [b, c] = [b, c].map(|var| var.as_tensor().clone());
        let first = stages.cut(a.as_tensor().sqr()?)?;
        let x = stages.run(std::slice::from_ref(&first), Box::new(move |x| &x[0] * &b))?;
        let x = stages.run(&[x, first], Box::new(move |x| (x[0].sqr()? * &c)? * &x[1]))?;
        (x * d.as_tensor())?.sum_all()
    }

    #[test]
    fn gradients_in_segments_are_those_of_the_whole_kept_or_computed_again() {
        let variables = [tensor(&[0.5, -2.0]), tensor(&[3.0, 0.25]), tensor(&[-1.0, 0.75]), tensor(&[0.125, 4.0])];
        let expected = forward(&variables, &mut Uncut).unwrap().backward().unwrap();
        for recompute in [false, true] {
            let mut segments = Segments::new(recompute);
            let loss = forward(&variables, &mut segments).unwrap();
            let mut found: Vec<Option<Tensor>> = vec![None; 4];
            let mut count = 0;
            let take = |mut store: GradStore| {
                count += 1;
                for (found, variable) in found.iter_mut().zip(&variables) {
                    if let Some(gradient) = store.remove(variable) {
                        assert!(found.replace(gradient).is_none());
                    }
                }
                Ok(())
            };
            segments.backward(loss, take).unwrap();
            assert_eq!(count, if recompute { 4 } else { 3 });
            for (found, variable) in found.iter().zip(&variables) {
                let values = |tensor: &Tensor| tensor.to_vec1::<f64>().unwrap();
                assert_eq!(values(found.as_ref().unwrap()), values(expected.get(variable).unwrap()));
            }
        }
    }

    #[test]
    fn a_stage_is_computed_again_only_where_a_gradient_passes() {
        let count = std::rc::Rc::new(std::cell::Cell::new(0));
        let counted = |input: &Tensor, segments: &mut Segments| {
            let count = std::rc::Rc::clone(&count);
            let stage = move |x: &[Tensor]| {
                count.set(count.get() + 1);
                x[0].sqr()
            };
            segments.run(std::slice::from_ref(input), Box::new(stage)).unwrap()
        };
        let (a, constant) = (tensor(&[0.5]), Tensor::new(&[1.0_f64], &Device::Cpu).unwrap());
        let mut segments = Segments::new(true);
        let used = counted(&a, &mut segments);
        let _unused = counted(&a, &mut segments);
        let frozen = counted(&constant, &mut segments);
        let loss = (used * frozen).unwrap().sum_all().unwrap();
        assert_eq!(count.get(), 3);
        segments.backward(loss, |_| Ok(())).unwrap();
        assert_eq!(count.get(), 4);
    }

    #[test]
    fn states_without_gradient_are_not_cut() {
        let mut segments = Segments::default();
        let states = Tensor::new(&[1.0_f64], &Device::Cpu).unwrap();
        segments.cut(states).unwrap();
        assert!(segments.segments.is_empty());
    }
}
