//! Matrix products on strided slices.
//!
//! As in BLIS, operands are copied into panels that fit the caches ([`packing`]), and a kernel multiplies two panels to
//! a tile of the result, whose sums stay in registers. Operands that are read only once or twice are read where they
//! are. `processor` chooses the kernel by what the processor is, `cell` has the loops around it, and `grid` divides the
//! result among threads.
//!
//! An element of the result is a sum in an order that depends on the sizes and on the kernel alone: any number of
//! threads gives the same bits.

use candle_core::{Result, bail};

use self::cell::Operands;
pub(crate) use self::processor::Number;
use crate::profile::timed_product;

mod blocking;
mod cell;
mod grid;
mod kernel;
#[cfg(target_arch = "x86_64")]
mod kernel_avx2;
#[cfg(target_arch = "x86_64")]
mod kernel_avx512;
#[cfg(target_arch = "x86_64")]
mod kernel_bf16;
#[cfg(target_arch = "x86_64")]
mod loops;
mod packing;
#[cfg(target_arch = "x86_64")]
mod packing_avx512;
mod portable;
mod processor;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod vector;

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

/// What is multiplied. Sums are of the type of the elements in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Factors {
    /// The elements as they are.
    Exact,
    /// The nearest bf16 of each element, ties to even.
    Bf16,
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
    pub(crate) factors: Factors,
    pub(crate) threads: Threads,
}

/// What a product is added to.
enum Start<'a, T> {
    Zero,
    /// The same row for each row of the result.
    Row(&'a [T]),
    Result,
}

impl<T: Number> Product<T> {
    /// `left @ right * scale`, contiguous rows.
    pub(crate) fn compute(self, left: Matrix<'_, T>, right: Matrix<'_, T>) -> Result<Vec<T>> {
        self.into_vector(Start::Zero, left, right)
    }

    /// `left @ right * scale + bias`, contiguous rows.
    pub(crate) fn affine(self, left: Matrix<'_, T>, right: Matrix<'_, T>, bias: &[T]) -> Result<Vec<T>> {
        if bias.len() != self.n {
            bail!("a product with {} columns does not fit a bias of {} elements", self.n, bias.len());
        }
        self.into_vector(Start::Row(bias), left, right)
    }

    fn into_vector(self, start: Start<'_, T>, left: Matrix<'_, T>, right: Matrix<'_, T>) -> Result<Vec<T>> {
        let len = self.m * self.n;
        let mut values: Vec<T> = Vec::with_capacity(len);
        self.check(left, right, len, self.n)?;
        #[expect(unsafe_code, reason = "vec![0; n] would clear the result first")]
        // SAFETY: `check` passed for a result of `len` elements, which is the capacity, and a bias has `n`. The product
        // does not read the result and writes every one of its m * n elements, so all are initialised.
        unsafe {
            self.call(values.as_mut_ptr(), self.n, start, left, right);
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
        self.into_slice(result, row_stride, Start::Zero, left, right)
    }

    /// Adds `left @ right * scale` to `result`, rows `row_stride` apart.
    pub(crate) fn add_to(
        self,
        result: &mut [T],
        row_stride: usize,
        left: Matrix<'_, T>,
        right: Matrix<'_, T>,
    ) -> Result<()> {
        self.into_slice(result, row_stride, Start::Result, left, right)
    }

    fn into_slice(
        self,
        result: &mut [T],
        row_stride: usize,
        start: Start<'_, T>,
        left: Matrix<'_, T>,
        right: Matrix<'_, T>,
    ) -> Result<()> {
        self.check(left, right, result.len(), row_stride)?;
        #[expect(unsafe_code, reason = "threads write to parts of the result that are no slices")]
        // SAFETY: `check` found every element that the strides reach inside its slice; `result` is borrowed mutably,
        // so it overlaps neither operand, and its rows do not overlap each other.
        unsafe {
            self.call(result.as_mut_ptr(), row_stride, start, left, right);
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

    /// # Safety
    /// `check` has passed for these operands and a result of this many elements, and `Start::Row` has `n`.
    #[expect(unsafe_code, reason = "threads write to parts of the result that are no slices")]
    unsafe fn call(
        self,
        result: *mut T,
        row_stride: usize,
        start: Start<'_, T>,
        left: Matrix<'_, T>,
        right: Matrix<'_, T>,
    ) {
        let Self { m, n, k, scale, factors, threads } = self;
        let work = m * n * k;
        let num_threads = match threads {
            Threads::All if work >= MIN_PARALLEL_WORK => rayon::current_num_threads(),
            _ => 1,
        };
        let (start, start_stride) = match start {
            Start::Zero => (std::ptr::null(), 0),
            Start::Row(row) => (row.as_ptr(), 0),
            Start::Result => (result.cast_const(), row_stride),
        };
        let operands = Operands {
            m,
            n,
            k,
            scale,
            left: left.values.as_ptr(),
            left_row_stride: left.row_stride,
            left_column_stride: left.column_stride,
            right: right.values.as_ptr(),
            right_row_stride: right.row_stride,
            right_column_stride: right.column_stride,
            start,
            start_stride,
            result,
            result_stride: row_stride,
        };
        // SAFETY: as promised by the caller.
        timed_product(work, num_threads, || unsafe { T::multiply(&operands, factors, num_threads) });
    }
}
