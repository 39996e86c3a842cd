//! The start of a backward pass in the middle of a model.

use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

/// A scalar whose backward pass hands `gradient` to `states`, of the same shape; its value is 0.
///
/// # Errors
/// Types other than f32 and f64.
pub fn upstream(states: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    states.apply_op1(Upstream(gradient.detach()))
}

struct Upstream(Tensor);

impl CustomOp1 for Upstream {
    fn name(&self) -> &'static str {
        "upstream"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        let zero = match storage {
            CpuStorage::F32(_) => CpuStorage::F32(vec![0.0]),
            CpuStorage::F64(_) => CpuStorage::F64(vec![0.0]),
            other => bail!("upstream expected f32 or f64 values, found {:?}", other.dtype()),
        };
        Ok((zero, Shape::from(())))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, storage: &candle_core::CudaStorage, _: &Layout) -> Result<(candle_core::CudaStorage, Shape)> {
        use candle_core::backend::BackendDevice as _;
        let shape = Shape::from(());
        Ok((storage.device.zeros_impl(&shape, storage.dtype())?, shape))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(self.0.clone()))
    }
}
