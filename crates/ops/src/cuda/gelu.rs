//! GELU on a GPU.

use candle_core::{CudaDevice, CudaStorage, DType, Layout, Result, Tensor};

use super::array::{Array, Buffer, device_of};
use super::kernels::Module;
use super::launch::{Grid, arguments, launch};
use crate::gelu::Gelu;

fn number(kind: Gelu) -> i32 {
    match kind {
        Gelu::Erf => 0,
        Gelu::Tanh => 1,
        Gelu::Quick => 2,
    }
}

/// The activations, in the type of the operand.
pub(crate) fn forward(kind: Gelu, storage: &CudaStorage, layout: &Layout) -> Result<CudaStorage> {
    let x = Array::of_storage(storage, layout)?;
    Ok(activated(&storage.device, kind, x, x.dtype)?.into_storage())
}

/// The activations, in `dtype`.
pub(crate) fn activated(device: &CudaDevice, kind: Gelu, x: Array, dtype: DType) -> Result<Buffer> {
    let out = Buffer::new(device, dtype, x.len)?;
    let name = format!("gelu_forward_{}_{}", x.suffix()?, out.array().suffix()?);
    launch(device, Module::Gelu, &name, Grid::over_elements(x.len), arguments![x, out.array(), x.len, number(kind)])?;
    Ok(out)
}

/// The gradient of the operand from that of the activations.
pub(crate) fn backward(kind: Gelu, x: &Tensor, grad: &Tensor) -> Result<Tensor> {
    let device = device_of(x)?;
    let (x_array, grad) = (Array::of(x)?, Array::of(grad)?);
    let out = Buffer::new(device, x_array.dtype, x_array.len)?;
    slopes(device, kind, x_array, grad, out.array())?;
    Ok(out.into_tensor(x.shape()))
}

/// Multiplies the gradient of the activations of `x` by their slopes, so that it becomes that of `x`.
pub(crate) fn scale_by_slopes(device: &CudaDevice, kind: Gelu, x: Array, grad: Array) -> Result<()> {
    slopes(device, kind, x, grad, grad)
}

fn slopes(device: &CudaDevice, kind: Gelu, x: Array, grad: Array, out: Array) -> Result<()> {
    grad.expect(x.dtype)?;
    let name = format!("gelu_backward_{}", x.suffix()?);
    launch(device, Module::Gelu, &name, Grid::over_elements(x.len), arguments![x, grad, out, x.len, number(kind)])
}
