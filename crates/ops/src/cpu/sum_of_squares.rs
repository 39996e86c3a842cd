//! The sum of squares of a tensor, for the norm of the gradients.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::buffer::CHUNK;
use super::storage::{for_float, tensor_elements};
use super::vector_math::{Element, sum_map};
use crate::profile::Part;
use base::simd::{Kernel, vectorized};

/// The sum of the squares of all elements, in f64 and in a fixed order.
///
/// # Errors
/// Types other than f32 and f64; a tensor that is not on the CPU.
pub fn sum_of_squares(tensor: &Tensor) -> Result<f64> {
    let tensor = tensor.contiguous()?;
    let storage = tensor.storage_and_layout();
    for_float!(tensor.dtype(), Part::Norm, T => {
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

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;
    use crate::testing::{random, values};

    #[test]
    fn f32_and_f64_sum_in_f64() {
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
}
