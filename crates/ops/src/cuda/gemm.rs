//! Matrix products: the one place that calls cuBLAS.
#![expect(unsafe_code, reason = "cuBLAS takes addresses")]

use std::ffi::c_void;
use std::sync::Arc;

use candle_core::cuda_backend::WrapErr as _;
use candle_core::cuda_backend::cudarc::cublas::{CudaBlas, result, sys};
use candle_core::{CudaDevice, DType, Result, bail};

use super::array::Array;

/// A matrix on the GPU: rows of contiguous elements, `stride` apart, or its transpose.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix {
    pub(crate) address: u64,
    pub(crate) dtype: DType,
    pub(crate) stride: usize,
    pub(crate) transposed: bool,
}

impl Matrix {
    pub(crate) fn rows(array: Array, stride: usize) -> Self {
        Self { address: array.address, dtype: array.dtype, stride, transposed: false }
    }

    pub(crate) fn transposed(self) -> Self {
        Self { transposed: !self.transposed, ..self }
    }

    fn operation(&self) -> sys::cublasOperation_t {
        if self.transposed { sys::cublasOperation_t::CUBLAS_OP_T } else { sys::cublasOperation_t::CUBLAS_OP_N }
    }
}

/// `result = left @ right * scale + result * kept`: (m, k) and (k, n) to (m, n).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Product {
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    pub(crate) scale: f32,
    /// 0 or 1.
    pub(crate) kept: f32,
    /// Products of f32 use 10 bits of mantissa, as tensor cores do.
    pub(crate) tf32: bool,
}

impl Product {
    pub(crate) fn new(m: usize, n: usize, k: usize, tf32: bool) -> Self {
        Self { m, n, k, scale: 1.0, kept: 0.0, tf32 }
    }

    pub(crate) fn write(&self, device: &CudaDevice, result: Matrix, left: Matrix, right: Matrix) -> Result<()> {
        if self.m == 0 || self.n == 0 {
            return Ok(());
        }
        let (call, blas) = self.begin(device, [result, left, right])?;
        // cuBLAS is column-major: a row-major matrix is its transpose there, and (left @ right)^T = right^T @ left^T.
        // SAFETY: the callers give matrices with as many elements as the sizes and strides say.
        unsafe {
            result::gemm_ex(
                *blas.handle(),
                right.operation(),
                left.operation(),
                call.n,
                call.m,
                call.k,
                pointer_to(&self.scale),
                right.address as *const c_void,
                call.factors,
                call.right_stride,
                left.address as *const c_void,
                call.factors,
                call.left_stride,
                pointer_to(&self.kept),
                result.address as *mut c_void,
                call.result,
                call.result_stride,
                call.compute,
                sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        }
        .w()?;
        Ok(())
    }

    /// The same for `count` products whose matrices are listed in arrays on the GPU: `addresses` has the arrays of the
    /// results, the left and the right matrices, and the addresses of the matrices given here are ignored.
    pub(crate) fn write_batch(
        &self,
        device: &CudaDevice,
        count: usize,
        [result, left, right]: [Matrix; 3],
        addresses: [u64; 3],
    ) -> Result<()> {
        if count == 0 || self.m == 0 || self.n == 0 {
            return Ok(());
        }
        let (call, blas) = self.begin(device, [result, left, right])?;
        // SAFETY: as in `write`, for each of the matrices.
        unsafe {
            sys::cublasGemmBatchedEx(
                *blas.handle(),
                right.operation(),
                left.operation(),
                call.n,
                call.m,
                call.k,
                pointer_to(&self.scale),
                addresses[2] as *const *const c_void,
                call.factors,
                call.right_stride,
                addresses[1] as *const *const c_void,
                call.factors,
                call.left_stride,
                pointer_to(&self.kept),
                addresses[0] as *const *mut c_void,
                call.result,
                call.result_stride,
                size(count)?,
                call.compute,
                sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
            .result()
        }
        .w()?;
        Ok(())
    }

    /// Sizes and types of a call, and the handle for it.
    fn begin(&self, device: &CudaDevice, [result, left, right]: [Matrix; 3]) -> Result<(Call, Arc<CudaBlas>)> {
        if left.dtype != right.dtype || result.transposed {
            bail!("expected a product of {:?} and {:?} into a matrix of rows", left.dtype, right.dtype);
        }
        let compute = match (self.tf32, left.dtype) {
            (true, DType::F32) => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32,
            _ => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
        };
        let call = Call {
            m: size(self.m)?,
            n: size(self.n)?,
            k: size(self.k)?,
            left_stride: size(left.stride)?,
            right_stride: size(right.stride)?,
            result_stride: size(result.stride)?,
            factors: data_type(left.dtype)?,
            result: data_type(result.dtype)?,
            compute,
        };
        // cuBLAS uses the current context of the thread.
        device.cuda_stream().context().bind_to_thread().w()?;
        Ok((call, device.cublas_handle()))
    }
}

/// Sizes and types as cuBLAS takes them.
struct Call {
    m: i32,
    n: i32,
    k: i32,
    left_stride: i32,
    right_stride: i32,
    result_stride: i32,
    factors: sys::cudaDataType,
    result: sys::cudaDataType,
    compute: sys::cublasComputeType_t,
}

fn pointer_to(value: &f32) -> *const c_void {
    std::ptr::from_ref(value).cast()
}

fn size(value: usize) -> Result<i32> {
    i32::try_from(value)
        .map_err(|_| candle_core::Error::Msg(format!("{value} rows or columns are too many for cuBLAS")))
}

fn data_type(dtype: DType) -> Result<sys::cudaDataType> {
    match dtype {
        DType::F32 => Ok(sys::cudaDataType::CUDA_R_32F),
        DType::BF16 => Ok(sys::cudaDataType::CUDA_R_16BF),
        other => bail!("no matrix product of {other:?} on a GPU"),
    }
}
