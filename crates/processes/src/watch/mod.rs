//! Watches over the other processes: MPI does not say that one has died, and may wait for ever for it.
//!
//! Each process has a thread with TCP connections: process 0 one to each other process, the others one to process 0.
//! Both sides send a beat each second. A connection that ends without a goodbye, or is silent for too long, means that
//! the process is gone; process 0 tells the others who it was. What waits for others then returns an error. A process
//! that does not notice, since it computes or is stuck within MPI, is ended after a while.

mod connect;
mod message;
mod state;
mod thread;

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use base::error::usage_error;
use base::visible;

pub(crate) use connect::{Invitation, Offer};
use message::Peer;
pub(crate) use state::RESUME;
use state::{Order, Shared, locked};

/// Seconds of silence after which a process is taken for gone.
pub(crate) const TIMEOUT_VARIABLE: &str = "CAPTION_TRAIN_PEER_TIMEOUT";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a process that stops waits until the others know.
const TELLING: Duration = Duration::from_secs(1);
/// Characters of an error that others are told.
const MAX_MESSAGE: usize = 2000;

/// The watch of this process.
pub(crate) struct Watch {
    shared: Arc<Shared>,
    /// Wakes the thread, which waits for its sockets.
    waker: UnixStream,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Starts the thread, for connections that are made.
    fn start(rank: usize, hosts: &[String], peers: Vec<Peer>, timeout: Duration) -> Result<Self> {
        let shared = Arc::<Shared>::default();
        let (waker, woken) = UnixStream::pair().context("cannot watch over the other processes")?;
        woken.set_nonblocking(true).context("cannot watch over the other processes")?;
        let thread = thread::Thread::new(Arc::clone(&shared), rank, hosts.to_vec(), peers, woken, timeout);
        let thread = base::threads::spawn("watch", move || thread.run())?;
        Ok(Self { shared, waker, thread: Some(thread) })
    }

    /// # Errors
    /// A process is gone.
    pub(crate) fn check(&self) -> Result<()> {
        if !self.shared.is_lost.load(Ordering::Acquire) {
            return Ok(());
        }
        self.shared.is_known.store(true, Ordering::Release);
        self.shared.loss.get().map_or(Ok(()), |loss| Err(loss.error()))
    }

    /// Whether a process is gone, to be asked by any thread.
    pub(crate) fn loss_signal(&self) -> impl Fn() -> bool + Send + use<> {
        let shared = Arc::clone(&self.shared);
        move || shared.is_lost.load(Ordering::Acquire)
    }

    /// Tells the others that this process stops with an error, and returns once they know or after a second.
    pub(crate) fn abort(&self, message: &str) {
        if self.shared.is_lost.load(Ordering::Acquire) {
            // The others know of the process that was lost first.
            return;
        }
        self.give(Order::Abort(visible::cut(message, MAX_MESSAGE)));
        let done = locked(&self.shared.is_done);
        drop(self.shared.done.wait_timeout_while(done, TELLING, |done| !*done));
    }

    /// Says that this process has finished. From now on nobody is missed.
    pub(crate) fn goodbye(&self) {
        self.give(Order::Goodbye);
    }

    fn give(&self, order: Order) {
        *locked(&self.shared.order) = Some(order);
        // If the thread cannot be woken, it looks when it sends its next beat.
        let _ = (&self.waker).write(&[0]);
    }
}

/// Waits for the thread if this process said goodbye; the others may take a moment to say theirs.
impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.waker.shutdown(std::net::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// How long a process may be silent.
///
/// # Errors
/// A variable that is no number of seconds.
pub(crate) fn timeout(text: Option<String>) -> Result<Duration> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(DEFAULT_TIMEOUT) };
    match text.trim().parse::<u32>() {
        Ok(seconds @ 1..=86_400) => Ok(Duration::from_secs(seconds.into())),
        _ => Err(usage_error(
            format!("expected {TIMEOUT_VARIABLE} to be from 1 to 86400 seconds, found {}", visible::quoted(&text)),
            format!("unset {TIMEOUT_VARIABLE} for {} seconds", DEFAULT_TIMEOUT.as_secs()),
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use base::error::describe;

    use super::*;

    /// The watches of three processes, in this one.
    fn watches() -> [Watch; 3] {
        let hosts = ["a", "b", "c"].map(str::to_owned);
        let timeout = Duration::from_secs(10);
        let offer = Offer::new(true).unwrap();
        let invitation = offer.invitation.clone();
        std::thread::scope(|scope| {
            let others = [1, 2].map(|rank| {
                let (invitation, hosts) = (&invitation, &hosts);
                scope.spawn(move || invitation.accept(rank, hosts, timeout).unwrap())
            });
            let first = offer.accept(&hosts, timeout).unwrap();
            let [second, third] = others.map(|thread| thread.join().unwrap());
            [first, second, third]
        })
    }

    fn loss(watch: &Watch) -> String {
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(10) {
            if let Err(error) = watch.check() {
                return describe(&error);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("nothing was noticed");
    }

    #[test]
    fn all_others_learn_who_is_gone_and_that_training_can_be_resumed() {
        let [first, second, third] = watches();
        drop(second);
        let expected = format!("process 1 on host b is gone\n  hint: {RESUME}");
        assert_eq!([loss(&first), loss(&third)], [expected.clone(), expected]);
    }

    #[test]
    fn all_others_learn_of_the_end_of_process_0() {
        let [first, second, third] = watches();
        drop(first);
        assert!([loss(&second), loss(&third)].iter().all(|loss| loss.starts_with("process 0 on host a is gone")));
    }

    #[test]
    fn an_error_is_known_to_all_when_abort_returns() {
        for victim in [0, 2] {
            let watches = watches();
            watches[victim].abort("no space left\non device");
            for watch in watches.iter().enumerate().filter(|(rank, _)| *rank != victim).map(|(_, watch)| watch) {
                let said = loss(watch);
                assert!(said.starts_with(&format!("process {victim} on host ")), "{said}");
                assert!(said.contains("stopped with an error: no space left"), "{said}");
            }
            assert!(watches[victim].check().is_ok());
        }
    }

    #[test]
    fn nobody_misses_a_process_that_said_goodbye() {
        let [first, second, third] = watches();
        second.goodbye();
        drop(second);
        std::thread::sleep(Duration::from_millis(50));
        assert!(first.check().is_ok() && third.check().is_ok());
        first.goodbye();
        third.goodbye();
    }

    #[test]
    fn the_time_of_silence_is_in_seconds() {
        let timeout = |text: &str| super::timeout(Some(text.to_owned()));
        assert_eq!((super::timeout(None).unwrap(), timeout("").unwrap()), (DEFAULT_TIMEOUT, DEFAULT_TIMEOUT));
        assert_eq!(timeout(" 3 ").unwrap(), Duration::from_secs(3));
        for wrong in ["0", "-1", "soon", "1e9"] {
            assert!(describe(&timeout(wrong).unwrap_err()).contains(TIMEOUT_VARIABLE));
        }
    }
}
