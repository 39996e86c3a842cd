//! Grows what is kept of sequences by a row, while sequences change places: one copy for both. Not differentiable.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, WithDType, bail};

use super::buffer::build;
#[cfg(feature = "cuda")]
use super::cuda;
use super::operand::{elements, for_float};
use super::profile::Part;

/// Sequence i continues what was sequence `sequences[i]`: past (S', T, W), `sequences` of length S, next (S, 1, W) ->
/// (S, T + 1, W).
///
/// # Errors
/// Shapes that do not fit, an index outside of the past, types other than f32 and f64.
pub fn append(past: &Tensor, sequences: &[u32], next: &Tensor) -> Result<Tensor> {
    past.contiguous()?.apply_op2_no_bwd(&next.contiguous()?, &Append { sequences: sequences.to_vec() })
}

struct Append {
    sequences: Vec<u32>,
}

impl Append {
    /// Sequences, their length so far, width.
    fn sizes(&self, past: &Shape, next: &Shape) -> Result<(usize, usize, usize)> {
        let (num_past, length, width) = past.dims3()?;
        let count = self.sequences.len();
        if next.dims() != [count, 1, width] {
            bail!("append: expected ({count}, 1, {width}) to append to {past:?}, found {next:?}");
        }
        if let Some(index) = self.sequences.iter().find(|&&index| index as usize >= num_past) {
            bail!("append: sequence {index} is outside of {num_past}");
        }
        Ok((count, length, width))
    }
}

impl CustomOp2 for Append {
    fn name(&self) -> &'static str {
        "append"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (count, length, width) = self.sizes(l1.shape(), l2.shape())?;
        let (before, after) = (length * width, (length + 1) * width);
        let storage = for_float!(s1.dtype(), Part::Attention, T => {
            let (past, next) = (elements::<T>(s1, l1)?, elements::<T>(s2, l2)?);
            let values: Vec<T> = build(count * after, after, |sequence, out| {
                let source = self.sequences[sequence] as usize;
                out[..before].copy_from_slice(&past[source * before..][..before]);
                out[before..].copy_from_slice(&next[sequence * width..][..width]);
            });
            T::to_cpu_storage_owned(values)
        });
        Ok((storage, (count, length + 1, width).into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, s1: &CudaStorage, l1: &Layout, s2: &CudaStorage, l2: &Layout) -> Result<(CudaStorage, Shape)> {
        let (count, length, width) = self.sizes(l1.shape(), l2.shape())?;
        let out = cuda::in_place::append((s1, l1), (s2, l2), &self.sequences, (length, width))?;
        Ok((out, (count, length + 1, width).into()))
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
    fn what_does_not_fit_is_an_error() {
        let (past, next) = (tensor(&[1., 2.], (1, 1, 2)), tensor(&[3., 4.], (1, 1, 2)));
        assert!(append(&past, &[1], &next).is_err() && append(&past, &[0, 0], &next).is_err());
        assert!(append(&past, &[0], &tensor(&[3.], (1, 1, 1))).is_err());
    }
}
