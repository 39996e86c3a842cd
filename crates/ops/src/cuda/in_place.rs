//! Sums in place, and growing what is kept of sequences.

use candle_core::{CudaStorage, Layout, Result};

use super::array::{Array, Buffer, Scratch};
use super::kernels::Module;
use super::launch::{Grid, THREADS, arguments, launch};

/// `sum += term`.
pub(crate) fn add_assign(sum: (&CudaStorage, &Layout), term: (&CudaStorage, &Layout)) -> Result<()> {
    let device = &sum.0.device;
    let (sum, term) = (Array::of_storage(sum.0, sum.1)?, Array::of_storage(term.0, term.1)?);
    term.expect(sum.dtype)?;
    let name = format!("add_assign_{}", sum.suffix()?);
    launch(device, Module::Rows, &name, Grid::over_elements(sum.len), arguments![sum, term, sum.len])
}

/// (S', length, width) and a row (S, 1, width) for each of `sequences` to (S, length + 1, width).
pub(crate) fn append(
    past: (&CudaStorage, &Layout),
    next: (&CudaStorage, &Layout),
    sequences: &[u32],
    (length, width): (usize, usize),
) -> Result<CudaStorage> {
    let device = &past.0.device;
    let (past, next) = (Array::of_storage(past.0, past.1)?, Array::of_storage(next.0, next.1)?);
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
