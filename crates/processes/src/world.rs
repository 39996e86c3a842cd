//! The connected processes, as the training sees them.

use std::cell::Cell;
use std::fmt;

use anyhow::Result;
use base::error::failure;

use crate::exchange::{self, Exchange};
use crate::launch::{Launch, Launcher};
use crate::mpi::{LIBRARY_VARIABLE, Mpi};

/// Numbers in one call of MPI's own sum, whose count is a C integer.
const FAST_SUM_NUMBERS: usize = 1 << 28;

const RESUME: &str = "the last checkpoint is whole; start all processes again with `caption-train --resume auto`";

/// All processes that train one model. Only the thread that opened it can use it.
pub struct World {
    mpi: Mpi,
    rank: usize,
    size: usize,
    local_rank: usize,
    local_size: usize,
    hosts: Vec<String>,
    /// Whether MPI was ended, or a message stays on its way for ever.
    is_over: Cell<bool>,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("rank", &self.rank).field("size", &self.size).finish_non_exhaustive()
    }
}

impl World {
    /// Connects the processes. All of them call it, once, from the thread that trains.
    ///
    /// # Errors
    /// No MPI library; one that does not belong to the `mpirun` that started the processes; an error of MPI.
    pub fn open(launch: &Launch) -> Result<Self> {
        if launch.launcher == Launcher::Torchrun {
            return Err(failure(
                format!("the processes were started by torchrun ({}), which MPI knows nothing of", launch.why),
                "start them with `mpirun -n NUMBER caption-train ...`, or with --processes NUMBER",
            ));
        }
        let mpi = Mpi::open()?;
        let (rank, size) = mpi.place()?;
        if (rank, size) != (launch.rank, launch.size) {
            let error = mismatch(launch, &mpi, rank, size);
            // Other processes do not wait for this one: their MPI does not know it.
            let _ = mpi.finalize();
            return Err(error);
        }
        let (local_rank, local_size) = mpi.place_here()?;
        let mut world = Self { mpi, rank, size, local_rank, local_size, hosts: Vec::new(), is_over: Cell::new(false) };
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let hosts = world.gather(host.as_bytes())?;
        world.hosts = hosts.iter().map(|host| String::from_utf8_lossy(host).into_owned()).collect();
        Ok(world)
    }

    /// The number of this process, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many processes there are.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The number of this process among those of its machine, from 0.
    pub fn local_rank(&self) -> usize {
        self.local_rank
    }

    /// How many processes are on this machine.
    pub fn local_size(&self) -> usize {
        self.local_size
    }

    /// The first line of what the MPI library says of itself, such as "Open MPI v5.0.11, package: ...".
    pub fn library(&self) -> &str {
        &self.mpi.version
    }

    /// The name of the machine of each process.
    pub fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// Replaces the values by their sums over all processes, in the order of the tree
    /// `((r0+r1)+(r2+r3))+((r4+r5)+(r6+r7))`: the same bits on every process, and as in one process that adds in this
    /// order. All processes pass as many values.
    ///
    /// # Errors
    /// A number of processes that is no power of two; a process that is gone.
    pub fn sum_f32(&self, values: &mut [f32]) -> Result<()> {
        exchange::sum(self, values)
    }

    /// The same in double precision.
    ///
    /// # Errors
    /// As [`World::sum_f32`].
    pub fn sum_f64(&self, values: &mut [f64]) -> Result<()> {
        exchange::sum(self, values)
    }

    /// Replaces the values by their sums over all processes, added in whatever order MPI likes. While it waits, a
    /// process that is gone is noticed only by the watch, which then ends this process.
    ///
    /// # Errors
    /// An error of MPI.
    pub fn sum_f32_fast(&self, values: &mut [f32]) -> Result<()> {
        self.check()?;
        values.chunks_mut(FAST_SUM_NUMBERS).try_for_each(|part| self.mpi.all_reduce_f32(part))
    }

    /// The same in double precision.
    ///
    /// # Errors
    /// An error of MPI.
    pub fn sum_f64_fast(&self, values: &mut [f64]) -> Result<()> {
        self.check()?;
        values.chunks_mut(FAST_SUM_NUMBERS).try_for_each(|part| self.mpi.all_reduce_f64(part))
    }

    /// Whether any process says yes.
    ///
    /// # Errors
    /// A process that is gone.
    pub fn any(&self, here: bool) -> Result<bool> {
        exchange::any(self, here)
    }

    /// Replaces the bytes by those of process 0.
    ///
    /// # Errors
    /// A process that is gone; more bytes than there is memory for.
    pub fn broadcast(&self, bytes: &mut Vec<u8>) -> Result<()> {
        exchange::broadcast(self, bytes)
    }

    /// The bytes of all processes, in their order, on every process. Lengths may differ.
    ///
    /// # Errors
    /// A process that is gone; more bytes than there is memory for.
    pub fn gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        exchange::gather(self, bytes)
    }

    /// Waits until every process is here.
    ///
    /// # Errors
    /// A process that is gone.
    pub fn barrier(&self) -> Result<()> {
        self.any(false).map(|_| ())
    }

    /// Ends MPI once every process is here.
    ///
    /// # Errors
    /// A process that is gone; an error of MPI.
    pub fn finish(self) -> Result<()> {
        self.barrier()?;
        self.is_over.set(true);
        self.mpi.finalize()
    }

    /// Whether others can still be reached.
    fn check(&self) -> Result<()> {
        if self.is_over.get() {
            return Err(failure("the processes are no longer connected", RESUME));
        }
        Ok(())
    }
}

impl Exchange for World {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn swap(&self, send: (usize, &[u8]), receive: (usize, &mut [u8]), meanwhile: &mut dyn FnMut()) -> Result<()> {
        self.check()?;
        let check = || self.check();
        self.mpi.swap(send, receive, meanwhile, &check).inspect_err(|_| self.is_over.set(true))
    }
}

fn mismatch(launch: &Launch, mpi: &Mpi, rank: usize, size: usize) -> anyhow::Error {
    let starter = match launch.launcher {
        Launcher::Slurm => "srun",
        _ if launch.why.starts_with("OMPI") => "the mpirun of Open MPI",
        _ => "an mpirun of MPICH's kind",
    };
    failure(
        format!(
            "this is process {} of {} to {starter} ({}), but process {rank} of {size} to the MPI library {} ({}): the \
             program was started by another MPI than the library belongs to",
            launch.rank, launch.size, launch.why, mpi.path, mpi.version
        ),
        format!(
            "set {LIBRARY_VARIABLE} to the library of the MPI that starts the program, or start it with the mpirun of \
             this library; srun needs a matching --mpi=pmix or --mpi=pmi2"
        ),
    )
}
