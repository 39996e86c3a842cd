//! Rows of a table on the CPU, with a backward pass that touches each row of the gradient once.

use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, Result, Tensor, WithDType, bail};

use super::buffer::{build, rows_per_chunk};
use super::storage::{elements, for_float, tensor_elements};
use super::vector_math::{AddTo, Element};
use crate::profile::Part;
use crate::types::Operand;
use base::simd::vectorized;

/// The rows of `table` (rows, width) at `ids`.
pub(crate) fn forward(
    table: Operand<'_, CpuStorage>,
    ids: Operand<'_, CpuStorage>,
    rows: usize,
    width: usize,
) -> Result<CpuStorage> {
    let ids = elements::<u32>(ids)?;
    if let Some(&id) = ids.iter().find(|&&id| id as usize >= rows) {
        bail!("embedding: id {id} is outside a table of {rows} rows");
    }
    for_float!(table.0.dtype(), Part::Embedding, T => {
        Ok(T::to_cpu_storage_owned(gather(elements::<T>(table)?, width, ids)))
    })
}

/// The gradient of the table: each row is the sum of its gradients, in the order of the ids.
pub(crate) fn backward(table: &Tensor, ids: &Tensor, grad: &Tensor) -> Result<Tensor> {
    let (rows, width) = table.dims2()?;
    let ids = ids.storage_and_layout();
    for_float!(table.dtype(), Part::Embedding, T => {
        let storage = grad.storage_and_layout();
        let values = scatter(tensor_elements::<T>(&storage)?, rows, width, tensor_elements::<u32>(&ids)?);
        Tensor::from_vec(values, (rows, width), table.device())
    })
}

fn gather<T: Element>(table: &[T], width: usize, ids: &[u32]) -> Vec<T> {
    let rows = rows_per_chunk(width);
    build(ids.len() * width, rows * width, |index, out| {
        for (out, &id) in out.chunks_exact_mut(width).zip(&ids[index * rows..]) {
            let start = id as usize * width;
            out.copy_from_slice(&table[start..start + width]);
        }
    })
}

fn scatter<T: Element>(grad: &[T], rows: usize, width: usize, ids: &[u32]) -> Vec<T> {
    let mut order: Vec<usize> = (0..ids.len()).collect();
    order.sort_by_key(|&position| ids[position]);
    let rows_each = rows_per_chunk(width);
    build(rows * width, rows_each * width, |index, out| {
        let first = index * rows_each;
        let begin = order.partition_point(|&position| (ids[position] as usize) < first);
        for &position in &order[begin..] {
            let row = ids[position] as usize - first;
            if row * width >= out.len() {
                break;
            }
            let source = &grad[position * width..(position + 1) * width];
            vectorized(AddTo { sums: &mut out[row * width..(row + 1) * width], values: source });
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gradient_of_many_chunks_counts_every_id() {
        let (rows, width) = (5000, 16);
        let ids: Vec<u32> = (0..20_000_u32).map(|i| i.wrapping_mul(2_654_435_761) % rows as u32).collect();
        let found = scatter(&vec![1.0_f64; ids.len() * width], rows, width, &ids);
        let mut expected = vec![0.0; rows * width];
        for &id in &ids {
            for value in &mut expected[id as usize * width..(id as usize + 1) * width] {
                *value += 1.0;
            }
        }
        assert_eq!(found, expected);
    }
}
