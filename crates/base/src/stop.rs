//! A request to stop, shared between the code that receives it and the code that can stop cleanly.

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
    pub fn raise(&self) {
        self.0.raised.store(true, Ordering::Relaxed);
    }

    pub fn is_raised(&self) -> bool {
        self.0.raised.load(Ordering::Relaxed)
    }

    /// Promises that the flag is checked from now on.
    pub fn attend(&self) {
        self.0.attended.store(true, Ordering::Relaxed);
    }

    /// Whether the flag is checked. Before that, a clean stop would have nothing to save.
    pub fn is_attended(&self) -> bool {
        self.0.attended.load(Ordering::Relaxed)
    }
}
