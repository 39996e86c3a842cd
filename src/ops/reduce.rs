//! Sums over all elements and in-place addition, for gradients.

use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, InplaceOp2, Layout, Result, Tensor, bail};
use rayon::prelude::*;

use super::buffer::CHUNK;
use super::operand::{ElementMut, elements, elements_mut, for_float, tensor_elements};
use super::vector_math::{AddTo, Element, Kernel, sum_map, vectorized};

/// The sum of the squares of all elements, in f64 and in a fixed order.
///
/// # Errors
/// Types other than f32 and f64, a tensor that is not on the CPU.
pub fn sum_of_squares(tensor: &Tensor) -> Result<f64> {
    let tensor = tensor.contiguous()?;
    let storage = tensor.storage_and_layout();
    for_float!(tensor.dtype(), "sum_of_squares", T => {
        let values = tensor_elements::<T>(&storage)?;
        if values.len() <= CHUNK {
            return Ok(vectorized(Squares(values)));
        }
        let sums: Vec<f64> = values.par_chunks(CHUNK).map(|chunk| vectorized(Squares(chunk))).collect();
        Ok(sums.iter().sum())
    })
}

struct Squares<'a, T>(&'a [T]);

impl<T: Element> Kernel for Squares<'_, T> {
    type Output = f64;

    #[inline(always)]
    fn run(self) -> f64 {
        sum_map(self.0, |x| x.wide() * x.wide())
    }
}

/// `accumulator += tensor`. The accumulator is contiguous and shares no storage with `tensor`.
///
/// # Errors
/// Shapes or types that differ, types other than f32 and f64.
pub fn add_in_place(accumulator: &Tensor, tensor: &Tensor) -> Result<()> {
    if accumulator.shape() != tensor.shape() {
        bail!("add_in_place: expected {:?}, found {:?}", accumulator.shape(), tensor.shape());
    }
    accumulator.inplace_op2(&tensor.contiguous()?, &Add)
}

struct Add;

fn add<T: ElementMut>(sums: &mut [T], values: &[T]) {
    if sums.len() <= CHUNK {
        return vectorized(AddTo { sums, values });
    }
    sums.par_chunks_mut(CHUNK)
        .zip(values.par_chunks(CHUNK))
        .for_each(|(sums, values)| vectorized(AddTo { sums, values }));
}

impl InplaceOp2 for Add {
    fn name(&self) -> &'static str {
        "add_in_place"
    }

    fn cpu_fwd(&self, s1: &mut CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<()> {
        for_float!(s1.dtype(), "add_in_place", T => add(elements_mut::<T>(s1, l1)?, elements::<T>(s2, l2)?));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;
    use crate::ops::testing::{random, values};

    #[test]
    fn sum_of_squares_is_that_of_f64() {
        for shape in [(1, 1), (3, 7), (300, 331)] {
            let tensor = random(shape, "x");
            let expected: f64 = values(&tensor).iter().map(|x| x * x).sum();
            assert!((sum_of_squares(&tensor).unwrap() - expected).abs() < 1e-12 * expected);
            let narrow = tensor.to_dtype(DType::F32).unwrap();
            assert!((sum_of_squares(&narrow).unwrap() - expected).abs() < 1e-6 * expected);
            assert_eq!(
                sum_of_squares(&tensor.t().unwrap().contiguous().unwrap().t().unwrap()).unwrap(),
                sum_of_squares(&tensor).unwrap()
            );
        }
    }

    #[test]
    fn squares_beyond_f32_do_not_overflow() {
        let tensor = candle_core::Tensor::new(&[1e30_f32], &candle_core::Device::Cpu).unwrap();
        assert!((sum_of_squares(&tensor).unwrap() / 1e60 - 1.0).abs() < 1e-6);
    }

    #[test]
    fn addition_in_place_is_seen_through_every_alias() {
        let (sum, other) = (random((150, 200), "sum"), random((200, 150), "other"));
        let expected = values(&(&sum + other.t().unwrap()).unwrap());
        let alias = sum.detach();
        add_in_place(&sum, &other.t().unwrap()).unwrap();
        assert_eq!(values(&alias), expected);
        assert!(add_in_place(&sum, &other).is_err());
    }
}
