//! The processes of a run, connected by MPI, as the loop sees them.

use std::cell::{Cell, RefCell};

use anyhow::{Context as _, Result};
use candle_core::{CpuStorage, DType, Storage, Tensor};
use processes::World;

use crate::config::Reduction;
use crate::training::collective::Collective;

/// Numbers that are summed at once, copied side by side: 16 MiB of f32.
const BUCKET: usize = 4 << 20;

/// Processes on CPUs.
#[derive(Debug)]
pub struct MpiProcesses {
    /// Gone once the processes have taken leave.
    world: RefCell<Option<World>>,
    rank: usize,
    size: usize,
    is_first_here: bool,
    reduction: Cell<Reduction>,
}

impl MpiProcesses {
    pub fn new(world: World) -> Self {
        Self {
            rank: world.rank(),
            size: world.size(),
            is_first_here: world.local_rank() == 0,
            world: RefCell::new(Some(world)),
            reduction: Cell::new(Reduction::Exact),
        }
    }

    /// How gradients are added up from now on.
    pub fn reduce_by(&self, reduction: Reduction) {
        self.reduction.set(reduction);
    }

    fn with<T>(&self, call: impl FnOnce(&World) -> Result<T>) -> Result<T> {
        call(self.world.borrow().as_ref().context("the processes have taken leave of each other")?)
    }

    fn sum_f32(&self, values: &mut [f32]) -> Result<()> {
        self.with(|world| match self.reduction.get() {
            Reduction::Exact => world.sum_f32(values),
            Reduction::Fast => world.sum_f32_fast(values),
        })
    }

    fn sum_f64(&self, values: &mut [f64]) -> Result<()> {
        self.with(|world| match self.reduction.get() {
            Reduction::Exact => world.sum_f64(values),
            Reduction::Fast => world.sum_f64_fast(values),
        })
    }

    /// The sums of the values of f32 tensors.
    fn sum_bucket(&self, tensors: &mut [&mut Tensor], values: &mut Vec<f32>) -> Result<()> {
        values.clear();
        for tensor in tensors.iter() {
            append(tensor, values)?;
        }
        self.sum_f32(values)?;
        let mut rest = values.as_slice();
        for tensor in tensors.iter_mut() {
            let (own, others) = rest.split_at(tensor.elem_count());
            **tensor = Tensor::from_slice(own, tensor.shape(), tensor.device())?;
            rest = others;
        }
        Ok(())
    }
}

impl Collective for MpiProcesses {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn is_first_here(&self) -> bool {
        self.is_first_here
    }

    fn sum_tensors(&self, tensors: &mut [&mut Tensor]) -> Result<()> {
        let (mut values, mut rest) = (Vec::new(), tensors);
        while !rest.is_empty() {
            if rest[0].dtype() != DType::F32 {
                let mut wide: Vec<f64> = rest[0].to_dtype(DType::F64)?.flatten_all()?.to_vec1()?;
                self.sum_f64(&mut wide)?;
                let sum = Tensor::from_vec(wide, rest[0].shape(), rest[0].device())?;
                *rest[0] = sum.to_dtype(rest[0].dtype())?;
                rest = &mut std::mem::take(&mut rest)[1..];
                continue;
            }
            let mut numbers = 0;
            let fits = |tensor: &&&mut Tensor| {
                numbers += tensor.elem_count();
                tensor.dtype() == DType::F32 && numbers <= BUCKET
            };
            let count = rest.iter().take_while(fits).count().max(1);
            let (bucket, others) = std::mem::take(&mut rest).split_at_mut(count);
            self.sum_bucket(bucket, &mut values)?;
            rest = others;
        }
        Ok(())
    }

    fn sum(&self, values: &mut [f64]) -> Result<()> {
        self.sum_f64(values)
    }

    fn any(&self, here: bool) -> Result<bool> {
        self.with(|world| world.any(here))
    }

    fn broadcast(&self, bytes: &mut Vec<u8>) -> Result<()> {
        self.with(|world| world.broadcast(bytes))
    }

    fn gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.with(|world| world.gather(bytes))
    }

    fn barrier(&self) -> Result<()> {
        self.with(World::barrier)
    }

    fn abort(&self, reason: &str) {
        if let Some(world) = self.world.borrow().as_ref() {
            world.abort(reason);
        }
    }

    fn finish(&self) -> Result<()> {
        self.world.take().map_or(Ok(()), World::finish)
    }
}

/// Appends the values of a contiguous f32 tensor on the CPU.
fn append(tensor: &Tensor, values: &mut Vec<f32>) -> Result<()> {
    let (storage, layout) = tensor.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(all)), Some((start, end))) => values.extend_from_slice(&all[start..end]),
        _ => values.extend(tensor.flatten_all()?.to_vec1::<f32>()?),
    }
    Ok(())
}
