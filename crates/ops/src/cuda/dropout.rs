//! Dropout on a GPU: the masks of the CPU, bit for bit.

use candle_core::{CudaStorage, Layout, Result};

use super::array::{Array, Buffer};
use super::kernels::Module;
use super::launch::{ELEMENTS_PER_THREAD, Grid, THREADS, arguments, launch};
use crate::dropout::DropoutSite;

/// The values that are kept, scaled; `examples` first.
pub(crate) fn forward(
    site: &DropoutSite,
    storage: &CudaStorage,
    layout: &Layout,
    examples: usize,
) -> Result<CudaStorage> {
    let x = Array::of_storage(storage, layout)?;
    let out = Buffer::new(&storage.device, x.dtype, x.len)?;
    let width = x.len / examples.max(1);
    let (name, [seed, update, place, first]) = (format!("dropout_{}", x.suffix()?), site.key_words());
    let grid = Grid::blocks(width.div_ceil(ELEMENTS_PER_THREAD * THREADS), examples);
    let arguments = arguments![x, out.array(), width, seed, update, place, first, site.threshold(), site.kept::<f32>()];
    launch(&storage.device, Module::Dropout, &name, grid, arguments)?;
    Ok(out.into_storage())
}
