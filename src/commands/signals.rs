//! What SIGINT, SIGTERM and SIGHUP do.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use base::stop::{EXIT_CODE, StopFlag};
use base::{process, terminal, threads};

/// Signals this close to the first are the same wish: `timeout` and some job managers signal the process and then its
/// whole group.
const SIGNAL_ECHO: Duration = Duration::from_millis(500);

/// The signals that ask for a stop. The last is sent when the terminal is closed or a connection is lost.
#[cfg(unix)]
const ASKING: [i32; 3] = [SIGINT, SIGTERM, signal_hook::consts::SIGHUP];
#[cfg(not(unix))]
const ASKING: [i32; 2] = [SIGINT, SIGTERM];

/// The first signal raises the flag; a later SIGINT or SIGTERM ends the process at once. Before anyone looks at the flag
/// (data are prepared, a model is downloaded or read) the first does so too: every file is whole or unfinished by name,
/// and the same command continues from there. A signal that was ignored at the start (`nohup`, `&` in a script) stays
/// ignored.
/// `before` is said when the first signal comes so early.
pub(crate) fn watch_signals(before: &'static str) -> Result<StopFlag> {
    let signals = ASKING.into_iter().filter(|&signal| !process::ignores(signal));
    let mut signals = Signals::new(signals).context("cannot watch for signals")?;
    let stop = StopFlag::default();
    let raised = stop.clone();
    let watch = move || {
        let mut first = None;
        for signal in signals.forever() {
            if !raised.is_attended() {
                terminal::message(before);
                signal_hook::low_level::exit(EXIT_CODE.into());
            }
            raised.raise();
            // A terminal that closes sends it more than once, and its user is gone.
            if ![SIGINT, SIGTERM].contains(&signal) {
                continue;
            }
            let first = first.get_or_insert_with(Instant::now);
            if first.elapsed() > SIGNAL_ECHO {
                signal_hook::low_level::exit(1);
            }
        }
    };
    threads::spawn("signals", watch).context("cannot watch for signals")?;
    Ok(stop)
}
