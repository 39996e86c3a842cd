//! The thread that sends beats and listens for those of others.

use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use base::error::describe;
use base::terminal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::message::{Broken, Message, Peer};
use super::state::{Cause, Loss, Order, Shared, locked};
use crate::system;

const BEAT: Duration = Duration::from_secs(1);
/// A process that computes, or is stuck within MPI, is ended so long after a loss.
const GRACE: Duration = Duration::from_secs(5);
/// A process that knows of the loss gets this long to close its files.
const GRACE_OF_KNOWING: Duration = Duration::from_secs(30);
/// How long a process that has finished waits for the goodbye of others.
const FAREWELL: Duration = Duration::from_secs(1);

pub(super) struct Thread {
    shared: Arc<Shared>,
    rank: usize,
    hosts: Vec<String>,
    peers: Vec<Peer>,
    woken: UnixStream,
    timeout: Duration,
    beat: Duration,
    state: State,
    /// Whether the owner no longer waits for anything but the end of this thread.
    is_dropped: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Watching,
    /// A process was lost at that time.
    Lost(Instant),
    /// This process stops with an error. The others know when so many have answered.
    Aborting {
        unanswered: usize,
    },
    /// This process has finished, at that time.
    Leaving(Instant),
    /// The thread ends.
    Over,
}

impl Thread {
    pub(super) fn new(
        shared: Arc<Shared>,
        rank: usize,
        hosts: Vec<String>,
        peers: Vec<Peer>,
        woken: UnixStream,
        timeout: Duration,
    ) -> Self {
        let beat = BEAT.min(timeout / 5);
        Self { shared, rank, hosts, peers, woken, timeout, beat, state: State::Watching, is_dropped: false }
    }

    pub(super) fn run(mut self) {
        let mut last_beat = Instant::now();
        while self.state != State::Over {
            let asleep = Instant::now();
            self.wait();
            // A process that was itself stopped, with all others or on its own, heard nothing while it was.
            if asleep.elapsed() > self.beat * 2 {
                self.peers.iter_mut().for_each(|peer| peer.heard = Instant::now());
            }
            self.obey();
            for index in 0..self.peers.len() {
                self.listen(index);
            }
            if last_beat.elapsed() >= self.beat {
                last_beat = Instant::now();
                self.send_all(&Message::Beat, usize::MAX);
            }
            self.peers.iter_mut().for_each(Peer::flush);
            self.miss();
            self.end_in_time();
        }
    }

    /// Waits for something to arrive, or the time of the next beat.
    fn wait(&mut self) {
        let open =
            self.peers.iter().filter(|peer| !peer.is_closed).map(|peer| PollFd::new(&peer.stream, PollFlags::IN));
        let woken = (!self.is_dropped).then(|| PollFd::new(&self.woken, PollFlags::IN));
        let mut sources: Vec<PollFd<'_>> = woken.into_iter().chain(open).collect();
        let most = Timespec { tv_sec: 0, tv_nsec: self.beat.min(Duration::from_millis(250)).as_nanos() as i64 };
        // A signal may interrupt it; then all is looked at earlier.
        let _ = poll(&mut sources, Some(&most));
    }

    /// Does what the training thread asks.
    fn obey(&mut self) {
        let mut buffer = [0; 16];
        self.is_dropped |= matches!(self.woken.read(&mut buffer), Ok(0));
        let order = locked(&self.shared.order).take();
        match order {
            Some(Order::Goodbye) => {
                self.send_all(&Message::Goodbye, usize::MAX);
                self.peers.iter_mut().for_each(Peer::end);
                self.state = State::Leaving(Instant::now());
            }
            Some(Order::Abort(message)) => {
                let message = match self.rank {
                    0 => Message::Lost(0, Cause::Error(message)),
                    _ => Message::Failed(message),
                };
                self.send_all(&message, usize::MAX);
                let unanswered = self.peers.iter().filter(|peer| !peer.is_closed).count();
                self.state = State::Aborting { unanswered };
                self.answered(0);
            }
            None => {}
        }
        if self.is_dropped && !matches!(self.state, State::Leaving(_)) {
            self.state = State::Over;
        }
    }

    fn listen(&mut self, index: usize) {
        while !self.peers[index].is_closed {
            let peer = &mut self.peers[index];
            let rank = peer.rank;
            match peer.receive() {
                Ok(None) => return,
                Ok(Some(Message::Beat)) => {}
                Ok(Some(Message::Goodbye)) => peer.has_said_goodbye = true,
                Ok(Some(Message::Heard)) => self.answered(1),
                Ok(Some(Message::Failed(text))) => {
                    self.lose(rank, Cause::Error(text));
                    self.peers[index].send(&Message::Heard);
                }
                Ok(Some(Message::Lost(lost, cause))) => {
                    self.lose(lost, cause);
                    self.peers[index].send(&Message::Heard);
                }
                Err(Broken) => {
                    peer.is_closed = true;
                    if !peer.has_said_goodbye {
                        self.lose(rank, Cause::Gone);
                    }
                    self.answered(1);
                }
            }
        }
    }

    /// Notices who has been silent for too long.
    fn miss(&mut self) {
        let is_silent = |peer: &Peer| !peer.is_closed && !peer.has_said_goodbye && peer.heard.elapsed() > self.timeout;
        let silent: Vec<usize> = self.peers.iter().filter(|peer| is_silent(peer)).map(|peer| peer.rank).collect();
        for rank in silent {
            self.lose(rank, Cause::Silent(self.timeout.as_secs() as u32));
        }
    }

    /// Records the first loss, and tells others of it.
    fn lose(&mut self, rank: usize, cause: Cause) {
        if self.state != State::Watching || rank == self.rank {
            return;
        }
        self.state = State::Lost(Instant::now());
        let host = self.hosts.get(rank).cloned().unwrap_or_default();
        let loss = Loss { rank, host, cause };
        if self.rank == 0 {
            self.send_all(&Message::Lost(rank, loss.cause.clone()), rank);
        }
        // At once, and by one process: mpirun may end all of them within milliseconds. Process 0 shows its own error.
        let shows = if rank == 0 { self.rank == 1 && loss.cause == Cause::Gone } else { self.rank == 0 };
        let text = loss.to_string();
        let _ = self.shared.loss.set(loss);
        self.shared.is_lost.store(true, Ordering::Release);
        if shows {
            terminal::warning(&text);
        }
    }

    /// So many more processes know that this one stops, or are gone.
    fn answered(&mut self, count: usize) {
        if let State::Aborting { unanswered } = &mut self.state {
            *unanswered = unanswered.saturating_sub(count);
            if *unanswered == 0 {
                *locked(&self.shared.is_done) = true;
                self.shared.done.notify_all();
            }
        }
    }

    fn end_in_time(&mut self) {
        match self.state {
            State::Lost(since) => {
                let is_known = self.shared.is_known.load(Ordering::Acquire);
                if since.elapsed() > if is_known { GRACE_OF_KNOWING } else { GRACE } {
                    if let Some(loss) = self.shared.loss.get() {
                        terminal::error(&describe(&loss.error()));
                    }
                    system::exit_now(1);
                }
            }
            State::Leaving(since) => {
                if since.elapsed() > FAREWELL || self.peers.iter().all(|peer| peer.is_closed) {
                    self.state = State::Over;
                }
            }
            State::Watching | State::Aborting { .. } | State::Over => {}
        }
    }

    fn send_all(&mut self, message: &Message, except: usize) {
        for peer in self.peers.iter_mut().filter(|peer| !peer.is_closed && peer.rank != except) {
            peer.send(message);
        }
    }
}
