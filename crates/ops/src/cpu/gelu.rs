//! The GELU activations on the CPU and their slopes.

use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, Result, Tensor, WithDType as _};
use rayon::prelude::*;

use super::buffer::{CHUNK, build};
use super::storage::{elements, for_float, tensor_elements};
use super::vector_math::{Element, sigmoid};
use crate::profile::Part;
use crate::types::Operand;
use crate::types::linear::Gelu;
use base::simd::{Kernel, vectorized};

/// The activation of every element.
pub(crate) fn forward(kind: Gelu, x: Operand<'_, CpuStorage>) -> Result<CpuStorage> {
    for_float!(x.0.dtype(), Part::Gelu, T => Ok(T::to_cpu_storage_owned(gelu_values(kind, elements::<T>(x)?))))
}

/// The gradient of `x` for that of its activations.
pub(crate) fn backward(kind: Gelu, x: &Tensor, grad: &Tensor) -> Result<Tensor> {
    for_float!(x.dtype(), Part::Gelu, T => {
        let mut values = tensor_elements::<T>(&grad.storage_and_layout())?.to_vec();
        scale_by_slopes(kind, tensor_elements::<T>(&x.storage_and_layout())?, &mut values);
        Tensor::from_vec(values, x.shape(), x.device())
    })
}

/// The activation of every element of a slice.
pub(crate) fn gelu_values<T: Element>(kind: Gelu, x: &[T]) -> Vec<T> {
    build(x.len(), CHUNK, |index, out| {
        let start = index * CHUNK;
        vectorized(Values { kind, x: &x[start..start + out.len()], out });
    })
}

/// Multiplies the gradient of the activations of `x` by their slopes, so that it becomes that of `x`.
pub(crate) fn scale_by_slopes<T: Element>(kind: Gelu, x: &[T], grad: &mut [T]) {
    let scale = |(grad, x): (&mut [T], &[T])| vectorized(Slopes { kind, x, grad });
    if x.len() <= CHUNK {
        scale((grad, x));
    } else {
        grad.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(scale);
    }
}

const QUICK_SLOPE: f64 = 1.702;
/// `2 sqrt(2 / π)`: `(1 + tanh u) / 2 = sigmoid(2 u)`.
const TANH_SLOPE: f64 = 2.0 * std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2;
const TANH_CUBIC: f64 = 0.044715;
/// `1 / sqrt(2 π)`.
const NORMAL_PEAK: f64 = 0.5 * std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2;

/// A GELU and its derivative.
trait Activation {
    fn value<T: Element>(x: T) -> T;
    fn slope<T: Element>(x: T) -> T;
}

struct Erf;
struct Tanh;
struct Quick;

impl Activation for Erf {
    #[inline(always)]
    fn value<T: Element>(x: T) -> T {
        x * x.normal_cumulative((T::of(-0.5) * x * x).exp_fast())
    }

    #[inline(always)]
    fn slope<T: Element>(x: T) -> T {
        let density = (T::of(-0.5) * x * x).exp_fast();
        x.normal_cumulative(density) + x * T::of(NORMAL_PEAK) * density
    }
}

impl Activation for Tanh {
    #[inline(always)]
    fn value<T: Element>(x: T) -> T {
        x * sigmoid(x * (T::of(TANH_SLOPE) + T::of(TANH_SLOPE * TANH_CUBIC) * x * x))
    }

    #[inline(always)]
    fn slope<T: Element>(x: T) -> T {
        let square = x * x;
        let gate = sigmoid(x * (T::of(TANH_SLOPE) + T::of(TANH_SLOPE * TANH_CUBIC) * square));
        let inner = T::of(TANH_SLOPE) + T::of(3.0 * TANH_SLOPE * TANH_CUBIC) * square;
        let bend = gate * (T::one() - gate);
        // `inner` may be infinite where the gate has closed, which in f32 is at 4e-39.
        if bend > T::of(1e-36) { gate + bend * (x * inner) } else { gate }
    }
}

impl Activation for Quick {
    #[inline(always)]
    fn value<T: Element>(x: T) -> T {
        x * sigmoid(T::of(QUICK_SLOPE) * x)
    }

    #[inline(always)]
    fn slope<T: Element>(x: T) -> T {
        let gate = sigmoid(T::of(QUICK_SLOPE) * x);
        gate + T::of(QUICK_SLOPE) * x * gate * (T::one() - gate)
    }
}

struct Values<'a, T> {
    kind: Gelu,
    x: &'a [T],
    out: &'a mut [T],
}

impl<T: Element> Values<'_, T> {
    #[inline(always)]
    fn of<A: Activation>(self) {
        for (out, &x) in self.out.iter_mut().zip(self.x) {
            *out = A::value(x);
        }
    }
}

impl<T: Element> Kernel for Values<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        match self.kind {
            Gelu::Erf => self.of::<Erf>(),
            Gelu::Tanh => self.of::<Tanh>(),
            Gelu::Quick => self.of::<Quick>(),
        }
    }
}

struct Slopes<'a, T> {
    kind: Gelu,
    x: &'a [T],
    grad: &'a mut [T],
}

impl<T: Element> Slopes<'_, T> {
    #[inline(always)]
    fn of<A: Activation>(self) {
        for (grad, &x) in self.grad.iter_mut().zip(self.x) {
            *grad *= A::slope(x);
        }
    }
}

impl<T: Element> Kernel for Slopes<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        match self.kind {
            Gelu::Erf => self.of::<Erf>(),
            Gelu::Tanh => self.of::<Tanh>(),
            Gelu::Quick => self.of::<Quick>(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [Gelu; 3] = [Gelu::Erf, Gelu::Tanh, Gelu::Quick];

    fn slopes<T: Element>(kind: Gelu, x: &[T]) -> Vec<T> {
        let mut slopes = vec![T::one(); x.len()];
        scale_by_slopes(kind, x, &mut slopes);
        slopes
    }

    #[test]
    fn far_from_zero_it_is_zero_or_the_identity() {
        let x = [-1e30_f32, -100.0, 100.0, 1e30];
        for kind in KINDS {
            let found = gelu_values(kind, &x);
            assert!(found[1].abs() < 1e-30 && found[2] == 100.0 && found[3] == 1e30, "{kind:?}: {found:?}");
            let slopes = slopes(kind, &x);
            assert!(slopes[1].abs() < 1e-30 && slopes[2] == 1.0, "{kind:?}: {slopes:?}");
            assert!(slopes[0].abs() < 1e-6 && slopes[3] == 1.0, "{kind:?}: {slopes:?}");
        }
    }

    #[test]
    fn nan_stays_nan() {
        for kind in KINDS {
            assert!(gelu_values(kind, &[f32::NAN])[0].is_nan() && slopes(kind, &[f32::NAN])[0].is_nan());
        }
    }

    #[test]
    fn elements_of_many_chunks_have_the_values_and_slopes_of_single_ones() {
        let x: Vec<f32> = (0..3 * CHUNK + 5).map(|i| (i as f32 * 0.37).sin() * 6.0).collect();
        for kind in KINDS {
            let (values, slopes_of_all) = (gelu_values(kind, &x), slopes(kind, &x));
            for index in [0, CHUNK, 3 * CHUNK + 4] {
                assert_eq!(values[index], gelu_values(kind, &x[index..=index])[0]);
                assert_eq!(slopes_of_all[index], slopes(kind, &x[index..=index])[0]);
            }
        }
    }
}
