//! The thread that sends a run's log to the server during the run, and what the two share.
//!
//! The thread reads the log after its writer and never delays the run, which only publishes how far the log reaches. An
//! unreachable server is retried with growing pauses; when it refuses for good the thread ends, and the log keeps the
//! rest for `wandb sync`.

use std::collections::{BTreeSet, VecDeque};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::client::{self, Client, Description, Failure, Place};
use crate::context::{Pace, Say, Tone};
use crate::follower::{Batch, Follower, Offsets};
use crate::settings::{Resume, Settings};
use base::place;
use base::quoting::shell_path;

use base::bounded_file::{self, MAX_CAPTIONS_BYTES, MAX_DESCRIPTION_BYTES};

/// Consecutive failures before the user is warned.
const FAILURES_BEFORE_WARNING: u32 = 3;
/// Tries to upload a file; metrics matter more than an image.
const MAX_UPLOAD_TRIES: u32 = 4;
/// Files named by one request.
const MAX_FILES_PER_REQUEST: usize = 50;

/// Why the thread ends early.
enum End {
    Refused(String),
    Abandoned,
}

pub(crate) struct Streamer {
    pub(crate) client: Client,
    pub(crate) settings: Settings,
    pub(crate) pace: Pace,
    pub(crate) shared: Arc<Shared>,
    pub(crate) say: Say,
    pub(crate) description: Description,
    pub(crate) follower: Follower,
    /// Where the history of the log ended when this session started.
    pub(crate) last_local_step: Option<u64>,
    pub(crate) folder: PathBuf,
    pub(crate) uploads: Uploads,
    /// The user was warned that the server cannot be reached; an unstable network is reported once.
    pub(crate) has_warned: bool,
}

impl Streamer {
    /// Sends until the log's end, or until the server refuses.
    pub(crate) fn run(mut self) {
        let end = self.work();
        if let Err(End::Refused(why)) = &end {
            (self.say)(
                Tone::Warning,
                &format!(
                    "Weights & Biases refused the run's data: {why}; training continues, send the data \
                     later with `wandb sync {}`",
                    shell_path(&self.folder)
                ),
            );
        }
        self.shared.set(|state| {
            state.is_over = true;
            state.is_complete = end.is_ok();
        });
    }

    fn work(&mut self) -> Result<(), End> {
        let (place, mut offsets) = self.connect()?;
        self.uploads.queue(["config.yaml", "wandb-metadata.json"].map(str::to_owned));
        let mut sent = Instant::now();
        loop {
            // Taken before the log is read, which then holds at least what was published.
            let (limit, phase) = {
                let state = self.shared.state();
                (state.published, state.phase)
            };
            let batch = self
                .follower
                .next_batch(limit)
                .map_err(|error| End::Refused(format!("the run's log cannot be read ({error})")))?;
            self.uploads.queue(batch.files.iter().cloned());
            if batch.exit.is_some() {
                self.uploads.queue(["wandb-summary.json", "output.log"].map(str::to_owned));
                self.upload_all(&place)?;
            } else {
                self.upload_some(&place);
            }
            let is_due = !batch.is_empty() || self.uploads.has_news() || sent.elapsed() >= self.pace.heartbeat;
            if is_due {
                self.send(&place, &batch, offsets)?;
                offsets = offsets.after(&batch);
                sent = Instant::now();
            }
            if batch.exit.is_some() {
                return Ok(());
            }
            if phase == Phase::Finishing && batch.is_empty() && !batch.is_full {
                return Err(End::Refused("the run's log ends early".to_owned()));
            }
            if !batch.is_full {
                self.pause()?;
            }
        }
    }

    fn connect(&mut self) -> Result<(Place, Offsets), End> {
        let id = self.description.id.clone();
        // A newly drawn id belongs to no run.
        let known = if self.description.is_new { None } else { self.patiently(|client| client.at_server(&id))? };
        match (self.settings.resume, &known) {
            (Resume::Must, None) => return Err(End::Refused(format!("WANDB_RESUME=must, but there is no run {id}"))),
            (Resume::Never, Some(_)) => {
                return Err(End::Refused(format!("WANDB_RESUME=never, but the run {id} already exists")));
            }
            _ => {}
        }
        let description = Description { is_new: known.is_none(), ..self.description.clone() };
        let place = self.patiently(|client| client.upsert(&description))?;
        if known.is_none() {
            self.follower.forget_uploads();
        }
        let known = known.unwrap_or_default();
        if let Some(step) = known.tail.step().filter(|step| Some(*step) > self.last_local_step) {
            (self.say)(
                Tone::Warning,
                &format!("the run {id} at Weights & Biases already has steps up to {step}; only later steps are sent"),
            );
        }
        self.follower.leave_out(&known);
        let url = client::page(&self.settings.app_url, &place);
        self.shared.set(|state| state.url = url);
        Ok((place, known.offsets))
    }

    fn send(&mut self, place: &Place, batch: &Batch, offsets: Offsets) -> Result<(), End> {
        let body = batch.body(offsets, &self.uploads.news);
        let is_stopped = self.patiently(|client| client.stream(place, body.clone()))?;
        self.uploads.keep_news();
        if is_stopped {
            self.shared.set(|state| state.is_stopped = true);
        }
        Ok(())
    }

    /// Repeats a request until it succeeds, is refused or is abandoned.
    fn patiently<T>(&mut self, ask: impl Fn(&Client) -> Result<T, Failure>) -> Result<T, End> {
        let mut failed = 0u32;
        loop {
            let failure = match ask(&self.client) {
                Ok(answer) => {
                    self.shared.set(|state| state.num_answers += 1);
                    return Ok(answer);
                }
                Err(failure) => failure,
            };
            let Failure::Passing { message, wait } = failure else {
                return Err(End::Refused(failure.message().to_owned()));
            };
            failed += 1;
            if failed == FAILURES_BEFORE_WARNING && !self.has_warned {
                self.has_warned = true;
                (self.say)(
                    Tone::Warning,
                    &format!(
                        "Weights & Biases cannot be reached: {message}; training continues, the data are kept in {}",
                        self.folder.display()
                    ),
                );
            }
            let doubled =
                self.pace.min_retry_wait.saturating_mul(1 << (failed - 1).min(16)).min(self.pace.max_retry_wait);
            self.rest(wait.unwrap_or(doubled))?;
        }
    }

    /// A pause between tries that ends early when the run does.
    fn rest(&self, pause: Duration) -> Result<(), End> {
        let phase = self.shared.state().phase;
        let is_enough = |state: &State| state.phase != phase || state.phase == Phase::Abandoned;
        match self.shared.wait(pause, is_enough).phase {
            Phase::Abandoned => Err(End::Abandoned),
            _ => Ok(()),
        }
    }

    /// Waits until the next request is due.
    fn pause(&self) -> Result<(), End> {
        match self.shared.wait(self.pace.interval, |state| state.phase != Phase::Running).phase {
            Phase::Abandoned => Err(End::Abandoned),
            _ => Ok(()),
        }
    }

    /// Uploads all remaining files, with pauses between tries.
    fn upload_all(&mut self, place: &Place) -> Result<(), End> {
        let mut pause = self.pace.min_retry_wait;
        loop {
            self.upload_some(place);
            if self.uploads.waiting.is_empty() {
                return Ok(());
            }
            self.rest(pause)?;
            pause = pause.saturating_mul(2).min(self.pace.max_retry_wait);
        }
    }

    /// Tries each waiting file once. A file that fails is kept for the next round until it has failed too often.
    fn upload_some(&mut self, place: &Place) {
        for _ in 0..self.uploads.waiting.len().div_ceil(MAX_FILES_PER_REQUEST) {
            let round: Vec<(String, u32)> =
                self.uploads.waiting.drain(..self.uploads.waiting.len().min(MAX_FILES_PER_REQUEST)).collect();
            let names: Vec<String> = round.iter().map(|(name, _)| name.clone()).collect();
            let targets = self.client.targets(place, &names);
            for (name, tries) in round {
                let uploaded = match &targets {
                    Err(failure) => Err(failure.message().to_owned()),
                    Ok(targets) => match targets.iter().find(|target| target.name == name) {
                        None => Err("the server gives no address for it".to_owned()),
                        Some(target) => bounded_file::read(&self.folder.join("files").join(&name), MAX_CAPTIONS_BYTES)
                            .map_err(|error| error.to_string())
                            .and_then(|content| {
                                self.client.upload(target, content).map_err(|failure| failure.message().to_owned())
                            }),
                    },
                };
                match uploaded {
                    Ok(()) => {
                        self.shared.set(|state| state.num_answers += 1);
                        self.uploads.news.push(name);
                    }
                    Err(_) if tries + 1 < MAX_UPLOAD_TRIES => self.uploads.waiting.push_back((name, tries + 1)),
                    Err(why) => self.give_up(&name, &why),
                }
            }
        }
    }

    fn give_up(&mut self, name: &str, why: &str) {
        if !self.uploads.has_given_up {
            self.uploads.has_given_up = true;
            (self.say)(
                Tone::Warning,
                &format!(
                    "Weights & Biases did not take {name}: {why}; send it later with `wandb sync {}`",
                    shell_path(&self.folder)
                ),
            );
        }
    }
}

/// Uploaded and waiting files. The list is kept on disk, so that a resumed run does not upload all its images again.
#[derive(Debug, Default)]
pub(crate) struct Uploads {
    /// Files and their numbers of failures.
    waiting: VecDeque<(String, u32)>,
    /// Uploaded files that have not been reported to the server.
    news: Vec<String>,
    has_given_up: bool,
    list: PathBuf,
}

impl Uploads {
    /// The uploads of the run in `folder`, and the names of those that arrived in earlier sessions.
    pub(crate) fn of(folder: &Path) -> (Self, BTreeSet<String>) {
        let list = folder.join("logs").join("uploaded.txt");
        // Without the list everything is uploaded again, which is harmless.
        let names = bounded_file::read_text(&list, MAX_DESCRIPTION_BYTES).unwrap_or_default();
        let names = names.lines().map(str::to_owned).collect();
        (Self { list, ..Self::default() }, names)
    }

    fn queue(&mut self, names: impl IntoIterator<Item = String>) {
        self.waiting.extend(names.into_iter().map(|name| (name, 0)));
    }

    fn has_news(&self) -> bool {
        !self.news.is_empty()
    }

    /// The server knows of the uploaded files.
    fn keep_news(&mut self) {
        let text: String = self.news.drain(..).map(|name| name + "\n").collect();
        if !text.is_empty() {
            // See above: a list that cannot be written costs time, not data.
            let opened = place::open_to_append(&self.list);
            let _ = opened.and_then(|mut file| file.write_all(text.as_bytes()));
        }
    }
}

/// The state of the run, for the thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    #[default]
    Running,
    /// The log is complete: send the rest now.
    Finishing,
    /// The run no longer waits.
    Abandoned,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) phase: Phase,
    /// How far the log reaches.
    pub(crate) published: u64,
    pub(crate) url: Option<String>,
    pub(crate) is_stopped: bool,
    pub(crate) is_over: bool,
    /// Everything has arrived.
    pub(crate) is_complete: bool,
    /// Requests that succeeded.
    pub(crate) num_answers: u64,
}

/// How sending the rest of a log went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    /// Everything has arrived.
    Complete,
    /// The server refuses; the thread has printed why.
    Refused,
    Unanswered,
}

/// What the run and its thread share.
#[derive(Default)]
pub(crate) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // The state is plain values, each valid by itself.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes waiting threads.
    pub(crate) fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }

    /// Waits until `is_enough`, at most for `timeout`.
    pub(crate) fn wait(&self, timeout: Duration, is_enough: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let waited = self.changed.wait_timeout_while(self.state(), timeout, |state| !is_enough(state));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Sets how far the log reaches.
    pub(crate) fn publish(&self, position: u64) {
        // No wake-up: the thread checks when its next request is due.
        self.state().published = position;
    }

    /// Waits for the first answer; gives the address of the run's page if the server accepted the run.
    pub(crate) fn wait_for_connection(&self, timeout: Duration) -> Option<String> {
        self.wait(timeout, |state| state.url.is_some() || state.is_over).url.clone()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.state().is_over
    }

    /// Lets the thread send the rest. Returns when nothing has succeeded for `patience`.
    pub(crate) fn finish(&self, patience: Duration) -> Finish {
        self.set(|state| state.phase = Phase::Finishing);
        loop {
            let before = self.state().num_answers;
            let state = self.wait(patience, |state| state.is_over || state.num_answers != before);
            if state.is_over {
                return if state.is_complete { Finish::Complete } else { Finish::Refused };
            }
            if state.num_answers == before {
                drop(state);
                self.abandon();
                return Finish::Unanswered;
            }
        }
    }

    /// Lets the thread end without sending the rest.
    pub(crate) fn abandon(&self) {
        self.set(|state| state.phase = Phase::Abandoned);
    }
}
