//! Dropout on a GPU: the masks of the CPU, bit for bit.

use candle_core::{CudaStorage, Result};

use super::array::{Array, Buffer};
use super::kernels::Module;
use super::launch::{ELEMENTS_PER_THREAD, Grid, THREADS, arguments, launch};
use crate::types::Operand;
use crate::types::dropout::DropoutSite;
use crate::types::packing::Examples;

/// The values that are kept, scaled; the first dimension of x is `examples`.
pub(crate) fn forward(site: &DropoutSite, x: Operand<'_, CudaStorage>, examples: &Examples) -> Result<CudaStorage> {
    let (device, x) = (&x.0.device, Array::of_operand(x)?);
    let out = Buffer::new(device, x.dtype, x.len)?;
    let examples = examples.equal()?;
    let width = x.len / examples.max(1);
    let (name, [seed, update, place, first]) = (format!("dropout_{}", x.suffix()?), site.key_words());
    let grid = Grid::blocks(width.div_ceil(ELEMENTS_PER_THREAD * THREADS), examples);
    let arguments = arguments![x, out.array(), width, seed, update, place, first, site.threshold(), site.kept() as f32];
    launch(device, Module::Dropout, &name, grid, arguments)?;
    Ok(out.into_storage())
}
