//! Rows of a table by id, with a backward pass that touches each row of the gradient once.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor, WithDType, bail};

use super::buffer::{build, rows_per_chunk};
#[cfg(feature = "cuda")]
use super::cuda;
use super::on_gpu;
use super::operand::{elements, for_float, tensor_elements};
use super::profile::Part;
use super::vector_math::{AddTo, Element};
use base::simd::vectorized;

/// The rows of `table` (V, D) at `ids` (u32, any shape) -> (.., D).
///
/// # Errors
/// An id outside the table (on a GPU its row is NaN instead), a table of types other than f32 and f64, ids of a type other
/// than u32.
pub fn embedding(ids: &Tensor, table: &Tensor) -> Result<Tensor> {
    if ids.dtype() != DType::U32 {
        bail!("embedding: expected u32 ids, found {:?}", ids.dtype());
    }
    table.contiguous()?.apply_op2(&ids.contiguous()?, Embedding)
}

struct Embedding;

fn gather<T: Element>(table: &[T], width: usize, ids: &[u32]) -> Vec<T> {
    let rows = rows_per_chunk(width);
    build(ids.len() * width, rows * width, |index, out| {
        for (out, &id) in out.chunks_exact_mut(width).zip(&ids[index * rows..]) {
            let start = id as usize * width;
            out.copy_from_slice(&table[start..start + width]);
        }
    })
}

/// The gradient of a table of `rows` rows: each one the sum of its gradients, in the order of the ids.
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

impl CustomOp2 for Embedding {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, width) = l1.shape().dims2()?;
        let Some((start, end)) = l2.contiguous_offsets() else { bail!("embedding: expected contiguous ids") };
        let ids = &u32::cpu_storage_as_slice(s2)?[start..end];
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= rows) {
            bail!("embedding: id {id} is outside a table of {rows} rows");
        }
        let storage = for_float!(s1.dtype(), Part::Embedding, T => {
            T::to_cpu_storage_owned(gather(elements::<T>(s1, l1)?, width, ids))
        });
        Ok((storage, [l2.dims(), &[width]].concat().into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, s1: &CudaStorage, l1: &Layout, s2: &CudaStorage, l2: &Layout) -> Result<(CudaStorage, Shape)> {
        let (rows, width) = l1.shape().dims2()?;
        let out = cuda::embedding::forward((s1, l1), (s2, l2), rows, width)?;
        Ok((out, [l2.dims(), &[width]].concat().into()))
    }

    fn bwd(
        &self,
        table: &Tensor,
        ids: &Tensor,
        _result: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        on_gpu!(grad => Ok((Some(cuda::embedding::backward(table, ids, &grad.contiguous()?)?), None)));
        let (rows, width) = table.dims2()?;
        let ids = ids.flatten_all()?.to_vec1::<u32>()?;
        let grad = grad.contiguous()?;
        let gradient = for_float!(table.dtype(), Part::Embedding, T => {
            let storage = grad.storage_and_layout();
            let values = scatter(tensor_elements::<T>(&storage)?, rows, width, &ids);
            Tensor::from_vec(values, (rows, width), table.device())?
        });
        Ok((Some(gradient), None))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::testing::{check, random, values};

    #[test]
    fn embedding_equals_index_select() {
        let ids = Tensor::new(&[[3_u32, 0, 3], [10, 3, 0]], &Device::Cpu).unwrap();
        check(
            &[random((11, 6), "table")],
            |i| embedding(&ids, &i[0]),
            |i| i[0].index_select(&ids.flatten_all()?, 0)?.reshape((2, 3, 6)),
        );
    }

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

    #[test]
    fn an_id_outside_the_table_is_an_error() {
        let ids = Tensor::new(&[4_u32], &Device::Cpu).unwrap();
        let table = random((4, 2), "table");
        assert!(embedding(&ids, &table).unwrap_err().to_string().contains("id 4"));
        assert!(embedding(&table, &table).is_err());
        let none = Tensor::zeros((0,), DType::U32, &Device::Cpu).unwrap();
        assert!(values(&embedding(&none, &table).unwrap()).is_empty());
    }
}
