//! Cross-entropy of rows of logits against class numbers, softmax and loss in one pass.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, WithDType, bail};

use super::buffer::{build, rows_per_chunk};
#[cfg(feature = "cuda")]
use super::cuda;
use super::on_gpu;
use super::operand::{elements, for_float};
use super::profile::Part;
use super::vector_math::{Element, exponentiate, maximum, sum_map};
use base::simd::{Kernel, vectorized};

/// The target of a row that takes no part in the loss.
pub const IGNORE_INDEX: u32 = u32::MAX;

/// The sum of the losses of the rows whose target is not [`IGNORE_INDEX`]: logits (R, V), `targets` of length R ->
/// scalar, as `torch.nn.functional.cross_entropy(reduction="sum", label_smoothing=..)`.
///
/// An ignored row has an exact zero gradient whatever its logits are. `label_smoothing` is from 0 to 1.
///
/// # Errors
/// Shapes that do not fit, a target outside the vocabulary, types other than f32 and f64.
pub fn cross_entropy(logits: &Tensor, targets: &[u32], label_smoothing: f64) -> Result<Tensor> {
    let (rows, vocabulary) = logits.dims2()?;
    if targets.len() != rows {
        bail!("cross_entropy: expected {rows} targets for logits {:?}, found {}", logits.shape(), targets.len());
    }
    if let Some(row) = targets.iter().position(|&t| t != IGNORE_INDEX && t as usize >= vocabulary) {
        bail!("cross_entropy: target {} of row {row} is outside a vocabulary of {vocabulary}", targets[row]);
    }
    if !(0.0..=1.0).contains(&label_smoothing) {
        bail!("cross_entropy: expected a label smoothing from 0 to 1, found {label_smoothing}");
    }
    logits.contiguous()?.apply_op1(Forward { targets: targets.to_vec(), label_smoothing })
}

#[derive(Clone)]
struct Forward {
    targets: Vec<u32>,
    label_smoothing: f64,
}

/// Gradient of the logits, from the logits and the gradient of the scalar.
struct Backward {
    forward: Forward,
}

/// Rows of logits and their targets.
#[derive(Clone, Copy)]
struct Rows<'a, T> {
    logits: &'a [T],
    targets: &'a [u32],
    vocabulary: usize,
    label_smoothing: f64,
}

/// Fills `losses`, one value per row.
struct Losses<'a, T> {
    rows: Rows<'a, T>,
    losses: &'a mut [f64],
}

impl<T: Element> Kernel for Losses<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let rows = self.rows;
        let smoothing = rows.label_smoothing;
        for ((row, &target), loss) in rows.logits.chunks_exact(rows.vocabulary).zip(rows.targets).zip(self.losses) {
            if target == IGNORE_INDEX {
                continue;
            }
            let largest = maximum(row);
            let sum = sum_map(row, |x| (x - largest).exp_fast());
            let log_sum = largest.wide() + sum.wide().ln();
            *loss = log_sum - (1.0 - smoothing) * row[target as usize].wide();
            if smoothing > 0.0 {
                *loss -= smoothing / rows.vocabulary as f64 * sum_map(row, |x| x).wide();
            }
        }
    }
}

/// Fills `out`, which is zero, with `scale * (softmax - target distribution)`.
struct Slopes<'a, T> {
    rows: Rows<'a, T>,
    scale: f64,
    out: &'a mut [T],
}

impl<T: Element> Kernel for Slopes<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { rows, scale, out } = self;
        let width = rows.vocabulary;
        let floor = T::of(scale * rows.label_smoothing / width as f64);
        let peak = T::of(scale * (1.0 - rows.label_smoothing));
        let examples = rows.logits.chunks_exact(width).zip(rows.targets);
        for ((row, &target), out) in examples.zip(out.chunks_exact_mut(width)) {
            if target == IGNORE_INDEX {
                continue;
            }
            out.copy_from_slice(row);
            let sum = exponentiate(out, maximum(row));
            let factor = T::of(scale / sum.wide());
            for value in out.iter_mut() {
                *value = *value * factor - floor;
            }
            out[target as usize] -= peak;
        }
    }
}

impl Forward {
    fn rows<'a, T: Element>(&'a self, logits: &'a [T], vocabulary: usize, first: usize, count: usize) -> Rows<'a, T> {
        Rows {
            logits: &logits[first * vocabulary..(first + count) * vocabulary],
            targets: &self.targets[first..first + count],
            vocabulary,
            label_smoothing: self.label_smoothing,
        }
    }

    fn sum<T: Element>(&self, logits: &[T], vocabulary: usize) -> T {
        let rows = rows_per_chunk(vocabulary);
        let losses = build(self.targets.len(), rows, |index, losses: &mut [f64]| {
            let rows = self.rows(logits, vocabulary, index * rows, losses.len());
            vectorized(Losses { rows, losses });
        });
        T::of(losses.iter().sum())
    }

    fn gradient<T: Element>(&self, logits: &[T], vocabulary: usize, scale: f64) -> Vec<T> {
        let rows = rows_per_chunk(vocabulary);
        build(logits.len(), rows * vocabulary, |index, out| {
            let rows = self.rows(logits, vocabulary, index * rows, out.len() / vocabulary);
            vectorized(Slopes { rows, scale, out });
        })
    }
}

impl CustomOp1 for Forward {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, vocabulary) = layout.shape().dims2()?;
        let storage = for_float!(storage.dtype(), Part::CrossEntropy, T => {
            T::to_cpu_storage_owned(vec![self.sum(elements::<T>(storage, layout)?, vocabulary)])
        });
        Ok((storage, Shape::from(())))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, storage: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let sum = cuda::cross_entropy::forward(storage, layout, &self.targets, self.label_smoothing)?;
        Ok((sum, Shape::from(())))
    }

    fn bwd(&self, logits: &Tensor, _result: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        on_gpu!(grad => {
            cuda::cross_entropy::backward(logits, &self.targets, self.label_smoothing, &grad.contiguous()?).map(Some)
        });
        let backward = Backward { forward: self.clone() };
        Ok(Some(logits.apply_op2_no_bwd(&grad.contiguous()?, &backward)?))
    }
}

impl CustomOp2 for Backward {
    fn name(&self) -> &'static str {
        "cross_entropy_backward"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, vocabulary) = l1.shape().dims2()?;
        let storage = for_float!(s1.dtype(), Part::CrossEntropy, T => {
            let scale = elements::<T>(s2, l2)?[0].wide();
            T::to_cpu_storage_owned(self.forward.gradient(elements::<T>(s1, l1)?, vocabulary, scale))
        });
        Ok((storage, l1.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{D, DType, Device, Var};

    use super::*;
    use crate::testing::{check, random, values};

    const TARGETS: [u32; 5] = [0, 10, IGNORE_INDEX, 3, 3];

    /// The definition, with `weights` (R, V) as the target distributions.
    fn composite(logits: &Tensor, label_smoothing: f64) -> Result<Tensor> {
        let (_, vocabulary) = logits.dims2()?;
        let mut weights = Vec::new();
        for target in TARGETS {
            for class in 0..vocabulary {
                let peak = if class == target as usize { 1.0 - label_smoothing } else { 0.0 };
                weights.push(if target == IGNORE_INDEX { 0.0 } else { peak + label_smoothing / vocabulary as f64 });
            }
        }
        let weights = Tensor::from_vec(weights, logits.shape(), &Device::Cpu)?.to_dtype(logits.dtype())?;
        let log_sum = logits.exp()?.sum_keepdim(D::Minus1)?.log()?;
        (logits.broadcast_sub(&log_sum)? * weights)?.sum_all()?.neg()
    }

    #[test]
    fn loss_and_gradient_equal_the_definition() {
        let logits = (random((5, 11), "logits") * 2.0).unwrap();
        for label_smoothing in [0.0, 0.1, 1.0] {
            check(
                std::slice::from_ref(&logits),
                |i| cross_entropy(&i[0], &TARGETS, label_smoothing),
                |i| composite(&i[0], label_smoothing),
            );
        }
    }

    #[test]
    fn ignored_rows_have_exactly_zero_gradient_even_if_not_finite() {
        let rows = [[1.0_f32, 2.0, 3.0], [f32::NAN, f32::INFINITY, 0.0]];
        let logits = Var::new(&rows, &Device::Cpu).unwrap();
        let loss = cross_entropy(&logits, &[1, IGNORE_INDEX], 0.1).unwrap();
        assert!(loss.to_scalar::<f32>().unwrap().is_finite());
        let gradient = values(loss.backward().unwrap().get(&logits).unwrap());
        assert_eq!(gradient[3..], [0.0, 0.0, 0.0]);
        assert!(gradient[..3].iter().all(|x| x.is_finite() && *x != 0.0));
    }

    #[test]
    fn a_nan_logit_that_counts_gives_a_nan_loss() {
        for position in 0..40 {
            let mut logits = vec![0.5_f32; 40];
            logits[position] = f32::NAN;
            let logits = Tensor::from_vec(logits, (1, 40), &Device::Cpu).unwrap();
            assert!(cross_entropy(&logits, &[0], 0.0).unwrap().to_scalar::<f32>().unwrap().is_nan());
        }
    }

    #[test]
    fn large_logits_and_minus_infinity_are_fine() {
        let logits = Var::new(&[[1e30_f32, f32::NEG_INFINITY, 0.0]], &Device::Cpu).unwrap();
        let loss = cross_entropy(&logits, &[0], 0.0).unwrap();
        assert_eq!(loss.to_scalar::<f32>().unwrap(), 0.0);
        assert_eq!(values(loss.backward().unwrap().get(&logits).unwrap()), [0.0, 0.0, 0.0]);
    }

    #[test]
    fn uniform_logits_cost_the_logarithm_of_the_vocabulary() {
        let logits = Tensor::zeros((600, 100), DType::F32, &Device::Cpu).unwrap();
        let loss = cross_entropy(&logits, &[5; 600], 0.0).unwrap().to_scalar::<f32>().unwrap();
        assert!((f64::from(loss) / 600.0 - 100_f64.ln()).abs() < 1e-6);
    }

    #[test]
    fn targets_that_do_not_fit_are_an_error() {
        let logits = random((2, 3), "logits");
        assert!(cross_entropy(&logits, &[0, 3], 0.0).unwrap_err().to_string().contains("target 3 of row 1"));
        assert!(cross_entropy(&logits, &[0], 0.0).is_err());
        assert!(cross_entropy(&logits, &[0, 1], 1.5).is_err());
    }
}
