//! Settings of the whole process that have to be made before anything else runs.

/// Read by candle for the helpers of its element-wise operations, which wait actively and are pinned to cores.
pub(super) const CANDLE_THREADS: &str = "CANDLE_NUM_THREADS";

/// mimalloc's `mi_option_purge_delay`, which its crate has no name for.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
// Its neighbours are named.
const _: () = assert!(PURGE_DELAY == libmimalloc_sys::mi_option_use_numa_nodes - 1);

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
///
/// Freed memory stays with the process: a step of training frees and takes gigabytes, and giving them back to the system
/// in between costs a page fault for each page, a quarter of the time of a step.
#[expect(unsafe_code, reason = "candle and mimalloc have no other setting")]
pub fn prepare() {
    if std::env::var_os(CANDLE_THREADS).is_none() {
        // SAFETY: no other thread runs yet.
        unsafe {
            std::env::set_var(CANDLE_THREADS, "1");
        }
    }
    #[cfg(unix)]
    survive_file_limit();
    // SAFETY: no other thread runs yet; the option exists in this version of mimalloc.
    unsafe {
        libmimalloc_sys::mi_option_set_default(PURGE_DELAY, -1);
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
