//! Shared by the tests of all operations: comparison with a composite of candle's own operations and with finite
//! differences, in f64, and of f32 with f64.

use candle_core::{DType, Device, Result, Tensor, Var};

use base::random::Stream;

/// Two formulas of the same function in f64.
pub(crate) const F64_TOLERANCE: f64 = 1e-10;
/// Central differences with the step below: the error is of the order of its square.
const DIFFERENCE_TOLERANCE: f64 = 1e-6;
const DIFFERENCE_STEP: f64 = 1e-5;
/// Sums of a few hundred products of numbers near 1, each rounded to 24 bits.
pub(crate) const F32_TOLERANCE: f64 = 2e-5;

/// Standard normal f64 values, the same for the same arguments.
pub(crate) fn random(shape: impl Into<candle_core::Shape>, name: &str) -> Tensor {
    let shape = shape.into();
    let mut stream = Stream::new(0, "test", name);
    let values: Vec<f64> = (0..shape.elem_count()).map(|_| stream.normal()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// All elements, as f64.
pub(crate) fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Fails where the tensors differ by more than `tolerance` of the larger of 1 and the largest expected value.
#[track_caller]
pub(crate) fn assert_close(found: &Tensor, expected: &Tensor, tolerance: f64, what: &str) {
    assert_eq!(found.dims(), expected.dims(), "{what}: shape");
    let (found, expected) = (values(found), values(expected));
    let largest = expected.iter().fold(1.0_f64, |largest, x| largest.max(x.abs()));
    for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let error = (found - expected).abs();
        assert!(error <= tolerance * largest, "{what}: element {index} is {found}, expected {expected}");
    }
}

/// A tensor of the same values whose last two dimensions are transposed in memory.
fn scrambled(tensor: &Tensor) -> Tensor {
    match tensor.rank() {
        0 | 1 => tensor.clone(),
        rank => {
            let swapped = tensor.transpose(rank - 2, rank - 1).unwrap();
            swapped.contiguous().unwrap().transpose(rank - 2, rank - 1).unwrap()
        }
    }
}

/// The result, and the gradient of each input for a weighted sum of the result; `tracked` says which inputs have one.
fn run(
    inputs: &[Tensor],
    tracked: impl Fn(usize) -> bool,
    f: &dyn Fn(&[Tensor]) -> Result<Tensor>,
) -> (Tensor, Vec<Option<Tensor>>) {
    let variables: Vec<Var> = inputs.iter().map(|input| Var::from_tensor(input).unwrap()).collect();
    let operands: Vec<Tensor> = variables
        .iter()
        .enumerate()
        .map(
            |(index, variable)| {
                if tracked(index) { variable.as_tensor().clone() } else { variable.as_detached_tensor() }
            },
        )
        .collect();
    let result = f(&operands).unwrap();
    let weights = random(result.shape(), "weights").to_dtype(result.dtype()).unwrap();
    let gradients = (&result * weights).unwrap().sum_all().unwrap().backward().unwrap();
    (result, operands.iter().map(|operand| gradients.get(operand).cloned()).collect())
}

fn weighted_sum(inputs: &[Tensor], f: &dyn Fn(&[Tensor]) -> Result<Tensor>) -> f64 {
    let result = f(inputs).unwrap();
    let weights = random(result.shape(), "weights");
    (result * weights).unwrap().sum_all().unwrap().to_scalar().unwrap()
}

/// Checks the result and all gradients of an operation on f64 `inputs`: against `reference`, by finite differences, for
/// f32, for inputs that are not contiguous, and with a gradient of only one input.
#[track_caller]
pub(crate) fn check(
    inputs: &[Tensor],
    operation: impl Fn(&[Tensor]) -> Result<Tensor>,
    reference: impl Fn(&[Tensor]) -> Result<Tensor>,
) {
    let (result, gradients) = run(inputs, |_| true, &operation);
    let (expected, expected_gradients) = run(inputs, |_| true, &reference);
    assert_close(&result, &expected, F64_TOLERANCE, "result");
    for (index, (found, expected)) in gradients.iter().zip(&expected_gradients).enumerate() {
        let (found, expected) = (found.as_ref().unwrap(), expected.as_ref().unwrap());
        assert_close(found, expected, F64_TOLERANCE, &format!("gradient of input {index}"));
        check_differences(inputs, index, found, &operation);
    }

    let narrow: Vec<Tensor> = inputs.iter().map(|input| input.to_dtype(DType::F32).unwrap()).collect();
    let (narrow_result, narrow_gradients) = run(&narrow, |_| true, &operation);
    assert_eq!(narrow_result.dtype(), DType::F32);
    assert_close(&narrow_result, &expected, F32_TOLERANCE, "f32 result");
    for (index, (found, expected)) in narrow_gradients.iter().zip(&expected_gradients).enumerate() {
        let name = format!("f32 gradient of input {index}");
        assert_close(found.as_ref().unwrap(), expected.as_ref().unwrap(), F32_TOLERANCE, &name);
    }

    let strided = |inputs: &[Tensor]| operation(&inputs.iter().map(scrambled).collect::<Vec<_>>());
    let (strided_result, strided_gradients) = run(inputs, |_| true, &strided);
    assert_eq!(values(&strided_result), values(&result), "result of strided inputs");
    for (found, expected) in strided_gradients.iter().zip(&gradients) {
        assert_eq!(values(found.as_ref().unwrap()), values(expected.as_ref().unwrap()), "gradient of strided inputs");
    }

    for tracked in 0..inputs.len() {
        let (_, alone) = run(inputs, |index| index == tracked, &operation);
        for (index, found) in alone.iter().enumerate() {
            if index == tracked {
                let (found, expected) = (found.as_ref().unwrap(), gradients[index].as_ref().unwrap());
                assert_eq!(values(found), values(expected), "gradient of input {index} only");
            } else {
                assert!(found.is_none(), "input {index} is frozen and got a gradient");
            }
        }
    }
}

fn check_differences(
    inputs: &[Tensor],
    index: usize,
    gradient: &Tensor,
    operation: &dyn Fn(&[Tensor]) -> Result<Tensor>,
) {
    let input = values(&inputs[index]);
    let moved = |element: usize, step: f64| {
        let mut input = input.clone();
        input[element] += step;
        let mut inputs = inputs.to_vec();
        inputs[index] = Tensor::from_vec(input, inputs[index].shape(), &Device::Cpu).unwrap();
        weighted_sum(&inputs, operation)
    };
    for (element, found) in values(gradient).into_iter().enumerate() {
        let slope = (moved(element, DIFFERENCE_STEP) - moved(element, -DIFFERENCE_STEP)) / (2.0 * DIFFERENCE_STEP);
        assert!(
            (slope - found).abs() <= DIFFERENCE_TOLERANCE * slope.abs().max(1.0),
            "gradient of input {index}, element {element}: {found}, by differences {slope}"
        );
    }
}
