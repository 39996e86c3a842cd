//! Threads: how many compute, and what is said where one cannot be had.
//!
//! The same number of threads gives the same bits, so a run never computes with fewer than it was asked to.

use std::io;
use std::num::NonZero;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};

use anyhow::Result;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::bounded_file::{self, MAX_DESCRIPTION_BYTES};
use crate::fault::{explained, usage};
use crate::process::CANDLE_THREADS;
use crate::visible;

/// What says how many threads compute; the first that is set counts.
const COMPUTE_THREADS: [&str; 2] = ["RAYON_NUM_THREADS", "RAYON_RS_NUM_CPUS"];
/// Compute threads for each processor, at most: more would only wait for each other.
const MOST_FOR_A_PROCESSOR: usize = 8;
/// At least so many are allowed everywhere, so that a run of a larger machine can be resumed on a small one.
const ALWAYS_ALLOWED: usize = 128;

/// Starts the threads that compute. To be called once, before anything is computed.
///
/// # Errors
/// A number in the environment that is none or is too large; threads that the system does not give.
pub fn start() -> Result<()> {
    let mut wanted = None;
    for name in COMPUTE_THREADS.into_iter().chain([CANDLE_THREADS]) {
        let Some(text) = std::env::var_os(name) else { continue };
        let number = number(name, &text.to_string_lossy())?;
        if name != CANDLE_THREADS {
            wanted = wanted.or(number);
        }
    }
    // Zero stands for as many as there are processors.
    let builder = ThreadPoolBuilder::new().num_threads(wanted.unwrap_or_else(processors));
    builder.build_global().map_err(|error| unavailable("the threads that compute", error))
}

/// A pool of threads that compute, named `compute-LABEL-NUMBER`.
///
/// # Errors
/// Threads that the system does not give.
pub fn pool(label: usize, num_threads: usize) -> Result<ThreadPool> {
    let builder = ThreadPoolBuilder::new()
        .num_threads(num_threads)
        .thread_name(move |thread| format!("compute-{label}-{thread}"));
    builder.build().map_err(|error| unavailable("the threads that compute", error))
}

/// Starts a thread.
///
/// # Errors
/// A thread that the system does not give.
pub fn spawn<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<T>> {
    let started = thread::Builder::new().name(name.to_owned()).spawn(work);
    started.map_err(|error| unavailable(&format!("the thread {name:?}"), error))
}

/// Makes sure that the threads can be had that libraries for HTTP take for granted, and panic without: for their loops, to
/// look up names, and for transfers as many as there are processors.
///
/// # Errors
/// Threads that the system does not give.
pub fn check_network() -> Result<()> {
    check_spare(6 + processors()).map_err(|error| unavailable("the threads that a connection needs", error))
}

/// Starts so many threads, which are there at once, and ends them.
fn check_spare(count: usize) -> io::Result<()> {
    let (stay, end) = mpsc::channel::<()>();
    let end = Arc::new(Mutex::new(end));
    let start = |_| {
        let end = Arc::clone(&end);
        // What is received is that the sender is gone.
        thread::Builder::new().spawn(move || _ = end.lock().map(|end| end.recv()))
    };
    let threads: Vec<io::Result<JoinHandle<()>>> = (0..count).map(start).collect();
    drop(stay);
    threads.into_iter().try_for_each(|thread| thread.map(|thread| _ = thread.join()))
}

/// Processors that this process may use.
fn processors() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// A number of threads; `None` for nothing and for 0.
fn number(name: &str, text: &str) -> Result<Option<usize>> {
    if text.is_empty() {
        return Ok(None);
    }
    let most = ALWAYS_ALLOWED.max(MOST_FOR_A_PROCESSOR * processors());
    let hint = || format!("leave {name} out for as many threads as there are processors, {} here", processors());
    match text.trim().parse() {
        Ok(number) if number > most => {
            Err(usage(format!("{name} is {number}, and at most {most} threads are started on this machine"), hint()))
        }
        Ok(number) => Ok(Some(number).filter(|&number| number > 0)),
        Err(_) => {
            let found = visible::quoted(text);
            Err(usage(format!("expected {name} to be a number of threads from 1 to {most}, found {found}"), hint()))
        }
    }
}

/// The error about threads that the system does not give.
pub fn unavailable(what: &str, error: impl std::error::Error + Send + Sync + 'static) -> anyhow::Error {
    let limits = limits();
    let limits = if limits.is_empty() { String::new() } else { format!(": {}", limits.join(", ")) };
    explained(
        anyhow::Error::new(error),
        format!("cannot start {what}{limits}"),
        "raise that limit, end other processes, or compute with fewer threads: RAYON_NUM_THREADS=1 (with another number \
         of threads results differ in their last digits)",
    )
}

/// A text in which the system tells of itself.
fn of_system(path: &Path) -> std::io::Result<String> {
    bounded_file::read_text(path, MAX_DESCRIPTION_BYTES)
}

/// What the system says of how many threads there may be.
fn limits() -> Vec<String> {
    let of_user = of_system("/proc/self/limits".as_ref()).ok().and_then(|text| limit_of_user(&text));
    let of_group = of_system("/proc/self/cgroup".as_ref()).ok().and_then(|text| limit_of_group(&text));
    let of_user = of_user.map(|count| format!("this user may have at most {count} processes and threads (ulimit -u)"));
    let of_group = of_group.map(|count| format!("this container or control group at most {count} (pids.max)"));
    of_user.into_iter().chain(of_group).collect()
}

fn limit_of_user(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max processes"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The smallest limit of the group and of those around it.
fn limit_of_group(groups: &str) -> Option<u64> {
    let group = |line: &str| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?.trim_start_matches('/'));
        let root = match controllers {
            "" => Path::new("/sys/fs/cgroup"),
            _ if controllers.split(',').any(|name| name == "pids") => Path::new("/sys/fs/cgroup/pids"),
            _ => return None,
        };
        let folder = root.join(path);
        let folders = folder.ancestors().take_while(|folder| folder.starts_with(root));
        folders.filter_map(|folder| of_system(&folder.join("pids.max")).ok()?.trim().parse().ok()).min()
    };
    groups.lines().filter_map(group).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{describe, is_usage};

    #[test]
    fn a_number_of_threads_that_is_none_or_too_large_is_a_mistake_of_usage() {
        assert_eq!(
            [number("N", "").unwrap(), number("N", "0").unwrap(), number("N", " 3 ").unwrap()],
            [None, None, Some(3)]
        );
        assert_eq!(number("N", "128").unwrap(), Some(128));
        for text in ["100000", "18446744073709551616", "-1", "two", "\u{1b}[2J"] {
            let error = number("N", text).unwrap_err();
            let said = describe(&error);
            assert!(is_usage(&error) && said.contains("hint: leave N out") && !said.contains('\u{1b}'), "{said}");
        }
    }

    #[test]
    fn spare_threads_are_there_at_once_and_end() {
        check_spare(3).unwrap();
    }

    #[test]
    fn a_thread_that_cannot_be_had_is_told_with_a_way_out() {
        let text = describe(&unavailable("the thread \"x\"", std::io::Error::from(std::io::ErrorKind::WouldBlock)));
        assert!(text.starts_with("cannot start the thread \"x\"") && text.contains("RAYON_NUM_THREADS"), "{text}");
    }

    #[test]
    fn the_limits_of_the_system_are_read() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max processes             7                    9                    processes\n";
        assert_eq!(limit_of_user(limits), Some(7));
        assert_eq!(
            limit_of_user("Max processes             unlimited            unlimited            processes"),
            None
        );
        assert_eq!(limit_of_group("0::/no/such/group\n1:cpu:/x\nnonsense"), None);
    }
}
