//! What SIGINT and SIGTERM do.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use signal_hook::iterator::Signals;

use crate::base::stop::StopFlag;
use crate::base::terminal;

/// Exit code of a process that a signal stopped.
pub(super) const STOPPED: i32 = 130;
/// Signals this close to the first are the same wish: `timeout` and some job managers signal the process and then its
/// whole group.
const SIGNAL_ECHO: Duration = Duration::from_millis(500);

/// The first SIGINT or SIGTERM raises the flag; a later one ends the process at once. Before anyone looks at the flag
/// (data are prepared, a model is downloaded or read) the first does so too: every file is whole or unfinished by name,
/// and the same command goes on from there.
/// `before` is said when the first signal comes so early.
pub(crate) fn watch_signals(before: &'static str) -> Result<StopFlag> {
    let signals = [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM];
    let mut signals = Signals::new(signals).context("cannot watch for signals")?;
    let stop = StopFlag::default();
    let raised = stop.clone();
    let watch = move || {
        let mut first = None;
        for _ in signals.forever() {
            if !raised.is_attended() {
                terminal::message(before);
                signal_hook::low_level::exit(STOPPED);
            }
            let first = first.get_or_insert_with(Instant::now);
            if raised.is_raised() && first.elapsed() > SIGNAL_ECHO {
                signal_hook::low_level::exit(1);
            }
            raised.raise();
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(watch).context("cannot watch for signals")?;
    Ok(stop)
}
