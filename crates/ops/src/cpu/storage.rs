//! Slices of one type out of candle's storage.

use candle_core::{CpuStorage, Layout, Result, Storage, StorageRef, WithDType, bail};

use super::vector_math::Element;
use crate::types::Operand;

/// Evaluates `$body` with `$T` standing for the float type of `$dtype`, timed as `$part`. Any other type is an error.
macro_rules! for_float {
    ($dtype:expr, $part:expr, $T:ident => $body:expr) => {{
        let _timer = $crate::profile::timer($part);
        match $dtype {
            candle_core::DType::F32 => {
                type $T = f32;
                $body
            }
            candle_core::DType::F64 => {
                type $T = f64;
                $body
            }
            other => candle_core::bail!("{} expected f32 or f64 values, found {other:?}", $part.name()),
        }
    }};
}
pub(crate) use for_float;

/// The elements of a contiguous operand.
pub(crate) fn elements<T: WithDType>((storage, layout): Operand<'_, CpuStorage>) -> Result<&[T]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&T::cpu_storage_as_slice(storage)?[start..end]),
        None => bail!("expected a contiguous tensor, found strides {:?} for {:?}", layout.stride(), layout.shape()),
    }
}

/// The elements of a contiguous tensor on the CPU, locked by `Tensor::storage_and_layout`.
pub(crate) fn tensor_elements<'a, T: WithDType>((storage, layout): &'a (StorageRef<'_>, &Layout)) -> Result<&'a [T]> {
    match &**storage {
        Storage::Cpu(storage) => elements((storage, layout)),
        _ => bail!("expected a tensor on the CPU"),
    }
}

/// The elements of a contiguous operand that is written.
pub(crate) fn elements_mut<'a, T: ElementMut>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [T]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&mut T::storage_mut(storage)?[start..end]),
        None => bail!("expected a contiguous tensor, found strides {:?} for {:?}", layout.stride(), layout.shape()),
    }
}

/// An [`Element`] whose storage can be written; candle's own trait only reads.
pub(crate) trait ElementMut: Element {
    fn storage_mut(storage: &mut CpuStorage) -> Result<&mut [Self]>;
}

impl ElementMut for f32 {
    fn storage_mut(storage: &mut CpuStorage) -> Result<&mut [Self]> {
        match storage {
            CpuStorage::F32(values) => Ok(values),
            _ => bail!("expected f32 values"),
        }
    }
}

impl ElementMut for f64 {
    fn storage_mut(storage: &mut CpuStorage) -> Result<&mut [Self]> {
        match storage {
            CpuStorage::F64(values) => Ok(values),
            _ => bail!("expected f64 values"),
        }
    }
}
