//! The binary: runs the command line and turns its outcome into an exit code.

use std::process::ExitCode;

use caption_train::base::{fault, terminal};
use caption_train::cli;
use caption_train::training::trainer::Outcome;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Stopped by a signal, after saving.
const INTERRUPTED: u8 = 130;
/// Wrong command line or config.
const USAGE: u8 = 2;

/// Read by candle for the helpers of its element-wise operations, which wait actively and are pinned to cores.
const CANDLE_THREADS: &str = "CANDLE_NUM_THREADS";

fn main() -> ExitCode {
    if std::env::var_os(CANDLE_THREADS).is_none() {
        #[expect(unsafe_code, reason = "candle has no other setting")]
        // SAFETY: no other thread runs yet.
        unsafe {
            std::env::set_var(CANDLE_THREADS, "1");
        }
    }
    match cli::run() {
        Ok(Outcome::Completed) => ExitCode::SUCCESS,
        Ok(Outcome::Interrupted) => ExitCode::from(INTERRUPTED),
        // Whoever reads stdout has seen enough (`| head`).
        Err(error) if is_closed_pipe(&error) => ExitCode::FAILURE,
        Err(error) => {
            terminal::error(&fault::describe(&error));
            if fault::is_usage(&error) { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
        }
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let kinds = error.chain().filter_map(|link| link.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
    kinds.into_iter().any(|kind| kind == std::io::ErrorKind::BrokenPipe)
}
