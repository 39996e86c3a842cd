//! Runs jobs on several threads ahead of their use and returns the results in the order of the jobs.
//!
//! The result does not depend on the number of threads. Nothing here knows what a job is.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::thread::JoinHandle;

use anyhow::anyhow;

use base::error::one_line;
use base::terminal;
use base::threads::spawn;

/// An ordered stream of results. Dropping it starts no more jobs, lets the running ones end and joins the threads.
pub struct Loader<T> {
    shared: Arc<Shared<T>>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    /// A result was taken, or the loader stops.
    room: Condvar,
    /// A result was added.
    ready: Condvar,
}

struct State<T> {
    num_jobs: usize,
    /// Jobs from here on are not begun.
    next_job: usize,
    /// Results from here on are not taken.
    next_result: usize,
    /// Results that wait, by the index of their job.
    finished: BTreeMap<usize, anyhow::Result<T>>,
    stopped: bool,
}

impl<T: Send + 'static> Loader<T> {
    /// Starts `workers` threads (at least 1) that call `load` for each job. At most `ahead` jobs (at least 1) are begun
    /// or finished and not yet taken, so at least `workers` of them keep every thread busy.
    pub fn start<J: Send + 'static>(
        jobs: Vec<J>,
        workers: usize,
        ahead: usize,
        load: Arc<dyn Fn(J) -> anyhow::Result<T> + Send + Sync>,
    ) -> Self {
        let num_jobs = jobs.len();
        let state = State { num_jobs, next_job: 0, next_result: 0, finished: BTreeMap::new(), stopped: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), room: Condvar::new(), ready: Condvar::new() });
        let jobs = Arc::new(Mutex::new(jobs.into_iter()));
        let mut threads = Vec::new();
        for index in 0..workers.clamp(1, num_jobs.max(1)) {
            let (shared_here, jobs, load) = (Arc::clone(&shared), Arc::clone(&jobs), Arc::clone(&load));
            let work = move || {
                while let Some((index, job)) = shared_here.claim(&jobs, ahead.max(1)) {
                    let result = catch_unwind(AssertUnwindSafe(|| load(job)));
                    shared_here.add(index, result.unwrap_or_else(|panic| Err(panic_error(panic.as_ref()))));
                }
            };
            match spawn(&format!("loader-{index}"), work) {
                Ok(thread) => threads.push(thread),
                Err(error) if threads.is_empty() => {
                    shared.lock().num_jobs = 1;
                    shared.add(0, Err(error.context("cannot load data")));
                    break;
                }
                Err(error) => {
                    warn_once(threads.len(), &error);
                    break;
                }
            }
        }
        Self { shared, threads }
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next job and its index, once there is space for its result; `None` if there is nothing more to do.
    fn claim<J>(&self, jobs: &Mutex<std::vec::IntoIter<J>>, ahead: usize) -> Option<(usize, J)> {
        let full = |state: &mut State<T>| {
            !state.stopped && state.next_job < state.num_jobs && state.next_job - state.next_result >= ahead
        };
        let mut state = self.room.wait_while(self.lock(), full).unwrap_or_else(PoisonError::into_inner);
        if state.stopped {
            return None;
        }
        // Under the lock of the state, so that jobs and indices go together.
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).next()?;
        let index = state.next_job;
        state.next_job += 1;
        Some((index, job))
    }

    fn add(&self, index: usize, result: anyhow::Result<T>) {
        self.lock().finished.insert(index, result);
        self.ready.notify_all();
    }
}

/// Warns of fewer threads than were asked for, which give the same results more slowly.
fn warn_once(num_threads: usize, error: &anyhow::Error) {
    static WARNED: Once = Once::new();
    WARNED
        .call_once(|| terminal::warning(&format!("loading data with only {num_threads} threads: {}", one_line(error))));
}

fn panic_error(panic: &(dyn Any + Send)) -> anyhow::Error {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
    anyhow!("loading data panicked: {text}")
}

impl<T> Iterator for Loader<T> {
    type Item = anyhow::Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut state = self.shared.lock();
        let index = state.next_result;
        if index >= state.num_jobs {
            return None;
        }
        loop {
            if let Some(result) = state.finished.remove(&index) {
                state.next_result += 1;
                drop(state);
                self.shared.room.notify_all();
                return Some(result);
            }
            state = self.shared.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let state = self.shared.lock();
        let left = state.num_jobs - state.next_result;
        (left, Some(left))
    }
}

impl<T> ExactSizeIterator for Loader<T> {}

impl<T> Drop for Loader<T> {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.room.notify_all();
        for thread in self.threads.drain(..) {
            // The only panics in a thread are caught and handed over as errors.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::Duration;

    use super::*;
    use base::random::{element_bits, mix_key};

    type Load = Arc<dyn Fn(usize) -> anyhow::Result<usize> + Send + Sync>;

    #[test]
    fn results_come_in_the_order_of_the_jobs_whatever_the_number_of_threads() {
        for workers in [0, 1, 2, 8] {
            for ahead in [0, 1, 3, 16] {
                let load: Load = Arc::new(|job| {
                    let jitter = element_bits(mix_key(&[1]), job as u32) % 300;
                    thread::sleep(Duration::from_micros(u64::from(jitter)));
                    Ok(job * 10)
                });
                let loader = Loader::start((0..40).collect(), workers, ahead, load);
                assert_eq!(loader.len(), 40);
                let results: Vec<usize> = loader.map(Result::unwrap).collect();
                assert_eq!(
                    results,
                    (0..40).map(|job| job * 10).collect::<Vec<_>>(),
                    "{workers} threads, {ahead} ahead"
                );
            }
        }
    }

    #[test]
    fn no_jobs_give_no_results() {
        let load: Load = Arc::new(Ok);
        assert!(Loader::start(Vec::new(), 4, 4, load).next().is_none());
    }

    #[test]
    fn no_more_jobs_are_begun_than_there_is_room_for() {
        let begun = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&begun);
        let load: Load = Arc::new(move |job| {
            counter.fetch_add(1, Ordering::SeqCst);
            Ok(job)
        });
        let mut loader = Loader::start((0..100).collect(), 8, 5, load);
        for taken in 1..=20 {
            loader.next().unwrap().unwrap();
            thread::sleep(Duration::from_millis(2));
            assert!(begun.load(Ordering::SeqCst) <= taken + 5, "after {taken} results");
        }
    }

    #[test]
    fn dropping_early_stops_the_threads_and_begins_no_further_job() {
        let begun = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&begun);
        let load: Load = Arc::new(move |job| {
            counter.fetch_add(1, Ordering::SeqCst);
            Ok(job)
        });
        let mut loader = Loader::start((0..1_000_000).collect(), 4, 3, Arc::clone(&load));
        assert_eq!(loader.next().unwrap().unwrap(), 0);
        drop(loader);
        assert!(begun.load(Ordering::SeqCst) <= 4);
        assert_eq!(Arc::strong_count(&load), 1, "every thread has ended");
    }

    #[test]
    fn an_error_passes_through_at_its_place_and_the_rest_follows() {
        let load: Load = Arc::new(|job| if job == 3 { Err(anyhow!("job {job} is bad")) } else { Ok(job) });
        let results: Vec<_> = Loader::start((0..6).collect(), 2, 4, load).collect();
        assert_eq!(results.len(), 6);
        for (job, result) in results.into_iter().enumerate() {
            match result {
                Ok(value) => assert_eq!(value, job),
                Err(error) => assert_eq!((job, error.to_string().as_str()), (3, "job 3 is bad")),
            }
        }
    }

    #[test]
    fn a_panic_becomes_an_error() {
        let load: Load = Arc::new(|job| if job % 2 == 1 { panic!("job {job} broke") } else { Ok(job) });
        let results: Vec<_> = Loader::start((0..10).collect(), 2, 4, load).collect();
        assert_eq!(results.len(), 10);
        assert_eq!(results[1].as_ref().unwrap_err().to_string(), "loading data panicked: job 1 broke");
        assert_eq!(*results[8].as_ref().unwrap(), 8);
    }
}
