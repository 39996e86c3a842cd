//! An affine map with a frozen weight and a trained product of low rank beside it (LoRA, Hu et al. 2021).

use std::sync::Arc;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, Layout, Result, Shape, Storage, Tensor, bail};

use crate::add_assign::add_assign;
use crate::dropout::{dropout, packed_dropout};
use crate::linear::affine;
use crate::operation::{Op, Operation};
use crate::types::Operand;
use crate::types::dropout::DropoutSite;
use crate::types::linear::{Gelu, LinearOptions, LinearSizes, WeightLayout};
use crate::types::packing::{Examples, Packing};
use crate::{cpu, cuda};

/// The product beside a weight: `scaling * B(A(dropout(x)))`, R its rank.
#[derive(Clone, Debug)]
pub struct LowRank {
    /// A, (R, in).
    pub down: Tensor,
    /// B, (out, R).
    pub up: Tensor,
    /// Factor on the product.
    pub scaling: f64,
    /// Where the input of A is dropped; the weight's own input never is.
    pub dropout: Option<DropoutSite>,
    /// The packed sequences that an input (T, in) may consist of, which are those with T rows. In any other input each
    /// row of the first dimension is an example.
    pub packings: Vec<Arc<Packing>>,
}

/// As `linear` with the frozen `weight`, plus the product of `beside`. One operation keeps its input and its result
/// alone for the backward pass, where a sum of operations would keep two more tensors of the size of the result.
pub(crate) fn adapted_linear(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    beside: &LowRank,
    options: &LinearOptions,
) -> Result<Tensor> {
    if weight.track_op() || bias.is_some_and(Tensor::track_op) {
        bail!("linear: a weight with a product of low rank beside it is frozen, and so is its bias");
    }
    let dropout = beside.dropout.filter(|site| !site.is_off());
    if let Some(site) = &dropout {
        site.check()?;
    }
    let (activated, options) = match options.activation {
        // What is dropped is the activation of the input, so that the two products have no input in common.
        Some(kind) if dropout.is_some() => (activation(x, kind)?, LinearOptions { activation: None, ..*options }),
        _ => (x.clone(), *options),
    };
    let bias = bias.map(Tensor::contiguous).transpose()?;
    let op = Adapted {
        weight: weight.contiguous()?,
        bias,
        scaling: beside.scaling,
        dropout,
        packings: beside.packings.clone(),
        options,
    };
    activated.contiguous()?.apply_op3(&beside.down.contiguous()?, &beside.up.contiguous()?, Op(op))
}

/// `kind` of x as a composite of candle's operations.
pub(crate) fn activation(x: &Tensor, kind: Gelu) -> Result<Tensor> {
    match kind {
        // Not `gelu_erf`, whose gradient in candle is exact to 1e-7 only.
        Gelu::Erf => (x * 0.5)? * ((x * std::f64::consts::FRAC_1_SQRT_2)?.erf()? + 1.0)?,
        Gelu::Tanh => {
            let inner = ((x + (x.powf(3.0)? * 0.044_715)?)? * (2.0 / std::f64::consts::PI).sqrt())?;
            (x * 0.5)? * (inner.tanh()? + 1.0)?
        }
        Gelu::Quick => x / ((x * -1.702)?.exp()? + 1.0)?,
    }
}

/// Of x, A and B.
struct Adapted {
    weight: Tensor,
    bias: Option<Tensor>,
    scaling: f64,
    /// Not together with an activation.
    dropout: Option<DropoutSite>,
    packings: Vec<Arc<Packing>>,
    options: LinearOptions,
}

#[derive(Clone)]
struct AdaptedSizes {
    base: LinearSizes,
    rank: usize,
    examples: Examples,
}

impl AdaptedSizes {
    fn down(&self) -> LinearSizes {
        LinearSizes { outputs: self.rank, ..self.base }
    }

    fn up(&self) -> LinearSizes {
        LinearSizes { inputs: self.rank, ..self.base }
    }
}

/// The kernels of a device.
struct Kernels<S> {
    storage: for<'a> fn(&'a Storage) -> Result<&'a S>,
    linear: LinearKernel<S>,
    dropout: fn(&DropoutSite, Operand<'_, S>, &Examples) -> Result<S>,
    /// Adds the second to the first.
    add: fn((&mut S, &Layout), Operand<'_, S>) -> Result<()>,
}

type LinearKernel<S> =
    fn(&LinearOptions, LinearSizes, Operand<'_, S>, Operand<'_, S>, Option<Operand<'_, S>>) -> Result<S>;

impl Adapted {
    /// Of the products with A and with B.
    fn thin_options(&self) -> [LinearOptions; 2] {
        let down = LinearOptions { layout: WeightLayout::OutIn, ..self.options };
        [down, LinearOptions { activation: None, ..down }]
    }

    fn forward<S: BackendStorage>(
        &self,
        kernels: &Kernels<S>,
        sizes: &AdaptedSizes,
        [x, down, up]: [Operand<'_, S>; 3],
    ) -> Result<S> {
        let (weight, weight_layout) = self.weight.storage_and_layout();
        let weight = ((kernels.storage)(&weight)?, weight_layout);
        let bias = self.bias.as_ref().map(Tensor::storage_and_layout);
        let bias = match &bias {
            Some((storage, layout)) => Some(((kernels.storage)(storage)?, *layout)),
            None => None,
        };
        let mut sum = (kernels.linear)(&self.options, sizes.base, x, weight, bias)?;
        let [down_options, up_options] = self.thin_options();
        let dropped = self.dropout.map(|site| (kernels.dropout)(&site, x, &sizes.examples)).transpose()?;
        let x_layout = Layout::contiguous(x.1.shape());
        let input = dropped.as_ref().map_or(x, |dropped| (dropped, &x_layout));
        let thin = (kernels.linear)(&down_options, sizes.down(), input, down, None)?;
        let thin_layout = Layout::contiguous((sizes.base.rows, sizes.rank));
        let thin = thin.affine(&thin_layout, self.scaling, 0.0)?;
        let term = (kernels.linear)(&up_options, sizes.up(), (&thin, &thin_layout), up, None)?;
        let layout = Layout::contiguous((sizes.base.rows, sizes.base.outputs));
        (kernels.add)((&mut sum, &layout), (&term, &layout))?;
        Ok(sum)
    }
}

impl Operation<3> for Adapted {
    const NAME: &'static str = "adapted_linear";

    type Sizes = AdaptedSizes;

    fn check(&self, [x, down, up]: [&Shape; 3]) -> Result<(AdaptedSizes, Shape)> {
        let (first, second) = self.weight.dims2()?;
        let (inputs, outputs) = match self.options.layout {
            WeightLayout::OutIn => (second, first),
            WeightLayout::InOut => (first, second),
        };
        let (rank, _) = down.dims2()?;
        let has_bias = self.bias.as_ref().is_none_or(|bias| bias.dims() == [outputs]);
        let fits = down.dims() == [rank, inputs] && up.dims() == [outputs, rank] && has_bias;
        if x.dims().last() != Some(&inputs) || !fits {
            bail!(
                "linear: input {x:?}, weight {:?} ({:?}), A {down:?}, B {up:?} and bias {:?} do not fit",
                self.weight.shape(),
                self.options.layout,
                self.bias.as_ref().map(Tensor::shape)
            );
        }
        let leading = &x.dims()[..x.rank() - 1];
        let base = LinearSizes { rows: leading.iter().product(), inputs, outputs };
        let packing = self.packings.iter().find(|packing| leading == [packing.num_rows()]);
        let examples = match packing {
            Some(packing) => Examples::Packed(Arc::clone(packing)),
            None => Examples::Equal(leading.first().copied().unwrap_or(1)),
        };
        let sizes = AdaptedSizes { base, rank, examples };
        Ok((sizes, [leading, &[outputs]].concat().into()))
    }

    fn cpu_forward(&self, sizes: AdaptedSizes, operands: [Operand<'_, CpuStorage>; 3]) -> Result<CpuStorage> {
        let kernels = Kernels {
            storage: |storage| match storage {
                Storage::Cpu(storage) => Ok(storage),
                _ => bail!("linear: the weight is not where its input is"),
            },
            linear: cpu::linear::forward,
            dropout: cpu::dropout::forward,
            add: |(sum, layout), term| cpu::add_assign::add_assign(sum, layout, term),
        };
        self.forward(&kernels, &sizes, operands)
    }

    fn cuda_forward(&self, sizes: AdaptedSizes, operands: [Operand<'_, CudaStorage>; 3]) -> Result<CudaStorage> {
        let kernels = Kernels {
            storage: |storage| match storage {
                Storage::Cuda(storage) => Ok(storage),
                _ => bail!("linear: the weight is not where its input is"),
            },
            linear: cuda::linear::forward,
            dropout: cuda::dropout::forward,
            add: |(sum, layout), term| cuda::in_place::add_assign((sum, layout), term),
        };
        self.forward(&kernels, &sizes, operands)
    }

    fn backward(&self, sizes: AdaptedSizes, [x, down, up]: [&Tensor; 3], grad: &Tensor) -> Result<[Option<Tensor>; 3]> {
        let backward = if grad.device().is_cuda() { cuda::linear::backward } else { cpu::linear::backward };
        let [of_x, of_down, of_up] = [x, down, up].map(Tensor::track_op);
        let [down_options, up_options] = self.thin_options();
        let drop = |values: &Tensor, site: &DropoutSite| match &sizes.examples {
            Examples::Equal(_) => dropout(values, site),
            Examples::Packed(packing) => packed_dropout(values, site, packing),
        };
        // The thin products are made again: they cost less than keeping their input.
        let input = self.dropout.map_or_else(|| Ok(x.detach()), |site| drop(&x.detach(), &site))?;
        let thin = if of_up {
            (affine(&input, &down.detach(), None, None, &down_options)? * self.scaling)?
        } else {
            // Its values are not needed.
            Tensor::zeros((sizes.base.rows, sizes.rank), grad.dtype(), grad.device())?
        };
        let wanted = [of_x || of_down, of_up, false];
        let [thin_gradient, up_gradient, _] = backward(&up_options, sizes.up(), (&thin, up, grad), wanted)?;
        let Some(thin_gradient) = thin_gradient else { return Ok([None, None, up_gradient]) };
        let thin_gradient = (thin_gradient * self.scaling)?;
        let wanted = [of_x, of_down, false];
        let [x_gradient, down_gradient, _] =
            backward(&down_options, sizes.down(), (&input, down, &thin_gradient), wanted)?;
        let x_gradient = match (x_gradient, self.dropout) {
            (Some(gradient), Some(site)) => Some(drop(&gradient, &site)?),
            (gradient, _) => gradient,
        };
        let [of_base, ..] = backward(&self.options, sizes.base, (x, &self.weight, grad), [of_x, false, false])?;
        let x_gradient = match (of_base, x_gradient) {
            (Some(sum), Some(term)) => Some(add_assign(sum, &term)?),
            _ => None,
        };
        Ok([x_gradient, down_gradient, up_gradient])
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::testing::{check, random, values};
    use crate::types::dropout::Dropout;
    use crate::types::precision::Precision;
    use crate::weight::{Weight, linear};

    const SCALING: f64 = 1.75;

    fn options(layout: WeightLayout, activation: Option<Gelu>) -> LinearOptions {
        LinearOptions { layout, precision: Precision::Full, activation }
    }

    fn beside(operands: &[Tensor], dropout: Option<DropoutSite>) -> LowRank {
        LowRank { down: operands[1].clone(), up: operands[2].clone(), scaling: SCALING, dropout, packings: Vec::new() }
    }

    /// Weight and bias in the type of the input.
    fn frozen(x: &Tensor, layout: WeightLayout) -> (Tensor, Tensor) {
        let shape = if layout == WeightLayout::OutIn { (5, 6) } else { (6, 5) };
        let cast = |tensor: Tensor| tensor.to_dtype(x.dtype()).unwrap();
        (cast(random(shape, "weight")), cast(random(5, "bias")))
    }

    /// x W + bias + scaling B(A(mask * x)) of candle's operations.
    fn composite(operands: &[Tensor], layout: WeightLayout, kind: Option<Gelu>, mask: &Tensor) -> Result<Tensor> {
        let x = kind.map_or_else(|| Ok(operands[0].clone()), |kind| activation(&operands[0], kind))?;
        let (weight, bias) = frozen(&x, layout);
        let weight = if layout == WeightLayout::OutIn { weight.t()? } else { weight };
        let thin = (&x * mask)?.broadcast_matmul(&operands[1].t()?)?.broadcast_matmul(&operands[2].t()?)?;
        x.broadcast_matmul(&weight)?.broadcast_add(&bias)? + (thin * SCALING)?
    }

    #[test]
    fn the_product_beside_a_frozen_weight_equals_its_composite_in_both_layouts() {
        let inputs = [random((2, 3, 6), "x"), random((4, 6), "A"), random((5, 4), "B")];
        let ones = Tensor::ones((2, 3, 6), DType::F64, &Device::Cpu).unwrap();
        let site = Dropout { probability: 0.4, seed: 1, update: 2, first_example: 3 }.site(4);
        let mask = dropout(&ones, &site).unwrap();
        for layout in [WeightLayout::OutIn, WeightLayout::InOut] {
            for kind in [None, Some(Gelu::Erf), Some(Gelu::Tanh), Some(Gelu::Quick)] {
                for (dropout, mask) in [(None, &ones), (Some(site), &mask)] {
                    check(
                        &inputs,
                        |i| {
                            let (weight, bias) = frozen(&i[0], layout);
                            let weight = Weight::new(weight).with_low_rank(beside(i, dropout));
                            linear(&i[0], &weight, Some(&bias), &options(layout, kind))
                        },
                        |i| composite(i, layout, kind, mask),
                    );
                }
            }
        }
    }

    #[test]
    fn dropping_spares_the_product_with_the_weight() {
        let inputs = [random((2, 3, 6), "x"), random((4, 6), "A"), random((5, 4), "B").zeros_like().unwrap()];
        let site = Dropout { probability: 0.9, seed: 1, update: 2, first_example: 3 }.site(4);
        let (weight, bias) = frozen(&inputs[0], WeightLayout::OutIn);
        let options = options(WeightLayout::OutIn, None);
        let plain = linear(&inputs[0], &Weight::new(weight.clone()), Some(&bias), &options).unwrap();
        let weight = Weight::new(weight).with_low_rank(beside(&inputs, Some(site)));
        assert_eq!(values(&linear(&inputs[0], &weight, Some(&bias), &options).unwrap()), values(&plain));
    }

    #[test]
    fn shapes_that_do_not_fit_and_a_weight_that_is_trained_are_errors() {
        let inputs = [random((2, 3, 6), "x"), random((4, 6), "A"), random((5, 4), "B")];
        let (weight, bias) = frozen(&inputs[0], WeightLayout::OutIn);
        let options = options(WeightLayout::OutIn, None);
        let swapped = LowRank {
            down: inputs[2].clone(),
            up: inputs[1].clone(),
            scaling: 1.0,
            dropout: None,
            packings: Vec::new(),
        };
        assert!(
            linear(&inputs[0], &Weight::new(weight.clone()).with_low_rank(swapped), Some(&bias), &options).is_err()
        );
        let trained = candle_core::Var::from_tensor(&weight).unwrap();
        let weight = Weight::new(trained.as_tensor().clone()).with_low_rank(beside(&inputs, None));
        assert!(linear(&inputs[0], &weight, Some(&bias), &options).is_err());
    }
}
