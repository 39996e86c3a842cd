//! Affine map of the last dimension, with an activation before it.

use std::array;
use std::sync::Arc;

use candle_core::{CpuStorage, CudaStorage, Result, Shape, Tensor, bail};

use crate::operation::{Op, Operation};
use crate::types::Operand;
use crate::types::linear::{LinearOptions, LinearSizes, WeightLayout};
use crate::{cpu, cuda};

/// Receives the gradient of a weight as soon as it is known, in the shape of the weight or flattened.
pub type GradientSink = Arc<dyn Fn(Tensor) -> Result<()> + Send + Sync>;

/// `activation(x) @ weight + bias` of a contiguous x; the gradient of the weight goes to `sink` where there is one.
pub(crate) fn affine(
    x: &Tensor,
    weight: &Tensor,
    sink: Option<&GradientSink>,
    bias: Option<&Tensor>,
    options: &LinearOptions,
) -> Result<Tensor> {
    // The backward pass of a detached weight runs only if candle tracks another operand.
    let is_reached = x.track_op() || bias.is_some_and(Tensor::track_op);
    let sink = sink.filter(|_| is_reached).cloned();
    let weight = if sink.is_some() { weight.detach() } else { weight.clone() };
    let (weight, op) = (weight.contiguous()?, Op(Linear { options: *options, sink }));
    match bias {
        Some(bias) => x.apply_op3(&weight, &bias.contiguous()?, op),
        None => x.apply_op2(&weight, op),
    }
}

struct Linear {
    options: LinearOptions,
    sink: Option<GradientSink>,
}

/// Of x and weight, or of x, weight and bias.
impl<const N: usize> Operation<N> for Linear {
    const NAME: &'static str = "linear";

    type Sizes = LinearSizes;

    fn check(&self, shapes: [&Shape; N]) -> Result<(LinearSizes, Shape)> {
        let (x, weight, bias) = (shapes[0], shapes[1], shapes.get(2));
        let (first, second) = weight.dims2()?;
        let (inputs, outputs) = match self.options.layout {
            WeightLayout::OutIn => (second, first),
            WeightLayout::InOut => (first, second),
        };
        if x.dims().last() != Some(&inputs) || bias.is_some_and(|bias| bias.dims() != [outputs]) {
            bail!("linear: input {x:?}, weight {weight:?} ({:?}) and bias {bias:?} do not fit", self.options.layout);
        }
        let leading = &x.dims()[..x.rank() - 1];
        let sizes = LinearSizes { rows: leading.iter().product(), inputs, outputs };
        Ok((sizes, [leading, &[outputs]].concat().into()))
    }

    fn cpu_forward(&self, sizes: LinearSizes, operands: [Operand<'_, CpuStorage>; N]) -> Result<CpuStorage> {
        cpu::linear::forward(&self.options, sizes, operands[0], operands[1], operands.get(2).copied())
    }

    fn cuda_forward(&self, sizes: LinearSizes, operands: [Operand<'_, CudaStorage>; N]) -> Result<CudaStorage> {
        cuda::linear::forward(&self.options, sizes, operands[0], operands[1], operands.get(2).copied())
    }

    fn backward(&self, sizes: LinearSizes, operands: [&Tensor; N], grad: &Tensor) -> Result<[Option<Tensor>; N]> {
        let (x, weight, bias) = (operands[0], operands[1], operands.get(2));
        let wanted = [x.track_op(), weight.track_op() || self.sink.is_some(), bias.is_some_and(|bias| bias.track_op())];
        let backward = if grad.device().is_cuda() { cuda::linear::backward } else { cpu::linear::backward };
        let mut gradients = backward(&self.options, sizes, (x, weight, grad), wanted)?;
        if let Some(sink) = &self.sink
            && let Some(gradient) = gradients[1].take()
        {
            sink(gradient)?;
        }
        Ok(array::from_fn(|index| gradients[index].take()))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Var};

    use super::*;
    use crate::low_rank::activation;
    use crate::testing::{self, assert_close, check, random};
    use crate::types::linear::Gelu;
    use crate::types::precision::Precision;
    use crate::weight::{Weight, linear};

    fn plain(layout: WeightLayout) -> LinearOptions {
        LinearOptions { layout, precision: Precision::Full, activation: None }
    }

    const BF16: LinearOptions =
        LinearOptions { layout: WeightLayout::OutIn, precision: Precision::Bf16, activation: None };

    #[test]
    fn the_activation_is_applied_to_the_input_first() {
        let inputs = [(random((2, 3, 6), "x") * 3.0).unwrap(), random((6, 5), "weight"), random(5, "bias")];
        for kind in [Gelu::Erf, Gelu::Tanh, Gelu::Quick] {
            let options = LinearOptions { activation: Some(kind), ..plain(WeightLayout::InOut) };
            check(
                &inputs,
                |i| linear(&i[0], &Weight::new(i[1].clone()), Some(&i[2]), &options),
                |i| activation(&i[0], kind)?.broadcast_matmul(&i[1])?.broadcast_add(&i[2]),
            );
        }
    }

    #[test]
    fn both_layouts_with_and_without_bias_equal_matmul() {
        let x = random((2, 3, 6), "x");
        let bias = random(5, "bias");
        for (layout, weight) in
            [(WeightLayout::OutIn, random((5, 6), "weight")), (WeightLayout::InOut, random((6, 5), "weight"))]
        {
            let product = |inputs: &[Tensor]| match layout {
                WeightLayout::OutIn => inputs[0].broadcast_matmul(&inputs[1].t()?),
                WeightLayout::InOut => inputs[0].broadcast_matmul(&inputs[1]),
            };
            check(
                &[x.clone(), weight.clone()],
                |i| linear(&i[0], &Weight::new(i[1].clone()), None, &plain(layout)),
                product,
            );
            check(
                &[x.clone(), weight, bias.clone()],
                |i| linear(&i[0], &Weight::new(i[1].clone()), Some(&i[2]), &plain(layout)),
                |i| product(i)?.broadcast_add(&i[2]),
            );
        }
    }

    #[test]
    fn operands_that_do_not_fit_are_an_error() {
        let (x, weight) = (random((2, 6), "x"), Weight::new(random((5, 6), "weight")));
        assert!(linear(&x, &weight, None, &plain(WeightLayout::InOut)).is_err());
        assert!(linear(&x, &weight, Some(&random(6, "bias")), &plain(WeightLayout::OutIn)).is_err());
    }

    #[test]
    fn a_sink_receives_the_gradient_that_candle_would_keep() {
        let (x, bias, values) = (random((2, 3, 6), "x"), random(5, "bias"), random((5, 6), "weight"));
        for (tracked_x, tracked_bias) in [(true, true), (true, false), (false, true), (false, false)] {
            let run = |sink: Option<GradientSink>| {
                let variables = [&x, &bias, &values].map(|tensor| Var::from_tensor(tensor).unwrap());
                let operand = |index: usize, tracked: bool| {
                    if tracked { variables[index].as_tensor().clone() } else { variables[index].as_detached_tensor() }
                };
                let values = variables[2].as_tensor().clone();
                let weight = match sink {
                    Some(sink) => Weight::with_sink(values, sink),
                    None => Weight::new(values),
                };
                let (x, bias) = (operand(0, tracked_x), operand(1, tracked_bias));
                let result = linear(&x, &weight, Some(&bias), &plain(WeightLayout::OutIn)).unwrap();
                let mut gradients = result.sqr().unwrap().sum_all().unwrap().backward().unwrap();
                variables.map(|variable| gradients.remove(variable.as_tensor()))
            };
            let expected = run(None);
            let taken = Arc::new(std::sync::Mutex::new(None));
            let into = Arc::clone(&taken);
            let found = run(Some(Arc::new(move |gradient| {
                assert!(into.lock().unwrap().replace(gradient).is_none(), "a gradient came twice");
                Ok(())
            })));
            // Without another tracked operand candle keeps it.
            let weight = taken.lock().unwrap().take().or(found[2].clone()).unwrap();
            assert_eq!(testing::values(&weight), testing::values(expected[2].as_ref().unwrap()));
            for index in [0, 1] {
                let all = |gradient: &Option<Tensor>| gradient.as_ref().map(testing::values);
                assert_eq!(all(&found[index]), all(&expected[index]));
            }
        }
    }

    /// bf16 keeps 8 bits: operands are within 2^-9, and so is the result; the sums here have 33 terms near 1.
    const BF16_TOLERANCE: f64 = 4e-2;

    #[test]
    fn bf16_products_are_near_those_in_f64_in_both_passes() {
        let inputs = [random((2, 20, 33), "x"), random((37, 33), "weight"), random(37, "bias")];
        let run = |inputs: &[Tensor], precision| {
            let variables: Vec<Var> = inputs.iter().map(|input| Var::from_tensor(input).unwrap()).collect();
            let (x, weight, bias) = (&variables[0], Weight::new(variables[1].as_tensor().clone()), &variables[2]);
            let result =
                linear(x, &weight, Some(bias.as_tensor()), &LinearOptions { precision, ..plain(WeightLayout::OutIn) })
                    .unwrap();
            let weights = random(result.shape(), "weights").to_dtype(result.dtype()).unwrap();
            let gradients = (&result * weights).unwrap().sum_all().unwrap().backward().unwrap();
            let mut all = vec![result];
            all.extend(variables.iter().map(|variable| gradients.get(variable.as_tensor()).unwrap().clone()));
            all
        };
        let narrow: Vec<Tensor> = inputs.iter().map(|input| input.to_dtype(DType::F32).unwrap()).collect();
        let (expected, found) = (run(&inputs, Precision::Full), run(&narrow, Precision::Bf16));
        for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert_eq!(found.dtype(), DType::F32);
            assert_close(found, expected, BF16_TOLERANCE, &format!("tensor {index}"));
        }
    }

    #[test]
    fn bf16_rounds_operands_and_no_sums() {
        let [x, weight] = [random((20, 33), "x"), random((37, 33), "weight")].map(|t| t.to_dtype(DType::F32).unwrap());
        let found = linear(&x, &Weight::new(weight.clone()), None, &BF16).unwrap();
        let [x, weight] = [x, weight].map(|t| t.to_dtype(DType::BF16).unwrap().to_dtype(DType::F64).unwrap());
        assert_close(&found, &x.matmul(&weight.t().unwrap()).unwrap(), 1e-5, "product of rounded operands");
    }

    #[test]
    fn bf16_of_f64_operands_is_an_error() {
        let (x, weight) = (random((2, 6), "x"), Weight::new(random((5, 6), "weight")));
        assert!(linear(&x, &weight, None, &BF16).is_err());
    }
}
