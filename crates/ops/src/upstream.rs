//! The start of a backward pass in the middle of a model.

use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, CudaStorage, Result, Shape, Tensor, bail};

use crate::cuda;
use crate::operation::{Op, Operation};
use crate::types::Operand;

/// A scalar of value 0 whose backward pass gives `states` the gradient `gradient`, which has the same shape.
///
/// # Errors
/// Types other than f32 and f64.
pub fn upstream(states: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    states.apply_op1(Op(Upstream(gradient.detach())))
}

struct Upstream(Tensor);

impl Operation<1> for Upstream {
    const NAME: &'static str = "upstream";

    type Sizes = ();

    fn check(&self, _: [&Shape; 1]) -> Result<((), Shape)> {
        Ok(((), Shape::from(())))
    }

    fn cpu_forward(&self, (): (), [(states, _)]: [Operand<'_, CpuStorage>; 1]) -> Result<CpuStorage> {
        match states {
            CpuStorage::F32(_) => Ok(CpuStorage::F32(vec![0.0])),
            CpuStorage::F64(_) => Ok(CpuStorage::F64(vec![0.0])),
            other => bail!("upstream expected f32 or f64 values, found {:?}", other.dtype()),
        }
    }

    fn cuda_forward(&self, (): (), [(states, _)]: [Operand<'_, CudaStorage>; 1]) -> Result<CudaStorage> {
        cuda::in_place::zero(states)
    }

    fn backward(&self, (): (), _: [&Tensor; 1], _: &Tensor) -> Result<[Option<Tensor>; 1]> {
        Ok([Some(self.0.clone())])
    }
}
