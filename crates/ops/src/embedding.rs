//! Rows of a table by id.

use candle_core::{CpuStorage, CudaStorage, DType, Result, Shape, Tensor, bail};

use crate::operation::{Op, Operation};
use crate::types::Operand;
use crate::{cpu, cuda};

/// The rows of `table` (V, D) at `ids` (u32, any shape) -> (.., D).
///
/// # Errors
/// An id outside the table (on a GPU its row is NaN instead), a table of types other than f32 and f64, ids of a type
/// other than u32.
pub fn embedding(ids: &Tensor, table: &Tensor) -> Result<Tensor> {
    if ids.dtype() != DType::U32 {
        bail!("embedding: expected u32 ids, found {:?}", ids.dtype());
    }
    table.contiguous()?.apply_op2(&ids.contiguous()?, Op(Embedding))
}

struct Embedding;

impl Operation<2> for Embedding {
    const NAME: &'static str = "embedding";

    /// Rows and width of the table.
    type Sizes = (usize, usize);

    fn check(&self, [table, ids]: [&Shape; 2]) -> Result<((usize, usize), Shape)> {
        let (rows, width) = table.dims2()?;
        Ok(((rows, width), [ids.dims(), &[width]].concat().into()))
    }

    fn cpu_forward(
        &self,
        (rows, width): (usize, usize),
        [table, ids]: [Operand<'_, CpuStorage>; 2],
    ) -> Result<CpuStorage> {
        cpu::embedding::forward(table, ids, rows, width)
    }

    fn cuda_forward(
        &self,
        (rows, width): (usize, usize),
        [table, ids]: [Operand<'_, CudaStorage>; 2],
    ) -> Result<CudaStorage> {
        cuda::embedding::forward(table, ids, rows, width)
    }

    fn backward(&self, _: (usize, usize), [table, ids]: [&Tensor; 2], grad: &Tensor) -> Result<[Option<Tensor>; 2]> {
        let backward = if grad.device().is_cuda() { cuda::embedding::backward } else { cpu::embedding::backward };
        Ok([Some(backward(table, ids, grad)?), None])
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
    fn an_id_outside_the_table_is_an_error() {
        let ids = Tensor::new(&[4_u32], &Device::Cpu).unwrap();
        let table = random((4, 2), "table");
        assert!(embedding(&ids, &table).unwrap_err().to_string().contains("id 4"));
        assert!(embedding(&table, &table).is_err());
        let none = Tensor::zeros((0,), DType::U32, &Device::Cpu).unwrap();
        assert!(values(&embedding(&none, &table).unwrap()).is_empty());
    }
}
