//! Affine map of the last dimension, with the bias added while the result is made.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Tensor, WithDType, bail};
use gemmkit::GemmScalar;

use super::buffer::{CHUNK, sum_chunks};
#[cfg(feature = "cuda")]
use super::cuda;
use super::gelu::{Gelu, gelu_values, scale_by_slopes};
use super::gemm::{Matrix, Product, Threads};
use super::narrow::{Factor, Precision};
use super::on_gpu;
use super::operand::{elements, for_float, tensor_elements};
use super::profile::{Part, timer};
use super::vector_math::{AddTo, Element};
use base::simd::{Kernel, vectorized};

/// How a weight lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightLayout {
    /// (out, in): `torch.nn.Linear`.
    OutIn,
    /// (in, out): GPT-2's `Conv1D`.
    InOut,
}

/// What a call computes.
#[derive(Clone, Copy, Debug)]
pub struct LinearOptions {
    /// How the weight lies in memory.
    pub layout: WeightLayout,
    /// What products are made in, those of the forward and the backward pass. The bias and its gradient are f32, and all
    /// results are f32 tensors, most of 8 bits with [`Precision::Bf16`].
    pub precision: Precision,
    /// Goes over the input first. The backward pass computes it again, so that only what went in is kept.
    pub activation: Option<Gelu>,
}

/// `activation(x) @ W + bias`: x (.., in), weight (out, in) or (in, out), bias (out) -> (.., out).
///
/// # Errors
/// Shapes that do not fit, types other than f32 and f64, f64 in bf16.
pub fn linear(x: &Tensor, weight: &Weight, bias: Option<&Tensor>, options: &LinearOptions) -> Result<Tensor> {
    let x = x.contiguous()?;
    // The backward pass comes here only when candle follows another operand.
    let is_reached = x.track_op() || bias.is_some_and(Tensor::track_op);
    let sink = weight.sink.clone().filter(|_| is_reached);
    let weight = if sink.is_some() { weight.values.detach() } else { weight.values.clone() };
    let (weight, op) = (weight.contiguous()?, Linear { options: *options, sink });
    match bias {
        Some(bias) => x.apply_op3(&weight, &bias.contiguous()?, op),
        None => x.apply_op2(&weight, op),
    }
}

/// Takes the gradient of a weight as soon as it is known, in the shape of the weight or flattened.
pub type GradientSink = Arc<dyn Fn(Tensor) -> Result<()> + Send + Sync>;

/// A weight and where its gradient goes.
#[derive(Clone)]
pub struct Weight {
    values: Tensor,
    sink: Option<GradientSink>,
}

impl Weight {
    /// A weight whose gradient, if it has one, is where candle leaves it.
    pub fn new(values: Tensor) -> Self {
        Self { values, sink: None }
    }

    /// A weight whose gradient goes to `sink`. candle adds every gradient to zeros that it makes first, which for the
    /// weights of a large model is a twentieth of a step. Where the backward pass would not come without the weight
    /// (neither input nor bias has a gradient), candle keeps it all the same.
    pub fn with_sink(values: Tensor, sink: GradientSink) -> Self {
        Self { values, sink: Some(sink) }
    }

    /// The same with all dimensions but the first flattened.
    ///
    /// # Errors
    /// A weight without dimensions.
    pub fn flattened(&self) -> Result<Self> {
        Ok(Self { values: self.values.flatten_from(1)?, sink: self.sink.clone() })
    }
}

impl fmt::Debug for Weight {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Weight").field("values", &self.values).finish_non_exhaustive()
    }
}

#[derive(Clone)]
struct Linear {
    options: LinearOptions,
    sink: Option<GradientSink>,
}

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

/// Sizes of one call.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) rows: usize,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
}

impl Linear {
    fn sizes(&self, x: &Shape, weight: &Shape, bias: Option<&Shape>) -> Result<Sizes> {
        let (first, second) = weight.dims2()?;
        let (inputs, outputs) = match self.options.layout {
            WeightLayout::OutIn => (second, first),
            WeightLayout::InOut => (first, second),
        };
        if x.dims().last() != Some(&inputs) || bias.is_some_and(|bias| bias.dims() != [outputs]) {
            bail!("linear: input {x:?}, weight {weight:?} ({:?}) and bias {bias:?} do not fit", self.options.layout);
        }
        let rows = x.dims()[..x.rank() - 1].iter().product();
        Ok(Sizes { rows, inputs, outputs })
    }

    /// The weight as an (in, out) matrix.
    fn weight_matrix<'a, P: GemmScalar>(&self, weight: &'a [P], sizes: Sizes) -> Matrix<'a, P> {
        match self.options.layout {
            WeightLayout::OutIn => Matrix::rows(weight, sizes.inputs).transposed(),
            WeightLayout::InOut => Matrix::rows(weight, sizes.outputs),
        }
    }

    fn cpu_forward(
        &self,
        x: (&CpuStorage, &Layout),
        weight: (&CpuStorage, &Layout),
        bias: Option<(&CpuStorage, &Layout)>,
    ) -> Result<(CpuStorage, Shape)> {
        let sizes = self.sizes(x.1.shape(), weight.1.shape(), bias.map(|(_, layout)| layout.shape()))?;
        let mut dims = x.1.dims().to_vec();
        *dims.last_mut().expect("sizes() found a last dimension") = sizes.outputs;
        let storage = for_factors!(x.0.dtype(), self.options.precision, T, P => {
            let bias = bias.map(|(storage, layout)| elements::<T>(storage, layout)).transpose()?;
            let (x, weight) = (elements::<T>(x.0, x.1)?, elements::<T>(weight.0, weight.1)?);
            let values = self.forward::<T, P>(x, weight, bias, sizes)?;
            T::to_cpu_storage_owned(values)
        });
        Ok((storage, dims.into()))
    }

    /// What the weight is multiplied by.
    fn activated<'a, T: Element>(&self, x: &'a [T]) -> Cow<'a, [T]> {
        match self.options.activation {
            Some(kind) => {
                let _timer = timer(Part::Gelu);
                Cow::Owned(gelu_values(kind, x))
            }
            None => Cow::Borrowed(x),
        }
    }

    fn forward<T: Element, P: Factor<T>>(
        &self,
        x: &[T],
        weight: &[T],
        bias: Option<&[T]>,
        sizes: Sizes,
    ) -> Result<Vec<T>> {
        let Sizes { rows, inputs, outputs } = sizes;
        let x = self.activated(x);
        let (x, weight) = (P::prepare(&x), P::prepare(weight));
        let product = Product { m: rows, n: outputs, k: inputs, scale: P::ONE, threads: Threads::All };
        let (left, right) = (Matrix::rows(&x, inputs), self.weight_matrix(&weight, sizes));
        match bias {
            Some(bias) => P::affine(product, left, right, bias),
            None => P::product(product, left, right),
        }
    }

    /// Gradients of x, weight and bias, each only if its operand has one.
    fn backward(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        grad: &Tensor,
    ) -> Result<[Option<Tensor>; 3]> {
        let sizes = self.sizes(x.shape(), weight.shape(), bias.map(Tensor::shape))?;
        let grad = grad.contiguous()?;
        on_gpu!(grad => self.gpu_backward((x, weight, bias), &grad, sizes));
        for_factors!(x.dtype(), self.options.precision, T, P => self.cpu_backward::<T, P>(x, weight, bias, &grad, sizes))
    }

    #[cfg(feature = "cuda")]
    fn gpu_forward(
        &self,
        x: (&CudaStorage, &Layout),
        weight: (&CudaStorage, &Layout),
        bias: Option<(&CudaStorage, &Layout)>,
    ) -> Result<(CudaStorage, Shape)> {
        let sizes = self.sizes(x.1.shape(), weight.1.shape(), bias.map(|(_, layout)| layout.shape()))?;
        let mut dims = x.1.dims().to_vec();
        *dims.last_mut().expect("sizes() found a last dimension") = sizes.outputs;
        Ok((cuda::linear::forward(&self.options, sizes, x, weight, bias)?, dims.into()))
    }

    #[cfg(feature = "cuda")]
    fn gpu_backward(
        &self,
        (x, weight, bias): (&Tensor, &Tensor, Option<&Tensor>),
        grad: &Tensor,
        sizes: Sizes,
    ) -> Result<[Option<Tensor>; 3]> {
        let wanted = cuda::linear::Wanted {
            x: x.track_op(),
            weight: weight.track_op() || self.sink.is_some(),
            bias: bias.is_some_and(Tensor::track_op),
        };
        let mut gradients = cuda::linear::backward(&self.options, sizes, (x, weight, grad), wanted)?;
        if let Some(sink) = &self.sink
            && let Some(gradient) = gradients[1].take()
        {
            sink(gradient)?;
        }
        Ok(gradients)
    }

    fn cpu_backward<T: Element, P: Factor<T>>(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        grad: &Tensor,
        sizes: Sizes,
    ) -> Result<[Option<Tensor>; 3]> {
        let Sizes { rows, inputs, outputs } = sizes;
        let (x_storage, weight_storage, grad_storage) =
            (x.storage_and_layout(), weight.storage_and_layout(), grad.storage_and_layout());
        let grad_values = tensor_elements::<T>(&grad_storage)?;
        let factors = P::prepare(grad_values);
        let grad_matrix = Matrix::rows(&factors, outputs);
        let product = |m, n, k| Product { m, n, k, scale: P::ONE, threads: Threads::All };
        let mut gradients = [None, None, None];
        if x.track_op() {
            let weight = P::prepare(tensor_elements::<T>(&weight_storage)?);
            let transposed = self.weight_matrix(&weight, sizes).transposed();
            let mut values = P::product(product(rows, inputs, outputs), grad_matrix, transposed)?;
            if let Some(kind) = self.options.activation {
                let _timer = timer(Part::Gelu);
                scale_by_slopes(kind, tensor_elements::<T>(&x_storage)?, &mut values);
            }
            gradients[0] = Some(Tensor::from_vec(values, x.shape(), x.device())?);
        }
        if weight.track_op() || self.sink.is_some() {
            let x = self.activated(tensor_elements::<T>(&x_storage)?);
            let x = P::prepare(&x);
            let x_matrix = Matrix::rows(&x, inputs);
            let values = match self.options.layout {
                WeightLayout::OutIn => P::product(product(outputs, inputs, rows), grad_matrix.transposed(), x_matrix)?,
                WeightLayout::InOut => P::product(product(inputs, outputs, rows), x_matrix.transposed(), grad_matrix)?,
            };
            let gradient = Tensor::from_vec(values, weight.shape(), weight.device())?;
            match &self.sink {
                Some(sink) => sink(gradient)?,
                None => gradients[1] = Some(gradient),
            }
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

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, s1: &CudaStorage, l1: &Layout, s2: &CudaStorage, l2: &Layout) -> Result<(CudaStorage, Shape)> {
        self.gpu_forward((s1, l1), (s2, l2), None)
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
        self.gpu_forward((s1, l1), (s2, l2), Some((s3, l3)))
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
    use candle_core::Var;

    use super::*;
    use crate::gelu;
    use crate::testing::{self, assert_close, check, random};

    fn plain(layout: WeightLayout) -> LinearOptions {
        LinearOptions { layout, precision: Precision::Full, activation: None }
    }

    const BF16: LinearOptions =
        LinearOptions { layout: WeightLayout::OutIn, precision: Precision::Bf16, activation: None };

    #[test]
    fn an_activation_goes_over_the_input_first() {
        let inputs = [random((2, 3, 6), "x"), random((6, 5), "weight"), random(5, "bias")];
        for kind in [Gelu::Erf, Gelu::Tanh, Gelu::Quick] {
            let options = LinearOptions { activation: Some(kind), ..plain(WeightLayout::InOut) };
            check(
                &inputs,
                |i| linear(&i[0], &Weight::new(i[1].clone()), Some(&i[2]), &options),
                |i| gelu(&i[0], kind)?.broadcast_matmul(&i[1])?.broadcast_add(&i[2]),
            );
        }
    }

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
            check(
                &[x.clone(), weight.clone()],
                |i| linear(&i[0], &Weight::new(i[1].clone()), None, &plain(layout)),
                product,
            );
            check(
                &[x.clone(), weight, bias.clone()],
                |i| linear(&i[0], &Weight::new(i[1].clone()), Some(&i[2]), &plain(layout)),
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
        let (x, weight) = (random((2, 6), "x"), Weight::new(random((5, 6), "weight")));
        assert!(linear(&x, &weight, None, &plain(WeightLayout::InOut)).is_err());
        assert!(linear(&x, &weight, Some(&random(6, "bias")), &plain(WeightLayout::OutIn)).is_err());
    }

    #[test]
    fn a_sink_gets_the_gradient_that_candle_would_keep() {
        let (x, bias, values) = (random((2, 3, 6), "x"), random(5, "bias"), random((5, 6), "weight"));
        for (tracked_x, tracked_bias) in [(true, true), (true, false), (false, true), (false, false)] {
            let run = |sink: Option<GradientSink>| {
                let variables = [&x, &bias, &values].map(|tensor| Var::from_tensor(tensor).unwrap());
                let operand = |index: usize, tracked: bool| {
                    if tracked { variables[index].as_tensor().clone() } else { variables[index].as_detached_tensor() }
                };
                let weight = Weight { values: variables[2].as_tensor().clone(), sink };
                let (x, bias) = (operand(0, tracked_x), operand(1, tracked_bias));
                let result = linear(&x, &weight, Some(&bias), &plain(WeightLayout::OutIn)).unwrap();
                let mut gradients = result.sqr().unwrap().sum_all().unwrap().backward().unwrap();
                variables.map(|variable| gradients.remove(variable.as_tensor()))
            };
            let expected = run(None);
            let taken = Arc::new(std::sync::Mutex::new(None));
            let into = Arc::clone(&taken);
            let found = run(Some(Arc::new(move |gradient| {
                assert!(into.lock().unwrap().replace(gradient).is_none(), "a gradient came twice");
                Ok(())
            })));
            // Without another operand to follow, candle has it.
            let weight = taken.lock().unwrap().take().or(found[2].clone()).unwrap();
            assert_eq!(testing::values(&weight), testing::values(expected[2].as_ref().unwrap()));
            for index in [0, 1] {
                let all = |gradient: &Option<Tensor>| gradient.as_ref().map(testing::values);
                assert_eq!(all(&found[index]), all(&expected[index]));
            }
        }
    }

    /// bf16 keeps 8 bits: operands are within 2^-9, and so is the result; the sums here have 33 terms near 1.
    const BF16_TOLERANCE: f64 = 4e-2;

    #[test]
    fn bf16_products_are_near_those_in_f64_in_both_passes() {
        let inputs = [random((2, 20, 33), "x"), random((37, 33), "weight"), random(37, "bias")];
        let run = |inputs: &[Tensor], precision| {
            let variables: Vec<Var> = inputs.iter().map(|input| Var::from_tensor(input).unwrap()).collect();
            let (x, weight, bias) = (&variables[0], Weight::new(variables[1].as_tensor().clone()), &variables[2]);
            let result =
                linear(x, &weight, Some(bias.as_tensor()), &LinearOptions { precision, ..plain(WeightLayout::OutIn) })
                    .unwrap();
            let weights = random(result.shape(), "weights").to_dtype(result.dtype()).unwrap();
            let gradients = (&result * weights).unwrap().sum_all().unwrap().backward().unwrap();
            let mut all = vec![result];
            all.extend(variables.iter().map(|variable| gradients.get(variable.as_tensor()).unwrap().clone()));
            all
        };
        let narrow: Vec<Tensor> = inputs.iter().map(|input| input.to_dtype(DType::F32).unwrap()).collect();
        let (expected, found) = (run(&inputs, Precision::Full), run(&narrow, Precision::Bf16));
        for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert_eq!(found.dtype(), DType::F32);
            assert_close(found, expected, BF16_TOLERANCE, &format!("tensor {index}"));
        }
        let rounded = |x: f32| half_bits(x) == x.to_bits();
        let without_bias = linear(&narrow[0], &Weight::new(narrow[1].clone()), None, &BF16).unwrap();
        let values: Vec<f32> = without_bias.flatten_all().unwrap().to_vec1().unwrap();
        assert!(values.into_iter().all(rounded), "the result of a bf16 product has 8 bits");
    }

    fn half_bits(x: f32) -> u32 {
        x.to_bits() & 0xFFFF_0000
    }

    #[test]
    fn bf16_of_f64_operands_is_an_error() {
        let (x, weight) = (random((2, 6), "x"), Weight::new(random((5, 6), "weight")));
        assert!(linear(&x, &weight, None, &BF16).is_err());
    }
}
