//! Elements on the GPU: addresses of tensors, and memory for results.
#![expect(unsafe_code, reason = "memory for results is not cleared")]

use candle_core::backend::{BackendDevice as _, BackendStorage as _};
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DevicePtr as _, DeviceRepr};
use candle_core::cuda_backend::{CudaDType, WrapErr as _};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, DType, Layout, Result, Shape, Storage, Tensor, bail};
use half::bf16;

use super::transfer::{Cargo, copy};
use crate::types::Operand;

/// Contiguous elements on the GPU. Owns nothing: the caller keeps the tensor until the launch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Array {
    /// Of the first element.
    pub(crate) address: u64,
    /// F32, BF16 or U32.
    pub(crate) dtype: DType,
    /// Number of elements.
    pub(crate) len: usize,
}

impl Array {
    /// The elements of an operand.
    pub(crate) fn of_operand((storage, layout): Operand<'_, CudaStorage>) -> Result<Self> {
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("expected a contiguous tensor, found strides {:?} for {:?}", layout.stride(), layout.shape())
        };
        let dtype = storage.dtype();
        let first = match dtype {
            DType::F32 => address_of::<f32>(storage)?,
            DType::BF16 => address_of::<bf16>(storage)?,
            DType::U32 => address_of::<u32>(storage)?,
            other => bail!("expected f32 or bf16 values on a GPU, found {other:?}"),
        };
        Ok(Self { address: first + (start * dtype.size_in_bytes()) as u64, dtype, len: end - start })
    }

    /// The elements of a contiguous tensor.
    pub(crate) fn of(tensor: &Tensor) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        match &*storage {
            Storage::Cuda(storage) => Self::of_operand((storage, layout)),
            _ => bail!("expected a tensor on the GPU"),
        }
    }

    /// The elements of a contiguous tensor of f32.
    pub(crate) fn of_f32(tensor: &Tensor) -> Result<Self> {
        let array = Self::of(tensor)?;
        array.expect(DType::F32)?;
        Ok(array)
    }

    /// Refuses another type.
    pub(crate) fn expect(&self, dtype: DType) -> Result<()> {
        if self.dtype != dtype {
            bail!("expected {dtype:?} values on a GPU, found {:?}", self.dtype);
        }
        Ok(())
    }

    /// The suffix of the names of kernels for these elements.
    pub(crate) fn suffix(&self) -> Result<&'static str> {
        match self.dtype {
            DType::F32 => Ok("f32"),
            DType::BF16 => Ok("bf16"),
            other => bail!("expected f32 or bf16 values on a GPU, found {other:?}"),
        }
    }
}

fn address_of<T: CudaDType + DeviceRepr>(storage: &CudaStorage) -> Result<u64> {
    let slice = storage.as_cuda_slice::<T>()?;
    Ok(slice.device_ptr(slice.stream()).0)
}

/// Memory for a result, to be written before it is read.
pub(crate) struct Buffer {
    storage: CudaStorage,
    array: Array,
}

impl Buffer {
    /// Memory for `len` elements of f32 or bf16.
    pub(crate) fn new(device: &CudaDevice, dtype: DType, len: usize) -> Result<Self> {
        // The driver refuses to allocate 0 bytes.
        let shape = Shape::from(len.max(1));
        // SAFETY: the elements are numbers of any bits, and kernels write them before anything reads them.
        let storage = unsafe { device.alloc_uninit(&shape, dtype)? };
        let array = Array { len, ..Array::of_operand((&storage, &Layout::contiguous(&shape)))? };
        Ok(Self { storage, array })
    }

    pub(crate) fn zeros(device: &CudaDevice, dtype: DType, len: usize) -> Result<Self> {
        let shape = Shape::from(len.max(1));
        let storage = device.zeros_impl(&shape, dtype)?;
        let array = Array { len, ..Array::of_operand((&storage, &Layout::contiguous(&shape)))? };
        Ok(Self { storage, array })
    }

    pub(crate) fn array(&self) -> Array {
        self.array
    }

    pub(crate) fn into_storage(self) -> CudaStorage {
        self.storage
    }

    /// A tensor of this shape, which must have as many elements.
    pub(crate) fn into_tensor(self, shape: impl Into<Shape>) -> Tensor {
        Tensor::from_storage(Storage::Cuda(self.storage), shape, BackpropOp::none(), false)
    }
}

/// Memory for values that are no tensor: addresses, sums in f64.
pub(crate) struct Scratch<T> {
    pub(crate) slice: CudaSlice<T>,
    /// Of its first element.
    pub(crate) address: u64,
}

/// The driver copies at most this from plain memory at once; for more it would wait for the GPU.
const MAX_DIRECT_BYTES: usize = 16 * 1024;

impl<T: DeviceRepr> Scratch<T> {
    /// Memory for `len` elements, to be written before it is read.
    pub(crate) fn new(device: &CudaDevice, len: usize) -> Result<Self> {
        // SAFETY: kernels write the elements before anything reads them.
        Ok(Self::of(unsafe { device.alloc::<T>(len.max(1))? }))
    }

    /// A copy of values in host memory.
    pub(crate) fn copy_of(device: &CudaDevice, values: &[T]) -> Result<Self>
    where
        T: bytemuck::NoUninit,
    {
        let mut scratch = Self::new(device, values.len())?;
        if size_of_val(values) <= MAX_DIRECT_BYTES {
            device.cuda_stream().memcpy_htod(values, &mut scratch.slice).w()?;
        } else {
            copy(device, Cargo::Lists, bytemuck::cast_slice(values), scratch.address)?;
        }
        Ok(scratch)
    }

    fn of(slice: CudaSlice<T>) -> Self {
        let address = slice.device_ptr(slice.stream()).0;
        Self { slice, address }
    }
}

pub(crate) fn device_of(tensor: &Tensor) -> Result<&CudaDevice> {
    tensor.device().as_cuda_device()
}
