//! What the training thread and the watching thread share, and how a process is lost.

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use base::error::failure;

pub(crate) const RESUME: &str =
    "the last checkpoint is whole; start all processes again and resume with `caption-train --resume auto`";

/// A process that does not take part any more, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Loss {
    pub(super) rank: usize,
    pub(super) host: String,
    pub(super) cause: Cause,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Its connection ended.
    Gone,
    /// Nothing came from it for so many seconds.
    Silent(u32),
    /// It said why.
    Error(String),
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rank, host, cause } = self;
        match cause {
            Cause::Gone => write!(f, "process {rank} on host {host} is gone"),
            Cause::Silent(seconds) => write!(f, "process {rank} on host {host} has not answered for {seconds} s"),
            Cause::Error(message) => write!(f, "process {rank} on host {host} stopped with an error: {message}"),
        }
    }
}

impl Loss {
    pub(super) fn error(&self) -> anyhow::Error {
        failure(self, RESUME)
    }
}

/// What the training thread and the watching thread share.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) loss: OnceLock<Loss>,
    pub(super) is_lost: AtomicBool,
    /// Whether the program has the loss as an error and is about to end by itself.
    pub(super) is_known: AtomicBool,
    pub(super) order: Mutex<Option<Order>>,
    /// Whether the order was carried out.
    pub(super) is_done: Mutex<bool>,
    pub(super) done: Condvar,
}

/// What the training thread asks of the watching thread.
pub(super) enum Order {
    /// Say that this process has finished.
    Goodbye,
    /// Tell the others that this process stops with an error.
    Abort(String),
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
