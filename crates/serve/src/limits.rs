//! Limits of what clients may use, and for how long.

use std::time::Duration;

/// Limits of what clients may use. The defaults suit one user at a browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests that wait while the model is busy; further ones are refused. Default 8.
    pub num_waiting: usize,
    /// Simultaneous connections; more wait in the system's queue. Each may hold a picture. Default 16.
    pub num_connections: usize,
    /// Bytes of a picture. Default 32 MiB.
    pub body_bytes: usize,
    /// Bytes of all pictures that are being received, waiting or processed; a picture that does not fit is received
    /// later. At least the bytes of one picture. Default 48 MiB.
    pub all_bodies_bytes: usize,
    /// Time for the head of a request to arrive, from the moment of connecting. Default 10 s.
    pub header: Duration,
    /// Time for a picture to arrive, and also for waiting for memory. Default 30 s.
    pub body: Duration,
    /// Time for a caption, including waiting. Default 120 s.
    pub answer: Duration,
    /// Time for an answered client to disconnect. Default 2 s.
    pub linger: Duration,
    /// Time to finish current work when the server is stopped. Default 10 s.
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
    /// Time for a connection up to the end of the answer. Each step has its own limit; this one is for a client that
    /// does not read its answer, which may take as long as the head of a request.
    pub(super) fn connection(&self) -> Duration {
        self.header + 2 * self.body + self.answer + self.header
    }
}
