//! Layer normalisation of the last dimension (Ba, Kiros, Hinton 2016), as `torch.nn.functional.layer_norm`.

use candle_core::{CpuStorage, CudaStorage, Result, Shape, Tensor, bail};

use crate::operation::{Op, Operation};
use crate::types::Operand;
use crate::{cpu, cuda};

/// `(x - mean) / sqrt(variance + eps) * weight + bias` over the last dimension: x (.., D), weight (D), bias (D).
///
/// # Errors
/// Shapes that do not fit, types other than f32 and f64.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, Op(LayerNorm { eps }))
}

struct LayerNorm {
    eps: f64,
}

impl Operation<3> for LayerNorm {
    const NAME: &'static str = "layer_norm";

    type Sizes = ();

    fn check(&self, [x, weight, bias]: [&Shape; 3]) -> Result<((), Shape)> {
        let width = weight.dims1()?;
        if x.dims().last() != Some(&width) || bias.dims() != [width] || width == 0 {
            bail!("layer_norm: input {x:?}, weight {weight:?} and bias {bias:?} do not fit");
        }
        Ok(((), x.clone()))
    }

    fn cpu_forward(&self, (): (), operands: [Operand<'_, CpuStorage>; 3]) -> Result<CpuStorage> {
        cpu::layer_norm::forward(self.eps, operands)
    }

    fn cuda_forward(&self, (): (), operands: [Operand<'_, CudaStorage>; 3]) -> Result<CudaStorage> {
        cuda::layer_norm::forward(self.eps, operands)
    }

    fn backward(&self, (): (), operands: [&Tensor; 3], grad: &Tensor) -> Result<[Option<Tensor>; 3]> {
        let backward = if grad.device().is_cuda() { cuda::layer_norm::backward } else { cpu::layer_norm::backward };
        let [x, weight, _] = operands;
        backward(self.eps, (x, weight, grad), operands.map(Tensor::track_op))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::D;

    use super::*;
    use crate::testing::{F64_TOLERANCE, assert_close, check, random};

    const EPS: f64 = 1e-5;

    fn composite(inputs: &[Tensor]) -> Result<Tensor> {
        let x = &inputs[0];
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        centred.broadcast_div(&(variance + EPS)?.sqrt()?)?.broadcast_mul(&inputs[1])?.broadcast_add(&inputs[2])
    }

    #[test]
    fn layer_norm_equals_the_composite() {
        for width in [5, 6, 37] {
            let inputs = [random((2, 3, width), "x"), random(width, "weight"), random(width, "bias")];
            check(&inputs, |i| layer_norm(&i[0], &i[1], &i[2], EPS), composite);
        }
    }

    #[test]
    fn layer_norm_of_many_chunks_equals_the_composite() {
        let inputs = [random((2000, 33), "x"), random(33, "weight"), random(33, "bias")];
        let vars: Vec<_> = inputs.iter().map(|input| candle_core::Var::from_tensor(input).unwrap()).collect();
        let operands: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
        let gradients = |result: Tensor| result.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        let found = gradients(layer_norm(&operands[0], &operands[1], &operands[2], EPS).unwrap());
        let expected = gradients(composite(&operands).unwrap());
        for operand in &operands {
            assert_close(found.get(operand).unwrap(), expected.get(operand).unwrap(), F64_TOLERANCE, "gradient");
        }
    }

    #[test]
    fn a_large_mean_keeps_its_digits() {
        // A one-pass variance would lose everything here.
        let x = (random((4, 192), "x") + 1000.0).unwrap();
        let (weight, bias) = (random(192, "weight"), random(192, "bias"));
        let expected = layer_norm(&x, &weight, &bias, EPS).unwrap();
        let narrow = |tensor: &Tensor| tensor.to_dtype(candle_core::DType::F32).unwrap();
        let found = layer_norm(&narrow(&x), &narrow(&weight), &narrow(&bias), EPS).unwrap();
        // The input itself is rounded to 6e-5 of its deviation.
        assert_close(&found, &expected, 2e-4, "result");
    }

    #[test]
    fn operands_that_do_not_fit_are_an_error() {
        let (x, five, six) = (random((2, 6), "x"), random(5, "weight"), random(6, "bias"));
        assert!(layer_norm(&x, &five, &six, EPS).is_err());
        assert!(layer_norm(&x, &six, &five, EPS).is_err());
    }
}
