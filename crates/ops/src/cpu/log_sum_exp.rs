//! The logarithm of a sum of exponentials, for the probabilities of a few logits out of many. Not differentiable.

use super::vector_math::{Element as _, maximum, sum_map};
use base::simd::{Kernel, vectorized};

struct LogSumExp<'a> {
    values: &'a [f32],
}

impl Kernel for LogSumExp<'_> {
    type Output = f64;

    #[inline(always)]
    fn run(self) -> f64 {
        let largest = maximum(self.values);
        largest.wide() + sum_map(self.values, |x| (x - largest).exp_fast()).wide().ln()
    }
}

/// `ln(sum(exp(values)))`; NaN if one of the values is NaN or infinity.
pub fn log_sum_exp(values: &[f32]) -> f64 {
    vectorized(LogSumExp { values })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_exact_however_large_the_values_are() {
        for shift in [0.0, 1e4, -1e4] {
            let found = log_sum_exp(&[shift, shift + 3.0_f32.ln(), f32::NEG_INFINITY]) - f64::from(shift);
            assert!((found - 4.0_f64.ln()).abs() < 1e-3 + 1e-7, "{found}");
        }
        assert!((log_sum_exp(&[0.0; 1000]) - 1000.0_f64.ln()).abs() < 1e-6);
    }

    #[test]
    fn nan_and_infinity_give_nan() {
        assert!(log_sum_exp(&[0.0, f32::NAN, 1.0]).is_nan());
        assert!(log_sum_exp(&[0.0, f32::INFINITY]).is_nan());
    }
}
