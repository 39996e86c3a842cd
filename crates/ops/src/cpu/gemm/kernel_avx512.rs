//! f32 and f64 with AVX-512: tiles of 14 rows and two vectors, whose sums take 28 of the 32 registers.

#![expect(unsafe_code, reason = "kernels work on pointers")]

use std::arch::x86_64::{__m512, __m512d};

use super::kernel::{Dots, Kernel, Strip, Tile};
use super::loops::{dots, tile};
use super::packing;
use super::packing_avx512::pack;
use super::vector::Vector;

const ROWS: usize = 14;

#[derive(Clone, Copy)]
pub(super) struct F32Avx512 {
    /// Whether operands are rounded to bf16.
    pub(super) rounds: bool,
}

#[derive(Clone, Copy)]
pub(super) struct F64Avx512;

type TileFunction<T> = unsafe fn(&Tile<T, T>);

/// A function for each number of rows, of vectors, and for rows side by side or apart.
type TileFunctions<T> = [[[TileFunction<T>; 2]; 2]; ROWS];

macro_rules! tile_functions {
    ($vector:ty, $($rows:literal)*) => {
        [$([
            [tile_512::<$vector, $rows, 1, false>, tile_512::<$vector, $rows, 1, true>],
            [tile_512::<$vector, $rows, 2, false>, tile_512::<$vector, $rows, 2, true>],
        ]),*]
    };
}

static F32: TileFunctions<f32> = tile_functions!(__m512, 1 2 3 4 5 6 7 8 9 10 11 12 13 14);
static F64: TileFunctions<f64> = tile_functions!(__m512d, 1 2 3 4 5 6 7 8 9 10 11 12 13 14);

/// # Safety
/// As [`tile`].
#[target_feature(enable = "avx512f")]
unsafe fn tile_512<V: Vector, const R: usize, const N: usize, const APART: bool>(t: &Tile<V::Element, V::Element>) {
    // SAFETY: as promised by the caller.
    unsafe { tile::<V, R, N, APART>(t) }
}

/// Tiles of three or four vectors.
///
/// # Safety
/// As [`tile`].
#[target_feature(enable = "avx512f")]
unsafe fn wide_tile<V: Vector>(t: &Tile<V::Element, V::Element>, vectors: usize) {
    // SAFETY: as promised by the caller.
    unsafe {
        match (t.rows, vectors) {
            (1, 3) => tile::<V, 1, 3, true>(t),
            (2, 3) => tile::<V, 2, 3, true>(t),
            (3, 3) => tile::<V, 3, 3, true>(t),
            (4, 3) => tile::<V, 4, 3, true>(t),
            (5, 3) => tile::<V, 5, 3, true>(t),
            (6, 3) => tile::<V, 6, 3, true>(t),
            (1, 4) => tile::<V, 1, 4, true>(t),
            (2, 4) => tile::<V, 2, 4, true>(t),
            (3, 4) => tile::<V, 3, 4, true>(t),
            (4, 4) => tile::<V, 4, 4, true>(t),
            (5, 4) => tile::<V, 5, 4, true>(t),
            (6, 4) => tile::<V, 6, 4, true>(t),
            (rows, vectors) => unreachable!("no tile has {rows} rows and {vectors} vectors"),
        }
    }
}

/// # Safety
/// As [`dots`].
#[target_feature(enable = "avx512f")]
unsafe fn all_dots<V: Vector>(d: &Dots<V::Element>) {
    for row in (0..d.rows).step_by(4) {
        // SAFETY: as promised by the caller, for some of the rows.
        unsafe {
            let part = d.rows_from(row, 4);
            match part.rows {
                1 => dots::<V, 1, 8>(&part),
                2 => dots::<V, 2, 8>(&part),
                3 => dots::<V, 3, 6>(&part),
                _ => dots::<V, 4, 6>(&part),
            }
        }
    }
}

macro_rules! kernel {
    ($kernel:ty, $element:ty, $vector:ty, $functions:ident) => {
        impl Kernel for $kernel {
            type Element = $element;
            type Packed = $element;

            const ROWS: usize = ROWS;
            const COLUMNS: usize = 2 * <$vector>::LANES;
            const WIDE_ROWS: usize = 6;
            const WIDE_COLUMNS: usize = 4 * <$vector>::LANES;
            const STEPS: usize = 1;

            fn reads_unpacked(self) -> bool {
                !self.rounds()
            }

            #[inline]
            unsafe fn tile(self, t: &Tile<$element, $element>) {
                let vectors = t.columns.div_ceil(<$vector>::LANES);
                // SAFETY: as promised by the caller.
                unsafe {
                    if vectors > 2 {
                        wide_tile::<$vector>(t, vectors);
                    } else {
                        $functions[t.rows - 1][vectors - 1][usize::from(t.left_row_stride != 1)](t);
                    }
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

kernel!(F32Avx512, f32, __m512, F32);
kernel!(F64Avx512, f64, __m512d, F64);

impl F32Avx512 {
    fn rounds(self) -> bool {
        self.rounds
    }

    /// # Safety
    /// As [`pack`].
    unsafe fn pack<const WIDTH: usize>(self, strip: &Strip<f32>, out: *mut f32) {
        // SAFETY: as promised by the caller.
        unsafe { if self.rounds { pack::<WIDTH, true>(strip, out) } else { pack::<WIDTH, false>(strip, out) } }
    }
}

impl F64Avx512 {
    fn rounds(self) -> bool {
        false
    }

    /// # Safety
    /// As [`packing::pack`].
    unsafe fn pack<const WIDTH: usize>(self, strip: &Strip<f64>, out: *mut f64) {
        // SAFETY: as promised by the caller.
        unsafe { packing::pack::<WIDTH, f64>(strip, out, |value| value) }
    }
}
