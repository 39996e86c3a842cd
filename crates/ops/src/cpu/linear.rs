//! Affine maps on the CPU.

use std::borrow::Cow;

use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, DType, Result, Tensor, WithDType, bail};

use super::buffer::{CHUNK, sum_chunks};
use super::gelu::{gelu_values, scale_by_slopes};
use super::gemm::{Factors, Matrix, Product, Threads};
use super::storage::{elements, for_float, tensor_elements};
use super::vector_math::{AddTo, Element};
use crate::profile::{Part, timer};
use crate::types::Operand;
use crate::types::linear::{LinearOptions, LinearSizes, WeightLayout};
use crate::types::precision::Precision;
use base::simd::{Kernel, vectorized};

/// What products of values of a type multiply.
fn factors(dtype: DType, precision: Precision) -> Result<Factors> {
    match (dtype, precision) {
        (_, Precision::Full) => Ok(Factors::Exact),
        (DType::F32, Precision::Bf16) => Ok(Factors::Bf16),
        (other, Precision::Bf16) => bail!("linear in bf16 expected f32 values, found {other:?}"),
        (_, Precision::Tf32) => bail!("linear in tf32 needs a GPU"),
    }
}

/// `activation(x) @ W + bias`.
pub(crate) fn forward(
    options: &LinearOptions,
    sizes: LinearSizes,
    x: Operand<'_, CpuStorage>,
    weight: Operand<'_, CpuStorage>,
    bias: Option<Operand<'_, CpuStorage>>,
) -> Result<CpuStorage> {
    for_float!(x.0.dtype(), Part::Linear, T => {
        let bias = bias.map(elements::<T>).transpose()?;
        let values = typed_forward::<T>(options, sizes, elements::<T>(x)?, elements::<T>(weight)?, bias)?;
        Ok(T::to_cpu_storage_owned(values))
    })
}

fn typed_forward<T: Element>(
    options: &LinearOptions,
    sizes: LinearSizes,
    x: &[T],
    weight: &[T],
    bias: Option<&[T]>,
) -> Result<Vec<T>> {
    let LinearSizes { rows, inputs, outputs } = sizes;
    let x = activated(options, x);
    let factors = factors(T::DTYPE, options.precision)?;
    let product = Product { m: rows, n: outputs, k: inputs, scale: T::one(), factors, threads: Threads::All };
    let (left, right) = (Matrix::rows(&x, inputs), weight_matrix(options, weight, sizes));
    match bias {
        Some(bias) => product.affine(left, right, bias),
        None => product.compute(left, right),
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
fn weight_matrix<'a, T>(options: &LinearOptions, weight: &'a [T], sizes: LinearSizes) -> Matrix<'a, T> {
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
    for_float!(operands.0.dtype(), Part::Linear, T => typed_backward::<T>(options, sizes, operands, wanted))
}

fn typed_backward<T: Element>(
    options: &LinearOptions,
    sizes: LinearSizes,
    (x, weight, grad): (&Tensor, &Tensor, &Tensor),
    wanted: [bool; 3],
) -> Result<[Option<Tensor>; 3]> {
    let LinearSizes { rows, inputs, outputs } = sizes;
    let (x_storage, weight_storage, grad_storage) =
        (x.storage_and_layout(), weight.storage_and_layout(), grad.storage_and_layout());
    let grad_values = tensor_elements::<T>(&grad_storage)?;
    let grad_matrix = Matrix::rows(grad_values, outputs);
    let factors = factors(T::DTYPE, options.precision)?;
    let product = |m, n, k| Product { m, n, k, scale: T::one(), factors, threads: Threads::All };
    let mut gradients = [None, None, None];
    if wanted[0] {
        let transposed = weight_matrix(options, tensor_elements::<T>(&weight_storage)?, sizes).transposed();
        let mut values = product(rows, inputs, outputs).compute(grad_matrix, transposed)?;
        if let Some(kind) = options.activation {
            let _timer = timer(Part::Gelu);
            scale_by_slopes(kind, tensor_elements::<T>(&x_storage)?, &mut values);
        }
        gradients[0] = Some(Tensor::from_vec(values, x.shape(), x.device())?);
    }
    if wanted[1] {
        let x = activated(options, tensor_elements::<T>(&x_storage)?);
        let x_matrix = Matrix::rows(&x, inputs);
        let values = match options.layout {
            WeightLayout::OutIn => product(outputs, inputs, rows).compute(grad_matrix.transposed(), x_matrix)?,
            WeightLayout::InOut => product(inputs, outputs, rows).compute(x_matrix.transposed(), grad_matrix)?,
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
