//! The gradients of one update, by parameter name, and their sum over micro-batches.

use std::collections::BTreeMap;

use anyhow::Context as _;
use candle_core::Tensor;
use candle_core::backprop::GradStore;
use rayon::prelude::*;

use crate::model::parameters::Parameters;
use crate::ops;

/// Gradients of the trainable parameters.
#[derive(Debug, Default)]
pub struct Gradients(BTreeMap<String, Tensor>);

impl Gradients {
    /// Adds what a backward pass gave.
    ///
    /// # Errors
    /// A trainable parameter that got no gradient: somewhere the graph is cut.
    pub fn add(&mut self, parameters: &Parameters, mut store: GradStore) -> anyhow::Result<()> {
        for (name, var) in parameters.trainable() {
            let gradient = store.remove(var).with_context(|| {
                format!("the trainable parameter {name} got no gradient: an operation on its path has no backward")
            })?;
            // A gradient may still hold the graph it came from.
            let gradient = gradient.detach();
            // Not in place: the gradients of two parameters may share their storage.
            let sum = match self.0.get(name) {
                Some(sum) => (sum + &gradient)?,
                None => gradient.contiguous()?,
            };
            self.0.insert(name.to_owned(), sum);
        }
        Ok(())
    }

    /// The sum of what several backward passes gave, added in their order.
    ///
    /// # Errors
    /// What adding the tensors gives.
    pub fn sum(parts: Vec<Self>) -> anyhow::Result<Self> {
        let mut terms: BTreeMap<String, Vec<Tensor>> = BTreeMap::new();
        for (name, gradient) in parts.into_iter().flat_map(|part| part.0) {
            terms.entry(name).or_default().push(gradient);
        }
        let add = |(name, terms): (String, Vec<Tensor>)| {
            let sum = terms.into_iter().map(Ok).reduce(|sum, term| sum? + term?);
            Ok((name, sum.expect("a name has at least one term")?))
        };
        Ok(Self(terms.into_par_iter().map(add).collect::<candle_core::Result<_>>()?))
    }

    /// The gradient of a parameter.
    ///
    /// # Errors
    /// A parameter that got none.
    pub fn get(&self, name: &str) -> anyhow::Result<&Tensor> {
        self.0.get(name).with_context(|| format!("the trainable parameter {name} got no gradient"))
    }

    /// The 2-norm of all gradients together; not finite when one value is not.
    ///
    /// # Errors
    /// What reading the tensors gives.
    pub fn norm(&self) -> anyhow::Result<f64> {
        let mut sum = 0.0;
        for gradient in self.0.values() {
            sum += ops::sum_of_squares(gradient)?;
        }
        Ok(sum.sqrt())
    }
}

/// Factor on the gradients as `torch.nn.utils.clip_grad_norm_` computes it.
pub fn clip_factor(norm: f64, max_norm: Option<f64>) -> f64 {
    max_norm.map_or(1.0, |max_norm| (max_norm / (norm + 1e-6)).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clipping_scales_down_and_never_up() {
        assert_eq!(clip_factor(0.5, Some(1.0)), 1.0);
        assert!((clip_factor(4.0, Some(1.0)) - 1.0 / 4.000_001).abs() < 1e-12);
        assert_eq!(clip_factor(4.0, None), 1.0);
    }
}
