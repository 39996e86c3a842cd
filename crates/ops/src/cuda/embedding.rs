//! Rows of a table on a GPU.

use candle_core::{CudaStorage, DType, Result, Tensor};

use super::array::{Array, Buffer, device_of};
use super::kernels::Module;
use super::launch::{Grid, arguments, launch};
use crate::types::Operand;

/// `PIECE` of the kernel.
const THREADS_PER_ROW: usize = 128;

/// The rows at the ids. An id outside the table could not be reported without waiting for the GPU: its row is NaN, so
/// that the loss shows it.
pub(crate) fn forward(
    table: Operand<'_, CudaStorage>,
    ids: Operand<'_, CudaStorage>,
    rows: usize,
    width: usize,
) -> Result<CudaStorage> {
    let device = &table.0.device;
    let (table, ids) = (Array::of_operand(table)?, Array::of_operand(ids)?);
    ids.expect(DType::U32)?;
    let out = Buffer::new(device, table.dtype, ids.len * width)?;
    let name = format!("embedding_forward_{}", table.suffix()?);
    let grid = Grid::blocks(ids.len, 1).of_threads(THREADS_PER_ROW);
    launch(device, Module::Embedding, &name, grid, arguments![table, ids, out.array(), ids.len, rows, width])?;
    Ok(out.into_storage())
}

/// The gradient of the table, each row the sum of its gradients in the order of the ids.
pub(crate) fn backward(table: &Tensor, ids: &Tensor, grad: &Tensor) -> Result<Tensor> {
    let (rows, width) = table.dims2()?;
    let device = device_of(table)?;
    let (ids, grad) = (Array::of(ids)?, Array::of(grad)?);
    ids.expect(DType::U32)?;
    let out = Buffer::new(device, DType::F32, rows * width)?;
    let name = format!("embedding_backward_{}", grad.suffix()?);
    let grid = Grid::blocks(rows, 1).of_threads(THREADS_PER_ROW);
    launch(device, Module::Embedding, &name, grid, arguments![grad, ids, out.array(), ids.len, rows, width])?;
    out.into_tensor((rows, width)).to_dtype(table.dtype())
}
