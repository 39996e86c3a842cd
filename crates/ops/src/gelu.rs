//! A GELU by itself, where no product follows it: see also [`LinearOptions::activation`](crate::LinearOptions).

use candle_core::{CpuStorage, CudaStorage, Result, Shape, Tensor};

use crate::operation::{Op, Operation};
use crate::types::Operand;
use crate::types::linear::Gelu;
use crate::{cpu, cuda};

/// The activation of every element.
///
/// # Errors
/// Types other than f32 and f64.
pub fn gelu(x: &Tensor, kind: Gelu) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Op(Activation(kind)))
}

struct Activation(Gelu);

impl Operation<1> for Activation {
    const NAME: &'static str = "gelu";

    type Sizes = ();

    fn check(&self, [x]: [&Shape; 1]) -> Result<((), Shape)> {
        Ok(((), x.clone()))
    }

    fn cpu_forward(&self, (): (), [x]: [Operand<'_, CpuStorage>; 1]) -> Result<CpuStorage> {
        cpu::gelu::forward(self.0, x)
    }

    fn cuda_forward(&self, (): (), [x]: [Operand<'_, CudaStorage>; 1]) -> Result<CudaStorage> {
        cuda::gelu::forward(self.0, x)
    }

    fn backward(&self, (): (), [x]: [&Tensor; 1], grad: &Tensor) -> Result<[Option<Tensor>; 1]> {
        let backward = if grad.device().is_cuda() { cuda::gelu::backward } else { cpu::gelu::backward };
        Ok([Some(backward(self.0, x, grad)?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check, random};

    #[test]
    fn it_is_the_activation_of_a_product_with_the_unit_matrix() {
        let x = (random((2, 3, 6), "x") * 3.0).unwrap();
        let unit = Tensor::eye(6, x.dtype(), x.device()).unwrap();
        for kind in [Gelu::Erf, Gelu::Tanh, Gelu::Quick] {
            let options = crate::LinearOptions {
                layout: crate::WeightLayout::OutIn,
                precision: crate::Precision::Full,
                activation: Some(kind),
            };
            check(
                std::slice::from_ref(&x),
                |i| gelu(&i[0], kind),
                |i| crate::linear(&i[0], &crate::Weight::new(unit.to_dtype(i[0].dtype())?), None, &options),
            );
        }
    }
}
