//! A GPU, set up for training.
#![expect(unsafe_code, reason = "the driver takes addresses, and one stream needs no events")]

use std::ffi::c_void;

use candle_core::cuda_backend::cudarc::driver::{CudaContext, result, sys};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, DType, Device, Storage, Tensor, bail};

use super::libraries::{open_compiler, open_libraries};
use super::{kernels, linear};
use crate::types::linear::{LinearOptions, LinearSizes, WeightLayout};
use crate::types::precision::Precision;

/// Why a GPU cannot be used.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum CudaFailure {
    /// The driver or a library of CUDA is missing.
    #[error("the library {name} cannot be opened: {reason}")]
    Library {
        name: &'static str,
        /// The message of the loader.
        reason: String,
    },
    /// The driver is installed and finds no GPU.
    #[error("the NVIDIA driver finds no GPU")]
    NoGpu,
    #[error("there is no GPU {ordinal}; the driver finds {count}, numbered from 0")]
    NoSuchGpu { ordinal: usize, count: usize },
    /// The GPU is older than the kernels support.
    #[error("the GPU {ordinal} has compute capability {major}.{minor}; 8.0 or newer is needed")]
    TooOld { ordinal: usize, major: i32, minor: i32 },
    /// A first computation fails, most often because the driver is older than the CUDA that the program was built with.
    #[error("a first computation failed (the driver supports CUDA {driver}): {reason}")]
    Unusable {
        /// The newest version that the driver knows.
        driver: String,
        reason: String,
    },
    /// Any other error of the driver or a library.
    #[error("{0}")]
    Driver(String),
}

/// The GPU with this number, with one stream to compute on. The process keeps freed GPU memory.
pub fn open(ordinal: usize) -> Result<Device, CudaFailure> {
    let driver = |error: &dyn std::fmt::Display| CudaFailure::Driver(error.to_string());
    open_libraries().map_err(|(name, reason)| CudaFailure::Library { name, reason })?;
    let count = match CudaContext::device_count() {
        Ok(count) => usize::try_from(count).unwrap_or(0),
        Err(error) if error.0 == sys::cudaError_enum::CUDA_ERROR_NO_DEVICE => 0,
        Err(error) => return Err(driver(&error)),
    };
    match count {
        0 => return Err(CudaFailure::NoGpu),
        count if ordinal >= count => return Err(CudaFailure::NoSuchGpu { ordinal, count }),
        _ => {}
    }
    let device = CudaDevice::new_with_stream(ordinal).map_err(|error| driver(&error))?;
    let context = device.cuda_stream().context().clone();
    let (major, minor) = context.compute_capability().map_err(|error| driver(&error))?;
    if major < 8 {
        return Err(CudaFailure::TooOld { ordinal, major, minor });
    }
    keep_freed_memory(&context).map_err(|error| driver(&error))?;
    // SAFETY: all tensors are used and freed on this one stream. Copies to another stream or to host memory are ordered
    // by events of their own (`transfer`): from here on cudarc's pinned memory waits for nothing.
    unsafe { device.disable_event_tracking() };
    let device = Device::Cuda(device);
    try_out(&device).map_err(|error| CudaFailure::Unusable { driver: driver_version(), reason: error.to_string() })?;
    Ok(device)
}

/// Runs one kernel of candle, one of ours and one product, so that failures show before a run starts.
fn try_out(device: &Device) -> candle_core::Result<()> {
    let options = LinearOptions { layout: WeightLayout::OutIn, precision: Precision::Bf16, activation: None };
    let x = Tensor::ones((8, 8), DType::F32, device)?.affine(2.0, 1.0)?;
    let product = {
        let (storage, layout) = x.storage_and_layout();
        let Storage::Cuda(storage) = &*storage else { bail!("expected a tensor on the GPU") };
        let sizes = LinearSizes { rows: 8, inputs: 8, outputs: 8 };
        linear::forward(&options, sizes, (storage, layout), (storage, layout), None)?
    };
    let product = Tensor::from_storage(Storage::Cuda(product), (8, 8), BackpropOp::none(), false);
    let sum = product.to_vec2::<f32>()?[0][0];
    if sum == 72.0 { Ok(()) } else { bail!("the sum of eight products 3 x 3 is 72, the GPU computed {sum}") }
}

/// The newest version of CUDA that the driver supports.
fn driver_version() -> String {
    let mut version = 0;
    // SAFETY: it writes one number.
    match unsafe { sys::cuDriverGetVersion(&mut version) }.result() {
        Ok(()) => format!("{}.{}", version / 1000, version % 1000 / 10),
        Err(_) => "?".to_owned(),
    }
}

/// Compiles every kernel, which needs NVRTC but no GPU, and gives the number of source files.
pub fn compile_kernels() -> Result<usize, CudaFailure> {
    open_compiler().map_err(|(name, reason)| CudaFailure::Library { name, reason })?;
    for &module in kernels::Module::ALL {
        kernels::ptx(module).map_err(|error| CudaFailure::Driver(error.to_string()))?;
    }
    Ok(kernels::Module::ALL.len())
}

/// Without this the driver takes freed memory back at every synchronization.
fn keep_freed_memory(context: &CudaContext) -> Result<(), result::DriverError> {
    let mut most = u64::MAX;
    // SAFETY: the pool is the device's own, and the attribute is a number of 64 bits.
    unsafe {
        let pool = result::device::get_default_mem_pool(context.cu_device())?;
        let threshold = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        result::mem_pool::set_attribute(pool, threshold, std::ptr::from_mut(&mut most).cast::<c_void>())
    }
}
