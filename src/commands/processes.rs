//! Connects the processes of a run that `mpirun`, `srun` or `--processes` started.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use candle_core::Device;

use crate::commands::device::training_device;
use crate::config::{Reduction, TrainingConfig};
use crate::run::processes::MpiProcesses;
use crate::training::collective::{Alone, AnotherFailed, Collective, agreed, leave};
use crate::training::trainer::Outcome;
use base::error::{describe, usage_error};
use base::stop::EXIT_CODE;
use base::terminal::{self, Verbosity};
use base::threads;
use processes::{Launch, World};

/// In which `mpirun` passes on what a process wrote.
const FORWARDING: Duration = Duration::from_millis(300);
/// In which the main process records a failure and ends.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// The processes that train, connected.
pub(crate) struct Connected {
    pub(crate) collective: Rc<dyn Collective>,
    mpi: Option<Rc<MpiProcesses>>,
}

impl Connected {
    /// Connects this process to those that were started with it, if any, and starts its compute threads.
    ///
    /// # Errors
    /// No MPI, or another than the one that started the processes; threads that cannot be started.
    pub(crate) fn new() -> Result<Self> {
        let Some(launch) = Launch::of_environment(&|name| std::env::var(name).ok())? else {
            threads::start(1)?;
            return Ok(Self { collective: Rc::new(Alone), mpi: None });
        };
        if launch.rank > 0 {
            terminal::set_verbosity(Verbosity::Errors);
        }
        let world = World::open(&launch)?;
        threads::start(world.num_sharing_cores()?)?;
        terminal::message(&format!("processes   {} ({}), connected by {}", world.size(), launch.why, world.library()));
        world.binding_warning().iter().for_each(|text| terminal::warning(text));
        let mpi = Rc::new(MpiProcesses::new(world));
        Ok(Self { collective: Rc::<MpiProcesses>::clone(&mpi), mpi: Some(mpi) })
    }

    /// Takes leave of the other processes after the work, which ended like this. An error is told to them and shown
    /// here; then this process stays until they have said theirs: `mpirun` ends all of them, and may forget what they
    /// wrote, as soon as one ends. The main process has more to do, and ends first.
    pub(crate) fn part<T>(&self, ended: Result<T>) -> Result<T> {
        let collective = &*self.collective;
        let is_main = collective.is_main();
        let error = match ended {
            Ok(done) => return collective.finish().map(|()| done),
            Err(error) => error,
        };
        leave(collective, &error);
        if collective.size() > 1 {
            if is_main || !error.is::<AnotherFailed>() {
                terminal::error(&describe(&error));
            }
            terminal::set_verbosity(Verbosity::Silent);
            std::thread::sleep(if is_main { FORWARDING } else { LAST_WORDS });
        }
        Err(error)
    }

    /// The device that this process trains on, connected with those of the others.
    ///
    /// # Errors
    /// A device that cannot be used, or not together with those of the others.
    pub(crate) fn device(&self, training: &TrainingConfig) -> Result<Device> {
        let device = training_device(training, self.mpi.as_ref().map_or(0, |mpi| mpi.local_rank()));
        let device = agreed(&*self.collective, "use its device", device)?;
        if let Some(mpi) = &self.mpi {
            mpi.connect_devices(&device)?;
        }
        Ok(device)
    }

    /// How gradients are added up from now on.
    pub(crate) fn reduce_by(&self, reduction: Reduction) {
        if let Some(mpi) = &self.mpi {
            mpi.reduce_by(reduction);
        }
    }
}

/// Starts `count` processes with this command line on this machine; ends as they end.
///
/// # Errors
/// No MPI that starts processes; processes that were started already.
pub(crate) fn start_processes(count: usize) -> Result<Outcome> {
    if let Some(launch) = Launch::of_environment(&|name| std::env::var(name).ok())? {
        return Err(usage_error(
            format!("--processes starts processes, and this is one of {} already ({})", launch.size, launch.why),
            "leave it out where mpirun or srun starts them",
        ));
    }
    let program = std::env::current_exe().context("cannot find the program's own file")?;
    let mut arguments = Vec::new();
    let mut given = std::env::args_os().skip(1);
    while let Some(argument) = given.next() {
        match argument.to_str() {
            Some("--processes") => drop(given.next()),
            Some(text) if text.starts_with("--processes=") => {}
            _ => arguments.push(argument),
        }
    }
    let status = processes::start::processes_here(count, &program, &arguments)?;
    match status.code() {
        Some(0) => Ok(Outcome::Completed),
        Some(code) if code == i32::from(EXIT_CODE) => Ok(Outcome::Interrupted),
        // The processes have said why.
        code => std::process::exit(code.unwrap_or(1)),
    }
}
