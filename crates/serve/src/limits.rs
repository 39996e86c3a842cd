//! What a client may take of the machine, and for how long.

use std::time::Duration;

/// What a client may take. The defaults suit one person at a browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests that wait while the model is at work on another; the next is sent away. Default 8.
    pub num_waiting: usize,
    /// Connections at a time; more wait in the system's own queue. Each may hold a picture. Default 16.
    pub num_connections: usize,
    /// Bytes of a picture. Default 32 MiB.
    pub body_bytes: usize,
    /// Bytes of all pictures that are on their way, wait or are being described; one that finds no room is received later.
    /// No less than those of a picture. Default 48 MiB.
    pub all_bodies_bytes: usize,
    /// How long the head of a request may take to arrive, from the moment of connecting. Default 10 s.
    pub header: Duration,
    /// How long a picture may take to arrive, and as long again it may wait for room. Default 30 s.
    pub body: Duration,
    /// How long a caption may take, waiting included. Default 120 s.
    pub answer: Duration,
    /// How long an answered client may take to hang up. Default 2 s.
    pub linger: Duration,
    /// How long the work that is under way may take when the server is stopped. Default 10 s.
    pub finish: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            num_waiting: 8,
            num_connections: 16,
            body_bytes: 32 << 20,
            all_bodies_bytes: 48 << 20,
            header: Duration::from_secs(10),
            body: Duration::from_secs(30),
            answer: Duration::from_secs(120),
            linger: Duration::from_secs(2),
            finish: Duration::from_secs(10),
        }
    }
}

impl Limits {
    /// How long a connection may take up to the end of the answer. Each step has its own limit; this one holds for a
    /// client that does not take its answer, which may need as long as the head of a request.
    pub(super) fn connection(&self) -> Duration {
        self.header + 2 * self.body + self.answer + self.header
    }
}
