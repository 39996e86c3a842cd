//! Input of the model as tensors on its device.

use candle_core::{Device, Result, Shape, Tensor, WithDType};

use crate::cuda;

/// Less than this is copied directly.
const MIN_PINNED_BYTES: usize = 64 * 1024;

/// The values as a tensor. Large ones are copied to a GPU while it computes, and the caller does not wait for that.
///
/// # Errors
/// A shape of another number of elements, no memory on the device.
pub fn upload<T: WithDType + bytemuck::Pod>(
    values: Vec<T>,
    shape: impl Into<Shape>,
    device: &Device,
) -> Result<Tensor> {
    let shape = shape.into();
    match device {
        Device::Cuda(gpu) if size_of_val(values.as_slice()) >= MIN_PINNED_BYTES => {
            cuda::upload(&values, T::DTYPE, shape, gpu)
        }
        _ => Tensor::from_vec(values, shape, device),
    }
}
