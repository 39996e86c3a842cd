//! Input as tensors on a GPU.

use candle_core::{CudaDevice, DType, Result, Shape, Tensor, bail};

use super::array::Buffer;
use super::transfer::{Cargo, copy};

/// A tensor on the GPU with these values. The caller, which may be any thread, waits only for a slot and for a copy
/// within host memory.
pub(crate) fn upload<T: bytemuck::Pod>(
    values: &[T],
    dtype: DType,
    shape: Shape,
    device: &CudaDevice,
) -> Result<Tensor> {
    if shape.elem_count() != values.len() || dtype.size_in_bytes() != size_of::<T>() {
        bail!("{} values cannot be a tensor {shape:?} of {dtype:?}", values.len());
    }
    let out = Buffer::new(device, dtype, values.len())?;
    copy(device, Cargo::Input, bytemuck::cast_slice(values), out.array().address)?;
    Ok(out.into_tensor(shape))
}
