//! Settings of the whole process, to be made before anything else runs.

use std::sync::atomic::{AtomicBool, Ordering};

/// Read by candle for the helper threads of its element-wise operations, which busy-wait and are pinned to cores.
pub(super) const CANDLE_THREADS: &str = "CANDLE_NUM_THREADS";

/// mimalloc's `mi_option_purge_delay`, which its crate does not name.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
// Its neighbours are named.
const _: () = assert!(PURGE_DELAY == libmimalloc_sys::mi_option_use_numa_nodes - 1);

static KEEPS_FREED_MEMORY: AtomicBool = AtomicBool::new(false);

/// Makes a file that grows beyond `ulimit -f` an error of the write instead of the end of the process.
#[cfg(unix)]
fn survive_file_limit() {
    // If no handler can be set, the limit ends the process, as it would have done.
    let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, std::sync::Arc::default());
}

/// Whether the process was started with this signal ignored, as `nohup` does. Call it before a handler is set.
#[cfg(unix)]
#[expect(unsafe_code, reason = "no safe library asks the system for this")]
pub fn ignores(signal: i32) -> bool {
    // SAFETY: a structure of plain numbers and an address that may be empty; the call only fills it in.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: without a new action the call changes nothing.
    let asked = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) };
    asked == 0 && action.sa_sigaction == libc::SIG_IGN
}

#[cfg(not(unix))]
pub fn ignores(_signal: i32) -> bool {
    false
}

/// Prepares the process for computing; the environment takes precedence. Call it at the start of `main`, before any
/// other thread runs.
#[expect(unsafe_code, reason = "candle has no other setting")]
pub fn prepare() {
    if std::env::var_os(CANDLE_THREADS).is_none() {
        // SAFETY: no other thread runs yet.
        unsafe {
            std::env::set_var(CANDLE_THREADS, "1");
        }
    }
    #[cfg(unix)]
    survive_file_limit();
}

/// Keeps freed memory in the process from now on: a training step frees and allocates gigabytes, and returning them to
/// the system in between costs a page fault for each page, a quarter of the time of a step. Call it before other
/// threads run; the environment takes precedence.
pub fn keep_freed_memory() {
    KEEPS_FREED_MEMORY.store(true, Ordering::Relaxed);
    set_purge_delay(-1);
}

/// Returns freed memory to the system immediately from now on, to stay small next to other programs. Call it before
/// other threads run; the environment takes precedence.
pub fn give_back_freed_memory() {
    set_purge_delay(0);
}

#[expect(unsafe_code, reason = "mimalloc has no other setting")]
fn set_purge_delay(milliseconds: std::ffi::c_long) {
    // SAFETY: no other thread runs yet; the option exists in this version of mimalloc.
    unsafe {
        libmimalloc_sys::mi_option_set_default(PURGE_DELAY, milliseconds);
    }
}

/// Returns freed memory to the system now, after freeing a lot. Does nothing after [`keep_freed_memory`].
#[expect(unsafe_code, reason = "mimalloc has no other call")]
pub fn give_back_memory() {
    if !KEEPS_FREED_MEMORY.load(Ordering::Relaxed) {
        // SAFETY: any thread may call it at any time; it only touches its own free blocks and abandoned ones.
        unsafe {
            libmimalloc_sys::mi_collect(true);
        }
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_that_is_ignored_is_distinguished_from_one_that_is_not() {
        // Rust's programs ignore it from their start.
        assert!(ignores(libc::SIGPIPE));
        assert!(!ignores(libc::SIGWINCH));
    }
}
