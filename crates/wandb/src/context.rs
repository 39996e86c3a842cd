//! What a run takes from its caller: a clock, random bits, where messages go, and its timing.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use base::clock::unix_seconds;

/// What a run takes from its caller.
pub struct Context {
    /// Seconds since 1970.
    pub clock: Box<dyn Fn() -> f64 + Send>,
    /// Bits that no other run has.
    pub random: [u64; 3],
    /// Receives messages and warnings, also from the sending thread.
    pub say: Say,
    pub pace: Pace,
}

impl Context {
    /// The system's clock and randomness.
    pub fn real(say: Say) -> Self {
        // The standard library's hash tables are seeded by the system.
        let random = || RandomState::new().build_hasher().finish();
        Self { clock: Box::new(unix_seconds), random: [random(), random(), random()], say, pace: Pace::default() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Message,
    Warning,
}

/// Receives messages and warnings.
pub type Say = Arc<dyn Fn(Tone, &str) + Send + Sync>;

/// Intervals and timeouts.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Between two requests with data.
    pub interval: Duration,
    /// Between two requests without data, which keep the run alive.
    pub heartbeat: Duration,
    /// The pause after a first failure; it doubles after each further one.
    pub min_retry_wait: Duration,
    pub max_retry_wait: Duration,
    /// How long the start of a run waits for the server.
    pub connect_wait: Duration,
    /// How long the end of a run waits without progress.
    pub finish_wait: Duration,
}

impl Default for Pace {
    /// The official client's pauses.
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(15),
            heartbeat: Duration::from_secs(30),
            min_retry_wait: Duration::from_secs(2),
            max_retry_wait: Duration::from_secs(60),
            connect_wait: Duration::from_secs(10),
            finish_wait: Duration::from_secs(60),
        }
    }
}
