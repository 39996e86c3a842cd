//! Connects the processes of a run that `mpirun`, `srun` or `--processes` started.

use std::rc::Rc;

use anyhow::{Context as _, Result};

use crate::config::Reduction;
use crate::run::processes::MpiProcesses;
use crate::training::collective::{Alone, Collective};
use crate::training::trainer::Outcome;
use base::error::usage_error;
use base::stop::EXIT_CODE;
use base::terminal::{self, Verbosity};
use base::threads;
use processes::{Launch, World};

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
        threads::start(sharing(&world)?)?;
        terminal::message(&format!("processes   {} ({}), connected by {}", world.size(), launch.why, world.library()));
        world.binding_warning().iter().for_each(|text| terminal::warning(text));
        let mpi = Rc::new(MpiProcesses::new(world));
        Ok(Self { collective: Rc::<MpiProcesses>::clone(&mpi), mpi: Some(mpi) })
    }

    /// How gradients are added up from now on.
    pub(crate) fn reduce_by(&self, reduction: Reduction) {
        if let Some(mpi) = &self.mpi {
            mpi.reduce_by(reduction);
        }
    }
}

/// How many processes of this machine run on the processors of this one, this one included.
fn sharing(world: &World) -> Result<usize> {
    let affinity = threads::affinity();
    let all = world.gather(affinity.as_bytes())?;
    let host = world.hosts().get(world.rank()).context("every process has a host")?;
    let here = world.hosts().iter().zip(&all).filter(|(other, _)| *other == host);
    Ok(here.filter(|(_, other)| **other == affinity.as_bytes()).count().max(1))
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
