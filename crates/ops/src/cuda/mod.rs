//! The operations on NVIDIA GPUs: the same results as on a CPU up to rounding, the same dropout masks bit for bit.
//!
//! Everything is computed on one stream, in the order of the calls; only reading numbers back waits for the GPU. Input
//! comes on a second stream (`transfer`). Kernels get plain addresses: memory is freed in the order of the stream too,
//! after the launches that use it. NVRTC compiles kernels when they are first used; cuBLAS computes matrix products.

mod array;
mod device;
mod gemm;
mod kernels;
mod launch;
mod libraries;
mod rows;
mod transfer;
mod upload;

pub(crate) mod attention;
pub(crate) mod cross_entropy;
pub(crate) mod dropout;
pub(crate) mod embedding;
pub(crate) mod gelu;
pub(crate) mod in_place;
pub(crate) mod layer_norm;
pub(crate) mod linear;
pub mod nccl;
pub(crate) mod update;

pub use device::{CudaFailure, compile_kernels, open};
pub use libraries::DRIVER;
pub(crate) use upload::upload;
