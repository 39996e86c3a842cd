//! LayerNorm on the CPU.

use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, Result, Tensor, WithDType};

use super::buffer::{build, build_with, join_sums, rows_per_chunk, sum_chunks};
use super::storage::{elements, for_float, tensor_elements};
use super::vector_math::{Element, sum_map, sum_map_2};
use crate::profile::Part;
use crate::types::Operand;
use base::simd::{Kernel, vectorized};

pub(crate) fn forward(eps: f64, [x, weight, bias]: [Operand<'_, CpuStorage>; 3]) -> Result<CpuStorage> {
    for_float!(x.0.dtype(), Part::LayerNorm, T => {
        let values = normalised(eps, elements::<T>(x)?, elements::<T>(weight)?, elements::<T>(bias)?);
        Ok(T::to_cpu_storage_owned(values))
    })
}

/// The gradients of x, weight and bias, those that are wanted.
pub(crate) fn backward(
    eps: f64,
    operands: (&Tensor, &Tensor, &Tensor),
    wanted: [bool; 3],
) -> Result<[Option<Tensor>; 3]> {
    for_float!(operands.0.dtype(), Part::LayerNorm, T => typed_backward::<T>(eps, operands, wanted))
}

fn typed_backward<T: Element>(
    eps: f64,
    (x, weight, grad): (&Tensor, &Tensor, &Tensor),
    wanted: [bool; 3],
) -> Result<[Option<Tensor>; 3]> {
    let (x_storage, weight_storage, grad_storage) =
        (x.storage_and_layout(), weight.storage_and_layout(), grad.storage_and_layout());
    let operands =
        (tensor_elements::<T>(&x_storage)?, tensor_elements(&weight_storage)?, tensor_elements(&grad_storage)?);
    let (dx, sums) = gradients(eps, operands, wanted[0], wanted[1] || wanted[2]);
    let dx = dx.map(|dx| Tensor::from_vec(dx, x.shape(), x.device())).transpose()?;
    let (mut dweight, mut dbias) = (None, None);
    if let Some(mut sums) = sums {
        let biases = sums.split_off(sums.len() / 2);
        if wanted[1] {
            dweight = Some(Tensor::from_vec(sums, weight.shape(), weight.device())?);
        }
        if wanted[2] {
            dbias = Some(Tensor::from_vec(biases, weight.shape(), weight.device())?);
        }
    }
    Ok([dx, dweight, dbias])
}

/// Rows of normalised width and the parameters.
#[derive(Clone, Copy)]
struct Rows<'a, T> {
    x: &'a [T],
    weight: &'a [T],
    eps: T,
}

impl<T: Element> Rows<'_, T> {
    #[inline(always)]
    fn width(&self) -> usize {
        self.weight.len()
    }

    /// Mean and reciprocal standard deviation of a row.
    #[inline(always)]
    fn statistics(&self, row: &[T]) -> (T, T) {
        let scale = T::one() / T::of(row.len() as f64);
        let mean = sum_map(row, |x| x) * scale;
        let variance = sum_map(row, |x| (x - mean) * (x - mean)) * scale;
        (mean, T::one() / (variance + self.eps).square_root())
    }
}

struct Forward<'a, T> {
    rows: Rows<'a, T>,
    bias: &'a [T],
    out: &'a mut [T],
}

impl<T: Element> Kernel for Forward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { rows, bias, out } = self;
        let width = rows.width();
        for (row, out) in rows.x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            let (mean, inverse) = rows.statistics(row);
            for (((out, &x), &weight), &bias) in out.iter_mut().zip(row).zip(rows.weight).zip(bias) {
                *out = (x - mean) * inverse * weight + bias;
            }
        }
    }
}

/// dx for rows with the gradient `grad`.
struct InputGradient<'a, T> {
    rows: Rows<'a, T>,
    grad: &'a [T],
    out: &'a mut [T],
}

impl<T: Element> Kernel for InputGradient<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let rows = self.rows;
        let width = rows.width();
        let scale = T::one() / T::of(width as f64);
        let pairs = rows.x.chunks_exact(width).zip(self.grad.chunks_exact(width));
        for ((row, grad), out) in pairs.zip(self.out.chunks_exact_mut(width)) {
            let (mean, inverse) = rows.statistics(row);
            // `out` holds the gradient of the normalised row until the last line.
            for ((out, &grad), &weight) in out.iter_mut().zip(grad).zip(rows.weight) {
                *out = grad * weight;
            }
            let mean_grad = sum_map(out, |g| g) * scale;
            let projection = sum_map_2(out, row, |g, x| g * (x - mean)) * scale * inverse * inverse;
            for (out, &x) in out.iter_mut().zip(row) {
                *out = (*out - mean_grad - (x - mean) * projection) * inverse;
            }
        }
    }
}

/// Adds the gradients of weight (first half of `sums`) and bias (second half).
struct ParameterGradients<'a, T> {
    rows: Rows<'a, T>,
    grad: &'a [T],
    sums: &'a mut [T],
}

impl<T: Element> Kernel for ParameterGradients<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let rows = self.rows;
        let width = rows.width();
        let (weights, biases) = self.sums.split_at_mut(width);
        for (row, grad) in rows.x.chunks_exact(width).zip(self.grad.chunks_exact(width)) {
            let (mean, inverse) = rows.statistics(row);
            for (((weight, bias), &x), &grad) in weights.iter_mut().zip(biases.iter_mut()).zip(row).zip(grad) {
                *weight += (x - mean) * inverse * grad;
                *bias += grad;
            }
        }
    }
}

fn normalised<T: Element>(eps: f64, x: &[T], weight: &[T], bias: &[T]) -> Vec<T> {
    let chunk = rows_per_chunk(weight.len()) * weight.len();
    build(x.len(), chunk, |index, out| {
        let start = index * chunk;
        let rows = Rows { x: &x[start..start + out.len()], weight, eps: T::of(eps) };
        vectorized(Forward { rows, bias, out });
    })
}

/// dx if `input`; the gradients of weight and bias, in one vector, if `parameters`.
fn gradients<T: Element>(
    eps: f64,
    (x, weight, grad): (&[T], &[T], &[T]),
    input: bool,
    parameters: bool,
) -> (Option<Vec<T>>, Option<Vec<T>>) {
    let width = weight.len();
    let rows_each = rows_per_chunk(width);
    let rows = |start: usize, len: usize| Rows { x: &x[start..start + len], weight, eps: T::of(eps) };
    let sums = |start: usize, len: usize, sums: &mut [T]| {
        vectorized(ParameterGradients { rows: rows(start, len), grad: &grad[start..start + len], sums });
    };
    if !input {
        let total = parameters.then(|| {
            sum_chunks(x.len() / width, rows_each, 2 * width, |first, count, total| {
                sums(first * width, count * width, total);
            })
        });
        return (None, total);
    }
    let chunk = rows_each * width;
    let (dx, partials) = build_with(x.len(), chunk, |index, out: &mut [T]| {
        let (start, len) = (index * chunk, out.len());
        vectorized(InputGradient { rows: rows(start, len), grad: &grad[start..start + len], out });
        let mut total = vec![T::zero(); if parameters { 2 * width } else { 0 }];
        if parameters {
            sums(start, len, &mut total);
        }
        total
    });
    (Some(dx), parameters.then(|| join_sums(partials, 2 * width)))
}
