//! What a run and the thread that sends its log tell each other.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How far the run is, for the thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    #[default]
    Running,
    /// The log is whole: send the rest at once.
    Finishing,
    /// Nobody waits any more.
    Abandoned,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) phase: Phase,
    /// How far the log reaches.
    pub(super) published: u64,
    pub(super) url: Option<String>,
    pub(super) is_stopped: bool,
    /// The thread has ended.
    pub(super) is_over: bool,
    /// All has arrived.
    pub(super) is_complete: bool,
    /// Requests that succeeded.
    pub(super) num_answers: u64,
}

/// How sending the rest of a log went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finish {
    /// All has arrived.
    Complete,
    /// The server takes no more; the thread has said so.
    Refused,
    /// The server does not answer.
    Unanswered,
}

/// What the run and its thread share.
#[derive(Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    /// The state, for as long as the guard lives.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // The state is plain values, each of which is valid by itself.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes who waits for it.
    pub(super) fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }

    /// Waits until `is_enough`, at most so long.
    pub(super) fn wait(&self, most: Duration, is_enough: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let waited = self.changed.wait_timeout_while(self.state(), most, |state| !is_enough(state));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// The log reaches so far.
    pub(super) fn publish(&self, position: u64) {
        // No wake-up: the thread looks when its next request is due.
        self.state().published = position;
    }

    pub(super) fn url(&self) -> Option<String> {
        self.state().url.clone()
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.state().is_stopped
    }

    /// Waits for the first answer; whether the server has taken the run.
    pub(super) fn wait_for_connection(&self, most: Duration) -> Option<String> {
        self.wait(most, |state| state.url.is_some() || state.is_over).url.clone()
    }

    pub(super) fn is_over(&self) -> bool {
        self.state().is_over
    }

    /// Lets the thread send the rest. Ends when nothing succeeded for `patience`.
    pub(super) fn finish(&self, patience: Duration) -> Finish {
        self.set(|state| state.phase = Phase::Finishing);
        loop {
            let before = self.state().num_answers;
            let state = self.wait(patience, |state| state.is_over || state.num_answers != before);
            if state.is_over {
                return if state.is_complete { Finish::Complete } else { Finish::Refused };
            }
            if state.num_answers == before {
                drop(state);
                self.abandon();
                return Finish::Unanswered;
            }
        }
    }

    /// Lets the thread end where it is.
    pub(super) fn abandon(&self) {
        self.set(|state| state.phase = Phase::Abandoned);
    }
}
