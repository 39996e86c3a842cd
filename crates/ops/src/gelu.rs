//! The three GELU activations of the supported models (Hendrycks, Gimpel 2016).

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, WithDType};
use rayon::prelude::*;

use super::buffer::{CHUNK, build};
#[cfg(feature = "cuda")]
use super::cuda;
use super::on_gpu;
use super::operand::{elements, for_float};
use super::profile::Part;
use super::vector_math::{Element, sigmoid};
use base::simd::{Kernel, vectorized};

/// Which GELU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gelu {
    /// `x Φ(x)`, exact: ViT (`gelu`).
    Erf,
    /// `x / 2 (1 + tanh(sqrt(2 / π) (x + 0.044715 x³)))`: GPT-2 (`gelu_new`).
    Tanh,
    /// `x sigmoid(1.702 x)`: CLIP (`quick_gelu`).
    Quick,
}

/// The activation of every element.
///
/// # Errors
/// Types other than f32 and f64.
pub fn gelu(x: &Tensor, kind: Gelu) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Forward { kind })
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

struct Forward {
    kind: Gelu,
}

struct Backward {
    kind: Gelu,
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

impl CustomOp1 for Forward {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let storage = for_float!(storage.dtype(), Part::Gelu, T => {
            T::to_cpu_storage_owned(gelu_values(self.kind, elements::<T>(storage, layout)?))
        });
        Ok((storage, layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, storage: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        Ok((cuda::gelu::forward(self.kind, storage, layout)?, layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _result: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        on_gpu!(grad => Ok(Some(cuda::gelu::backward(self.kind, x, &grad.contiguous()?)?)));
        Ok(Some(x.apply_op2_no_bwd(&grad.contiguous()?, &Backward { kind: self.kind })?))
    }
}

impl CustomOp2 for Backward {
    fn name(&self) -> &'static str {
        "gelu_backward"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let storage = for_float!(s1.dtype(), Part::Gelu, T => {
            let mut grad = elements::<T>(s2, l2)?.to_vec();
            scale_by_slopes(self.kind, elements::<T>(s1, l1)?, &mut grad);
            T::to_cpu_storage_owned(grad)
        });
        Ok((storage, l1.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check, random};

    fn composite(x: &Tensor, kind: Gelu) -> Result<Tensor> {
        match kind {
            // Not `gelu_erf`, whose gradient in candle is exact to 1e-7 only.
            Gelu::Erf => (x * 0.5)? * ((x * std::f64::consts::FRAC_1_SQRT_2)?.erf()? + 1.0)?,
            Gelu::Tanh => {
                let inner = ((x + (x.powf(3.0)? * 0.044715)?)? * (2.0 / std::f64::consts::PI).sqrt())?;
                (x * 0.5)? * (inner.tanh()? + 1.0)?
            }
            Gelu::Quick => x / ((x * -1.702)?.exp()? + 1.0)?,
        }
    }

    #[test]
    fn every_kind_equals_its_definition() {
        let x = (random((5, 7), "x") * 3.0).unwrap();
        for kind in [Gelu::Erf, Gelu::Tanh, Gelu::Quick] {
            check(std::slice::from_ref(&x), |i| gelu(&i[0], kind), |i| composite(&i[0], kind));
        }
    }

    #[test]
    fn far_from_zero_it_is_zero_or_the_identity() {
        let x = Tensor::new(&[-1e30_f32, -100.0, 100.0, 1e30], &candle_core::Device::Cpu).unwrap();
        for kind in [Gelu::Erf, Gelu::Tanh, Gelu::Quick] {
            let var = candle_core::Var::from_tensor(&x).unwrap();
            let result = gelu(&var, kind).unwrap();
            let found = result.to_vec1::<f32>().unwrap();
            assert!(found[1].abs() < 1e-30 && found[2] == 100.0 && found[3] == 1e30, "{kind:?}: {found:?}");
            let slopes = result.sum_all().unwrap().backward().unwrap().get(&var).unwrap().to_vec1::<f32>().unwrap();
            assert!(slopes[1].abs() < 1e-30 && slopes[2] == 1.0, "{kind:?}: {slopes:?}");
            assert!(slopes[0].abs() < 1e-6 && slopes[3] == 1.0, "{kind:?}: {slopes:?}");
        }
    }

    #[test]
    fn nan_stays_nan() {
        let x = Tensor::new(&[f32::NAN], &candle_core::Device::Cpu).unwrap();
        for kind in [Gelu::Erf, Gelu::Tanh, Gelu::Quick] {
            assert!(gelu(&x, kind).unwrap().to_vec1::<f32>().unwrap()[0].is_nan());
        }
    }
}
