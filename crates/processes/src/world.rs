//! The connected processes, as the training sees them.

use std::cell::Cell;
use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use base::error::{failure, one_line};
use base::terminal;

use crate::binding::{self, binding_warning};
use crate::exchange::{self, Exchange};
use crate::launch::{Launch, Launcher};
use crate::mpi::{LIBRARY_VARIABLE, Library, Mpi};
use crate::watch::{self, Invitation, Offer, RESUME, TIMEOUT_VARIABLE, Watch};

/// Numbers in one call of MPI's own sum, whose count is a C integer.
const FAST_SUM_NUMBERS: usize = 1 << 28;
/// How long after an error of MPI the watch may take to say who is gone.
const NOTICING: Duration = Duration::from_secs(2);

/// All processes that train one model. Only the thread that opened it can use it.
pub struct World {
    mpi: Mpi,
    rank: usize,
    size: usize,
    local_rank: usize,
    local_size: usize,
    hosts: Vec<String>,
    /// Nothing if this process could not be connected.
    watch: Option<Watch>,
    /// Whether MPI may no longer be called: it was ended, or a message stays on its way for ever.
    is_over: Cell<bool>,
    is_finished: Cell<bool>,
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
        let timeout = watch::timeout(std::env::var(TIMEOUT_VARIABLE).ok())?;
        let mpi = Mpi::open(&|library| check_starter(launch, library))?;
        let (rank, size) = mpi.place()?;
        if (rank, size) != (launch.rank, launch.size) {
            let error = mismatch(launch, &mpi.library, &format!("sees process {rank} of {size}"));
            // Other processes do not wait for this one: their MPI does not know it.
            let _ = mpi.finalize();
            return Err(error);
        }
        let (local_rank, local_size) = mpi.place_here()?;
        let mut world = Self {
            mpi,
            rank,
            size,
            local_rank,
            local_size,
            hosts: Vec::new(),
            watch: None,
            is_over: Cell::new(false),
            is_finished: Cell::new(false),
        };
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let hosts = world.gather(host.as_bytes())?;
        world.hosts = hosts.iter().map(|host| String::from_utf8_lossy(host).into_owned()).collect();
        world.watch = world.start_watch(timeout)?;
        Ok(world)
    }

    /// Connects the watches of all processes. Training goes on without those that a firewall keeps apart.
    fn start_watch(&self, timeout: Duration) -> Result<Option<Watch>> {
        let offer = (self.rank == 0).then(|| Offer::new(self.local_size == self.size)).transpose();
        let mut invitation = match &offer {
            Ok(Some(offer)) => offer.invitation.encode(),
            _ => Vec::new(),
        };
        self.broadcast(&mut invitation)?;
        let watch = match (offer, Invitation::decode(&invitation)) {
            (Ok(Some(offer)), _) => offer.accept(&self.hosts, timeout),
            (Ok(None), Some(invitation)) => invitation.accept(self.rank, &self.hosts, timeout),
            (Ok(None), None) => Err(anyhow::anyhow!("process 0 cannot be watched")),
            (Err(error), _) => Err(error),
        };
        let problem = watch.as_ref().err().map(one_line).unwrap_or_default();
        let problems = self.gather(problem.as_bytes())?;
        let problems = problems.iter().enumerate().filter(|(_, problem)| !problem.is_empty());
        for (rank, problem) in problems.filter(|_| self.rank == 0) {
            terminal::warning(&format!(
                "process {rank} on host {} is not watched: {}. Should a process die, this run may wait for ever",
                self.hosts[rank],
                String::from_utf8_lossy(problem)
            ));
        }
        Ok(watch.ok())
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

    /// What the MPI library calls itself, such as "Open MPI v5.0.11".
    pub fn library(&self) -> &str {
        self.mpi.library.version.split(',').next().unwrap_or_default().trim()
    }

    /// The name of the machine of each process.
    pub fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// How many processes of this machine may use the very cores of this one, this one included.
    ///
    /// # Errors
    /// A process that is gone.
    pub fn num_sharing_cores(&self) -> Result<usize> {
        let own = binding::own_cores();
        let all = self.gather(own.as_bytes())?;
        let is_here = |rank: usize| self.hosts[rank] == self.hosts[self.rank];
        Ok((0..self.size).filter(|&rank| is_here(rank) && all[rank] == own.as_bytes()).count())
    }

    /// A warning if the processes of this machine were bound to fewer cores than each could have.
    pub fn binding_warning(&self) -> Option<String> {
        binding_warning(self.local_size, binding::affinity(), binding::cores())
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
        let mut parts = values.chunks_mut(FAST_SUM_NUMBERS);
        parts.try_for_each(|part| self.mpi.all_reduce_f32(part)).map_err(|error| self.explain(error))
    }

    /// The same in double precision.
    ///
    /// # Errors
    /// An error of MPI.
    pub fn sum_f64_fast(&self, values: &mut [f64]) -> Result<()> {
        self.check()?;
        let mut parts = values.chunks_mut(FAST_SUM_NUMBERS);
        parts.try_for_each(|part| self.mpi.all_reduce_f64(part)).map_err(|error| self.explain(error))
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

    /// Whether a process is gone, to be asked by any thread; never, if this process is not watched.
    pub fn loss_signal(&self) -> impl Fn() -> bool + Send + use<> {
        let signal = self.watch.as_ref().map(Watch::loss_signal);
        move || signal.as_ref().is_some_and(|is_lost| is_lost())
    }

    /// Tells the others that this process ends, and why, so that they do not wait. It does not end MPI, which would wait
    /// for them, nor itself: its error is still to be shown.
    pub fn abort(&self, message: &str) {
        if let Some(watch) = &self.watch {
            watch.abort(message);
        }
    }

    /// Ends MPI once every process is here.
    ///
    /// # Errors
    /// A process that is gone; an error of MPI.
    pub fn finish(self) -> Result<()> {
        self.barrier()?;
        self.is_over.set(true);
        self.is_finished.set(true);
        if let Some(watch) = &self.watch {
            watch.goodbye();
        }
        self.mpi.finalize()
    }

    /// Whether others can still be reached.
    fn check(&self) -> Result<()> {
        if let Some(watch) = &self.watch {
            watch.check()?;
        }
        if self.is_over.get() {
            return Err(failure("the processes are no longer connected", RESUME));
        }
        Ok(())
    }

    /// The error of what connects the processes, or who is gone if that is the reason for it: it may be noticed before
    /// the watch says so. After this no others can be reached.
    pub fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        self.is_over.set(true);
        let until = Instant::now() + NOTICING;
        while Instant::now() < until {
            if let Some(Err(loss)) = self.watch.as_ref().map(Watch::check) {
                return loss;
            }
            thread::sleep(Duration::from_millis(10));
        }
        error
    }
}

/// A process that leaves without a word tells the others as well.
impl Drop for World {
    fn drop(&mut self) {
        if !self.is_finished.get() {
            self.abort(if thread::panicking() { "it panicked" } else { "it ended before the others" });
        }
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
        self.mpi.swap(send, receive, meanwhile, &check).map_err(|error| self.explain(error))
    }
}

/// Finds a wrong pair before MPI is initialized, where it would end the process: MPICH does so under the mpirun of Open
/// MPI. Others start as a world of one, which shows afterwards.
fn check_starter(launch: &Launch, library: &Library) -> Result<()> {
    if launch.why.starts_with("OMPI_") && !library.version.contains("Open MPI") {
        return Err(mismatch(launch, library, "does not fit"));
    }
    Ok(())
}

fn mismatch(launch: &Launch, library: &Library, but: &str) -> anyhow::Error {
    let starter = match launch.launcher {
        Launcher::Slurm => "srun",
        _ if launch.why.starts_with("OMPI_") => "the mpirun of Open MPI",
        _ => "an mpirun like that of MPICH",
    };
    failure(
        format!(
            "the program was started by another MPI than the library belongs to: {starter} started process {} of {} \
             ({}), but the library {} ({}) {but}",
            launch.rank, launch.size, launch.why, library.path, library.version
        ),
        format!(
            "set {LIBRARY_VARIABLE} to the library of the MPI that starts the program, or start it with the mpirun of \
             this library; with srun, --mpi=pmix or --mpi=pmi2 has to fit the library"
        ),
    )
}
