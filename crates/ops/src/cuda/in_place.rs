//! Sums in place, appending to sequences, and a zero.

use candle_core::backend::{BackendDevice as _, BackendStorage as _};
use candle_core::{CudaStorage, Result, Shape};

use super::array::{Array, Buffer, Scratch};
use super::kernels::Module;
use super::launch::{Grid, THREADS, arguments, launch};
use crate::types::Operand;

/// `sum += term`.
pub(crate) fn add_assign(sum: Operand<'_, CudaStorage>, term: Operand<'_, CudaStorage>) -> Result<()> {
    let device = &sum.0.device;
    let (sum, term) = (Array::of_operand(sum)?, Array::of_operand(term)?);
    term.expect(sum.dtype)?;
    let name = format!("add_assign_{}", sum.suffix()?);
    launch(device, Module::Rows, &name, Grid::over_elements(sum.len), arguments![sum, term, sum.len])
}

/// `past` (S', length, width) and a row of `next` (S, 1, width) for each of `sequences` to (S, length + 1, width).
pub(crate) fn append(
    past: Operand<'_, CudaStorage>,
    next: Operand<'_, CudaStorage>,
    sequences: &[u32],
    (length, width): (usize, usize),
) -> Result<CudaStorage> {
    let device = &past.0.device;
    let (past, next) = (Array::of_operand(past)?, Array::of_operand(next)?);
    next.expect(past.dtype)?;
    let (count, after) = (sequences.len(), (length + 1) * width);
    let sequences = Scratch::copy_of(device, sequences)?;
    let out = Buffer::new(device, past.dtype, count * after)?;
    let name = format!("append_{}", past.suffix()?);
    let grid = Grid::blocks(after.div_ceil(THREADS), count);
    let arguments = arguments![past, sequences.address, next, out.array(), length, width];
    launch(device, Module::Append, &name, grid, arguments)?;
    Ok(out.into_storage())
}

/// A zero of the same type, on the same GPU.
pub(crate) fn zero(storage: &CudaStorage) -> Result<CudaStorage> {
    storage.device.zeros_impl(&Shape::from(()), storage.dtype())
}
