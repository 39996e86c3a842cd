//! The functions of `cuda` for builds without the feature: nothing is on a GPU there, and none of them is reached.

use candle_core::{CudaDevice, CudaStorage, DType, Result, Shape, Tensor, bail};

use crate::types::Operand;

fn absent<T>() -> Result<T> {
    bail!("this build cannot compute on a GPU; build with the feature cuda")
}

pub(crate) fn upload<T>(_: &[T], _: DType, _: Shape, _: &CudaDevice) -> Result<Tensor> {
    absent()
}

pub(crate) mod attention {
    use super::*;
    use crate::types::attention::Geometry;
    use crate::types::precision::Precision;

    pub(crate) fn forward(_: &Geometry, _: Precision, _: &[Operand<'_, CudaStorage>]) -> Result<CudaStorage> {
        absent()
    }

    pub(crate) fn backward(_: &Geometry, _: Precision, _: &[&Tensor], _: &Tensor) -> Result<Vec<Option<Tensor>>> {
        absent()
    }
}

pub(crate) mod cross_entropy {
    use super::*;
    use crate::types::targets::Targets;

    pub(crate) fn forward(_: Operand<'_, CudaStorage>, _: &Targets) -> Result<CudaStorage> {
        absent()
    }

    pub(crate) fn backward(_: &Tensor, _: &Targets, _: &Tensor) -> Result<Tensor> {
        absent()
    }
}

pub(crate) mod dropout {
    use super::*;
    use crate::types::dropout::DropoutSite;
    use crate::types::packing::Examples;

    pub(crate) fn forward(_: &DropoutSite, _: Operand<'_, CudaStorage>, _: &Examples) -> Result<CudaStorage> {
        absent()
    }
}

pub(crate) mod embedding {
    use super::*;

    pub(crate) fn forward(
        _: Operand<'_, CudaStorage>,
        _: Operand<'_, CudaStorage>,
        _: usize,
        _: usize,
    ) -> Result<CudaStorage> {
        absent()
    }

    pub(crate) fn backward(_: &Tensor, _: &Tensor, _: &Tensor) -> Result<Tensor> {
        absent()
    }
}

pub(crate) mod gelu {
    use super::*;
    use crate::types::linear::Gelu;

    pub(crate) fn forward(_: Gelu, _: Operand<'_, CudaStorage>) -> Result<CudaStorage> {
        absent()
    }

    pub(crate) fn backward(_: Gelu, _: &Tensor, _: &Tensor) -> Result<Tensor> {
        absent()
    }
}

pub(crate) mod in_place {
    use super::*;

    pub(crate) fn add_assign(_: Operand<'_, CudaStorage>, _: Operand<'_, CudaStorage>) -> Result<()> {
        absent()
    }

    pub(crate) fn append(
        _: Operand<'_, CudaStorage>,
        _: Operand<'_, CudaStorage>,
        _: &[u32],
        _: (usize, usize),
    ) -> Result<CudaStorage> {
        absent()
    }

    pub(crate) fn zero(_: &CudaStorage) -> Result<CudaStorage> {
        absent()
    }
}

pub(crate) mod layer_norm {
    use super::*;

    pub(crate) fn forward(_: f64, _: [Operand<'_, CudaStorage>; 3]) -> Result<CudaStorage> {
        absent()
    }

    pub(crate) fn backward(_: f64, _: (&Tensor, &Tensor, &Tensor), _: [bool; 3]) -> Result<[Option<Tensor>; 3]> {
        absent()
    }
}

pub(crate) mod linear {
    use super::*;
    use crate::types::linear::{LinearOptions, LinearSizes};

    pub(crate) fn forward(
        _: &LinearOptions,
        _: LinearSizes,
        _: Operand<'_, CudaStorage>,
        _: Operand<'_, CudaStorage>,
        _: Option<Operand<'_, CudaStorage>>,
    ) -> Result<CudaStorage> {
        absent()
    }

    pub(crate) fn backward(
        _: &LinearOptions,
        _: LinearSizes,
        _: (&Tensor, &Tensor, &Tensor),
        _: [bool; 3],
    ) -> Result<[Option<Tensor>; 3]> {
        absent()
    }
}

pub mod nccl {
    use super::*;
    use crate::types::gpu_sum::{NcclFailure, SumOrder};
    use candle_core::Device;

    #[derive(Debug)]
    pub enum Communicator {}

    pub fn version() -> std::result::Result<String, NcclFailure> {
        Ok(absent()?)
    }

    pub fn unique_id() -> std::result::Result<Vec<u8>, NcclFailure> {
        Ok(absent()?)
    }

    pub fn identity(_: &Device) -> std::result::Result<String, NcclFailure> {
        Ok(absent()?)
    }

    impl Communicator {
        pub fn new(
            _: &Device,
            _: &[u8],
            _: (usize, usize),
            _: impl Fn() -> bool + Send + 'static,
        ) -> std::result::Result<Self, NcclFailure> {
            Ok(absent()?)
        }

        pub fn sum(&self, _: &mut [&mut Tensor], _: SumOrder) -> std::result::Result<(), NcclFailure> {
            match *self {}
        }

        pub fn check(&self) -> std::result::Result<(), NcclFailure> {
            match *self {}
        }

        pub fn finish(self) -> std::result::Result<(), NcclFailure> {
            match self {}
        }
    }
}

pub(crate) mod update {
    use super::*;
    use crate::types::update::{UpdateReport, UpdateRule, UpdatedParameter};

    #[derive(Debug)]
    pub(crate) enum GpuUpdater {}

    #[derive(Debug)]
    pub(crate) enum PendingReport {}

    impl GpuUpdater {
        pub(crate) fn new(_: &CudaDevice, _: u64) -> Result<Self> {
            absent()
        }

        pub(crate) fn update(
            &mut self,
            _: &[UpdatedParameter<'_>],
            _: &[Tensor],
            _: &UpdateRule,
        ) -> Result<PendingReport> {
            match *self {}
        }
    }

    impl PendingReport {
        pub(crate) fn read(self) -> Result<UpdateReport> {
            match self {}
        }
    }
}
