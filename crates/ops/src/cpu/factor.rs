//! The numbers that a matrix product multiplies: the operands themselves, or the operands rounded to bf16.

use std::borrow::Cow;

use candle_core::Result;
use gemmkit::{GemmScalar, bf16};
use rayon::prelude::*;

use super::buffer::{CHUNK, build, rows_per_chunk};
use super::gemm::{Matrix, Product};
use super::vector_math::Element;
use base::simd::{Kernel, vectorized};

/// A number that products of matrices of `T` multiply.
pub(crate) trait Factor<T: Copy>: GemmScalar {
    fn prepare(values: &[T]) -> Cow<'_, [Self]>;

    /// `left @ right * scale`, contiguous rows.
    fn product(product: Product<Self>, left: Matrix<'_, Self>, right: Matrix<'_, Self>) -> Result<Vec<T>>;

    /// `left @ right * scale + bias`, contiguous rows.
    fn affine(product: Product<Self>, left: Matrix<'_, Self>, right: Matrix<'_, Self>, bias: &[T]) -> Result<Vec<T>>;
}

impl<T: Element> Factor<T> for T {
    fn prepare(values: &[T]) -> Cow<'_, [T]> {
        Cow::Borrowed(values)
    }

    fn product(product: Product<T>, left: Matrix<'_, T>, right: Matrix<'_, T>) -> Result<Vec<T>> {
        product.compute(left, right)
    }

    fn affine(product: Product<T>, left: Matrix<'_, T>, right: Matrix<'_, T>, bias: &[T]) -> Result<Vec<T>> {
        let width = product.n;
        let mut values = build(product.m * width, rows_per_chunk(width) * width, |_, chunk| {
            for row in chunk.chunks_exact_mut(width) {
                row.copy_from_slice(bias);
            }
        });
        product.add_to(&mut values, width, left, right)?;
        Ok(values)
    }
}

impl Factor<f32> for bf16 {
    fn prepare(values: &[f32]) -> Cow<'_, [bf16]> {
        let mut narrow = vec![bf16::ZERO; values.len()];
        narrow.par_chunks_mut(CHUNK).zip(values.par_chunks(CHUNK)).for_each(|(narrow, values)| {
            vectorized(Narrow { narrow, values });
        });
        Cow::Owned(narrow)
    }

    fn product(product: Product<bf16>, left: Matrix<'_, bf16>, right: Matrix<'_, bf16>) -> Result<Vec<f32>> {
        let narrow = product.compute(left, right)?;
        Ok(build(narrow.len(), CHUNK, |index, wide| {
            let first = index * CHUNK;
            vectorized(Widen { narrow: &narrow[first..first + wide.len()], wide });
        }))
    }

    fn affine(
        product: Product<bf16>,
        left: Matrix<'_, bf16>,
        right: Matrix<'_, bf16>,
        bias: &[f32],
    ) -> Result<Vec<f32>> {
        let (width, narrow) = (product.n, product.compute(left, right)?);
        let chunk = rows_per_chunk(width) * width;
        Ok(build(narrow.len(), chunk, |index, wide| {
            let rows = &narrow[index * chunk..index * chunk + wide.len()];
            for (wide, narrow) in wide.chunks_exact_mut(width).zip(rows.chunks_exact(width)) {
                vectorized(WidenAdd { narrow, bias, wide });
            }
        }))
    }
}

struct Narrow<'a> {
    narrow: &'a mut [bf16],
    values: &'a [f32],
}

impl Kernel for Narrow<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (narrow, value) in self.narrow.iter_mut().zip(self.values) {
            *narrow = bf16::from_bits(nearest(*value));
        }
    }
}

struct Widen<'a> {
    narrow: &'a [bf16],
    wide: &'a mut [f32],
}

impl Kernel for Widen<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (wide, narrow) in self.wide.iter_mut().zip(self.narrow) {
            *wide = exact(*narrow);
        }
    }
}

struct WidenAdd<'a> {
    narrow: &'a [bf16],
    bias: &'a [f32],
    wide: &'a mut [f32],
}

impl Kernel for WidenAdd<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for ((wide, narrow), bias) in self.wide.iter_mut().zip(self.narrow).zip(self.bias) {
            *wide = exact(*narrow) + bias;
        }
    }
}

/// The bits of the nearest bf16, ties to even; NaN stays NaN. `bf16::from_f32` does the same and is not vectorised.
#[inline(always)]
fn nearest(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7FFF + ((bits >> 16) & 1));
    // Rounding could carry a NaN over into an infinity.
    let bits = if value.is_nan() { bits | 0x0040_0000 } else { rounded };
    (bits >> 16) as u16
}

#[inline(always)]
fn exact(value: bf16) -> f32 {
    f32::from_bits(u32::from(value.to_bits()) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_to_bf16_is_that_of_the_reference() {
        let special = [0.0, -0.0, 1.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, f32::MIN_POSITIVE, 1e-45];
        let bits = (0..200_000_u32).map(|i| f32::from_bits(i.wrapping_mul(0x9E37_79B9)));
        let halfway = [0x3F80_8000, 0x3F81_8000, 0x3F80_7FFF, 0x3F80_8001, 0x7F80_0001].map(f32::from_bits);
        let values: Vec<f32> = special.into_iter().chain(halfway).chain(bits).collect();
        let narrow = <bf16 as Factor<f32>>::prepare(&values);
        for (value, narrow) in values.iter().zip(narrow.iter()) {
            let expected = bf16::from_f32(*value);
            assert_eq!(narrow.is_nan(), expected.is_nan(), "{value}");
            assert!(narrow.is_nan() || narrow.to_bits() == expected.to_bits(), "{value}: {narrow}, not {expected}");
            assert!(narrow.is_nan() || exact(*narrow) == expected.to_f32());
        }
    }
}
