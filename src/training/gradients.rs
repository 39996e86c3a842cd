//! The gradients of one update, by parameter name: the sum over its pieces, whichever thread computed which piece, in
//! whatever order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, ensure};
use candle_core::backprop::GradStore;
use candle_core::{Shape, Tensor};

use crate::model::parameters::{Parameter, Parameters};
use crate::model::role::Kind;
use crate::training::tree_sum::TreeSum;
use ops::{self, GradientSink};

/// Adds up the gradients of the pieces as they arrive.
pub struct GradientSums {
    /// Pieces that this process computes.
    num_pieces: usize,
    of_parameters: BTreeMap<String, Arc<ParameterSum>>,
}

/// The gradient of one parameter.
struct ParameterSum {
    shape: Shape,
    /// Whether it may get two gradients from a piece, as a table of tokens that is also the output head does. Each piece
    /// then has two leaves: its product's and, to the right of it, the other. With one leaf, two pieces are added up as
    /// soon as both have arrived; an empty leaf would keep all of them until the end.
    is_shared: bool,
    sum: TreeSum<Term>,
    /// Gradients of the weight of a matrix product.
    num_products: AtomicUsize,
    /// From candle's backward pass.
    num_others: AtomicUsize,
}

struct Term {
    tensor: Tensor,
    /// Whether nothing else refers to the tensor, so that it can be added to in place.
    is_ours: bool,
}

impl GradientSums {
    /// Sums for the trainable parameters, over `num_pieces` pieces.
    pub fn new(parameters: &Parameters, num_pieces: usize) -> Self {
        let of_parameter = |(name, parameter): (&str, &Parameter)| {
            let sum = ParameterSum {
                shape: parameter.var.shape().clone(),
                is_shared: parameter.role.kind == Kind::Embedding,
                sum: TreeSum::default(),
                num_products: AtomicUsize::new(0),
                num_others: AtomicUsize::new(0),
            };
            (name.to_owned(), Arc::new(sum))
        };
        let trainable = parameters.iter().filter(|(_, parameter)| parameter.trainable);
        Self { num_pieces, of_parameters: trainable.map(of_parameter).collect() }
    }

    /// Takes the gradient of the weight `name` from the piece with this leaf.
    pub fn sink(&self, leaf: usize, name: &str) -> GradientSink {
        let (sum, name) = (self.of_parameters.get(name).cloned(), name.to_owned());
        Arc::new(move |gradient| match &sum {
            Some(sum) => sum.add_product(leaf, &gradient),
            None => candle_core::bail!("{name} is not trained and got a gradient"),
        })
    }

    /// Takes the gradients of a backward pass of the piece with this leaf.
    ///
    /// # Errors
    /// A piece that passes a gradient twice.
    pub fn add(&self, leaf: usize, parameters: &Parameters, mut store: GradStore) -> anyhow::Result<()> {
        for (name, var) in parameters.trainable() {
            if let (Some(gradient), Some(sum)) = (store.remove(var), self.of_parameters.get(name)) {
                sum.add_other(leaf, &gradient)?;
            }
        }
        Ok(())
    }

    /// The sums. A process without a piece has zeros.
    ///
    /// # Errors
    /// A trainable parameter that got no gradient: somewhere the graph is cut.
    pub fn finish(self, parameters: &Parameters) -> anyhow::Result<Gradients> {
        let mut gradients = BTreeMap::new();
        for (name, var) in parameters.trainable() {
            if self.num_pieces == 0 {
                gradients.insert(name.to_owned(), nothing_like(var)?);
                continue;
            }
            let sum = self.of_parameters.get(name).with_context(|| format!("no sum for {name}"))?;
            let gradient = sum.finish(self.num_pieces);
            gradients.insert(name.to_owned(), gradient.with_context(|| format!("the trainable parameter {name}"))?);
        }
        Ok(Gradients(gradients))
    }
}

impl ParameterSum {
    fn leaf(&self, piece: usize, is_other: bool) -> usize {
        if self.is_shared { 2 * piece + usize::from(is_other) } else { piece }
    }

    fn add_product(&self, piece: usize, gradient: &Tensor) -> candle_core::Result<()> {
        self.num_products.fetch_add(1, Ordering::Relaxed);
        self.sum.add(self.leaf(piece, false), Term { tensor: gradient.reshape(&self.shape)?, is_ours: true }, join)
    }

    fn add_other(&self, piece: usize, gradient: &Tensor) -> candle_core::Result<()> {
        self.num_others.fetch_add(1, Ordering::Relaxed);
        // It may still refer to the graph it came from, and two may share their storage.
        self.sum.add(self.leaf(piece, true), Term { tensor: gradient.detach(), is_ours: false }, join)
    }

    fn finish(&self, num_pieces: usize) -> anyhow::Result<Tensor> {
        for num_terms in [&self.num_products, &self.num_others].map(|count| count.load(Ordering::Relaxed)) {
            ensure!([0, num_pieces].contains(&num_terms), "{num_terms} of {num_pieces} pieces gave it a gradient");
        }
        let sum = self.sum.finish(join)?;
        let sum = sum.context("got no gradient: an operation on its path has no backward pass")?;
        Ok(sum.tensor.contiguous()?)
    }
}

fn join(left: Term, right: Term) -> candle_core::Result<Term> {
    let tensor = match (left.is_ours, right.is_ours) {
        (true, _) => ops::add_assign(left.tensor, &right.tensor)?,
        // a + b = b + a.
        (false, true) => ops::add_assign(right.tensor, &left.tensor)?,
        (false, false) => (left.tensor + right.tensor)?,
    };
    Ok(Term { tensor, is_ours: true })
}

/// What changes no sum, the sign of a zero included.
fn nothing_like(tensor: &Tensor) -> candle_core::Result<Tensor> {
    Tensor::full(-0.0_f32, tensor.shape(), tensor.device())?.to_dtype(tensor.dtype())
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

    fn sum_of(is_shared: bool) -> ParameterSum {
        ParameterSum {
            shape: Shape::from(2),
            is_shared,
            sum: TreeSum::default(),
            num_products: AtomicUsize::new(0),
            num_others: AtomicUsize::new(0),
        }
    }

    fn gradient(value: f32) -> Tensor {
        Tensor::new(&[value, -value], &Device::Cpu).unwrap()
    }

    #[test]
    fn gradients_of_neighbouring_pieces_are_added_when_both_have_arrived() {
        let sum = sum_of(false);
        for (leaf, waiting) in [(0, 1), (1, 1), (3, 2), (2, 1)] {
            sum.add_product(leaf, &gradient(0.1 + leaf as f32)).unwrap();
            assert_eq!(sum.sum.num_waiting(), waiting, "after leaf {leaf}");
        }
        let expected = (0.1 + 1.1) + (2.1 + 3.1);
        assert_eq!(sum.finish(4).unwrap().to_vec1::<f32>().unwrap(), [expected, -expected]);
    }

    #[test]
    fn a_parameter_that_is_used_twice_has_two_gradients_from_each_piece() {
        let sum = sum_of(true);
        for leaf in [1, 0] {
            sum.add_other(leaf, &gradient(10.0)).unwrap();
            sum.add_product(leaf, &gradient(leaf as f32)).unwrap();
        }
        assert_eq!(sum.finish(2).unwrap().to_vec1::<f32>().unwrap(), [21.0, -21.0]);
        let sum = sum_of(false);
        sum.add_product(0, &gradient(1.0)).unwrap();
        assert!(sum.add_other(0, &gradient(1.0)).is_err());
    }
}
