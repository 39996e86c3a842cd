//! LayerNorm on a GPU: a warp for each row.

use candle_core::{CudaStorage, DType, Layout, Result, Tensor};

use super::array::{Array, Buffer, device_of};
use super::kernels::Module;
use super::launch::{Grid, THREADS, arguments, launch};
use super::rows::{finish_sums, rows_of_stripe};

/// The result, from the storages of x, weight and bias.
pub(crate) fn forward(
    eps: f64,
    x: (&CudaStorage, &Layout),
    weight: (&CudaStorage, &Layout),
    bias: (&CudaStorage, &Layout),
) -> Result<CudaStorage> {
    let device = &x.0.device;
    let x = Array::of_storage(x.0, x.1)?;
    let (weight, bias) = (Array::of_storage(weight.0, weight.1)?, Array::of_storage(bias.0, bias.1)?);
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

/// Gradients of x, and of weight and bias.
type Gradients = (Option<Tensor>, Option<(Tensor, Tensor)>);

/// Gradient of x if `input`, and of weight and bias if `parameters`.
pub(crate) fn backward(
    eps: f64,
    (x, weight, grad): (&Tensor, &Tensor, &Tensor),
    input: bool,
    parameters: bool,
) -> Result<Gradients> {
    let device = device_of(x)?;
    let (values, weight, grad) = (Array::of(x)?, Array::of_f32(weight)?, Array::of(grad)?);
    grad.expect(values.dtype)?;
    let (width, rows, suffix) = (weight.len, values.len / weight.len, values.suffix()?);
    let grid = Grid::over_rows(rows);
    let statistics = Buffer::new(device, DType::F32, 2 * rows)?;
    let (name, measured) = (format!("layer_norm_statistics_{suffix}"), statistics.array());
    launch(device, Module::LayerNorm, &name, grid, arguments![values, measured, rows, width, eps as f32])?;
    let mut dx = None;
    if input {
        let out = Buffer::new(device, values.dtype, values.len)?;
        let name = format!("layer_norm_backward_{suffix}");
        let arguments = arguments![values, weight, measured, grad, out.array(), rows, width];
        launch(device, Module::LayerNorm, &name, grid, arguments)?;
        dx = Some(out.into_tensor(x.shape()));
    }
    let mut sums = None;
    if parameters {
        let stripe = rows_of_stripe(rows);
        let stripes = rows.div_ceil(stripe);
        let partial = Buffer::new(device, DType::F32, stripes * 2 * width)?;
        let name = format!("layer_norm_parameters_{suffix}");
        let grid = Grid::blocks(width.div_ceil(THREADS), stripes);
        let arguments = arguments![values, measured, grad, partial.array(), rows, width, stripe];
        launch(device, Module::LayerNorm, &name, grid, arguments)?;
        let both = finish_sums(device, partial, stripes, 2 * width)?.into_tensor((2, width));
        sums = Some((both.get(0)?, both.get(1)?));
    }
    Ok((dx, sums))
}
