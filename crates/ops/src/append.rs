//! Appends a row to sequences that change places at the same time. Not differentiable.

use candle_core::{CpuStorage, CudaStorage, Result, Shape, Tensor, bail};

use crate::operation::{Op, Operation};
use crate::types::Operand;
use crate::{cpu, cuda};

/// Sequence i continues the former sequence `sequences[i]`: past (S', T, W), `sequences` of length S, next (S, 1, W) ->
/// (S, T + 1, W).
///
/// # Errors
/// Shapes that do not fit, an index that is not a sequence of `past`, types other than f32 and f64.
pub fn append(past: &Tensor, sequences: &[u32], next: &Tensor) -> Result<Tensor> {
    past.contiguous()?.apply_op2_no_bwd(&next.contiguous()?, &Op(Append { sequences }))
}

struct Append<'a> {
    sequences: &'a [u32],
}

impl Operation<2> for Append<'_> {
    const NAME: &'static str = "append";

    /// Length so far, width.
    type Sizes = (usize, usize);

    fn check(&self, [past, next]: [&Shape; 2]) -> Result<((usize, usize), Shape)> {
        let (num_past, length, width) = past.dims3()?;
        let count = self.sequences.len();
        if next.dims() != [count, 1, width] {
            bail!("append: expected ({count}, 1, {width}) to append to {past:?}, found {next:?}");
        }
        if let Some(index) = self.sequences.iter().find(|&&index| index as usize >= num_past) {
            bail!("append: expected indices below {num_past}, found {index}");
        }
        Ok(((length, width), (count, length + 1, width).into()))
    }

    fn cpu_forward(&self, sizes: (usize, usize), [past, next]: [Operand<'_, CpuStorage>; 2]) -> Result<CpuStorage> {
        cpu::append::append(past, next, self.sequences, sizes)
    }

    fn cuda_forward(&self, sizes: (usize, usize), [past, next]: [Operand<'_, CudaStorage>; 2]) -> Result<CudaStorage> {
        cuda::in_place::append(past, next, self.sequences, sizes)
    }

    fn backward(&self, _: (usize, usize), _: [&Tensor; 2], _: &Tensor) -> Result<[Option<Tensor>; 2]> {
        Err(candle_core::Error::BackwardNotSupported { op: Self::NAME })
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn tensor(values: &[f32], shape: (usize, usize, usize)) -> Tensor {
        Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
    }

    #[test]
    fn sequences_change_places_and_grow() {
        let past = tensor(&[1., 2., 3., 4., 5., 6., 7., 8.], (2, 2, 2));
        let next = tensor(&[10., 11., 12., 13., 14., 15.], (3, 1, 2));
        let grown = append(&past, &[1, 0, 1], &next).unwrap();
        let expected =
            tensor(&[5., 6., 7., 8., 10., 11., 1., 2., 3., 4., 12., 13., 5., 6., 7., 8., 14., 15.], (3, 3, 2));
        assert_eq!(grown.to_vec3::<f32>().unwrap(), expected.to_vec3::<f32>().unwrap());
    }

    #[test]
    fn operands_that_do_not_fit_are_an_error() {
        let (past, next) = (tensor(&[1., 2.], (1, 1, 2)), tensor(&[3., 4.], (1, 1, 2)));
        assert!(append(&past, &[1], &next).is_err() && append(&past, &[0, 0], &next).is_err());
        assert!(append(&past, &[0], &tensor(&[3.], (1, 1, 1))).is_err());
    }
}
