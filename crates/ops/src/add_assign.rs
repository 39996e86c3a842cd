//! Adding one tensor to another in place.

use candle_core::{CpuStorage, CudaStorage, InplaceOp2, Layout, Result, Tensor, bail};

use crate::{cpu, cuda};

/// `sum + term`, written over `sum`, which must be contiguous and must not share its storage.
///
/// # Errors
/// Tensors of different shapes or types, types other than f32 and f64.
pub fn add_assign(sum: Tensor, term: &Tensor) -> Result<Tensor> {
    if sum.shape() != term.shape() || sum.dtype() != term.dtype() {
        bail!("cannot add {:?} of {:?} to {:?} of {:?}", term.dtype(), term.shape(), sum.dtype(), sum.shape());
    }
    sum.inplace_op2(&term.contiguous()?, &AddAssign)?;
    Ok(sum)
}

struct AddAssign;

impl InplaceOp2 for AddAssign {
    fn name(&self) -> &'static str {
        "add_assign"
    }

    fn cpu_fwd(&self, s1: &mut CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<()> {
        cpu::add_assign::add_assign(s1, l1, (s2, l2))
    }

    fn cuda_fwd(&self, s1: &mut CudaStorage, l1: &Layout, s2: &CudaStorage, l2: &Layout) -> Result<()> {
        cuda::in_place::add_assign((s1, l1), (s2, l2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{random, values};

    #[test]
    fn a_sum_in_place_equals_a_sum() {
        let (a, b) = (random((300, 200), "a"), random((200, 300), "b").t().unwrap());
        let expected = values(&(&a + &b).unwrap());
        assert_eq!(values(&add_assign(a.copy().unwrap(), &b).unwrap()), expected);
        assert!(add_assign(a.copy().unwrap(), &random((300, 100), "c")).is_err());
    }
}
