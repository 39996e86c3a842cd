//! The gradients of one update, by parameter name: the sum over the parts of its batches, whichever thread computed
//! which part, in whatever order.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use candle_core::Tensor;
use candle_core::backprop::GradStore;

use crate::model::parameters::Parameters;
use ops::{self, GradientSink};

/// Adds up the gradients of the parts as they arrive. The result does not depend on the order of arrival: the terms are
/// the leaves of a binary tree, and siblings are added when the second has arrived.
pub struct GradientSums {
    num_parts: usize,
    /// Gradients of the weights of matrix products; nothing else refers to these tensors.
    products: BTreeMap<String, Arc<TreeSum>>,
    /// From candle's backward pass.
    others: BTreeMap<String, TreeSum>,
}

impl GradientSums {
    /// Sums for the trainable parameters, over `num_parts` parts.
    pub fn new(parameters: &Parameters, num_parts: usize) -> Self {
        let names = || parameters.trainable().map(|(name, _)| name.to_owned());
        Self {
            num_parts,
            products: names().map(|name| (name, Arc::default())).collect(),
            others: names().map(|name| (name, TreeSum::default())).collect(),
        }
    }

    /// Takes the gradient of the weight `name` from the part with this number.
    pub fn sink(&self, part: usize, name: &str) -> GradientSink {
        let sum = self.products.get(name).cloned();
        let (num_parts, name) = (self.num_parts, name.to_owned());
        Arc::new(move |gradient| match &sum {
            Some(sum) => sum.add(part, num_parts, gradient, ops::add_assign),
            None => candle_core::bail!("{name} is not trained and got a gradient"),
        })
    }

    /// Takes the gradients of a backward pass of the part with this number.
    ///
    /// # Errors
    /// A part that passes a gradient twice.
    pub fn add(&self, part: usize, parameters: &Parameters, mut store: GradStore) -> anyhow::Result<()> {
        for (name, var) in parameters.trainable() {
            if let (Some(gradient), Some(sum)) = (store.remove(var), self.others.get(name)) {
                // A gradient may still refer to the graph it came from, and two may share their storage.
                sum.add(part, self.num_parts, gradient.detach(), |sum, term| sum + term)?;
            }
        }
        Ok(())
    }

    /// # Errors
    /// A trainable parameter that got no gradient: somewhere the graph is cut.
    pub fn finish(self, parameters: &Parameters) -> anyhow::Result<Gradients> {
        let mut gradients = BTreeMap::new();
        for (name, var) in parameters.trainable() {
            let whole = || format!("the gradient of the trainable parameter {name} is incomplete");
            let product =
                self.products.get(name).map_or(Ok(None), |sum| sum.take(self.num_parts)).with_context(whole)?;
            let other = self.others.get(name).map_or(Ok(None), |sum| sum.take(self.num_parts)).with_context(whole)?;
            let gradient = match (product, other) {
                (Some(product), None) => product.reshape(var.shape())?,
                (None, Some(other)) => other.contiguous()?,
                (Some(product), Some(other)) => ops::add_assign(product.reshape(var.shape())?, &other)?,
                (None, None) => anyhow::bail!(
                    "the trainable parameter {name} got no gradient: an operation on its path has no backward pass"
                ),
            };
            gradients.insert(name.to_owned(), gradient);
        }
        Ok(Gradients(gradients))
    }
}

/// A sum over parts. Sums that wait for their sibling, each with its level in the tree and its place there.
#[derive(Default)]
struct TreeSum(Mutex<Vec<(usize, usize, Tensor)>>);

impl TreeSum {
    fn add(
        &self,
        part: usize,
        num_parts: usize,
        term: Tensor,
        add: impl Fn(Tensor, &Tensor) -> candle_core::Result<Tensor>,
    ) -> candle_core::Result<()> {
        let (mut level, mut place, mut width, mut sum) = (0, part, num_parts, term);
        while width > 1 {
            let sibling = place ^ 1;
            // The last of an odd number has no sibling.
            if sibling < width {
                let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                let Some(found) = waiting.iter().position(|&(at, other, _)| (at, other) == (level, sibling)) else {
                    waiting.push((level, place, sum));
                    return Ok(());
                };
                let (_, _, other) = waiting.swap_remove(found);
                drop(waiting);
                sum = add(sum, &other)?;
            }
            (level, place, width) = (level + 1, place / 2, width.div_ceil(2));
        }
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !waiting.is_empty() {
            candle_core::bail!("a part gave a gradient twice");
        }
        waiting.push((level, place, sum));
        Ok(())
    }

    /// The sum; `None` if no part added anything.
    fn take(&self, num_parts: usize) -> anyhow::Result<Option<Tensor>> {
        let mut waiting = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let root = num_parts.max(1).next_power_of_two().ilog2() as usize;
        match waiting.pop() {
            None => Ok(None),
            Some((level, _, sum)) if waiting.is_empty() && level == root => Ok(Some(sum)),
            Some(_) => anyhow::bail!("some parts of the update have a gradient and others have none"),
        }
    }
}

/// Gradients of the trainable parameters.
#[derive(Debug, Default)]
pub struct Gradients(BTreeMap<String, Tensor>);

impl Gradients {
    /// The gradient of a parameter.
    ///
    /// # Errors
    /// A parameter that got none.
    pub fn get(&self, name: &str) -> anyhow::Result<&Tensor> {
        self.0.get(name).with_context(|| format!("the trainable parameter {name} got no gradient"))
    }

    /// All of them, in the order of the parameters' names.
    pub(crate) fn tensors_mut(&mut self) -> impl Iterator<Item = &mut Tensor> {
        self.0.values_mut()
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn term(value: f32) -> Tensor {
        Tensor::new(&[value], &Device::Cpu).unwrap()
    }

    #[test]
    fn a_sum_does_not_depend_on_the_order_of_its_parts() {
        // In f32 these give another sum in almost every order.
        let values = [1e8_f32, 1.0, -1e8, 3.5, 7e-3, 2e4, -1.5];
        let sum = |order: &[usize]| {
            let sum = TreeSum::default();
            for &part in order {
                sum.add(part, values.len(), term(values[part]), ops::add_assign).unwrap();
            }
            sum.take(values.len()).unwrap().unwrap().to_vec1::<f32>().unwrap()[0]
        };
        let expected = sum(&[0, 1, 2, 3, 4, 5, 6]);
        for order in [[6, 5, 4, 3, 2, 1, 0], [3, 0, 6, 1, 5, 2, 4], [1, 0, 3, 2, 5, 4, 6]] {
            assert_eq!(sum(&order), expected);
        }
    }

    #[test]
    fn a_part_that_is_missing_or_arrives_twice_is_an_error() {
        let sum = TreeSum::default();
        let add = |part, count| sum.add(part, count, term(1.0), ops::add_assign);
        assert!(sum.take(4).unwrap().is_none());
        for parts in [vec![0], vec![0, 1], vec![0, 1, 2]] {
            for part in parts {
                add(part, 4).unwrap();
            }
            assert!(sum.take(4).is_err());
        }
        for part in [3, 0, 2, 1] {
            add(part, 4).unwrap();
        }
        assert!(sum.take(4).unwrap().is_some());
        let sum = TreeSum::default();
        sum.add(0, 1, term(1.0), ops::add_assign).unwrap();
        assert!(sum.add(0, 1, term(1.0), ops::add_assign).is_err());
    }
}
