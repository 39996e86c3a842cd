//! The innermost loops, generic over vectors. A kernel compiles them for its instruction set: all of them are inlined
//! into functions that have it.

#![expect(unsafe_code, reason = "kernels work on pointers")]
#![expect(clippy::needless_range_loop, reason = "constant bounds, which unroll into registers")]

use std::arch::x86_64::{_MM_HINT_ET0, _MM_HINT_T0, _mm_prefetch};

use super::kernel::{Dots, Tile};
use super::vector::Vector;

/// How many steps ahead the left operand is prefetched.
const LEFT_AHEAD: usize = 16;

/// A tile of `R` rows and `N` vectors of columns, of which only the last may be partial. `APART`: whether rows of the
/// left operand are apart and its steps side by side; otherwise its rows are side by side.
///
/// # Safety
/// As [`Kernel::tile`](super::kernel::Kernel::tile).
#[inline(always)]
pub(super) unsafe fn tile<V: Vector, const R: usize, const N: usize, const APART: bool>(
    t: &Tile<V::Element, V::Element>,
) {
    // SAFETY: as promised by the caller; what is prefetched may be anywhere.
    unsafe {
        let rest = t.columns - (N - 1) * V::LANES;
        let mut at = Cursor { left: t.left, right: t.right, copy: t.right_copy };
        let mut ahead = t.result;
        let mut sums = [[V::zero(); N]; R];
        let mut depth = t.depth;
        if t.right_copy.is_null() {
            // The lines of the result are requested one by one, so that they do not delay the operands.
            let mut row = 0;
            while row < R && depth >= 4 {
                _mm_prefetch::<_MM_HINT_ET0>(ahead.cast());
                step::<V, R, N, APART, false>(t, rest, &mut at, &mut sums);
                _mm_prefetch::<_MM_HINT_ET0>(ahead.wrapping_add((N - 1) * V::LANES).cast());
                step::<V, R, N, APART, false>(t, rest, &mut at, &mut sums);
                step::<V, R, N, APART, false>(t, rest, &mut at, &mut sums);
                step::<V, R, N, APART, false>(t, rest, &mut at, &mut sums);
                ahead = ahead.wrapping_add(t.result_stride);
                depth -= 4;
                row += 1;
            }
            while depth > 0 {
                step::<V, R, N, APART, false>(t, rest, &mut at, &mut sums);
                depth -= 1;
            }
        } else {
            while depth > 0 {
                step::<V, R, N, APART, true>(t, rest, &mut at, &mut sums);
                depth -= 1;
            }
        }
        for r in 0..R {
            for i in 0..N {
                let to = t.result.add(r * t.result_stride + i * V::LANES);
                let from = t.start.wrapping_add(r * t.start_stride + i * V::LANES);
                if i < N - 1 || rest == V::LANES {
                    let start = if t.start.is_null() { V::zero() } else { V::load(from) };
                    sums[r][i].scaled(t.scale, start).store(to);
                } else {
                    let start = if t.start.is_null() { V::zero() } else { V::load_first(from, rest) };
                    sums[r][i].scaled(t.scale, start).store_first(to, rest);
                }
            }
        }
    }
}

/// Where the operands of the next step are, and its packed copy.
struct Cursor<T> {
    left: *const T,
    right: *const T,
    copy: *mut T,
}

#[inline(always)]
unsafe fn step<V: Vector, const R: usize, const N: usize, const APART: bool, const COPY: bool>(
    t: &Tile<V::Element, V::Element>,
    rest: usize,
    at: &mut Cursor<V::Element>,
    sums: &mut [[V; N]; R],
) {
    // SAFETY: as promised by the caller of the loops.
    unsafe {
        let mut b = [V::zero(); N];
        for i in 0..N - 1 {
            b[i] = V::load(at.right.add(i * V::LANES));
        }
        b[N - 1] = V::load_first(at.right.add((N - 1) * V::LANES), rest);
        if COPY {
            for i in 0..N {
                b[i].store(at.copy.add(i * V::LANES));
            }
            at.copy = at.copy.add(2 * V::LANES);
        }
        for i in 0..N {
            _mm_prefetch::<_MM_HINT_T0>(at.right.wrapping_add(t.right_ahead * t.right_step + i * V::LANES).cast());
        }
        if !APART {
            _mm_prefetch::<_MM_HINT_T0>(at.left.wrapping_add(LEFT_AHEAD * t.left_step).cast());
        }
        for r in 0..R {
            let a = V::splat(*if APART { at.left.add(r * t.left_row_stride) } else { at.left.add(r) });
            for i in 0..N {
                sums[r][i] = a.multiply_add(b[i], sums[r][i]);
            }
        }
        at.left = at.left.wrapping_add(if APART { 1 } else { t.left_step });
        at.right = at.right.wrapping_add(t.right_step);
    }
}

/// `R` rows by all columns, `C` at a time.
///
/// # Safety
/// As [`Kernel::dots`](super::kernel::Kernel::dots).
#[inline(always)]
pub(super) unsafe fn dots<V: Vector, const R: usize, const C: usize>(d: &Dots<V::Element>) {
    // SAFETY: as promised by the caller of the loops.
    unsafe {
        let mut column = 0;
        while column + C <= d.columns {
            block::<V, R, C>(d, column);
            column += C;
        }
        while column < d.columns {
            block::<V, R, 1>(d, column);
            column += 1;
        }
    }
}

#[inline(always)]
unsafe fn block<V: Vector, const R: usize, const C: usize>(d: &Dots<V::Element>, column: usize) {
    // SAFETY: as promised by the caller of the loops.
    unsafe {
        let right = d.right.wrapping_add(column * d.right_stride);
        let mut sums = [[V::zero(); C]; R];
        let whole = d.depth - d.depth % V::LANES;
        for first in (0..whole).step_by(V::LANES) {
            add_products::<V, R, C>(d, d.left.add(first), right.add(first), V::LANES, &mut sums);
        }
        if whole < d.depth {
            add_products::<V, R, C>(d, d.left.add(whole), right.add(whole), d.depth - whole, &mut sums);
        }
        for r in 0..R {
            for c in 0..C {
                let start =
                    if d.start.is_null() { V::zero() } else { V::splat(*d.start.add(r * d.start_stride + column + c)) };
                let value = V::splat(sums[r][c].total()).scaled(d.scale, start);
                value.store_first(d.result.add(r * d.result_stride + column + c), 1);
            }
        }
    }
}

#[inline(always)]
unsafe fn add_products<V: Vector, const R: usize, const C: usize>(
    d: &Dots<V::Element>,
    left: *const V::Element,
    right: *const V::Element,
    count: usize,
    sums: &mut [[V; C]; R],
) {
    // SAFETY: as promised by the caller of the loops.
    unsafe {
        let mut a = [V::zero(); R];
        for r in 0..R {
            a[r] = V::load_first(left.add(r * d.left_stride), count);
        }
        for c in 0..C {
            let b = V::load_first(right.add(c * d.right_stride), count);
            for r in 0..R {
                sums[r][c] = a[r].multiply_add(b, sums[r][c]);
            }
        }
    }
}
