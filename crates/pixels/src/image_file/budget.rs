//! How much memory pictures may take, all threads together. A picture's need is known from its header; who decodes
//! waits until that much is free, and a need that is above the whole is an error.
//!
//! There are three budgets, which are taken from in one order: files as they are read, pixels while they are decoded
//! and used, and what is made of pixels. Nobody who holds a share waits for another one of the same budget or of one
//! before it, so each wait ends. (None of them is held where rayon may begin another picture on the same thread.)

use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use base::error::failure;
use base::{memory, process};

/// A photograph of 108 megapixels needs 468 MiB: a JPEG of usual kind, or a PNG.
const MIN_FOR_PIXELS: u64 = 472 << 20;
const MAX_FOR_PIXELS: u64 = 4 << 30;

/// This machine's memory, if the system does not say.
const UNKNOWN_MEMORY: u64 = 4 << 30;

/// What a share is of its budget, at least, to go back to the system at once and not to the program only.
const LARGE_PART: u64 = 16;

static BUDGETS: OnceLock<Budgets> = OnceLock::new();

#[derive(Debug)]
pub struct Budgets {
    pub files: Budget,
    /// Pixels, and what their decoder takes.
    pub pixels: Budget,
    /// What is made of pixels by a resize.
    pub resizing: Budget,
}

/// Bytes that threads share. First come, first served, so that a large need does not wait forever.
#[derive(Debug)]
pub struct Budget {
    limit: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    taken: u64,
    /// The number that the next to come gets, and the number whose turn it is.
    next: u64,
    turn: u64,
}

/// Bytes of a budget, given back when it is dropped.
#[derive(Debug)]
pub struct Share {
    budget: &'static Budget,
    bytes: u64,
}

/// Restricts the process to what a single large photograph needs, whatever memory there is. To be called before a
/// picture is read.
pub fn restrict_to_one_picture() {
    // Once budgets are in use they stay as they are.
    let _ = BUDGETS.set(Budgets::for_one_picture(memory()));
}

pub fn budgets() -> &'static Budgets {
    BUDGETS.get_or_init(|| Budgets::for_many_pictures(memory()))
}

fn memory() -> u64 {
    let memory = memory::capacity_bytes().unwrap_or(UNKNOWN_MEMORY);
    // What is mapped by now, such as the stacks of threads, is lost for pictures.
    memory::address_space_left().map_or(memory, |left| left.min(memory))
}

impl Budgets {
    /// A quarter of this memory is for pixels.
    fn for_many_pictures(memory: u64) -> Self {
        let pixels = (memory / 4).clamp(MIN_FOR_PIXELS, MAX_FOR_PIXELS).min(memory / 2);
        Self { files: Budget::new(pixels / 4), pixels: Budget::new(pixels), resizing: Budget::new(pixels / 2) }
    }

    fn for_one_picture(memory: u64) -> Self {
        let pixels = MIN_FOR_PIXELS.min(memory / 2);
        Self { files: Budget::new(pixels / 4), pixels: Budget::new(pixels), resizing: Budget::new(pixels / 16) }
    }
}

impl Budget {
    fn new(limit: u64) -> Self {
        Self { limit, state: Mutex::default(), changed: Condvar::new() }
    }

    /// The whole, in bytes.
    pub fn size(&self) -> u64 {
        self.limit
    }

    /// So many bytes, once they are free. `what` says in an error what takes them, as in "its 3x2 pixels take".
    pub fn take(&'static self, bytes: u64, what: impl FnOnce() -> String) -> anyhow::Result<Share> {
        if bytes > self.limit {
            let megabytes = |bytes: u64| bytes.div_ceil(1_000_000);
            return Err(failure(
                format!(
                    "{} {} MB of memory, more than the {} MB that are available for it here",
                    what(),
                    megabytes(bytes),
                    self.limit / 1_000_000
                ),
                "store it smaller: a model sees only a few hundred pixels per side",
            ));
        }
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        let waits = |state: &mut State| state.turn != number || state.taken + bytes > self.limit;
        state = self.changed.wait_while(state, waits).unwrap_or_else(PoisonError::into_inner);
        state.taken += bytes;
        state.turn += 1;
        let others_wait = state.turn != state.next;
        drop(state);
        if others_wait {
            self.changed.notify_all();
        }
        Ok(Share { budget: self, bytes })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.bytes >= self.budget.limit / LARGE_PART {
            process::give_back_memory();
        }
        self.budget.state().taken -= self.bytes;
        self.budget.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::mpsc::channel;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use base::error::describe;

    fn budget(limit: u64) -> &'static Budget {
        Box::leak(Box::new(Budget::new(limit)))
    }

    fn take(budget: &'static Budget, bytes: u64) -> Share {
        budget.take(bytes, || "it takes".to_owned()).unwrap()
    }

    #[test]
    fn threads_together_never_have_more_than_the_whole_and_all_are_served() {
        let shared = budget(100);
        let (now, max, served) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        thread::scope(|scope| {
            for thread in 0..8_u64 {
                let (now, max, served) = (&now, &max, &served);
                scope.spawn(move || {
                    for round in 0..50 {
                        let bytes = 1 + (37 * thread + 13 * round) % 100;
                        let share = take(shared, bytes);
                        max.fetch_max(now.fetch_add(bytes, Ordering::SeqCst) + bytes, Ordering::SeqCst);
                        thread::yield_now();
                        now.fetch_sub(bytes, Ordering::SeqCst);
                        drop(share);
                        served.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(served.into_inner(), 400);
        let max = max.into_inner();
        assert!((60..=100).contains(&max), "{max}");
        assert_eq!(shared.state().taken, 0);
    }

    #[test]
    fn a_large_need_waits_and_is_not_passed_over() {
        let shared = budget(10);
        let first = take(shared, 4);
        let (sender, receiver) = channel();
        let wait_for = |count: u64| {
            while shared.state().next < count {
                thread::sleep(Duration::from_millis(1));
            }
        };
        thread::scope(|scope| {
            for (count, name, bytes) in [(2, "large", 9), (3, "small", 2)] {
                let sender = sender.clone();
                scope.spawn(move || {
                    let share = take(shared, bytes);
                    sender.send(name).unwrap();
                    drop(share);
                });
                wait_for(count);
            }
            assert!(
                receiver.recv_timeout(Duration::from_millis(50)).is_err(),
                "there is no room, and the small one is second"
            );
            drop(first);
            assert_eq!([receiver.recv().unwrap(), receiver.recv().unwrap()], ["large", "small"]);
        });
    }

    #[test]
    fn more_than_the_whole_is_refused_at_once_with_its_size_the_limit_and_a_way_out() {
        let shared = budget(3_000_000);
        let held = take(shared, 3_000_000);
        let error = shared.take(3_000_001, || "decoding its 9x9 pixels takes".to_owned()).unwrap_err();
        let expected =
            "decoding its 9x9 pixels takes 4 MB of memory, more than the 3 MB that are available for it here";
        assert!(describe(&error).starts_with(expected) && describe(&error).contains("hint: store it smaller"));
        drop(held);
        drop(take(shared, 0));
        assert_eq!(shared.state().taken, 0);
    }

    #[test]
    fn budgets_are_a_part_of_the_memory_within_bounds() {
        let pixels = |memory: u64| Budgets::for_many_pictures(memory).pixels.limit;
        assert_eq!([pixels(64 << 30), pixels(8 << 30)], [4 << 30, 2 << 30]);
        assert_eq!([pixels(1 << 30), pixels(512 << 20)], [472 << 20, 256 << 20]);
        let one = |memory: u64| Budgets::for_one_picture(memory).pixels.limit;
        assert_eq!([one(64 << 30), one(512 << 20)], [472 << 20, 256 << 20]);
    }
}
