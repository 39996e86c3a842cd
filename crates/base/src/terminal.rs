//! The only code that prints. Messages, warnings and progress go to stderr; data goes to stdout.
//!
//! On a terminal progress is a bar; elsewhere it is an occasional line, so that a log file stays readable. Text from
//! outside (captions, names of files and tensors) cannot control the terminal: see [`visible`].

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{credentials, visible};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Verbosity {
    /// Nothing at all.
    Silent = 0,
    /// Only errors.
    Errors = 1,
    /// Also warnings.
    Quiet = 2,
    /// Also messages and progress.
    Normal = 3,
    /// Also details.
    Verbose = 4,
}

static VERBOSITY: AtomicU8 = AtomicU8::new(Verbosity::Normal as u8);
static LOG: Mutex<Option<Box<dyn Write + Send>>> = Mutex::new(None);

/// How often progress is reported without a terminal.
const PLAIN_INTERVAL: Duration = Duration::from_secs(30);

pub fn set_verbosity(verbosity: Verbosity) {
    VERBOSITY.store(verbosity as u8, Ordering::Relaxed);
}

/// Also copies every message to `log` (the `train.log` of a run); `None` ends that.
pub fn set_log(log: Option<Box<dyn Write + Send>>) {
    *LOG.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = log;
}

/// Prints a message to stderr.
pub fn message(text: &str) {
    say(Verbosity::Normal, text);
}

/// Prints a detail, only with `--verbose`.
pub fn detail(text: &str) {
    say(Verbosity::Verbose, text);
}

/// Prints a warning, even with `--quiet`.
pub fn warning(text: &str) {
    say(Verbosity::Quiet, &format!("warning: {text}"));
}

/// Prints an error, even with `--quiet`.
pub fn error(text: &str) {
    say(Verbosity::Errors, &format!("error: {text}"));
}

/// Prints one or more lines of data to stdout. A closed pipe is an error.
pub fn data(text: &str) -> io::Result<()> {
    write_data(&visible::lines(text))
}

/// Prints tab-separated columns to stdout. Tabs and line breaks within a column are escaped.
pub fn columns(columns: &[&str]) -> io::Result<()> {
    let columns: Vec<Cow<'_, str>> = columns.iter().map(|column| visible::line(column)).collect();
    write_data(&columns.join("\t"))
}

/// Prints a line of JSON to stdout.
pub fn json(text: &str) -> io::Result<()> {
    write_data(&visible::json(text))
}

fn write_data(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")?;
    stdout.flush()
}

/// The text with its second and later lines indented, so that none looks like a message of its own.
fn hanging(text: &str) -> String {
    let mut lines = text.lines();
    let mut set_in = lines.next().unwrap_or_default().to_owned();
    for line in lines {
        set_in.push_str(if line.is_empty() || line.starts_with(' ') { "\n" } else { "\n  " });
        set_in.push_str(line);
    }
    set_in
}

fn say(level: Verbosity, text: &str) {
    let text = &*credentials::hidden(text);
    let text = &*hanging(&visible::lines(text));
    if let Some(log) = LOG.lock().unwrap_or_else(std::sync::PoisonError::into_inner).as_mut() {
        // A log that cannot be written must not end a run; the same text is on stderr.
        let _ = writeln!(log, "{text}").and_then(|()| log.flush());
    }
    if VERBOSITY.load(Ordering::Relaxed) >= level as u8 {
        // A closed stderr is not a reason to stop. A message must be printed above any bars.
        if bars().is_hidden() || bars().println(text).is_err() {
            let _ = writeln!(io::stderr().lock(), "{text}");
        }
    }
}

fn bars() -> &'static MultiProgress {
    static BARS: OnceLock<MultiProgress> = OnceLock::new();
    BARS.get_or_init(|| {
        let target =
            if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        MultiProgress::with_draw_target(target)
    })
}

/// The progress of a long job.
pub struct Progress {
    bar: ProgressBar,
    title: String,
    total: u64,
    plain: Mutex<PlainProgress>,
}

struct PlainProgress {
    before: u64,
    done: u64,
    started: Instant,
    reported: Instant,
}

impl Progress {
    /// A job of `total` units named `title` ("extracting"), of which `done` were done before it started.
    pub fn new(title: &str, total: u64, done: u64) -> Self {
        let bar = if VERBOSITY.load(Ordering::Relaxed) <= Verbosity::Quiet as u8 {
            ProgressBar::hidden()
        } else {
            bars().add(ProgressBar::new(total))
        };
        let title = visible::line(title).into_owned();
        let style = ProgressStyle::with_template("{prefix} [{bar:30}] {pos}/{len} {msg} {eta} left")
            .expect("the template of the bar is valid")
            .progress_chars("=> ");
        bar.set_style(style);
        bar.set_prefix(title.clone());
        bar.set_position(done);
        bar.reset_eta();
        let now = Instant::now();
        Self { bar, title, total, plain: Mutex::new(PlainProgress { before: done, done, started: now, reported: now }) }
    }

    /// `units` more are done; `note` is shown next to the bar (empty for none).
    pub fn advance(&self, units: u64, note: &str) {
        self.bar.set_message(visible::line(note).into_owned());
        self.bar.inc(units);
        let mut plain = self.plain.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        plain.done += units;
        let due = plain.reported.elapsed() >= PLAIN_INTERVAL && plain.done < self.total;
        if due && self.bar.is_hidden() {
            plain.reported = Instant::now();
            let elapsed = plain.started.elapsed().as_secs();
            let (done_now, to_do) = (plain.done - plain.before, self.total - plain.done);
            let left = elapsed.saturating_mul(to_do) / done_now.max(1);
            message(&format!("{}: {}/{} {note} ({elapsed} s, {left} s left)", self.title, plain.done, self.total));
        }
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_lines_of_a_message_pass_for_no_message_of_their_own() {
        assert_eq!(hanging("cannot read a\nerror: b\n  caused by: c\n"), "cannot read a\n  error: b\n  caused by: c");
        assert_eq!((hanging("one\n\ntwo"), hanging("")), ("one\n\n  two".to_owned(), String::new()));
    }
}
