//! f32 with AVX-512: tiles of 14 x 32, whose sums take 28 of the 32 registers.

#![expect(unsafe_code, reason = "kernels work on pointers")]

use std::arch::x86_64::__m512;

use super::kernel::{Dots, Kernel, Strip, Tile};
use super::loops::{dots, tile};
use super::packing_avx512::pack;
use super::vector::Vector as _;

const ROWS: usize = 14;
const COLUMNS: usize = 2 * __m512::LANES;

#[derive(Clone, Copy)]
pub(super) struct F32Avx512 {
    /// Whether operands are rounded to bf16.
    pub(super) rounds: bool,
}

type TileFunction = unsafe fn(&Tile<f32, f32>);

macro_rules! tile_functions {
    ($($rows:literal)*) => {
        [$([
            [tile_512::<$rows, 1, false>, tile_512::<$rows, 1, true>],
            [tile_512::<$rows, 2, false>, tile_512::<$rows, 2, true>],
        ]),*]
    };
}

/// A function for each number of rows, of vectors, and for rows side by side or apart.
static TILES: [[[TileFunction; 2]; 2]; ROWS] = tile_functions!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);

/// # Safety
/// As [`tile`].
#[target_feature(enable = "avx512f")]
unsafe fn tile_512<const R: usize, const N: usize, const APART: bool>(t: &Tile<f32, f32>) {
    // SAFETY: as promised by the caller.
    unsafe { tile::<__m512, R, N, APART>(t) }
}

/// Tiles of three or four vectors.
///
/// # Safety
/// As [`tile`].
unsafe fn wide_tile(t: &Tile<f32, f32>, vectors: usize) {
    // SAFETY: as promised by the caller.
    unsafe {
        match (t.rows, vectors) {
            (1, 3) => tile_512::<1, 3, true>(t),
            (2, 3) => tile_512::<2, 3, true>(t),
            (3, 3) => tile_512::<3, 3, true>(t),
            (4, 3) => tile_512::<4, 3, true>(t),
            (5, 3) => tile_512::<5, 3, true>(t),
            (6, 3) => tile_512::<6, 3, true>(t),
            (1, 4) => tile_512::<1, 4, true>(t),
            (2, 4) => tile_512::<2, 4, true>(t),
            (3, 4) => tile_512::<3, 4, true>(t),
            (4, 4) => tile_512::<4, 4, true>(t),
            (5, 4) => tile_512::<5, 4, true>(t),
            (6, 4) => tile_512::<6, 4, true>(t),
            (rows, vectors) => unreachable!("no tile has {rows} rows and {vectors} vectors"),
        }
    }
}

/// # Safety
/// As [`dots`].
#[target_feature(enable = "avx512f")]
unsafe fn dots_512(d: &Dots<f32>) {
    for row in (0..d.rows).step_by(4) {
        // SAFETY: as promised by the caller, for some of the rows.
        unsafe {
            let part = d.rows_from(row, 4);
            match part.rows {
                1 => dots::<__m512, 1, 8>(&part),
                2 => dots::<__m512, 2, 8>(&part),
                3 => dots::<__m512, 3, 6>(&part),
                _ => dots::<__m512, 4, 6>(&part),
            }
        }
    }
}

impl Kernel for F32Avx512 {
    type Element = f32;
    type Packed = f32;

    const ROWS: usize = ROWS;
    const COLUMNS: usize = COLUMNS;
    const WIDE_ROWS: usize = 6;
    const WIDE_COLUMNS: usize = 2 * COLUMNS;
    const STEPS: usize = 1;

    fn reads_unpacked(self) -> bool {
        !self.rounds
    }

    #[inline]
    unsafe fn tile(self, t: &Tile<f32, f32>) {
        let vectors = t.columns.div_ceil(__m512::LANES);
        // SAFETY: as promised by the caller.
        unsafe {
            if vectors > 2 {
                wide_tile(t, vectors);
            } else {
                TILES[t.rows - 1][vectors - 1][usize::from(t.left_row_stride != 1)](t);
            }
        }
    }

    unsafe fn dots(self, d: &Dots<f32>) {
        // SAFETY: as promised by the caller.
        unsafe { dots_512(d) }
    }

    unsafe fn pack_left(self, strip: &Strip<f32>, out: *mut f32) {
        // SAFETY: as promised by the caller.
        unsafe { if self.rounds { pack::<ROWS, true>(strip, out) } else { pack::<ROWS, false>(strip, out) } }
    }

    unsafe fn pack_right(self, strip: &Strip<f32>, out: *mut f32) {
        // SAFETY: as promised by the caller.
        unsafe { if self.rounds { pack::<COLUMNS, true>(strip, out) } else { pack::<COLUMNS, false>(strip, out) } }
    }
}
