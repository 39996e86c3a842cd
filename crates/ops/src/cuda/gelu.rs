//! The GELU activations on a GPU and their slopes.

use candle_core::{CudaDevice, CudaStorage, DType, Result, Tensor};

use super::array::{Array, Buffer, device_of};
use super::kernels::Module;
use super::launch::{Grid, arguments, launch};
use crate::types::Operand;
use crate::types::linear::Gelu;

/// The activation of every element.
pub(crate) fn forward(kind: Gelu, x: Operand<'_, CudaStorage>) -> Result<CudaStorage> {
    Ok(activated(&x.0.device, kind, Array::of_operand(x)?, DType::F32)?.into_storage())
}

/// The gradient of `x` for that of its activations.
pub(crate) fn backward(kind: Gelu, x: &Tensor, grad: &Tensor) -> Result<Tensor> {
    let scaled = grad.copy()?;
    scale_by_slopes(device_of(x)?, kind, Array::of_f32(x)?, Array::of_f32(&scaled)?)?;
    Ok(scaled)
}

fn number(kind: Gelu) -> i32 {
    match kind {
        Gelu::Erf => 0,
        Gelu::Tanh => 1,
        Gelu::Quick => 2,
    }
}

/// The activations of f32 values, in `dtype`.
pub(crate) fn activated(device: &CudaDevice, kind: Gelu, x: Array, dtype: DType) -> Result<Buffer> {
    x.expect(DType::F32)?;
    let out = Buffer::new(device, dtype, x.len)?;
    let name = format!("gelu_forward_f32_{}", out.array().suffix()?);
    launch(device, Module::Gelu, &name, Grid::over_elements(x.len), arguments![x, out.array(), x.len, number(kind)])?;
    Ok(out)
}

/// Multiplies the gradient of the activations of `x` by their slopes, so that it becomes that of `x`.
pub(crate) fn scale_by_slopes(device: &CudaDevice, kind: Gelu, x: Array, grad: Array) -> Result<()> {
    x.expect(DType::F32)?;
    grad.expect(DType::F32)?;
    let grid = Grid::over_elements(x.len);
    launch(device, Module::Gelu, "gelu_backward_f32", grid, arguments![x, grad, x.len, number(kind)])
}
