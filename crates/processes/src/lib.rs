//! The processes that train one model together, connected by the MPI that is on the machine.

#![cfg_attr(test, expect(clippy::disallowed_methods, reason = "tests write files of their own"))]

pub mod binding;
mod exchange;
mod launch;
mod mpi;
pub mod start;
mod system;
mod watch;
mod world;

pub use launch::{Launch, Launcher};
pub use mpi::LIBRARY_VARIABLE;
pub use world::World;
