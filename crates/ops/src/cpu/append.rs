//! Appending a row to sequences that change places.

use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, Result, WithDType};

use super::buffer::build;
use super::storage::{elements, for_float};
use crate::profile::Part;
use crate::types::Operand;

/// `past` (S', length, width) and a row of `next` (S, 1, width) for each of `sequences` to (S, length + 1, width).
pub(crate) fn append(
    past: Operand<'_, CpuStorage>,
    next: Operand<'_, CpuStorage>,
    sequences: &[u32],
    (length, width): (usize, usize),
) -> Result<CpuStorage> {
    let (before, after) = (length * width, (length + 1) * width);
    for_float!(past.0.dtype(), Part::Attention, T => {
        let (past, next) = (elements::<T>(past)?, elements::<T>(next)?);
        let values: Vec<T> = build(sequences.len() * after, after, |sequence, out| {
            let source = sequences[sequence] as usize;
            out[..before].copy_from_slice(&past[source * before..][..before]);
            out[before..].copy_from_slice(&next[sequence * width..][..width]);
        });
        Ok(T::to_cpu_storage_owned(values))
    })
}
