//! f32 and f64 with AVX2 and FMA: tiles of 6 rows and two vectors, whose sums take 12 of the 16 registers.

#![expect(unsafe_code, reason = "kernels work on pointers")]

use std::arch::x86_64::{__m256, __m256d};

use super::kernel::{Dots, Kernel, Strip, Tile};
use super::loops::{dots, tile};
use super::packing::{pack, round_to_bf16};
use super::vector::Vector;

const ROWS: usize = 6;

#[derive(Clone, Copy)]
pub(super) struct F32Avx2 {
    /// Whether operands are rounded to bf16.
    pub(super) rounds: bool,
}

#[derive(Clone, Copy)]
pub(super) struct F64Avx2;

/// # Safety
/// As [`tile`].
#[target_feature(enable = "avx2,fma")]
unsafe fn any_tile<V: Vector, const APART: bool>(t: &Tile<V::Element, V::Element>) {
    // SAFETY: as promised by the caller.
    unsafe {
        match (t.rows, t.columns.div_ceil(V::LANES)) {
            (1, 1) => tile::<V, 1, 1, APART>(t),
            (2, 1) => tile::<V, 2, 1, APART>(t),
            (3, 1) => tile::<V, 3, 1, APART>(t),
            (4, 1) => tile::<V, 4, 1, APART>(t),
            (5, 1) => tile::<V, 5, 1, APART>(t),
            (6, 1) => tile::<V, 6, 1, APART>(t),
            (1, 2) => tile::<V, 1, 2, APART>(t),
            (2, 2) => tile::<V, 2, 2, APART>(t),
            (3, 2) => tile::<V, 3, 2, APART>(t),
            (4, 2) => tile::<V, 4, 2, APART>(t),
            (5, 2) => tile::<V, 5, 2, APART>(t),
            (6, 2) => tile::<V, 6, 2, APART>(t),
            (1, 3) => tile::<V, 1, 3, APART>(t),
            (2, 3) => tile::<V, 2, 3, APART>(t),
            (1, 4) => tile::<V, 1, 4, APART>(t),
            (2, 4) => tile::<V, 2, 4, APART>(t),
            (rows, vectors) => unreachable!("no tile has {rows} rows and {vectors} vectors"),
        }
    }
}

/// # Safety
/// As [`dots`].
#[target_feature(enable = "avx2,fma")]
unsafe fn all_dots<V: Vector>(d: &Dots<V::Element>) {
    for row in (0..d.rows).step_by(3) {
        // SAFETY: as promised by the caller, for some of the rows.
        unsafe {
            let part = d.rows_from(row, 3);
            match part.rows {
                1 => dots::<V, 1, 8>(&part),
                2 => dots::<V, 2, 4>(&part),
                _ => dots::<V, 3, 3>(&part),
            }
        }
    }
}

/// # Safety
/// As [`pack`].
#[target_feature(enable = "avx2,fma")]
unsafe fn pack_256<const WIDTH: usize, const ROUND: bool>(strip: &Strip<f32>, out: *mut f32) {
    // SAFETY: as promised by the caller.
    unsafe { pack::<WIDTH, f32>(strip, out, |value| if ROUND { round_to_bf16(value) } else { value }) }
}

macro_rules! kernel {
    ($kernel:ty, $element:ty, $vector:ty) => {
        impl Kernel for $kernel {
            type Element = $element;
            type Packed = $element;

            const ROWS: usize = ROWS;
            const COLUMNS: usize = 2 * <$vector>::LANES;
            const WIDE_ROWS: usize = 2;
            const WIDE_COLUMNS: usize = 4 * <$vector>::LANES;
            const STEPS: usize = 1;

            fn reads_unpacked(self) -> bool {
                !self.rounds()
            }

            unsafe fn tile(self, t: &Tile<$element, $element>) {
                // SAFETY: as promised by the caller.
                unsafe {
                    if t.left_row_stride == 1 { any_tile::<$vector, false>(t) } else { any_tile::<$vector, true>(t) }
                }
            }

            unsafe fn dots(self, d: &Dots<$element>) {
                // SAFETY: as promised by the caller.
                unsafe { all_dots::<$vector>(d) }
            }

            unsafe fn pack_left(self, strip: &Strip<$element>, out: *mut $element) {
                // SAFETY: as promised by the caller.
                unsafe { self.pack::<ROWS>(strip, out) }
            }

            unsafe fn pack_right(self, strip: &Strip<$element>, out: *mut $element) {
                // SAFETY: as promised by the caller.
                unsafe { self.pack::<{ 2 * <$vector>::LANES }>(strip, out) }
            }
        }
    };
}

kernel!(F32Avx2, f32, __m256);
kernel!(F64Avx2, f64, __m256d);

impl F32Avx2 {
    fn rounds(self) -> bool {
        self.rounds
    }

    /// # Safety
    /// As [`pack`].
    unsafe fn pack<const WIDTH: usize>(self, strip: &Strip<f32>, out: *mut f32) {
        // SAFETY: as promised by the caller.
        unsafe { if self.rounds { pack_256::<WIDTH, true>(strip, out) } else { pack_256::<WIDTH, false>(strip, out) } }
    }
}

impl F64Avx2 {
    fn rounds(self) -> bool {
        false
    }

    /// # Safety
    /// As [`pack`].
    unsafe fn pack<const WIDTH: usize>(self, strip: &Strip<f64>, out: *mut f64) {
        // SAFETY: as promised by the caller.
        unsafe { pack::<WIDTH, f64>(strip, out, |value| value) }
    }
}
