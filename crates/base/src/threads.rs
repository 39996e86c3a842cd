//! Threads: how many compute, and the error if one cannot be started.
//!
//! Any number of threads gives the same bits. A run never computes with fewer than requested, which would be slow.

use std::io;
use std::num::NonZero;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};

use anyhow::Result;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::bounded_file::{self, MAX_DESCRIPTION_BYTES};
use crate::error::{explained, usage_error};
use crate::process::CANDLE_THREADS;
use crate::visible;

/// The variables for the number of compute threads; the first that is set counts.
const COMPUTE_THREADS: [&str; 2] = ["RAYON_NUM_THREADS", "RAYON_RS_NUM_CPUS"];
/// More threads per processor would only wait for each other.
const MAX_PER_PROCESSOR: usize = 8;
/// Always allowed, so that a run of a larger machine can be resumed on a small one.
const ALWAYS_ALLOWED: usize = 128;

/// Starts the compute threads. Call it once, before anything is computed. `sharing` processes, this one included, use
/// the same processors: unless the environment says how many threads to use, each takes its share.
///
/// # Errors
/// An invalid or too large number in the environment; threads that the system refuses.
pub fn start(sharing: usize) -> Result<()> {
    let mut wanted = None;
    for name in COMPUTE_THREADS.into_iter().chain([CANDLE_THREADS]) {
        let Some(text) = std::env::var_os(name) else { continue };
        let number = number(name, &text.to_string_lossy())?;
        if name != CANDLE_THREADS {
            wanted = wanted.or(number);
        }
    }
    // Zero means one per processor.
    let builder =
        ThreadPoolBuilder::new().num_threads(wanted.unwrap_or_else(|| (processors() / sharing.max(1)).max(1)));
    builder.build_global().map_err(|error| unavailable("the compute threads", error))
}

/// A pool of compute threads named `compute-LABEL-NUMBER`.
pub fn pool(label: usize, num_threads: usize) -> Result<ThreadPool> {
    let builder = ThreadPoolBuilder::new()
        .num_threads(num_threads)
        .thread_name(move |thread| format!("compute-{label}-{thread}"));
    builder.build().map_err(|error| unavailable("the compute threads", error))
}

pub fn spawn<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<T>> {
    let started = thread::Builder::new().name(name.to_owned()).spawn(work);
    started.map_err(|error| unavailable(&format!("the thread {name:?}"), error))
}

/// Checks that the threads can be started that HTTP libraries rely on, and panic without: for their event loops, to
/// look up names, and one per processor for transfers.
pub fn check_network() -> Result<()> {
    check_spare(6 + processors()).map_err(|error| unavailable("the threads of a connection", error))
}

/// Starts `count` simultaneous threads and ends them.
fn check_spare(count: usize) -> io::Result<()> {
    let (stay, end) = mpsc::channel::<()>();
    let end = Arc::new(Mutex::new(end));
    let start = |_| {
        let end = Arc::clone(&end);
        // Returns when the sender is dropped.
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

/// A number of threads; `None` for an empty text and for 0.
fn number(name: &str, text: &str) -> Result<Option<usize>> {
    if text.is_empty() {
        return Ok(None);
    }
    let max = ALWAYS_ALLOWED.max(MAX_PER_PROCESSOR * processors());
    let hint = || format!("unset {name} to use one thread per processor, {} here", processors());
    match text.trim().parse() {
        Ok(number) if number > max => Err(usage_error(
            format!("{name} is {number}, but at most {max} threads are allowed on this machine"),
            hint(),
        )),
        Ok(number) => Ok(Some(number).filter(|&number| number > 0)),
        Err(_) => {
            let found = visible::quoted(text);
            Err(usage_error(
                format!("expected {name} to be a number of threads from 1 to {max}, found {found}"),
                hint(),
            ))
        }
    }
}

/// The error for threads that the system refuses.
pub fn unavailable(what: &str, error: impl std::error::Error + Send + Sync + 'static) -> anyhow::Error {
    let limits = limits();
    let limits = if limits.is_empty() { String::new() } else { format!(": {}", limits.join(", ")) };
    explained(
        anyhow::Error::new(error),
        format!("cannot start {what}{limits}"),
        "raise that limit, end other processes, or compute with fewer threads: RAYON_NUM_THREADS=1",
    )
}

/// A text file of the system.
fn of_system(path: &Path) -> std::io::Result<String> {
    bounded_file::read_text(path, MAX_DESCRIPTION_BYTES)
}

/// The system's limits on threads, in words.
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

/// The smallest limit of the group and its ancestors.
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
    use crate::error::{describe, is_usage_error};

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
            assert!(is_usage_error(&error) && said.contains("hint: unset N") && !said.contains('\u{1b}'), "{said}");
        }
    }

    #[test]
    fn spare_threads_are_there_at_once_and_end() {
        check_spare(3).unwrap();
    }

    #[test]
    fn a_thread_that_cannot_be_had_is_reported_with_a_way_out() {
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
