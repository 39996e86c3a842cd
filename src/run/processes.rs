//! The processes of a run as the loop sees them: connected by MPI, and their GPUs by NCCL (`gpus.rs`).

use std::cell::{Cell, RefCell};

use anyhow::{Context as _, Result};
use candle_core::{CpuStorage, DType, Device, Storage, Tensor};
use ops::nccl::Communicator;
use ops::{NcclFailure, SumOrder};
use processes::World;

use crate::config::Reduction;
use crate::run::gpus;
use crate::training::collective::Collective;
use base::error::with_hint;

/// Numbers that are summed at once, copied side by side: 16 MiB of f32.
const BUCKET: usize = 4 << 20;

/// Processes that MPI connects.
#[derive(Debug)]
pub struct MpiProcesses {
    /// Gone once the processes have taken leave.
    world: RefCell<Option<World>>,
    /// Nothing where they compute on CPUs.
    gpus: RefCell<Option<Communicator>>,
    rank: usize,
    size: usize,
    local_rank: usize,
    reduction: Cell<Reduction>,
}

impl MpiProcesses {
    pub fn new(world: World) -> Self {
        Self {
            rank: world.rank(),
            size: world.size(),
            local_rank: world.local_rank(),
            world: RefCell::new(Some(world)),
            gpus: RefCell::new(None),
            reduction: Cell::new(Reduction::Exact),
        }
    }

    /// The number of this process among those of its machine, from 0.
    pub fn local_rank(&self) -> usize {
        self.local_rank
    }

    /// Connects the devices that the processes compute on, if these are GPUs.
    ///
    /// # Errors
    /// As [`gpus::connect`].
    pub fn connect_devices(&self, device: &Device) -> Result<()> {
        let connected = self.with(|world| gpus::connect(self, world, device))?;
        *self.gpus.borrow_mut() = connected;
        Ok(())
    }

    /// How gradients are added up from now on.
    pub fn reduce_by(&self, reduction: Reduction) {
        self.reduction.set(reduction);
    }

    fn with<T>(&self, call: impl FnOnce(&World) -> Result<T>) -> Result<T> {
        call(self.world.borrow().as_ref().context("the processes have taken leave of each other")?)
    }

    /// The error of a sum over GPUs, or who is gone if that is the reason for it.
    fn explain(&self, failure: NcclFailure) -> anyhow::Error {
        let hint = failure.hint();
        let error = with_hint(failure.into(), hint);
        match self.world.borrow().as_ref() {
            Some(world) => world.explain(error),
            None => error,
        }
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
        self.local_rank == 0
    }

    fn sum_tensors(&self, tensors: &mut [&mut Tensor]) -> Result<()> {
        if let Some(gpus) = &*self.gpus.borrow() {
            let order = match self.reduction.get() {
                Reduction::Exact => SumOrder::Tree,
                Reduction::Fast => SumOrder::Any,
            };
            return gpus.sum(tensors, order).map_err(|failure| self.explain(failure));
        }
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

    fn check_sums(&self) -> Result<()> {
        let gpus = self.gpus.borrow();
        gpus.as_ref().map_or(Ok(()), Communicator::check).map_err(|failure| self.explain(failure))
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
        if let Some(gpus) = self.gpus.take() {
            // One that ends earlier might be missed by a sum that another still waits for.
            self.barrier()?;
            gpus.finish().map_err(|failure| self.explain(failure))?;
        }
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
