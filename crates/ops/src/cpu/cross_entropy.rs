//! Cross-entropy on the CPU: softmax and loss in one pass.

use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, Result, Tensor, WithDType};

use super::buffer::{build, rows_per_chunk};
use super::storage::{elements, for_float, tensor_elements};
use super::vector_math::{Element, exponentiate, maximum, sum_map};
use crate::profile::Part;
use crate::types::Operand;
use crate::types::targets::Targets;
use base::simd::{Kernel, vectorized};

/// The sum of the losses of the rows of `logits`, a scalar.
pub(crate) fn forward(logits: Operand<'_, CpuStorage>, targets: &Targets) -> Result<CpuStorage> {
    for_float!(logits.0.dtype(), Part::CrossEntropy, T => {
        let loss = Rows::new(elements::<T>(logits)?, targets).sum();
        Ok(T::to_cpu_storage_owned(vec![loss]))
    })
}

/// The gradient of the logits from that of the sum.
pub(crate) fn backward(logits: &Tensor, targets: &Targets, grad: &Tensor) -> Result<Tensor> {
    let (storage, grad) = (logits.storage_and_layout(), grad.storage_and_layout());
    for_float!(logits.dtype(), Part::CrossEntropy, T => {
        let scale = tensor_elements::<T>(&grad)?[0].wide();
        let values = Rows::new(tensor_elements::<T>(&storage)?, targets).gradient(scale);
        Tensor::from_vec(values, logits.shape(), logits.device())
    })
}

/// Rows of logits and their targets.
#[derive(Clone, Copy)]
struct Rows<'a, T> {
    logits: &'a [T],
    targets: &'a [u32],
    weights: Option<&'a [f64]>,
    vocabulary: usize,
    label_smoothing: f64,
}

impl<'a, T: Element> Rows<'a, T> {
    fn new(logits: &'a [T], targets: &'a Targets) -> Self {
        let Targets { classes: targets, weights, label_smoothing } = targets;
        let vocabulary = logits.len().checked_div(targets.len()).unwrap_or(1);
        Self { logits, targets, weights: weights.as_deref(), vocabulary, label_smoothing: *label_smoothing }
    }

    fn slice(&self, first: usize, count: usize) -> Self {
        Self {
            logits: &self.logits[first * self.vocabulary..(first + count) * self.vocabulary],
            targets: &self.targets[first..first + count],
            weights: self.weights.map(|weights| &weights[first..first + count]),
            ..*self
        }
    }

    fn weight(&self, row: usize) -> f64 {
        self.weights.map_or(1.0, |weights| weights[row])
    }

    fn sum(&self) -> T {
        let rows = rows_per_chunk(self.vocabulary);
        let losses = build(self.targets.len(), rows, |index, losses: &mut [f64]| {
            let rows = self.slice(index * rows, losses.len());
            vectorized(Losses { rows, losses });
        });
        T::of(losses.iter().sum())
    }

    fn gradient(&self, scale: f64) -> Vec<T> {
        let rows = rows_per_chunk(self.vocabulary);
        build(self.logits.len(), rows * self.vocabulary, |index, out| {
            let rows = self.slice(index * rows, out.len() / self.vocabulary);
            vectorized(Slopes { rows, scale, out });
        })
    }
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
        let examples = rows.logits.chunks_exact(rows.vocabulary).zip(rows.targets).zip(self.losses);
        for (index, ((row, &target), loss)) in examples.enumerate() {
            let largest = maximum(row);
            let sum = sum_map(row, |x| (x - largest).exp_fast());
            let log_sum = largest.wide() + sum.wide().ln();
            *loss = log_sum - (1.0 - smoothing) * row[target as usize].wide();
            if smoothing > 0.0 {
                *loss -= smoothing / rows.vocabulary as f64 * sum_map(row, |x| x).wide();
            }
            *loss *= rows.weight(index);
        }
    }
}

/// Fills `out`, which is zero, with `scale * weight * (softmax - target distribution)`.
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
        let examples = rows.logits.chunks_exact(width).zip(rows.targets).zip(out.chunks_exact_mut(width));
        for (index, ((row, &target), out)) in examples.enumerate() {
            let scale = scale * rows.weight(index);
            let floor = T::of(scale * rows.label_smoothing / width as f64);
            let peak = T::of(scale * (1.0 - rows.label_smoothing));
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
