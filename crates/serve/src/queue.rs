//! A bounded queue of requests that wait for the model. A client that disconnects gives up its place.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::body::Image;
use super::describe::{Answer, Refusal, Request};

pub(super) struct Job {
    pub(super) image: Image,
    pub(super) request: Request,
    pub(super) reply: oneshot::Sender<Outcome>,
    number: u64,
}

pub(super) struct Outcome {
    pub(super) result: Result<Answer, Refusal>,
    /// Computing time, without the time in the queue.
    pub(super) milliseconds: u64,
}

/// Why a request cannot join the queue, or left it without an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// The queue is full.
    Full,
    /// The server is stopping.
    Closed,
}

pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    num_waiting: usize,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    is_busy: bool,
    is_closed: bool,
    num_joined: u64,
}

impl Queue {
    /// A queue in which `num_waiting` requests may wait while the model is busy.
    pub(super) fn new(num_waiting: usize) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), changed: Condvar::new(), num_waiting })
    }

    /// Takes the last place.
    pub(super) fn join(self: &Arc<Self>, image: Image, request: Request) -> Result<Place, NoPlace> {
        let (reply, outcome) = oneshot::channel();
        let mut state = self.state();
        if state.is_closed {
            return Err(NoPlace::Closed);
        }
        // One more while the model is free: it has not taken the first one yet.
        if state.waiting.len() + usize::from(state.is_busy) > self.num_waiting {
            return Err(NoPlace::Full);
        }
        let number = state.num_joined;
        state.num_joined += 1;
        state.waiting.push_back(Job { image, request, reply, number });
        drop(state);
        self.changed.notify_one();
        Ok(Place { queue: Arc::clone(self), outcome, number })
    }

    /// Waits for the next picture; the previous one is done. `None` when the queue is closed.
    pub(super) fn next(&self) -> Option<Job> {
        let mut state = self.state();
        state.is_busy = false;
        loop {
            if state.is_closed {
                return None;
            }
            if let Some(job) = state.waiting.pop_front() {
                state.is_busy = true;
                return Some(job);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Refuses all waiting and future requests.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        state.waiting.clear();
        drop(state);
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the queue. Dropping it gives it up; a picture that the model has started is finished anyway.
pub(super) struct Place {
    queue: Arc<Queue>,
    outcome: oneshot::Receiver<Outcome>,
    number: u64,
}

impl Place {
    /// Waits for the outcome; an error if the queue was closed before.
    pub(super) async fn outcome(&mut self) -> Result<Outcome, NoPlace> {
        (&mut self.outcome).await.map_err(|_| NoPlace::Closed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.queue.state().waiting.retain(|job| job.number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;

    const REQUEST: Request = Request { num_captions: 1, num_beams: None, attention: false, prompt: None };

    fn join(queue: &Arc<Queue>, name: u8) -> Result<Place, NoPlace> {
        let room = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        queue.join(Image { bytes: vec![name], room }, REQUEST)
    }

    #[test]
    fn pictures_come_in_order_and_one_too_many_is_sent_away() {
        let queue = Queue::new(2);
        let places: Vec<Place> = (0..3).map(|name| join(&queue, name).unwrap()).collect();
        assert_eq!(join(&queue, 3).err(), Some(NoPlace::Full));
        assert_eq!(queue.next().unwrap().image.bytes, [0]);
        assert_eq!(join(&queue, 3).err(), Some(NoPlace::Full));
        assert_eq!(queue.next().unwrap().image.bytes, [1]);
        let last = join(&queue, 3).unwrap();
        assert_eq!(queue.next().unwrap().image.bytes, [2]);
        assert_eq!(queue.next().unwrap().image.bytes, [3]);
        drop((places, last));
    }

    #[test]
    fn who_leaves_gives_up_the_place() {
        let queue = Queue::new(1);
        let (first, second) = (join(&queue, 0).unwrap(), join(&queue, 1).unwrap());
        drop(first);
        let third = join(&queue, 2).unwrap();
        assert_eq!(queue.next().unwrap().image.bytes, [1]);
        assert_eq!(queue.next().unwrap().image.bytes, [2]);
        drop((second, third));
    }

    #[test]
    fn closed_queue_sends_all_away() {
        let queue = Queue::new(1);
        let mut place = join(&queue, 0).unwrap();
        queue.close();
        assert!(queue.next().is_none());
        assert_eq!(join(&queue, 1).err(), Some(NoPlace::Closed));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert_eq!(runtime.block_on(place.outcome()).err(), Some(NoPlace::Closed));
    }
}
