//! Affine map of the last dimension, with the bias added while the result is made.

use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, WithDType, bail};

use super::buffer::{CHUNK, build, rows_per_chunk, sum_chunks};
use super::gemm::{Matrix, Product, Threads};
use super::operand::{elements, for_float, tensor_elements};
use super::vector_math::{AddTo, Element, Kernel, vectorized};

/// How a weight lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightLayout {
    /// (out, in): `torch.nn.Linear`.
    OutIn,
    /// (in, out): GPT-2's `Conv1D`.
    InOut,
}

/// `x @ W + bias`: x (.., in), weight (out, in) or (in, out), bias (out) -> (.., out).
///
/// # Errors
/// Shapes that do not fit, types other than f32 and f64.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, layout: WeightLayout) -> Result<Tensor> {
    let op = Linear { layout };
    let x = x.contiguous()?;
    let weight = weight.contiguous()?;
    match bias {
        Some(bias) => x.apply_op3(&weight, &bias.contiguous()?, op),
        None => x.apply_op2(&weight, op),
    }
}

#[derive(Clone, Copy)]
struct Linear {
    layout: WeightLayout,
}

/// Sizes of one call.
#[derive(Clone, Copy)]
struct Sizes {
    rows: usize,
    inputs: usize,
    outputs: usize,
}

impl Linear {
    fn sizes(self, x: &Shape, weight: &Shape, bias: Option<&Shape>) -> Result<Sizes> {
        let (first, second) = weight.dims2()?;
        let (inputs, outputs) = match self.layout {
            WeightLayout::OutIn => (second, first),
            WeightLayout::InOut => (first, second),
        };
        if x.dims().last() != Some(&inputs) || bias.is_some_and(|bias| bias.dims() != [outputs]) {
            bail!("linear: input {x:?}, weight {weight:?} ({:?}) and bias {bias:?} do not fit", self.layout);
        }
        let rows = x.dims()[..x.rank() - 1].iter().product();
        Ok(Sizes { rows, inputs, outputs })
    }

    /// The weight as an (in, out) matrix.
    fn weight_matrix<T: Element>(self, weight: &[T], sizes: Sizes) -> Matrix<'_, T> {
        match self.layout {
            WeightLayout::OutIn => Matrix::rows(weight, sizes.inputs).transposed(),
            WeightLayout::InOut => Matrix::rows(weight, sizes.outputs),
        }
    }

    fn cpu_forward(
        self,
        x: (&CpuStorage, &Layout),
        weight: (&CpuStorage, &Layout),
        bias: Option<(&CpuStorage, &Layout)>,
    ) -> Result<(CpuStorage, Shape)> {
        let sizes = self.sizes(x.1.shape(), weight.1.shape(), bias.map(|(_, layout)| layout.shape()))?;
        let mut dims = x.1.dims().to_vec();
        *dims.last_mut().expect("sizes() found a last dimension") = sizes.outputs;
        let storage = for_float!(x.0.dtype(), "linear", T => {
            let bias = bias.map(|(storage, layout)| elements::<T>(storage, layout)).transpose()?;
            let values = self.forward(elements::<T>(x.0, x.1)?, elements::<T>(weight.0, weight.1)?, bias, sizes)?;
            T::to_cpu_storage_owned(values)
        });
        Ok((storage, dims.into()))
    }

    fn forward<T: Element>(self, x: &[T], weight: &[T], bias: Option<&[T]>, sizes: Sizes) -> Result<Vec<T>> {
        let Sizes { rows, inputs, outputs } = sizes;
        let product = Product { m: rows, n: outputs, k: inputs, scale: T::one(), threads: Threads::All };
        let left = Matrix::rows(x, inputs);
        let right = self.weight_matrix(weight, sizes);
        let Some(bias) = bias else {
            return product.compute(left, right);
        };
        let mut values = build(rows * outputs, rows_per_chunk(outputs) * outputs, |_, chunk| {
            for row in chunk.chunks_exact_mut(outputs) {
                row.copy_from_slice(bias);
            }
        });
        product.add_to(&mut values, outputs, left, right)?;
        Ok(values)
    }

    /// Gradients of x, weight and bias, each only if its operand has one.
    fn backward(
        self,
        x: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        grad: &Tensor,
    ) -> Result<[Option<Tensor>; 3]> {
        let sizes = self.sizes(x.shape(), weight.shape(), bias.map(Tensor::shape))?;
        let grad = grad.contiguous()?;
        for_float!(x.dtype(), "linear", T => self.cpu_backward::<T>(x, weight, bias, &grad, sizes))
    }

    fn cpu_backward<T: Element>(
        self,
        x: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        grad: &Tensor,
        sizes: Sizes,
    ) -> Result<[Option<Tensor>; 3]> {
        let Sizes { rows, inputs, outputs } = sizes;
        let (x_storage, weight_storage, grad_storage) =
            (x.storage_and_layout(), weight.storage_and_layout(), grad.storage_and_layout());
        let x_values = tensor_elements::<T>(&x_storage)?;
        let weight_values = tensor_elements::<T>(&weight_storage)?;
        let grad_values = tensor_elements::<T>(&grad_storage)?;
        let product = |m, n, k| Product { m, n, k, scale: T::one(), threads: Threads::All };
        let x_matrix = Matrix::rows(x_values, inputs);
        let grad_matrix = Matrix::rows(grad_values, outputs);
        let mut gradients = [None, None, None];
        if x.track_op() {
            let transposed = self.weight_matrix(weight_values, sizes).transposed();
            let values = product(rows, inputs, outputs).compute(grad_matrix, transposed)?;
            gradients[0] = Some(Tensor::from_vec(values, x.shape(), x.device())?);
        }
        if weight.track_op() {
            let values = match self.layout {
                WeightLayout::OutIn => product(outputs, inputs, rows).compute(grad_matrix.transposed(), x_matrix)?,
                WeightLayout::InOut => product(inputs, outputs, rows).compute(x_matrix.transposed(), grad_matrix)?,
            };
            gradients[1] = Some(Tensor::from_vec(values, weight.shape(), weight.device())?);
        }
        if let Some(bias) = bias.filter(|bias| bias.track_op()) {
            let values = column_sums(grad_values, outputs);
            gradients[2] = Some(Tensor::from_vec(values, bias.shape(), bias.device())?);
        }
        Ok(gradients)
    }
}

/// The sum over the rows of a matrix of `width` columns.
pub(crate) fn column_sums<T: Element>(values: &[T], width: usize) -> Vec<T> {
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

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        self.cpu_forward((s1, l1), (s2, l2), None)
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _result: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [x, weight, _] = self.backward(x, weight, None, grad)?;
        Ok((x, weight))
    }
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.cpu_forward((s1, l1), (s2, l2), Some((s3, l3)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _result: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [x, weight, bias] = self.backward(x, weight, Some(bias), grad)?;
        Ok((x, weight, bias))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{check, random};

    #[test]
    fn both_layouts_with_and_without_bias_equal_matmul() {
        let x = random((2, 3, 6), "x");
        let bias = random(5, "bias");
        for (layout, weight) in
            [(WeightLayout::OutIn, random((5, 6), "weight")), (WeightLayout::InOut, random((6, 5), "weight"))]
        {
            let product = |inputs: &[Tensor]| match layout {
                WeightLayout::OutIn => inputs[0].broadcast_matmul(&inputs[1].t()?),
                WeightLayout::InOut => inputs[0].broadcast_matmul(&inputs[1]),
            };
            check(&[x.clone(), weight.clone()], |i| linear(&i[0], &i[1], None, layout), product);
            check(
                &[x.clone(), weight, bias.clone()],
                |i| linear(&i[0], &i[1], Some(&i[2]), layout),
                |i| product(i)?.broadcast_add(&i[2]),
            );
        }
    }

    #[test]
    fn column_sums_of_many_rows_are_whole() {
        let values: Vec<f64> = (0..3 * 20_000).map(|i| (i % 3) as f64).collect();
        assert_eq!(column_sums(&values, 3), [0.0, 20_000.0, 40_000.0]);
    }

    #[test]
    fn operands_that_do_not_fit_are_an_error() {
        let (x, weight) = (random((2, 6), "x"), random((5, 6), "weight"));
        assert!(linear(&x, &weight, None, WeightLayout::InOut).is_err());
        assert!(linear(&x, &weight, Some(&random(6, "bias")), WeightLayout::OutIn).is_err());
    }
}
