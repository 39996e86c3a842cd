//! Matrix products on strided slices: the one place that calls the `gemmkit` crate.
//!
//! Of the crates measured (`benches/RESULTS.md`) it is as fast as the fastest on large products and much faster than
//! `gemm`, which candle uses, on the small ones of a decoder. Its results do not depend on the number of threads.

use candle_core::{Result, bail};
use gemmkit::{GemmScalar, Parallelism};

use crate::profile::timed_product;

/// Below this many multiplications a product runs on the calling thread.
const MIN_PARALLEL_WORK: usize = 1 << 19;

/// A matrix in a slice: its first element and the distance between rows and between columns.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a, T> {
    values: &'a [T],
    row_stride: usize,
    column_stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// Rows of contiguous elements, `row_stride` apart.
    pub(crate) fn rows(values: &'a [T], row_stride: usize) -> Self {
        Self { values, row_stride, column_stride: 1 }
    }

    pub(crate) fn transposed(self) -> Self {
        Self { row_stride: self.column_stride, column_stride: self.row_stride, ..self }
    }
}

/// Who computes a product.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Threads {
    /// Only the calling thread: for products inside a parallel loop.
    One,
    /// All of rayon's threads, if the product is large enough.
    All,
}

/// Sizes and scale of a product of (m, k) and (k, n) matrices.
#[derive(Clone, Copy)]
pub(crate) struct Product<T> {
    /// Rows of the result.
    pub(crate) m: usize,
    /// Columns of the result.
    pub(crate) n: usize,
    /// Length of the sums.
    pub(crate) k: usize,
    pub(crate) scale: T,
    pub(crate) threads: Threads,
}

impl<T: GemmScalar> Product<T> {
    /// `left @ right * scale`, contiguous rows.
    pub(crate) fn compute(self, left: Matrix<'_, T>, right: Matrix<'_, T>) -> Result<Vec<T>> {
        let len = self.m * self.n;
        let mut values: Vec<T> = Vec::with_capacity(len);
        self.check(left, right, len, self.n)?;
        #[expect(unsafe_code, reason = "gemmkit writes into memory that need not be cleared first")]
        // SAFETY: `check` passed for a result of `len` elements, which is the capacity. The product does not read the
        // result and writes every one of its m * n elements (with k = 0, zeros), so all are initialised.
        unsafe {
            self.call(values.as_mut_ptr(), self.n, false, left, right);
            values.set_len(len);
        }
        Ok(values)
    }

    /// Writes `left @ right * scale` to `result`, rows `row_stride` apart.
    pub(crate) fn write(
        self,
        result: &mut [T],
        row_stride: usize,
        left: Matrix<'_, T>,
        right: Matrix<'_, T>,
    ) -> Result<()> {
        self.into_slice(result, row_stride, false, left, right)
    }

    /// Adds `left @ right * scale` to `result`, rows `row_stride` apart.
    pub(crate) fn add_to(
        self,
        result: &mut [T],
        row_stride: usize,
        left: Matrix<'_, T>,
        right: Matrix<'_, T>,
    ) -> Result<()> {
        self.into_slice(result, row_stride, true, left, right)
    }

    fn into_slice(
        self,
        result: &mut [T],
        row_stride: usize,
        add: bool,
        left: Matrix<'_, T>,
        right: Matrix<'_, T>,
    ) -> Result<()> {
        self.check(left, right, result.len(), row_stride)?;
        #[expect(unsafe_code, reason = "gemmkit writes through pointers")]
        // SAFETY: `check` found every element that the strides reach inside its slice; `result` is borrowed mutably,
        // so it overlaps neither operand, and its rows do not overlap each other.
        unsafe {
            self.call(result.as_mut_ptr(), row_stride, add, left, right);
        }
        Ok(())
    }

    fn check(self, left: Matrix<'_, T>, right: Matrix<'_, T>, result: usize, row_stride: usize) -> Result<()> {
        let fits = |len: usize, rows: usize, columns: usize, row_stride: usize, column_stride: usize| {
            rows == 0 || columns == 0 || (rows - 1) * row_stride + (columns - 1) * column_stride < len
        };
        let Self { m, n, k, .. } = self;
        if !fits(left.values.len(), m, k, left.row_stride, left.column_stride)
            || !fits(right.values.len(), k, n, right.row_stride, right.column_stride)
            || !fits(result, m, n, row_stride, 1)
            || (m > 1 && row_stride < n)
        {
            bail!(
                "a product of ({m}, {k}) and ({k}, {n}) matrices does not fit slices of {}, {} and {result} elements",
                left.values.len(),
                right.values.len()
            );
        }
        Ok(())
    }

    #[expect(unsafe_code, reason = "gemmkit writes through pointers")]
    // SAFETY: the caller has run `check` for these operands and a result of this many elements.
    unsafe fn call(self, result: *mut T, row_stride: usize, add: bool, left: Matrix<'_, T>, right: Matrix<'_, T>) {
        let Self { m, n, k, scale, threads } = self;
        let work = m * n * k;
        let parallelism = match (threads, rayon::current_num_threads()) {
            (Threads::All, 2..) if work >= MIN_PARALLEL_WORK => Parallelism::Rayon(rayon::current_num_threads()),
            _ => Parallelism::Serial,
        };
        let num_threads = if parallelism == Parallelism::Serial { 1 } else { rayon::current_num_threads() };
        timed_product(work, num_threads, || unsafe {
            gemmkit::gemm_unchecked(
                m,
                k,
                n,
                scale,
                left.values.as_ptr(),
                left.row_stride as isize,
                left.column_stride as isize,
                right.values.as_ptr(),
                right.row_stride as isize,
                right.column_stride as isize,
                if add { T::ONE } else { T::ZERO },
                result,
                row_stride as isize,
                1,
                parallelism,
            );
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strided_and_transposed_products_equal_the_definition() {
        let (m, n, k, stride) = (3, 5, 4, 7);
        let left: Vec<f64> = (0..m * stride).map(|i| (i as f64 * 0.37).sin()).collect();
        let right: Vec<f64> = (0..n * stride).map(|i| (i as f64 * 0.21).cos()).collect();
        let product = Product { m, n, k, scale: 0.5, threads: Threads::One };
        let transposed = Matrix::rows(&right, stride).transposed();
        let expected = |row: usize, column: usize| -> f64 {
            (0..k).map(|i| left[row * stride + i] * right[column * stride + i]).sum::<f64>() * 0.5
        };
        let found = product.compute(Matrix::rows(&left, stride), transposed).unwrap();
        let mut sums = vec![1.0; m * stride];
        product.add_to(&mut sums, stride, Matrix::rows(&left, stride), transposed).unwrap();
        for row in 0..m {
            for column in 0..n {
                assert!((found[row * n + column] - expected(row, column)).abs() < 1e-14);
                assert!((sums[row * stride + column] - 1.0 - expected(row, column)).abs() < 1e-14);
            }
            assert_eq!(sums[row * stride + n..(row + 1) * stride], [1.0, 1.0]);
        }
    }

    #[test]
    fn a_product_beyond_its_slices_is_an_error() {
        let values = [0.0_f64; 12];
        let product = |m, n, k| Product { m, n, k, scale: 1.0, threads: Threads::One };
        let matrix = Matrix::rows(&values, 4);
        assert!(product(3, 4, 4).compute(matrix, Matrix::rows(&values, 3)).is_err());
        assert!(product(4, 3, 4).compute(matrix, matrix).is_err());
        assert!(product(3, 4, 3).write(&mut [0.0; 11], 4, matrix, matrix).is_err());
        assert!(product(2, 4, 3).write(&mut [0.0; 12], 3, matrix, matrix).is_err(), "rows of a result may not overlap");
    }

    #[test]
    fn a_sum_of_no_products_is_zero() {
        let product = Product { m: 2, n: 3, k: 0, scale: 1.0, threads: Threads::One };
        assert_eq!(product.compute(Matrix::rows(&[], 0), Matrix::rows(&[], 3)).unwrap(), [0.0_f64; 6]);
    }
}
