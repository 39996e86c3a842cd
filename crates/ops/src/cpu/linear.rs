//! Affine maps on the CPU.

use std::borrow::Cow;

use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, DType, Result, Tensor, WithDType, bail};
use gemmkit::GemmScalar;

use super::buffer::{CHUNK, sum_chunks};
use super::factor::Factor;
use super::gelu::{gelu_values, scale_by_slopes};
use super::gemm::{Matrix, Product, Threads};
use super::storage::{elements, for_float, tensor_elements};
use super::vector_math::{AddTo, Element};
use crate::profile::{Part, timer};
use crate::types::Operand;
use crate::types::linear::{LinearOptions, LinearSizes, WeightLayout};
use crate::types::precision::Precision;
use base::simd::{Kernel, vectorized};

/// Evaluates `$body` with `$T` standing for the type of the operands and `$P` for what their products are made with.
macro_rules! for_factors {
    ($dtype:expr, $precision:expr, $T:ident, $P:ident => $body:expr) => {
        match ($dtype, $precision) {
            (DType::F32, Precision::Bf16) => {
                type $T = f32;
                type $P = gemmkit::bf16;
                let _timer = timer(Part::Linear);
                $body
            }
            (other, Precision::Bf16) => bail!("linear in bf16 expected f32 values, found {other:?}"),
            (_, Precision::Tf32) => bail!("linear in tf32 needs a GPU"),
            (dtype, Precision::Full) => for_float!(dtype, Part::Linear, $T => {
                type $P = $T;
                $body
            }),
        }
    };
}

/// `activation(x) @ W + bias`.
pub(crate) fn forward(
    options: &LinearOptions,
    sizes: LinearSizes,
    x: Operand<'_, CpuStorage>,
    weight: Operand<'_, CpuStorage>,
    bias: Option<Operand<'_, CpuStorage>>,
) -> Result<CpuStorage> {
    for_factors!(x.0.dtype(), options.precision, T, P => {
        let bias = bias.map(elements::<T>).transpose()?;
        let values = typed_forward::<T, P>(options, sizes, elements::<T>(x)?, elements::<T>(weight)?, bias)?;
        Ok(T::to_cpu_storage_owned(values))
    })
}

fn typed_forward<T: Element, P: Factor<T>>(
    options: &LinearOptions,
    sizes: LinearSizes,
    x: &[T],
    weight: &[T],
    bias: Option<&[T]>,
) -> Result<Vec<T>> {
    let LinearSizes { rows, inputs, outputs } = sizes;
    let x = activated(options, x);
    let (x, weight) = (P::prepare(&x), P::prepare(weight));
    let product = Product { m: rows, n: outputs, k: inputs, scale: P::ONE, threads: Threads::All };
    let (left, right) = (Matrix::rows(&x, inputs), weight_matrix(options, &weight, sizes));
    match bias {
        Some(bias) => P::affine(product, left, right, bias),
        None => P::product(product, left, right),
    }
}

/// The left operand of the product with the weight.
fn activated<'a, T: Element>(options: &LinearOptions, x: &'a [T]) -> Cow<'a, [T]> {
    match options.activation {
        Some(kind) => {
            let _timer = timer(Part::Gelu);
            Cow::Owned(gelu_values(kind, x))
        }
        None => Cow::Borrowed(x),
    }
}

/// The weight as an (in, out) matrix.
fn weight_matrix<'a, P: GemmScalar>(options: &LinearOptions, weight: &'a [P], sizes: LinearSizes) -> Matrix<'a, P> {
    match options.layout {
        WeightLayout::OutIn => Matrix::rows(weight, sizes.inputs).transposed(),
        WeightLayout::InOut => Matrix::rows(weight, sizes.outputs),
    }
}

/// The gradients of x, weight and bias, those that are wanted.
pub(crate) fn backward(
    options: &LinearOptions,
    sizes: LinearSizes,
    operands: (&Tensor, &Tensor, &Tensor),
    wanted: [bool; 3],
) -> Result<[Option<Tensor>; 3]> {
    for_factors!(operands.0.dtype(), options.precision, T, P => {
        typed_backward::<T, P>(options, sizes, operands, wanted)
    })
}

fn typed_backward<T: Element, P: Factor<T>>(
    options: &LinearOptions,
    sizes: LinearSizes,
    (x, weight, grad): (&Tensor, &Tensor, &Tensor),
    wanted: [bool; 3],
) -> Result<[Option<Tensor>; 3]> {
    let LinearSizes { rows, inputs, outputs } = sizes;
    let (x_storage, weight_storage, grad_storage) =
        (x.storage_and_layout(), weight.storage_and_layout(), grad.storage_and_layout());
    let grad_values = tensor_elements::<T>(&grad_storage)?;
    let factors = P::prepare(grad_values);
    let grad_matrix = Matrix::rows(&factors, outputs);
    let product = |m, n, k| Product { m, n, k, scale: P::ONE, threads: Threads::All };
    let mut gradients = [None, None, None];
    if wanted[0] {
        let weight = P::prepare(tensor_elements::<T>(&weight_storage)?);
        let transposed = weight_matrix(options, &weight, sizes).transposed();
        let mut values = P::product(product(rows, inputs, outputs), grad_matrix, transposed)?;
        if let Some(kind) = options.activation {
            let _timer = timer(Part::Gelu);
            scale_by_slopes(kind, tensor_elements::<T>(&x_storage)?, &mut values);
        }
        gradients[0] = Some(Tensor::from_vec(values, x.shape(), x.device())?);
    }
    if wanted[1] {
        let x = activated(options, tensor_elements::<T>(&x_storage)?);
        let x = P::prepare(&x);
        let x_matrix = Matrix::rows(&x, inputs);
        let values = match options.layout {
            WeightLayout::OutIn => P::product(product(outputs, inputs, rows), grad_matrix.transposed(), x_matrix)?,
            WeightLayout::InOut => P::product(product(inputs, outputs, rows), x_matrix.transposed(), grad_matrix)?,
        };
        gradients[1] = Some(Tensor::from_vec(values, weight.shape(), weight.device())?);
    }
    if wanted[2] {
        gradients[2] = Some(Tensor::from_vec(column_sums(grad_values, outputs), outputs, grad.device())?);
    }
    Ok(gradients)
}

/// The sum over the rows of a matrix of `width` columns.
fn column_sums<T: Element>(values: &[T], width: usize) -> Vec<T> {
    let rows = (CHUNK / width.max(1)).max(16);
    sum_chunks(values.len() / width.max(1), rows, width, |first, count, sums| {
        vectorized(AddRows { values: &values[first * width..(first + count) * width], sums });
    })
}

struct AddRows<'a, T> {
    values: &'a [T],
    sums: &'a mut [T],
}

impl<T: Element> Kernel for AddRows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for values in self.values.chunks_exact(self.sums.len()) {
            AddTo { sums: self.sums, values }.run();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn column_sums_of_many_rows_are_whole() {
        let values: Vec<f64> = (0..3 * 20_000).map(|i| (i % 3) as f64).collect();
        assert_eq!(column_sums(&values, 3), [0.0, 20_000.0, 40_000.0]);
    }
}
