//! The binary: runs the command line and turns its outcome into an exit code.

use std::process::ExitCode;

use base::{error, process, stop, terminal};
use caption_train::cli;
use caption_train::training::trainer::Outcome;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Wrong command line or config.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    process::prepare();
    match cli::run() {
        Ok(Outcome::Completed) => ExitCode::SUCCESS,
        Ok(Outcome::Interrupted) => ExitCode::from(stop::EXIT_CODE),
        // Whoever reads stdout has seen enough (`| head`).
        Err(error) if is_closed_pipe(&error) => ExitCode::FAILURE,
        Err(error) => {
            terminal::error(&error::describe(&error));
            if error::is_usage_error(&error) { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
        }
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let kinds = error.chain().filter_map(|link| link.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
    kinds.into_iter().any(|kind| kind == std::io::ErrorKind::BrokenPipe)
}
