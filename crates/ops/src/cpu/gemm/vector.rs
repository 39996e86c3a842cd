//! The vectors of x86-64 that kernels compute with.

#![expect(unsafe_code, reason = "intrinsics of an instruction set, and loads and stores through pointers")]
#![expect(unsafe_op_in_unsafe_fn, reason = "one line each, for whose safety the trait says what is needed")]

use std::arch::x86_64::*;

/// A register of numbers.
///
/// # Safety
/// Of all functions: the processor has the instructions, and pointers reach as many elements as are read or written.
pub(super) trait Vector: Copy {
    type Element: Copy + Send + Sync;

    const LANES: usize;

    unsafe fn splat(value: Self::Element) -> Self;
    unsafe fn zero() -> Self;
    unsafe fn load(from: *const Self::Element) -> Self;
    /// The first `count` elements, at most `LANES`, then zeros.
    unsafe fn load_first(from: *const Self::Element, count: usize) -> Self;
    unsafe fn store(self, to: *mut Self::Element);
    unsafe fn store_first(self, to: *mut Self::Element, count: usize);
    /// `self * factor + sum`, rounded once.
    unsafe fn multiply_add(self, factor: Self, sum: Self) -> Self;
    /// `self * scale + start`, rounded once: what is left to do with sums.
    #[inline(always)]
    unsafe fn scaled(self, scale: Self::Element, start: Self) -> Self {
        Self::splat(scale).multiply_add(self, start)
    }
    unsafe fn total(self) -> Self::Element;
}

impl Vector for __m512 {
    type Element = f32;

    const LANES: usize = 16;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        _mm512_set1_ps(value)
    }

    #[inline(always)]
    unsafe fn zero() -> Self {
        _mm512_setzero_ps()
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        _mm512_loadu_ps(from)
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self {
        _mm512_maskz_loadu_ps(((1_u32 << count) - 1) as __mmask16, from)
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        _mm512_storeu_ps(to, self)
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        _mm512_mask_storeu_ps(to, ((1_u32 << count) - 1) as __mmask16, self)
    }

    #[inline(always)]
    unsafe fn multiply_add(self, factor: Self, sum: Self) -> Self {
        _mm512_fmadd_ps(self, factor, sum)
    }

    #[inline(always)]
    unsafe fn total(self) -> f32 {
        _mm512_reduce_add_ps(self)
    }
}

impl Vector for __m256 {
    type Element = f32;

    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        _mm256_set1_ps(value)
    }

    #[inline(always)]
    unsafe fn zero() -> Self {
        _mm256_setzero_ps()
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        _mm256_loadu_ps(from)
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self {
        _mm256_maskload_ps(from, mask_32(count))
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        _mm256_storeu_ps(to, self)
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        _mm256_maskstore_ps(to, mask_32(count), self)
    }

    #[inline(always)]
    unsafe fn multiply_add(self, factor: Self, sum: Self) -> Self {
        _mm256_fmadd_ps(self, factor, sum)
    }

    #[inline(always)]
    unsafe fn total(self) -> f32 {
        let four = _mm_add_ps(_mm256_castps256_ps128(self), _mm256_extractf128_ps::<1>(self));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
    }
}

impl Vector for __m256d {
    type Element = f64;

    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn splat(value: f64) -> Self {
        _mm256_set1_pd(value)
    }

    #[inline(always)]
    unsafe fn zero() -> Self {
        _mm256_setzero_pd()
    }

    #[inline(always)]
    unsafe fn load(from: *const f64) -> Self {
        _mm256_loadu_pd(from)
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f64, count: usize) -> Self {
        _mm256_maskload_pd(from, mask_64(count))
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f64) {
        _mm256_storeu_pd(to, self)
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f64, count: usize) {
        _mm256_maskstore_pd(to, mask_64(count), self)
    }

    #[inline(always)]
    unsafe fn multiply_add(self, factor: Self, sum: Self) -> Self {
        _mm256_fmadd_pd(self, factor, sum)
    }

    #[inline(always)]
    unsafe fn total(self) -> f64 {
        let two = _mm_add_pd(_mm256_castpd256_pd128(self), _mm256_extractf128_pd::<1>(self));
        _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)))
    }
}

#[inline(always)]
unsafe fn mask_32(count: usize) -> __m256i {
    _mm256_cmpgt_epi32(_mm256_set1_epi32(count as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
}

#[inline(always)]
unsafe fn mask_64(count: usize) -> __m256i {
    _mm256_cmpgt_epi64(_mm256_set1_epi64x(count as i64), _mm256_setr_epi64x(0, 1, 2, 3))
}
