//! Cross-entropy on a GPU: a block for each row.

use candle_core::{CudaStorage, DType, Result, Tensor};

use super::array::{Array, Buffer, Scratch, device_of};
use super::kernels::Module;
use super::launch::{Grid, arguments, launch};
use crate::types::Operand;

/// The sum of the losses of the rows, a scalar of f32.
pub(crate) fn forward(logits: Operand<'_, CudaStorage>, targets: &[u32], label_smoothing: f64) -> Result<CudaStorage> {
    let (device, logits, rows) = (&logits.0.device, Array::of_operand(logits)?, targets.len());
    if rows == 0 {
        return Ok(Buffer::zeros(device, DType::F32, 1)?.into_storage());
    }
    let (vocabulary, targets) = (logits.len / rows, Scratch::copy_of(device, targets)?);
    let losses = Buffer::new(device, DType::F32, rows)?;
    let name = format!("cross_entropy_{}", logits.suffix()?);
    let arguments = arguments![logits, targets.address, losses.array(), rows, vocabulary, label_smoothing as f32];
    launch(device, Module::CrossEntropy, &name, Grid::blocks(rows, 1), arguments)?;
    let sum = Buffer::new(device, DType::F32, 1)?;
    let arguments = arguments![losses.array(), sum.array(), rows];
    launch(device, Module::CrossEntropy, "sum_f32", Grid::blocks(1, 1), arguments)?;
    Ok(sum.into_storage())
}

/// The gradient of the logits from that of the sum.
pub(crate) fn backward(logits: &Tensor, targets: &[u32], label_smoothing: f64, grad: &Tensor) -> Result<Tensor> {
    let (device, rows) = (device_of(logits)?, targets.len());
    let (values, scale) = (Array::of(logits)?, Array::of_f32(grad)?);
    let out = Buffer::new(device, values.dtype, values.len)?;
    if let Some(vocabulary) = values.len.checked_div(rows) {
        let targets = Scratch::copy_of(device, targets)?;
        let name = format!("cross_entropy_backward_{}", values.suffix()?);
        let smoothing = label_smoothing as f32;
        let arguments = arguments![values, targets.address, scale, out.array(), rows, vocabulary, smoothing];
        launch(device, Module::CrossEntropy, &name, Grid::blocks(rows, 1), arguments)?;
    }
    Ok(out.into_tensor(logits.shape()))
}
