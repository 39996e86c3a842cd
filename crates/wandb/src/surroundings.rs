//! What a run needs of the world around it: a clock, random bits, someone to tell, and its pace.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use base::clock::unix_seconds;

/// What a run needs of the world around it.
pub struct Surroundings {
    /// Seconds since 1970.
    pub clock: Box<dyn Fn() -> f64 + Send>,
    /// Bits that no other run has.
    pub random: [u64; 3],
    /// Who is told messages and warnings; also called from the thread.
    pub say: Say,
    /// How often and how long.
    pub pace: Pace,
}

impl Surroundings {
    /// The system's clock and randomness.
    pub fn real(say: Say) -> Self {
        // The standard library's hash tables are seeded by the system.
        let random = || RandomState::new().build_hasher().finish();
        Self { clock: Box::new(unix_seconds), random: [random(), random(), random()], say, pace: Pace::default() }
    }
}
/// How a text is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Good to know.
    Message,
    /// Something is amiss.
    Warning,
}

/// Who is told messages and warnings.
pub type Say = Arc<dyn Fn(Tone, &str) + Send + Sync>;

/// How often and how long.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Between two requests with data.
    pub interval: Duration,
    /// Without data a sign of life is sent after so long.
    pub heartbeat: Duration,
    /// The pause after a first failure; it doubles for each further one.
    pub first_wait: Duration,
    /// The longest pause.
    pub longest_wait: Duration,
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
            first_wait: Duration::from_secs(2),
            longest_wait: Duration::from_secs(60),
            connect_wait: Duration::from_secs(10),
            finish_wait: Duration::from_secs(60),
        }
    }
}
