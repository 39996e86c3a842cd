//! The update of `torch.optim.AdamW` (Loshchilov, Hutter 2019) in one pass over memory.

use std::cell::RefCell;
use std::ptr;

use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, InplaceOp1, InplaceOp2, Layout, Result, Tensor, bail};
use rayon::prelude::*;

use super::buffer::CHUNK;
use super::storage::{ElementMut, elements, elements_mut, for_float};
use super::vector_math::Element;
use crate::profile::Part;
use crate::types::update::check_alike;
use base::simd::{Kernel, vectorized};

/// The settings of one update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    pub learning_rate: f64,
    /// Decay of the mean of the gradient.
    pub beta1: f64,
    /// Decay of the mean of its square.
    pub beta2: f64,
    /// Added to the denominator.
    pub eps: f64,
    /// Decoupled weight decay; multiplied by the learning rate.
    pub weight_decay: f64,
    /// Number of this update of the parameter, from 1.
    pub step: u64,
}

/// Updates `parameter`, `exp_avg` and `exp_avg_sq` in place with `grad * grad_scale`, on the CPU. The three are
/// contiguous and share no storage; every other tensor on the parameter's storage sees the update.
///
/// # Errors
/// Shapes or types that differ, shared storage, step 0, types other than f32 and f64.
pub fn adamw_update(
    parameter: &Tensor,
    grad: &Tensor,
    exp_avg: &Tensor,
    exp_avg_sq: &Tensor,
    grad_scale: f64,
    settings: &AdamW,
) -> Result<()> {
    check_alike(parameter, [("gradient", grad), ("exp_avg", exp_avg), ("exp_avg_sq", exp_avg_sq)])?;
    if settings.step == 0 {
        bail!("adamw: the first update has step 1, found step 0");
    }
    // Each is locked while the next is locked: the same storage twice would deadlock.
    let written = [parameter, exp_avg, exp_avg_sq].map(|tensor| ptr::from_ref(&*tensor.storage_and_layout().0));
    if written[0] == written[1] || written[0] == written[2] || written[1] == written[2] {
        bail!("adamw: parameter, exp_avg and exp_avg_sq must not share storage");
    }
    let grad = grad.contiguous()?;
    parameter.inplace_op2(&grad, &ParameterOp { exp_avg, exp_avg_sq, factors: Factors::new(settings, grad_scale) })
}

#[derive(Clone, Copy)]
struct Factors {
    grad_scale: f64,
    decay: f64,
    beta1: f64,
    beta2: f64,
    root_correction: f64,
    eps: f64,
    step_size: f64,
}

impl Factors {
    fn new(settings: &AdamW, grad_scale: f64) -> Self {
        let correction = |beta: f64| 1.0 - beta.powf(settings.step as f64);
        Self {
            grad_scale,
            decay: 1.0 - settings.learning_rate * settings.weight_decay,
            beta1: settings.beta1,
            beta2: settings.beta2,
            root_correction: correction(settings.beta2).sqrt(),
            eps: settings.eps,
            step_size: settings.learning_rate / correction(settings.beta1),
        }
    }
}

/// The slices of one update: parameter, gradient, mean, mean square.
struct Slices<'a, T> {
    parameter: &'a mut [T],
    grad: &'a [T],
    exp_avg: &'a mut [T],
    exp_avg_sq: &'a mut [T],
}

struct Update<'a, T> {
    factors: Factors,
    slices: Slices<'a, T>,
}

impl<T: Element> Kernel for Update<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { factors, slices } = self;
        let (grad_scale, decay) = (T::of(factors.grad_scale), T::of(factors.decay));
        let (one_minus_beta1, beta2) = (T::of(1.0 - factors.beta1), T::of(factors.beta2));
        let one_minus_beta2 = T::of(1.0 - factors.beta2);
        let (root_correction, eps) = (T::of(factors.root_correction), T::of(factors.eps));
        let step_size = T::of(factors.step_size);
        let moments = slices.exp_avg.iter_mut().zip(slices.exp_avg_sq);
        for ((parameter, &grad), (mean, square)) in slices.parameter.iter_mut().zip(slices.grad).zip(moments) {
            let grad = grad * grad_scale;
            *mean += (grad - *mean) * one_minus_beta1;
            *square = *square * beta2 + grad * grad * one_minus_beta2;
            let denominator = square.square_root() / root_correction + eps;
            *parameter = *parameter * decay - step_size * (*mean / denominator);
        }
    }
}

fn update<T: Element>(factors: Factors, slices: Slices<'_, T>) {
    if slices.grad.len() <= CHUNK {
        return vectorized(Update { factors, slices });
    }
    let parameters = slices.parameter.par_chunks_mut(CHUNK).zip(slices.grad.par_chunks(CHUNK));
    let moments = slices.exp_avg.par_chunks_mut(CHUNK).zip(slices.exp_avg_sq.par_chunks_mut(CHUNK));
    parameters.zip(moments).for_each(|((parameter, grad), (exp_avg, exp_avg_sq))| {
        vectorized(Update { factors, slices: Slices { parameter, grad, exp_avg, exp_avg_sq } });
    });
}

// candle writes one tensor at a time. So three in-place operations are nested, each holding what the outer ones have
// borrowed.

struct ParameterOp<'a> {
    exp_avg: &'a Tensor,
    exp_avg_sq: &'a Tensor,
    factors: Factors,
}

struct MeanOp<'a, T> {
    exp_avg_sq: &'a Tensor,
    factors: Factors,
    slices: RefCell<(&'a mut [T], &'a [T])>,
}

struct SquareOp<'a, T> {
    factors: Factors,
    slices: RefCell<(&'a mut [T], &'a [T], &'a mut [T])>,
}

impl InplaceOp2 for ParameterOp<'_> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(&self, s1: &mut CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<()> {
        for_float!(s1.dtype(), Part::AdamW, T => {
            let slices = RefCell::new((elements_mut::<T>(s1, l1)?, elements::<T>((s2, l2))?));
            self.exp_avg.inplace_op1(&MeanOp { exp_avg_sq: self.exp_avg_sq, factors: self.factors, slices })
        })
    }
}

impl<T: ElementMut> InplaceOp1 for MeanOp<'_, T> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let mut outer = self.slices.borrow_mut();
        let (parameter, grad) = &mut *outer;
        let slices = RefCell::new((&mut **parameter, *grad, elements_mut::<T>(storage, layout)?));
        self.exp_avg_sq.inplace_op1(&SquareOp { factors: self.factors, slices })
    }
}

impl<T: ElementMut> InplaceOp1 for SquareOp<'_, T> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let mut outer = self.slices.borrow_mut();
        let (parameter, grad, exp_avg) = &mut *outer;
        let exp_avg_sq = elements_mut::<T>(storage, layout)?;
        update(self.factors, Slices { parameter, grad, exp_avg, exp_avg_sq });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};

    use super::*;
    use crate::testing::{F32_TOLERANCE, F64_TOLERANCE, assert_close, random, values};

    const SETTINGS: AdamW =
        AdamW { learning_rate: 0.01, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, step: 1 };
    const SHAPE: (usize, usize) = (170, 101);

    /// The single-tensor form of `torch.optim.AdamW`, statement by statement.
    fn reference(p: &mut f64, m: &mut f64, v: &mut f64, grad: f64, settings: &AdamW) {
        let AdamW { learning_rate, beta1, beta2, eps, weight_decay, step } = *settings;
        *p *= 1.0 - learning_rate * weight_decay;
        *m = beta1 * *m + (1.0 - beta1) * grad;
        *v = beta2 * *v + (1.0 - beta2) * grad * grad;
        let bias_correction1 = 1.0 - beta1.powi(step as i32);
        let bias_correction2 = 1.0 - beta2.powi(step as i32);
        let denominator = v.sqrt() / bias_correction2.sqrt() + eps;
        *p -= learning_rate / bias_correction1 * *m / denominator;
    }

    fn five_steps(dtype: DType, tolerance: f64) {
        let start = random(SHAPE, "parameter").to_dtype(dtype).unwrap();
        let parameter = Var::from_tensor(&start).unwrap();
        let alias = parameter.as_detached_tensor();
        let zeros = || Tensor::zeros(SHAPE, dtype, &Device::Cpu).unwrap();
        let (exp_avg, exp_avg_sq) = (zeros(), zeros());
        let mut expected = values(&start);
        let mut moments = vec![(0.0, 0.0); expected.len()];
        for step in 1..=5 {
            let settings = AdamW { step, learning_rate: 0.01 * step as f64, ..SETTINGS };
            let grad = random(SHAPE, &format!("gradient {step}")).to_dtype(dtype).unwrap();
            adamw_update(&parameter, &grad, &exp_avg, &exp_avg_sq, 0.5, &settings).unwrap();
            for ((p, (m, v)), grad) in expected.iter_mut().zip(&mut moments).zip(values(&grad)) {
                reference(p, m, v, grad * 0.5, &settings);
            }
        }
        let tensor = |values: Vec<f64>| Tensor::from_vec(values, SHAPE, &Device::Cpu).unwrap();
        assert_close(&alias, &tensor(expected), tolerance, "parameter");
        assert_close(&exp_avg, &tensor(moments.iter().map(|m| m.0).collect()), tolerance, "exp_avg");
        assert_close(&exp_avg_sq, &tensor(moments.iter().map(|m| m.1).collect()), tolerance, "exp_avg_sq");
    }

    #[test]
    fn five_steps_equal_torch() {
        five_steps(DType::F64, F64_TOLERANCE);
        five_steps(DType::F32, F32_TOLERANCE);
    }

    #[test]
    fn shared_storage_and_wrong_shapes_are_errors() {
        let tensor = |name| random((2, 3), name);
        let (p, g, m, v) = (tensor("p"), tensor("g"), tensor("m"), tensor("v"));
        assert!(adamw_update(&p, &g, &m, &m.detach(), 1.0, &SETTINGS).is_err());
        assert!(adamw_update(&p, &g, &p.detach(), &v, 1.0, &SETTINGS).is_err());
        assert!(adamw_update(&p, &p, &m, &v, 1.0, &SETTINGS).is_err());
        assert!(adamw_update(&p, &g, &m, &random((3, 2), "v"), 1.0, &SETTINGS).is_err());
        assert!(adamw_update(&p, &g, &m, &v, 1.0, &AdamW { step: 0, ..SETTINGS }).is_err());
        assert!(adamw_update(&p, &g, &m, &v, 1.0, &SETTINGS).is_ok());
    }
}
