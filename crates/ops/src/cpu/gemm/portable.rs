//! A kernel in plain Rust, for processors without one of their own.

#![expect(unsafe_code, reason = "kernels work on pointers")]

use std::ops::{Add, Mul};

use super::kernel::{Dots, Kernel, Strip, Tile};
use super::packing::pack;

const ROWS: usize = 4;

/// Tiles of 4 x `N`. Operands are always packed, so that the loops have constant bounds.
#[derive(Clone, Copy)]
pub(super) struct Portable<T, const N: usize> {
    /// Applied to operands.
    pub(super) round: Option<fn(T) -> T>,
}

impl<T, const N: usize> Kernel for Portable<T, N>
where
    T: Copy + Default + Send + Sync + Add<Output = T> + Mul<Output = T> + MultiplyAdd,
{
    type Element = T;
    type Packed = T;

    const ROWS: usize = ROWS;
    const COLUMNS: usize = N;
    const WIDE_ROWS: usize = 0;
    const WIDE_COLUMNS: usize = N;
    const STEPS: usize = 1;

    fn reads_unpacked(self) -> bool {
        false
    }

    unsafe fn tile(self, t: &Tile<T, T>) {
        let mut sums = [[T::default(); N]; ROWS];
        // SAFETY: as promised by the caller: panels have `ROWS` and `N` elements a step.
        unsafe {
            for step in 0..t.depth {
                let left = &*t.left.add(step * ROWS).cast::<[T; ROWS]>();
                let right = &*t.right.add(step * N).cast::<[T; N]>();
                for (sums, &a) in sums.iter_mut().zip(left) {
                    for (sum, &b) in sums.iter_mut().zip(right) {
                        *sum = a.multiply_add(b, *sum);
                    }
                }
            }
            for (row, sums) in sums.iter().enumerate().take(t.rows) {
                for (column, &sum) in sums.iter().enumerate().take(t.columns) {
                    let product = t.scale * sum;
                    let value =
                        if t.start.is_null() { product } else { *t.start.add(row * t.start_stride + column) + product };
                    t.result.add(row * t.result_stride + column).write(value);
                }
            }
        }
    }

    unsafe fn dots(self, _: &Dots<T>) {
        unreachable!("this kernel packs all operands");
    }

    unsafe fn pack_left(self, strip: &Strip<T>, out: *mut T) {
        // SAFETY: as promised by the caller.
        unsafe { self.pack::<ROWS>(strip, out) }
    }

    unsafe fn pack_right(self, strip: &Strip<T>, out: *mut T) {
        // SAFETY: as promised by the caller.
        unsafe { self.pack::<N>(strip, out) }
    }
}

impl<T: Copy + Default, const N: usize> Portable<T, N> {
    /// # Safety
    /// As [`pack`].
    unsafe fn pack<const WIDTH: usize>(self, strip: &Strip<T>, out: *mut T) {
        // SAFETY: as promised by the caller.
        unsafe {
            match self.round {
                Some(round) => pack::<WIDTH, T>(strip, out, round),
                None => pack::<WIDTH, T>(strip, out, |value| value),
            }
        }
    }
}

/// `self * factor + sum`: rounded once where the instruction set has it, twice elsewhere, where a call would be slow.
pub(super) trait MultiplyAdd {
    fn multiply_add(self, factor: Self, sum: Self) -> Self;
}

macro_rules! multiply_add {
    ($($T:ty),*) => {
        $(impl MultiplyAdd for $T {
            #[inline(always)]
            fn multiply_add(self, factor: Self, sum: Self) -> Self {
                if cfg!(target_arch = "aarch64") { self.mul_add(factor, sum) } else { self * factor + sum }
            }
        })*
    };
}

multiply_add!(f32, f64);
