//! One adapter between the operations of this crate and candle's traits for one, two and three operands.

use candle_core::{CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

use crate::types::Operand;

/// A differentiable operation on `N` contiguous operands.
pub(crate) trait Operation<const N: usize> {
    const NAME: &'static str;

    /// What kernels need to know about the shapes of the operands.
    type Sizes;

    /// Checks the shapes of the operands, and gives the shape of the result.
    fn check(&self, shapes: [&Shape; N]) -> Result<(Self::Sizes, Shape)>;

    fn cpu_forward(&self, sizes: Self::Sizes, operands: [Operand<'_, CpuStorage>; N]) -> Result<CpuStorage>;

    fn cuda_forward(&self, sizes: Self::Sizes, operands: [Operand<'_, CudaStorage>; N]) -> Result<CudaStorage>;

    /// The gradient of each operand that has one; `grad`, the gradient of the result, is contiguous.
    fn backward(&self, sizes: Self::Sizes, operands: [&Tensor; N], grad: &Tensor) -> Result<[Option<Tensor>; N]>;
}

/// An [`Operation`] as candle takes it.
pub(crate) struct Op<K>(pub(crate) K);

fn cpu<const N: usize, K: Operation<N>>(
    operation: &K,
    operands: [Operand<'_, CpuStorage>; N],
) -> Result<(CpuStorage, Shape)> {
    let (sizes, shape) = operation.check(operands.map(|(_, layout)| layout.shape()))?;
    Ok((operation.cpu_forward(sizes, operands)?, shape))
}

fn cuda<const N: usize, K: Operation<N>>(
    operation: &K,
    operands: [Operand<'_, CudaStorage>; N],
) -> Result<(CudaStorage, Shape)> {
    let (sizes, shape) = operation.check(operands.map(|(_, layout)| layout.shape()))?;
    Ok((operation.cuda_forward(sizes, operands)?, shape))
}

fn backward<const N: usize, K: Operation<N>>(
    operation: &K,
    operands: [&Tensor; N],
    grad: &Tensor,
) -> Result<[Option<Tensor>; N]> {
    let (sizes, _) = operation.check(operands.map(Tensor::shape))?;
    operation.backward(sizes, operands, &grad.contiguous()?)
}

impl<K: Operation<1>> CustomOp1 for Op<K> {
    fn name(&self) -> &'static str {
        K::NAME
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout) -> Result<(CpuStorage, Shape)> {
        cpu(&self.0, [(s1, l1)])
    }

    fn cuda_fwd(&self, s1: &CudaStorage, l1: &Layout) -> Result<(CudaStorage, Shape)> {
        cuda(&self.0, [(s1, l1)])
    }

    fn bwd(&self, a: &Tensor, _result: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let [a] = backward(&self.0, [a], grad)?;
        Ok(a)
    }
}

impl<K: Operation<2>> CustomOp2 for Op<K> {
    fn name(&self) -> &'static str {
        K::NAME
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        cpu(&self.0, [(s1, l1), (s2, l2)])
    }

    fn cuda_fwd(&self, s1: &CudaStorage, l1: &Layout, s2: &CudaStorage, l2: &Layout) -> Result<(CudaStorage, Shape)> {
        cuda(&self.0, [(s1, l1), (s2, l2)])
    }

    fn bwd(&self, a: &Tensor, b: &Tensor, _result: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok(backward(&self.0, [a, b], grad)?.into())
    }
}

impl<K: Operation<3>> CustomOp3 for Op<K> {
    fn name(&self) -> &'static str {
        K::NAME
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        cpu(&self.0, [(s1, l1), (s2, l2), (s3, l3)])
    }

    fn cuda_fwd(
        &self,
        s1: &CudaStorage,
        l1: &Layout,
        s2: &CudaStorage,
        l2: &Layout,
        s3: &CudaStorage,
        l3: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        cuda(&self.0, [(s1, l1), (s2, l2), (s3, l3)])
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        c: &Tensor,
        _result: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        Ok(backward(&self.0, [a, b, c], grad)?.into())
    }
}
