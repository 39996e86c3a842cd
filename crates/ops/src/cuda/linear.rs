//! Affine maps on a GPU.

use candle_core::{CudaDevice, CudaStorage, DType, Result, Tensor};

use super::array::{Array, Buffer, device_of};
use super::gelu;
use super::gemm::{Matrix, Product};
use super::rows::{Factors, column_sums, filled, widened};
use crate::types::Operand;
use crate::types::linear::{LinearOptions, LinearSizes, WeightLayout};
use crate::types::precision::Precision;

/// `activation(x) @ W + bias`.
pub(crate) fn forward(
    options: &LinearOptions,
    sizes: LinearSizes,
    x: Operand<'_, CudaStorage>,
    weight: Operand<'_, CudaStorage>,
    bias: Option<Operand<'_, CudaStorage>>,
) -> Result<CudaStorage> {
    let device = &x.0.device;
    let (x, weight) = (Array::of_operand(x)?, Array::of_operand(weight)?);
    let bias = bias.map(Array::of_operand).transpose()?;
    let LinearSizes { rows, inputs, outputs } = sizes;
    let (x, weight) = (factors(device, options, x, true)?, factors(device, options, weight, false)?);
    let (left, right) = (Matrix::rows(x.array(), inputs), weight_matrix(options, weight.array(), sizes));
    let product = Product::new(rows, outputs, inputs, options.precision == Precision::Tf32);
    let out = match (options.precision, bias) {
        // A bias is added anyway: with a bf16 product half of the memory is written and read.
        (Precision::Bf16, Some(bias)) => {
            let narrow = Buffer::new(device, DType::BF16, rows * outputs)?;
            product.write(device, Matrix::rows(narrow.array(), outputs), left, right)?;
            widened(device, narrow.array(), bias)?
        }
        (_, Some(bias)) => {
            let out = filled(device, bias, rows)?;
            let product = Product { kept: 1.0, ..product };
            product.write(device, Matrix::rows(out.array(), outputs), left, right)?;
            out
        }
        (_, None) => {
            let out = Buffer::new(device, DType::F32, rows * outputs)?;
            product.write(device, Matrix::rows(out.array(), outputs), left, right)?;
            out
        }
    };
    Ok(out.into_storage())
}

/// The gradients of x, weight and bias, those that are wanted.
pub(crate) fn backward(
    options: &LinearOptions,
    sizes: LinearSizes,
    (x, weight, grad): (&Tensor, &Tensor, &Tensor),
    wanted: [bool; 3],
) -> Result<[Option<Tensor>; 3]> {
    let device = device_of(x)?;
    let LinearSizes { rows, inputs, outputs } = sizes;
    let (x_array, weight_array, grad_array) = (Array::of_f32(x)?, Array::of_f32(weight)?, Array::of_f32(grad)?);
    let tf32 = options.precision == Precision::Tf32;
    let factors_of_grad = factors(device, options, grad_array, false)?;
    let grad_matrix = Matrix::rows(factors_of_grad.array(), outputs);
    let mut gradients = [None, None, None];
    if wanted[0] {
        let weight = factors(device, options, weight_array, false)?;
        let right = weight_matrix(options, weight.array(), sizes).transposed();
        let product = Product::new(rows, inputs, outputs, tf32);
        let dx = Buffer::new(device, DType::F32, rows * inputs)?;
        product.write(device, Matrix::rows(dx.array(), inputs), grad_matrix, right)?;
        if let Some(kind) = options.activation {
            gelu::scale_by_slopes(device, kind, x_array, dx.array())?;
        }
        gradients[0] = Some(dx.into_tensor(x.shape()));
    }
    if wanted[1] {
        let x = factors(device, options, x_array, true)?;
        let x_matrix = Matrix::rows(x.array(), inputs);
        let dweight = Buffer::new(device, DType::F32, inputs * outputs)?;
        match options.layout {
            WeightLayout::OutIn => Product::new(outputs, inputs, rows, tf32).write(
                device,
                Matrix::rows(dweight.array(), inputs),
                grad_matrix.transposed(),
                x_matrix,
            )?,
            WeightLayout::InOut => Product::new(inputs, outputs, rows, tf32).write(
                device,
                Matrix::rows(dweight.array(), outputs),
                x_matrix.transposed(),
                grad_matrix,
            )?,
        }
        gradients[1] = Some(dweight.into_tensor(weight.shape()));
    }
    if wanted[2] {
        gradients[2] = Some(column_sums(device, grad_array, outputs)?.into_tensor(outputs));
    }
    Ok(gradients)
}

/// What a product multiplies: the values in the numbers of the precision, and activated if they are the input.
fn factors(device: &CudaDevice, options: &LinearOptions, values: Array, is_input: bool) -> Result<Factors> {
    values.expect(DType::F32)?;
    let dtype = if options.precision == Precision::Bf16 { DType::BF16 } else { DType::F32 };
    match options.activation.filter(|_| is_input) {
        Some(kind) => Ok(Factors::Made(gelu::activated(device, kind, values, dtype)?)),
        None => Factors::of(device, values, dtype),
    }
}

/// The weight as an (in, out) matrix.
fn weight_matrix(options: &LinearOptions, weight: Array, sizes: LinearSizes) -> Matrix {
    match options.layout {
        WeightLayout::OutIn => Matrix::rows(weight, sizes.inputs).transposed(),
        WeightLayout::InOut => Matrix::rows(weight, sizes.outputs),
    }
}
