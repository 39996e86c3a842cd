//! LayerNorm on a GPU: a warp for each row.

use candle_core::{CudaStorage, DType, Result, Tensor};

use super::array::{Array, Buffer, device_of};
use super::kernels::Module;
use super::launch::{Grid, THREADS, arguments, launch};
use super::rows::{finish_sums, rows_of_stripe};
use crate::types::Operand;

pub(crate) fn forward(eps: f64, [x, weight, bias]: [Operand<'_, CudaStorage>; 3]) -> Result<CudaStorage> {
    let (device, x) = (&x.0.device, Array::of_operand(x)?);
    let (weight, bias) = (Array::of_operand(weight)?, Array::of_operand(bias)?);
    weight.expect(DType::F32)?;
    bias.expect(DType::F32)?;
    let (width, rows) = (weight.len, x.len / weight.len);
    let out = Buffer::new(device, x.dtype, x.len)?;
    let name = format!("layer_norm_forward_{}", x.suffix()?);
    let grid = Grid::over_rows(rows);
    let arguments = arguments![x, weight, bias, out.array(), rows, width, eps as f32];
    launch(device, Module::LayerNorm, &name, grid, arguments)?;
    Ok(out.into_storage())
}

/// The gradients of x, weight and bias, those that are wanted.
pub(crate) fn backward(
    eps: f64,
    (x, weight, grad): (&Tensor, &Tensor, &Tensor),
    wanted: [bool; 3],
) -> Result<[Option<Tensor>; 3]> {
    let device = device_of(x)?;
    let (values, weight, grad) = (Array::of(x)?, Array::of_f32(weight)?, Array::of(grad)?);
    grad.expect(values.dtype)?;
    let (width, rows, suffix) = (weight.len, values.len / weight.len, values.suffix()?);
    let grid = Grid::over_rows(rows);
    let statistics = Buffer::new(device, DType::F32, 2 * rows)?;
    let (name, measured) = (format!("layer_norm_statistics_{suffix}"), statistics.array());
    launch(device, Module::LayerNorm, &name, grid, arguments![values, measured, rows, width, eps as f32])?;
    let mut gradients = [None, None, None];
    if wanted[0] {
        let out = Buffer::new(device, values.dtype, values.len)?;
        let name = format!("layer_norm_backward_{suffix}");
        let arguments = arguments![values, weight, measured, grad, out.array(), rows, width];
        launch(device, Module::LayerNorm, &name, grid, arguments)?;
        gradients[0] = Some(out.into_tensor(x.shape()));
    }
    if wanted[1] || wanted[2] {
        let stripe = rows_of_stripe(rows);
        let stripes = rows.div_ceil(stripe);
        let partial = Buffer::new(device, DType::F32, stripes * 2 * width)?;
        let name = format!("layer_norm_parameters_{suffix}");
        let grid = Grid::blocks(width.div_ceil(THREADS), stripes);
        let arguments = arguments![values, measured, grad, partial.array(), rows, width, stripe];
        launch(device, Module::LayerNorm, &name, grid, arguments)?;
        let both = finish_sums(device, partial, stripes, 2 * width)?.into_tensor((2, width));
        for index in 0..2 {
            if wanted[index + 1] {
                gradients[index + 1] = Some(both.get(index)?);
            }
        }
    }
    Ok(gradients)
}
