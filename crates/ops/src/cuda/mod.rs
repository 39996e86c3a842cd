//! The operations on NVIDIA GPUs: the same results as on a CPU up to rounding, the same dropout masks bit for bit.
//!
//! Everything is computed on one stream, in the order of the calls, and nothing here waits for the GPU but what reads
//! numbers back; input comes on a second one (`transfer`). Elements are reached through plain addresses: memory that is freed is freed in the order of the stream too, behind
//! what was launched before. Kernels are compiled by NVRTC when they are needed first; matrix products are cuBLAS's.

mod array;
mod device;
mod gemm;
mod kernels;
mod launch;
mod libraries;
mod rows;
mod transfer;

pub(crate) mod attention;
pub(crate) mod cross_entropy;
pub(crate) mod dropout;
pub(crate) mod embedding;
pub(crate) mod gelu;
pub(crate) mod in_place;
pub(crate) mod layer_norm;
pub(crate) mod linear;
pub(crate) mod update;

pub use device::{CudaFailure, compile_kernels, open};
pub use libraries::DRIVER;
pub(crate) use transfer::upload;
