//! Packing of f32 with AVX-512: copies of rows, and transposes of 16 x 16 elements.

#![expect(unsafe_code, reason = "kernels work on pointers")]
#![expect(unsafe_op_in_unsafe_fn, reason = "most functions are a few intrinsics, for which callers promise all")]
#![expect(clippy::needless_range_loop, reason = "constant bounds, which unroll into registers")]

use std::arch::x86_64::*;
use std::mem::transmute;

use super::kernel::Strip;
use super::vector::Vector;

const LANES: usize = 16;

/// How many panels are copied side by side: each row of an operand is on a page of its own.
const COPIED_PANELS: usize = 8;

/// Rows from a prefetch to the copy.
const AHEAD: usize = 8;

/// Packs panels of `WIDTH` elements a step, rounded to bf16 if `ROUND`.
///
/// # Safety
/// As [`super::packing::pack`]; a vector beyond each panel is writable.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn pack<const WIDTH: usize, const ROUND: bool>(strip: &Strip<f32>, out: *mut f32) {
    // SAFETY: as promised by the caller.
    unsafe { if ROUND { pack_as::<Rounded, WIDTH>(strip, out) } else { pack_as::<Exact, WIDTH>(strip, out) } }
}

/// Packs panels of `WIDTH` pairs of bf16 for two steps.
///
/// # Safety
/// As [`pack`].
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) unsafe fn pack_pairs<const WIDTH: usize>(strip: &Strip<f32>, out: *mut f32) {
    // SAFETY: as promised by the caller.
    unsafe { pack_as::<Pairs, WIDTH>(strip, out) }
}

/// What elements become.
///
/// # Safety
/// Of all functions: the processor has the instructions, and pointers reach what counts and strides say.
trait Format {
    /// How many steps a packed element holds.
    const STEPS: usize;

    /// Up to 16 packed elements of one lane, whose `count` elements lie side by side; then zeros.
    unsafe fn of_lane(from: *const f32, count: usize) -> __m512;

    /// A packed element for each of `lanes` lanes that lie side by side, from at most `steps` steps; then zeros.
    unsafe fn across(from: *const f32, lanes: usize, steps: usize, stride: usize) -> __m512;
}

struct Exact;
struct Rounded;
struct Pairs;

impl Format for Exact {
    const STEPS: usize = 1;

    #[inline(always)]
    unsafe fn of_lane(from: *const f32, count: usize) -> __m512 {
        Vector::load_first(from, count)
    }

    #[inline(always)]
    unsafe fn across(from: *const f32, lanes: usize, _: usize, _: usize) -> __m512 {
        Vector::load_first(from, lanes)
    }
}

impl Format for Rounded {
    const STEPS: usize = 1;

    #[inline(always)]
    unsafe fn of_lane(from: *const f32, count: usize) -> __m512 {
        round_to_bf16(Vector::load_first(from, count))
    }

    #[inline(always)]
    unsafe fn across(from: *const f32, lanes: usize, _: usize, _: usize) -> __m512 {
        round_to_bf16(Vector::load_first(from, lanes))
    }
}

impl Format for Pairs {
    const STEPS: usize = 2;

    #[inline(always)]
    unsafe fn of_lane(from: *const f32, count: usize) -> __m512 {
        let first: __m512 = Vector::load_first(from, count.min(LANES));
        let second: __m512 =
            if count > LANES { Vector::load_first(from.add(LANES), count - LANES) } else { Vector::zero() };
        transmute(_mm512_cvtne2ps_pbh(second, first))
    }

    #[inline(always)]
    unsafe fn across(from: *const f32, lanes: usize, steps: usize, stride: usize) -> __m512 {
        let first: __m512 = Vector::load_first(from, lanes);
        let second: __m512 = if steps > 1 { Vector::load_first(from.add(stride), lanes) } else { Vector::zero() };
        // The halves of lane i become elements i and i + 16 of bf16, then the halves of a pair.
        let narrow: __m512i = transmute(_mm512_cvtne2ps_pbh(second, first));
        let low = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(narrow));
        let high = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64::<1>(narrow));
        _mm512_castsi512_ps(_mm512_or_si512(low, _mm512_slli_epi32::<16>(high)))
    }
}

/// See [`super::packing::round_to_bf16`].
#[inline(always)]
unsafe fn round_to_bf16(x: __m512) -> __m512 {
    let bits = _mm512_castps_si512(x);
    let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
    let rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF)), odd);
    let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
    let bits = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x0040_0000));
    _mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32(0xFFFF_0000_u32 as i32)))
}

#[inline(always)]
unsafe fn pack_as<F: Format, const WIDTH: usize>(s: &Strip<f32>, out: *mut f32) {
    let panels = s.lanes.div_ceil(s.panel_lanes);
    if s.lane_stride == 1 {
        for first in (0..panels).step_by(COPIED_PANELS) {
            // SAFETY: as promised by the caller.
            unsafe { copy::<F, WIDTH>(s, (first, panels.min(first + COPIED_PANELS)), out) };
        }
        return;
    }
    assert_eq!(s.depth_stride, 1, "either rows or columns of an operand lie side by side");
    for panel in 0..panels {
        let first = panel * s.panel_lanes;
        let panel_lanes = s.panel_lanes.min(s.lanes - first);
        for lane in (0..WIDTH).step_by(LANES) {
            let lanes = panel_lanes.saturating_sub(lane).min(LANES);
            // SAFETY: as promised by the caller; without lanes nothing is read.
            unsafe {
                let from = s.values.wrapping_add((first + lane) * s.lane_stride);
                let out = out.add(panel * s.panel_len + lane);
                transpose::<F, WIDTH>(s, from, lanes, out);
            }
        }
    }
}

/// Panels of lanes that lie side by side.
#[inline(always)]
unsafe fn copy<F: Format, const WIDTH: usize>(s: &Strip<f32>, panels: (usize, usize), out: *mut f32) {
    for (index, step) in (0..s.depth).step_by(F::STEPS).enumerate() {
        // SAFETY: as promised by the caller; what is prefetched may be anywhere.
        unsafe {
            let row = s.values.add(step * s.depth_stride);
            let ahead = row.wrapping_add(AHEAD * s.depth_stride + panels.0 * s.panel_lanes);
            _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
            for panel in panels.0..panels.1 {
                let first = panel * s.panel_lanes;
                let lanes = s.panel_lanes.min(s.lanes - first);
                let out = out.add(panel * s.panel_len + index * WIDTH);
                for lane in (0..WIDTH).step_by(LANES) {
                    let lanes = lanes.saturating_sub(lane).min(LANES);
                    let from = row.wrapping_add(first + lane);
                    F::across(from, lanes, s.depth - step, s.depth_stride).store(out.add(lane));
                }
            }
        }
    }
}

/// 16 lanes whose steps lie side by side.
#[inline(always)]
unsafe fn transpose<F: Format, const WIDTH: usize>(s: &Strip<f32>, from: *const f32, lanes: usize, out: *mut f32) {
    for (index, step) in (0..s.depth).step_by(LANES * F::STEPS).enumerate() {
        let count = (s.depth - step).min(LANES * F::STEPS);
        let packed = count.div_ceil(F::STEPS);
        // SAFETY: as promised by the caller.
        unsafe {
            let from = from.wrapping_add(step);
            let mut rows = [_mm512_setzero_ps(); LANES];
            let out = out.add(index * LANES * WIDTH);
            if count == LANES * F::STEPS {
                for lane in 0..LANES {
                    if lane < lanes {
                        rows[lane] = F::of_lane(from.add(lane * s.lane_stride), LANES * F::STEPS);
                    }
                }
                let columns = transposed(rows);
                for column in 0..LANES {
                    columns[column].store(out.add(column * WIDTH));
                }
            } else {
                for lane in 0..lanes {
                    rows[lane] = F::of_lane(from.add(lane * s.lane_stride), count);
                }
                let columns = transposed(rows);
                for column in 0..packed {
                    columns[column].store(out.add(column * WIDTH));
                }
            }
        }
    }
}

/// The columns of a 16 x 16 matrix.
#[inline(always)]
unsafe fn transposed(r: [__m512; LANES]) -> [__m512; LANES] {
    let mut t = [_mm512_setzero_ps(); LANES];
    // Pairs of rows, then groups of four: t[4 g + j] has columns j, j + 4, j + 8 and j + 12 of rows 4 g to 4 g + 3.
    for g in 0..4 {
        let rows = [r[4 * g], r[4 * g + 1], r[4 * g + 2], r[4 * g + 3]];
        let low_01 = _mm512_castps_pd(_mm512_unpacklo_ps(rows[0], rows[1]));
        let low_23 = _mm512_castps_pd(_mm512_unpacklo_ps(rows[2], rows[3]));
        let high_01 = _mm512_castps_pd(_mm512_unpackhi_ps(rows[0], rows[1]));
        let high_23 = _mm512_castps_pd(_mm512_unpackhi_ps(rows[2], rows[3]));
        t[4 * g] = _mm512_castpd_ps(_mm512_unpacklo_pd(low_01, low_23));
        t[4 * g + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low_01, low_23));
        t[4 * g + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(high_01, high_23));
        t[4 * g + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(high_01, high_23));
    }
    let mut columns = [_mm512_setzero_ps(); LANES];
    for j in 0..4 {
        let (a, b, c, d) = (t[j], t[4 + j], t[8 + j], t[12 + j]);
        // Quarters 0 and 2 of two vectors, and 1 and 3.
        let (ab_even, ab_odd) = (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xDD>(a, b));
        let (cd_even, cd_odd) = (_mm512_shuffle_f32x4::<0x88>(c, d), _mm512_shuffle_f32x4::<0xDD>(c, d));
        columns[j] = _mm512_shuffle_f32x4::<0x88>(ab_even, cd_even);
        columns[j + 4] = _mm512_shuffle_f32x4::<0x88>(ab_odd, cd_odd);
        columns[j + 8] = _mm512_shuffle_f32x4::<0xDD>(ab_even, cd_even);
        columns[j + 12] = _mm512_shuffle_f32x4::<0xDD>(ab_odd, cd_odd);
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::super::packing::tests::{assert_rounded, values};
    use super::*;

    #[test]
    fn rounding_to_bf16_is_that_of_the_reference() {
        if !is_x86_feature_detected!("avx512f") {
            return;
        }
        let values = values();
        let strip = Strip {
            values: values.as_ptr(),
            lanes: LANES,
            lane_stride: 1,
            depth: values.len() / LANES,
            depth_stride: LANES,
            panel_lanes: LANES,
            panel_len: 0,
        };
        let mut rounded = vec![0.0; values.len()];
        // SAFETY: the processor has AVX-512, and the strip has at most the elements of both slices.
        unsafe { pack::<LANES, true>(&strip, rounded.as_mut_ptr()) };
        for (&value, &rounded) in values.iter().zip(&rounded[..values.len() / LANES * LANES]) {
            assert_rounded(value, rounded);
        }
    }
}
