//! A request to stop, shared between whoever receives it and whoever can end the work in an orderly way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Exit code of a process that a signal stopped.
pub const EXIT_CODE: u8 = 130;

/// A flag that is raised once.
#[derive(Clone, Debug, Default)]
pub struct StopFlag(Arc<State>);

#[derive(Debug, Default)]
struct State {
    raised: AtomicBool,
    attended: AtomicBool,
}

impl StopFlag {
    /// Asks for a stop.
    pub fn raise(&self) {
        self.0.raised.store(true, Ordering::Relaxed);
    }

    /// Whether a stop was asked for.
    pub fn is_raised(&self) -> bool {
        self.0.raised.load(Ordering::Relaxed)
    }

    /// Promises that the flag is looked at from now on.
    pub fn attend(&self) {
        self.0.attended.store(true, Ordering::Relaxed);
    }

    /// Whether somebody looks at the flag. Before, there is nothing that an orderly end would save.
    pub fn is_attended(&self) -> bool {
        self.0.attended.load(Ordering::Relaxed)
    }
}
