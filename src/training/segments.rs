//! A forward pass in segments, so that its backward pass needs little memory.
//!
//! candle keeps every intermediate result, and every gradient, until the whole backward pass is over. With the graph
//! cut into separate segments, what a segment kept is freed as soon as its own backward pass is done.

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, Var};

/// The cuts of one forward pass.
#[derive(Debug, Default)]
pub struct Segments {
    /// The end of a segment, and the equal tensor that the next begins with.
    cuts: Vec<(Tensor, Var)>,
}

impl Segments {
    /// Ends a segment with `states` and returns what the next begins with. States without gradient need no cut.
    ///
    /// # Errors
    /// A device without memory for a copy.
    pub fn cut(&mut self, states: Tensor) -> Result<Tensor> {
        if !states.track_op() {
            return Ok(states);
        }
        let start = Var::from_tensor(&states.detach())?;
        let next = start.as_tensor().clone();
        self.cuts.push((states, start));
        Ok(next)
    }

    /// The backward pass from `loss`, segment by segment from the last; `take` gets the gradients of each.
    ///
    /// # Errors
    /// What `take` returns; an operation without a backward pass.
    pub fn backward(self, loss: Tensor, mut take: impl FnMut(GradStore) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let mut end = loss;
        let mut cuts = self.cuts;
        loop {
            let mut store = end.backward()?;
            let Some((states, start)) = cuts.pop() else { return take(store) };
            // Nothing came through: the loss does not depend on what is before.
            let gradient = store.remove(&start);
            take(store)?;
            let Some(gradient) = gradient else { return Ok(()) };
            end = ops::upstream(&states, &gradient)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn gradients_in_segments_are_those_of_the_whole() {
        let tensor = |values: &[f64]| Var::from_tensor(&Tensor::new(values, &Device::Cpu).unwrap()).unwrap();
        let (a, b, c) = (tensor(&[0.5, -2.0]), tensor(&[3.0, 0.25]), tensor(&[-1.0, 0.75]));
        let forward = |cut: &mut dyn FnMut(Tensor) -> Result<Tensor>| -> Result<Tensor> {
            let x = cut(a.as_tensor().sqr()?)?;
            let x = cut((x * b.as_tensor())?)?;
            (x.sqr()? * c.as_tensor())?.sum_all()
        };
        let expected = forward(&mut Ok).unwrap().backward().unwrap();
        let mut segments = Segments::default();
        let loss = forward(&mut |states| segments.cut(states)).unwrap();
        let mut found: Vec<Option<Tensor>> = vec![None; 3];
        let mut count = 0;
        let take = |mut store: GradStore| {
            count += 1;
            for (found, variable) in found.iter_mut().zip([&a, &b, &c]) {
                if let Some(gradient) = store.remove(variable) {
                    assert!(found.replace(gradient).is_none());
                }
            }
            Ok(())
        };
        segments.backward(loss, take).unwrap();
        assert_eq!(count, 3);
        for (found, variable) in found.iter().zip([&a, &b, &c]) {
            let values = |tensor: &Tensor| tensor.to_vec1::<f64>().unwrap();
            assert_eq!(values(found.as_ref().unwrap()), values(expected.get(variable).unwrap()));
        }
    }

    #[test]
    fn states_without_gradient_are_not_cut() {
        let mut segments = Segments::default();
        let states = Tensor::new(&[1.0_f64], &Device::Cpu).unwrap();
        segments.cut(states).unwrap();
        assert!(segments.cuts.is_empty());
    }
}
