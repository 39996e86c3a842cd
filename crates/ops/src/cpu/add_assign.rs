//! Sums in place.

use candle_core::{CpuStorage, Layout, Result, bail};
use rayon::prelude::*;

use super::buffer::CHUNK;
use super::storage::{ElementMut, elements, elements_mut};
use super::vector_math::AddTo;
use crate::types::Operand;
use base::simd::vectorized;

/// `sum += term`.
pub(crate) fn add_assign(sum: &mut CpuStorage, layout: &Layout, term: Operand<'_, CpuStorage>) -> Result<()> {
    match sum {
        CpuStorage::F32(_) => add::<f32>(elements_mut(sum, layout)?, elements(term)?),
        CpuStorage::F64(_) => add::<f64>(elements_mut(sum, layout)?, elements(term)?),
        _ => bail!("add_assign expected f32 or f64 values"),
    }
    Ok(())
}

fn add<T: ElementMut>(sums: &mut [T], values: &[T]) {
    sums.par_chunks_mut(CHUNK).zip(values.par_chunks(CHUNK)).for_each(|(sums, values)| {
        vectorized(AddTo { sums, values });
    });
}
