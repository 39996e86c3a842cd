//! bf16 with f32 sums, for AVX512-BF16: the tiles of f32, with two steps of the sum in each lane.
//!
//! A packed element is a pair of bf16 in the bits of an f32.

#![expect(unsafe_code, reason = "kernels work on pointers")]

use std::arch::x86_64::*;
use std::mem::transmute;

use super::kernel::{Dots, Kernel, Strip, Tile};
use super::loops::tile;
use super::packing_avx512::pack_pairs;
use super::vector::Vector;

const ROWS: usize = 14;
const COLUMNS: usize = 32;

#[derive(Clone, Copy)]
pub(super) struct Bf16Pairs;

/// Pairs of bf16 as factors, f32 as sums.
#[derive(Clone, Copy)]
struct Pairs(__m512);

#[expect(unsafe_op_in_unsafe_fn, reason = "one line each, for whose safety the trait says what is needed")]
impl Vector for Pairs {
    type Element = f32;

    const LANES: usize = 16;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self(Vector::splat(value))
    }

    #[inline(always)]
    unsafe fn zero() -> Self {
        Self(Vector::zero())
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(Vector::load(from))
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self {
        Self(Vector::load_first(from, count))
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        self.0.store(to)
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        self.0.store_first(to, count)
    }

    /// The sum of two products for each lane.
    #[inline(always)]
    unsafe fn multiply_add(self, factor: Self, sum: Self) -> Self {
        let pairs = |lanes: __m512| transmute::<__m512, __m512bh>(lanes);
        Self(_mm512_dpbf16_ps(sum.0, pairs(self.0), pairs(factor.0)))
    }

    #[inline(always)]
    unsafe fn scaled(self, scale: f32, start: Self) -> Self {
        Self(self.0.scaled(scale, start.0))
    }

    #[inline(always)]
    unsafe fn total(self) -> f32 {
        self.0.total()
    }
}

macro_rules! tile_functions {
    ($($rows:literal)*) => { [$([tile_512::<$rows, 1>, tile_512::<$rows, 2>]),*] };
}

type TileFunction = unsafe fn(&Tile<f32, f32>);

/// A function for each number of rows and of vectors.
static TILES: [[TileFunction; 2]; ROWS] = tile_functions!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);

/// # Safety
/// As [`tile`].
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn tile_512<const R: usize, const N: usize>(t: &Tile<f32, f32>) {
    // SAFETY: as promised by the caller.
    unsafe { tile::<Pairs, R, N, false>(t) }
}

impl Kernel for Bf16Pairs {
    type Element = f32;
    type Packed = f32;

    const ROWS: usize = ROWS;
    const COLUMNS: usize = COLUMNS;
    const WIDE_ROWS: usize = 0;
    const WIDE_COLUMNS: usize = COLUMNS;
    const STEPS: usize = 2;

    fn reads_unpacked(self) -> bool {
        false
    }

    #[inline]
    unsafe fn tile(self, t: &Tile<f32, f32>) {
        // SAFETY: as promised by the caller.
        unsafe { TILES[t.rows - 1][t.columns.div_ceil(Pairs::LANES) - 1](t) }
    }

    unsafe fn dots(self, _: &Dots<f32>) {
        unreachable!("this kernel packs all operands");
    }

    unsafe fn pack_left(self, strip: &Strip<f32>, out: *mut f32) {
        // SAFETY: as promised by the caller.
        unsafe { pack_pairs::<ROWS>(strip, out) }
    }

    unsafe fn pack_right(self, strip: &Strip<f32>, out: *mut f32) {
        // SAFETY: as promised by the caller.
        unsafe { pack_pairs::<COLUMNS>(strip, out) }
    }
}
