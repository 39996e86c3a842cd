//! Settings of the whole process that have to be made before anything else runs.

use std::sync::atomic::{AtomicBool, Ordering};

/// Read by candle for the helpers of its element-wise operations, which wait actively and are pinned to cores.
pub(super) const CANDLE_THREADS: &str = "CANDLE_NUM_THREADS";

/// mimalloc's `mi_option_purge_delay`, which its crate has no name for.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
// Its neighbours are named.
const _: () = assert!(PURGE_DELAY == libmimalloc_sys::mi_option_use_numa_nodes - 1);

static KEEPS_FREED_MEMORY: AtomicBool = AtomicBool::new(false);

/// A file that grows beyond `ulimit -f` shall be an error of the write, not the end of the process.
#[cfg(unix)]
fn survive_file_limit() {
    // Where no handler can be set the limit ends the process, as it would have done.
    let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, std::sync::Arc::default());
}

/// Whether whoever started the process had it ignore this signal, as `nohup` does. To be asked before a handler is set.
#[cfg(unix)]
#[expect(unsafe_code, reason = "no safe library asks the system for this")]
pub fn ignores(signal: i32) -> bool {
    // SAFETY: a structure of plain numbers and an address that may be empty; the call only fills it in.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: without a new action the call changes nothing.
    let asked = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) };
    asked == 0 && action.sa_sigaction == libc::SIG_IGN
}

/// Whether whoever started the process had it ignore this signal.
#[cfg(not(unix))]
pub fn ignores(_signal: i32) -> bool {
    false
}

/// Prepares the process for computing; what the environment says goes first. To be called at the start of `main`,
/// before any other thread runs.
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

/// Freed memory stays with the process from now on: a step of training frees and takes gigabytes, and giving them back to
/// the system in between costs a page fault for each page, a quarter of the time of a step. To be called before other
/// threads run; what the environment says goes first.
pub fn keep_freed_memory() {
    KEEPS_FREED_MEMORY.store(true, Ordering::Relaxed);
    set_purge_delay(-1);
}

/// Freed memory goes back to the system at once from now on, and not after some time: for what is to stay small beside
/// other programs. To be called before other threads run; what the environment says goes first.
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

/// Gives to the system at once what was freed; for whoever has freed very much. Nothing where [`keep_freed_memory`] was
/// called.
#[expect(unsafe_code, reason = "mimalloc has no other call")]
pub fn give_back_memory() {
    if !KEEPS_FREED_MEMORY.load(Ordering::Relaxed) {
        // SAFETY: any thread may call it at any time; it looks after its own free blocks and those that nobody has.
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
    fn a_signal_that_is_ignored_is_told_from_one_that_is_not() {
        // Rust's programs ignore it from their start.
        assert!(ignores(libc::SIGPIPE));
        assert!(!ignores(libc::SIGWINCH));
    }
}
