//! Input of the model as tensors of its device.

use candle_core::{Device, Result, Shape, Tensor, WithDType};

/// Less than this is copied at once.
#[cfg(feature = "cuda")]
const WORTH_PINNED_MEMORY: usize = 64 * 1024;

/// The values as a tensor. On a GPU large ones arrive while it computes; the caller waits for none of that.
///
/// # Errors
/// A shape of another number of elements, no memory on the device.
pub fn upload<T: WithDType + bytemuck::Pod>(
    values: Vec<T>,
    shape: impl Into<Shape>,
    device: &Device,
) -> Result<Tensor> {
    let shape = shape.into();
    #[cfg(feature = "cuda")]
    if let Device::Cuda(gpu) = device
        && size_of_val(values.as_slice()) >= WORTH_PINNED_MEMORY
    {
        return super::cuda::upload(&values, T::DTYPE, shape, gpu);
    }
    Tensor::from_vec(values, shape, device)
}
