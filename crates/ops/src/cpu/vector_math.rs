//! Elementary functions and reductions over slices, written so that the compiler vectorises them.
//!
//! Sums always run in [`LANES`] accumulators joined in a fixed order, so that a result does not depend on the vector
//! width of the machine. No fused multiply-add: without hardware support it is a slow library call.

use base::simd::Kernel;
use candle_core::WithDType;

use super::gemm::Number;

/// Number of accumulators of a sum or a maximum: two AVX-512 registers of f32.
pub(crate) const LANES: usize = 32;

/// A floating-point type of the operations: f32 for training, f64 for tests.
pub(crate) trait Element: WithDType + std::ops::Neg<Output = Self> + Default + Number {
    /// The nearest value to `value`.
    fn of(value: f64) -> Self;
    fn wide(self) -> f64;
    /// Exponential. f32: about 2 ulp, 0 below -87.3, 2.4e38 above 88.3, NaN stays NaN.
    fn exp_fast(self) -> Self;
    /// Cumulative normal distribution, given `density = exp(-x^2 / 2)`. f32: relative error below 1e-6 where the
    /// result is a normal number.
    fn normal_cumulative(self, density: Self) -> Self;
    fn square_root(self) -> Self;
}

impl Element for f32 {
    #[inline(always)]
    fn of(value: f64) -> Self {
        value as Self
    }

    #[inline(always)]
    fn wide(self) -> f64 {
        f64::from(self)
    }

    #[inline(always)]
    fn exp_fast(self) -> Self {
        exp_f32(self)
    }

    #[inline(always)]
    fn normal_cumulative(self, density: Self) -> Self {
        normal_cumulative_f32(self, density)
    }

    #[inline(always)]
    fn square_root(self) -> Self {
        self.sqrt()
    }
}

impl Element for f64 {
    #[inline(always)]
    fn of(value: f64) -> Self {
        value
    }

    #[inline(always)]
    fn wide(self) -> f64 {
        self
    }

    #[inline(always)]
    fn exp_fast(self) -> Self {
        self.exp()
    }

    #[inline(always)]
    fn normal_cumulative(self, _density: Self) -> Self {
        0.5 * candle_core::cpu::erf::erfc_f64(-self * std::f64::consts::FRAC_1_SQRT_2)
    }

    #[inline(always)]
    fn square_root(self) -> Self {
        self.sqrt()
    }
}

/// Cephes `expf`: reduction by a power of two in two steps, then a polynomial of degree 7.
#[inline(always)]
fn exp_f32(x: f32) -> f32 {
    const LOWEST: f32 = -87.336_54;
    const HIGHEST: f32 = 88.37;
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
    const ROUNDER: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Comparisons rather than `max` and `min`, which would turn NaN into a number.
    let clamped = if x < LOWEST { LOWEST } else { x };
    let clamped = if clamped > HIGHEST { HIGHEST } else { clamped };
    let rounded = clamped * std::f32::consts::LOG2_E + ROUNDER;
    let power = rounded - ROUNDER;
    let r = (clamped - power * LN_2_HIGH) - power * LN_2_LOW;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 5e-1;
    let value = (p * (r * r) + r) + 1.0;
    let scale = f32::from_bits((rounded.to_bits() << 23).wrapping_add(0x3F80_0000));
    if x < LOWEST { 0.0 } else { value * scale }
}

/// The tail of the normal distribution as `density * t P(t)` with `t = 1 / (1 + 0.35 |x|)`: a minimax polynomial whose
/// relative error is 3.2e-8 up to |x| = 13.3, where f32 ends. Unlike `1 + erf`, it loses no digits for negative x.
#[inline(always)]
fn normal_cumulative_f32(x: f32, density: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.35 * x.abs());
    let mut p = -0.029_115_012;
    p = p * t + 0.143_818_4;
    p = p * t - 0.255_391;
    p = p * t + 0.158_796_56;
    p = p * t - 0.022_843_427;
    p = p * t + 0.105_392_15;
    p = p * t + 0.119_863_09;
    p = p * t + 0.139_857_56;
    p = p * t + 0.139_621_66;
    let tail = density * (t * p);
    if x > 0.0 { 1.0 - tail } else { tail }
}

/// `1 / (1 + exp(-x))`.
#[inline(always)]
pub(crate) fn sigmoid<T: Element>(x: T) -> T {
    T::one() / (T::one() + (-x).exp_fast())
}

/// Sum of `f(x)`.
#[inline(always)]
pub(crate) fn sum_map<T: Element, R: Element>(values: &[T], f: impl Fn(T) -> R) -> R {
    let mut lanes = [R::zero(); LANES];
    let (blocks, rest) = values.as_chunks::<LANES>();
    for block in blocks {
        for (lane, &value) in lanes.iter_mut().zip(block) {
            *lane += f(value);
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        *lane += f(value);
    }
    join(lanes, |a, b| a + b)
}

/// Sum of `f(x, y)`; the slices are of equal length.
#[inline(always)]
pub(crate) fn sum_map_2<T: Element>(left: &[T], right: &[T], f: impl Fn(T, T) -> T) -> T {
    let mut lanes = [T::zero(); LANES];
    let (left_blocks, left_rest) = left.as_chunks::<LANES>();
    let (right_blocks, right_rest) = right.as_chunks::<LANES>();
    for (x, y) in left_blocks.iter().zip(right_blocks) {
        for ((lane, &x), &y) in lanes.iter_mut().zip(x).zip(y) {
            *lane += f(x, y);
        }
    }
    for ((lane, &x), &y) in lanes.iter_mut().zip(left_rest).zip(right_rest) {
        *lane += f(x, y);
    }
    join(lanes, |a, b| a + b)
}

/// The largest value, ignoring NaN; minus infinity for an empty slice.
#[inline(always)]
pub(crate) fn maximum<T: Element>(values: &[T]) -> T {
    let larger = |a: T, b: T| if b > a { b } else { a };
    let mut lanes = [T::of(f64::NEG_INFINITY); LANES];
    let (blocks, rest) = values.as_chunks::<LANES>();
    for block in blocks {
        for (lane, &value) in lanes.iter_mut().zip(block) {
            *lane = larger(*lane, value);
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        *lane = larger(*lane, value);
    }
    join(lanes, larger)
}

/// Replaces each value by `exp(value - shift)` and gives the sum of the results.
#[inline(always)]
pub(crate) fn exponentiate<T: Element>(values: &mut [T], shift: T) -> T {
    let mut lanes = [T::zero(); LANES];
    let (blocks, rest) = values.as_chunks_mut::<LANES>();
    for block in blocks {
        for (lane, value) in lanes.iter_mut().zip(block) {
            *value = (*value - shift).exp_fast();
            *lane += *value;
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *value = (*value - shift).exp_fast();
        *lane += *value;
    }
    join(lanes, |a, b| a + b)
}

/// `sums += values`.
pub(crate) struct AddTo<'a, T> {
    pub(crate) sums: &'a mut [T],
    pub(crate) values: &'a [T],
}

impl<T: Element> Kernel for AddTo<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (sum, &value) in self.sums.iter_mut().zip(self.values) {
            *sum += value;
        }
    }
}

#[inline(always)]
fn join<T: Element>(mut lanes: [T; LANES], f: impl Fn(T, T) -> T) -> T {
    let mut width = LANES / 2;
    while width > 0 {
        for index in 0..width {
            lanes[index] = f(lanes[index], lanes[index + width]);
        }
        width /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A few units in the last place of f32.
    const RELATIVE_TOLERANCE: f64 = 4e-7;
    fn grid(from: f32, to: f32) -> impl Iterator<Item = f32> {
        (0..=200_000).map(move |i| from + (to - from) * (i as f32 / 200_000.0))
    }

    #[test]
    fn fast_exp_is_exact_to_a_few_units_in_the_last_place() {
        for x in grid(-87.3, 88.3) {
            let expected = f64::from(x).exp();
            let error = (f64::from(x.exp_fast()) - expected).abs() / expected;
            assert!(error < RELATIVE_TOLERANCE, "exp({x}): relative error {error}");
        }
        assert_eq!(0.0_f32.exp_fast(), 1.0);
    }

    #[test]
    fn fast_exp_of_special_values() {
        assert!(f32::NAN.exp_fast().is_nan());
        assert_eq!(f32::NEG_INFINITY.exp_fast(), 0.0);
        assert_eq!((-1000.0_f32).exp_fast(), 0.0);
        assert!(f32::INFINITY.exp_fast() > 1e38);
    }

    #[test]
    fn cumulative_normal_keeps_its_digits_in_the_tail() {
        for x in grid(-8.0, 8.0) {
            let density = (-0.5 * x * x).exp_fast();
            let expected = f64::from(x).normal_cumulative(0.0);
            let error = (f64::from(x.normal_cumulative(density)) - expected).abs() / expected;
            // The exponent -x^2 / 2 is itself rounded.
            let tolerance = RELATIVE_TOLERANCE * (1.0 + 0.5 * f64::from(x * x) * 0.2);
            assert!(error < tolerance, "at {x}: relative error {error}");
        }
        assert!(f32::NAN.normal_cumulative(f32::NAN).is_nan());
    }

    #[test]
    fn reductions_handle_every_length() {
        for len in 0..130_usize {
            let values: Vec<f64> = (0..len).map(|i| ((i * 37) % 101) as f64).collect();
            assert_eq!(sum_map(&values, |x| x), values.iter().sum::<f64>());
            assert_eq!(sum_map_2(&values, &values, |x, y| x * y), values.iter().map(|x| x * x).sum::<f64>());
            assert_eq!(maximum(&values), values.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b)));
            let mut shifted = values.clone();
            let sum = exponentiate(&mut shifted, 100.0);
            let expected: f64 = values.iter().map(|x| (x - 100.0).exp()).sum();
            assert!((sum - expected).abs() < 1e-12);
        }
    }
}
