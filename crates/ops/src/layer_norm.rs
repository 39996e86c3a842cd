//! Layer normalisation of the last dimension (Ba, Kiros, Hinton 2016), as `torch.nn.functional.layer_norm`.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, WithDType, bail};

use super::buffer::{build, build_with, join_sums, rows_per_chunk, sum_chunks};
#[cfg(feature = "cuda")]
use super::cuda;
use super::on_gpu;
use super::operand::{elements, for_float, tensor_elements};
use super::profile::Part;
use super::vector_math::{Element, sum_map, sum_map_2};
use base::simd::{Kernel, vectorized};

/// `(x - mean) / sqrt(variance + eps) * weight + bias` over the last dimension: x (.., D), weight (D), bias (D).
///
/// # Errors
/// Shapes that do not fit, types other than f32 and f64.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, LayerNorm { eps })
}

struct LayerNorm {
    eps: f64,
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

impl LayerNorm {
    fn check(x: &Shape, weight: &Shape, bias: &Shape) -> Result<usize> {
        let width = weight.dims1()?;
        if x.dims().last() != Some(&width) || bias.dims() != [width] || width == 0 {
            bail!("layer_norm: input {x:?}, weight {weight:?} and bias {bias:?} do not fit");
        }
        Ok(width)
    }

    fn forward<T: Element>(&self, x: &[T], weight: &[T], bias: &[T]) -> Vec<T> {
        let chunk = rows_per_chunk(weight.len()) * weight.len();
        build(x.len(), chunk, |index, out| {
            let start = index * chunk;
            let rows = Rows { x: &x[start..start + out.len()], weight, eps: T::of(self.eps) };
            vectorized(Forward { rows, bias, out });
        })
    }

    /// dx if `input`; the gradients of weight and bias, in one vector, if `parameters`.
    fn backward<T: Element>(
        &self,
        (x, weight, grad): (&[T], &[T], &[T]),
        input: bool,
        parameters: bool,
    ) -> (Option<Vec<T>>, Option<Vec<T>>) {
        let width = weight.len();
        let rows_each = rows_per_chunk(width);
        let rows = |start: usize, len: usize| Rows { x: &x[start..start + len], weight, eps: T::of(self.eps) };
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

    fn cpu_backward<T: Element>(
        &self,
        [x, weight, bias]: [&Tensor; 3],
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (x_storage, weight_storage, grad_storage) =
            (x.storage_and_layout(), weight.storage_and_layout(), grad.storage_and_layout());
        let operands =
            (tensor_elements::<T>(&x_storage)?, tensor_elements(&weight_storage)?, tensor_elements(&grad_storage)?);
        let (dx, sums) = self.backward(operands, x.track_op(), weight.track_op() || bias.track_op());
        let dx = dx.map(|dx| Tensor::from_vec(dx, x.shape(), x.device())).transpose()?;
        let (mut dweight, mut dbias) = (None, None);
        if let Some(mut sums) = sums {
            let biases = sums.split_off(sums.len() / 2);
            if weight.track_op() {
                dweight = Some(Tensor::from_vec(sums, weight.shape(), weight.device())?);
            }
            if bias.track_op() {
                dbias = Some(Tensor::from_vec(biases, bias.shape(), bias.device())?);
            }
        }
        Ok((dx, dweight, dbias))
    }
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
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
        Self::check(l1.shape(), l2.shape(), l3.shape())?;
        let storage = for_float!(s1.dtype(), Part::LayerNorm, T => {
            let values = self.forward(elements::<T>(s1, l1)?, elements::<T>(s2, l2)?, elements::<T>(s3, l3)?);
            T::to_cpu_storage_owned(values)
        });
        Ok((storage, l1.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        s1: &CudaStorage,
        l1: &Layout,
        s2: &CudaStorage,
        l2: &Layout,
        s3: &CudaStorage,
        l3: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        Self::check(l1.shape(), l2.shape(), l3.shape())?;
        Ok((cuda::layer_norm::forward(self.eps, (s1, l1), (s2, l2), (s3, l3))?, l1.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _result: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        on_gpu!(grad => {
            let wanted = weight.track_op() || bias.track_op();
            let (dx, sums) = cuda::layer_norm::backward(self.eps, (x, weight, &grad), x.track_op(), wanted)?;
            let (dweight, dbias) = sums.unzip();
            Ok((dx, dweight.filter(|_| weight.track_op()), dbias.filter(|_| bias.track_op())))
        });
        for_float!(x.dtype(), Part::LayerNorm, T => self.cpu_backward::<T>([x, weight, bias], &grad))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::D;

    use super::*;
    use crate::testing::{F64_TOLERANCE, assert_close, check, random};

    const EPS: f64 = 1e-5;

    fn composite(inputs: &[Tensor]) -> Result<Tensor> {
        let x = &inputs[0];
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        centred.broadcast_div(&(variance + EPS)?.sqrt()?)?.broadcast_mul(&inputs[1])?.broadcast_add(&inputs[2])
    }

    #[test]
    fn layer_norm_equals_the_composite() {
        for width in [5, 6, 37] {
            let inputs = [random((2, 3, width), "x"), random(width, "weight"), random(width, "bias")];
            check(&inputs, |i| layer_norm(&i[0], &i[1], &i[2], EPS), composite);
        }
    }

    #[test]
    fn layer_norm_of_many_chunks_equals_the_composite() {
        let inputs = [random((2000, 33), "x"), random(33, "weight"), random(33, "bias")];
        let vars: Vec<_> = inputs.iter().map(|input| candle_core::Var::from_tensor(input).unwrap()).collect();
        let operands: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
        let gradients = |result: Tensor| result.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        let found = gradients(layer_norm(&operands[0], &operands[1], &operands[2], EPS).unwrap());
        let expected = gradients(composite(&operands).unwrap());
        for operand in &operands {
            assert_close(found.get(operand).unwrap(), expected.get(operand).unwrap(), F64_TOLERANCE, "gradient");
        }
    }

    #[test]
    fn a_large_mean_keeps_its_digits() {
        // A one-pass variance would lose everything here.
        let x = (random((4, 192), "x") + 1000.0).unwrap();
        let (weight, bias) = (random(192, "weight"), random(192, "bias"));
        let expected = layer_norm(&x, &weight, &bias, EPS).unwrap();
        let narrow = |tensor: &Tensor| tensor.to_dtype(candle_core::DType::F32).unwrap();
        let found = layer_norm(&narrow(&x), &narrow(&weight), &narrow(&bias), EPS).unwrap();
        // The input itself is rounded to 6e-5 of its deviation.
        assert_close(&found, &expected, 2e-4, "result");
    }

    #[test]
    fn operands_that_do_not_fit_are_an_error() {
        let (x, five, six) = (random((2, 6), "x"), random(5, "weight"), random(6, "bias"));
        assert!(layer_norm(&x, &five, &six, EPS).is_err());
        assert!(layer_norm(&x, &six, &five, EPS).is_err());
    }
}
