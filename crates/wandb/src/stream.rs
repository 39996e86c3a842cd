//! The thread that sends a run's log to the server while the run goes on.
//!
//! It reads the log behind its writer and never holds the run up: the run tells it how far the log reaches, and that is
//! all they share on the way. A server that is away is asked again and again, with growing pauses; when it refuses for good
//! the thread ends, and what it would have sent is in the log for `wandb sync`.

use std::collections::{BTreeSet, VecDeque};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::client::{self, Client, Description, Failure, Place};
use super::follower::{Batch, Follower, Offsets};
use super::settings::{Resume, Settings};
use super::shared::{Phase, Shared, State};
use super::surroundings::{Pace, Say, Tone};
use base::place;
use base::quoting::shell_path;

use base::bounded_file::{self, MAX_CAPTIONS_BYTES, MAX_DESCRIPTION_BYTES};

/// Failures in a row until the person is told.
const FAILURES_UNTIL_TOLD: u32 = 3;
/// How often a file is tried; the lines are worth more than a picture.
const MOST_UPLOAD_TRIES: u32 = 4;
/// How many files one request may name.
const MOST_FILES_AT_ONCE: usize = 50;

/// Why the thread ends early.
enum End {
    Refused(String),
    Abandoned,
}

/// The thread's part.
pub(super) struct Streamer {
    pub(super) client: Client,
    pub(super) settings: Settings,
    pub(super) pace: Pace,
    pub(super) shared: Arc<Shared>,
    pub(super) say: Say,
    pub(super) description: Description,
    pub(super) follower: Follower,
    /// Where the history of the log ended when this session began.
    pub(super) last_step_here: Option<u64>,
    /// The run's folder.
    pub(super) folder: PathBuf,
    pub(super) uploads: Uploads,
    /// The person knows that the server is away; a network that comes and goes is told once.
    pub(super) has_told: bool,
}

impl Streamer {
    /// Sends until the log's end, or until the server refuses.
    pub(super) fn run(mut self) {
        let end = self.work();
        if let Err(End::Refused(why)) = &end {
            (self.say)(
                Tone::Warning,
                &format!(
                    "Weights & Biases refused the run's data: {why}; training goes on, send them later with `wandb sync {}`",
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
            // Read before the log is: what was published then is read now.
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
                offsets = offsets.behind(&batch);
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
        // An id that was just drawn is nobody's.
        let known = if self.description.is_new { None } else { self.patiently(|client| client.at_server(&id))? };
        match (self.settings.resume, &known) {
            (Resume::Must, None) => return Err(End::Refused(format!("WANDB_RESUME=must, and there is no run {id}"))),
            (Resume::Never, Some(_)) => {
                return Err(End::Refused(format!("WANDB_RESUME=never, and there is a run {id} already")));
            }
            _ => {}
        }
        let description = Description { is_new: known.is_none(), ..self.description.clone() };
        let place = self.patiently(|client| client.upsert(&description))?;
        if known.is_none() {
            self.follower.forget_uploads();
        }
        let known = known.unwrap_or_default();
        if let Some(step) = known.seen.step().filter(|step| Some(*step) > self.last_step_here) {
            (self.say)(
                Tone::Warning,
                &format!(
                    "the history of the run {id} at Weights & Biases reaches step {step}: only later steps are sent"
                ),
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

    /// Makes a request until it succeeds, is refused or is no longer wanted.
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
            if failed == FAILURES_UNTIL_TOLD && !self.has_told {
                self.has_told = true;
                (self.say)(
                    Tone::Warning,
                    &format!(
                        "Weights & Biases cannot be reached: {message}; training goes on, the data wait in {}",
                        self.folder.display()
                    ),
                );
            }
            let doubled = self.pace.first_wait.saturating_mul(1 << (failed - 1).min(16)).min(self.pace.longest_wait);
            self.rest(wait.unwrap_or(doubled))?;
        }
    }

    /// A pause between tries, which ends early when the run does.
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

    /// Tries all that is left to upload, with pauses.
    fn upload_all(&mut self, place: &Place) -> Result<(), End> {
        let mut pause = self.pace.first_wait;
        loop {
            self.upload_some(place);
            if self.uploads.waiting.is_empty() {
                return Ok(());
            }
            self.rest(pause)?;
            pause = pause.saturating_mul(2).min(self.pace.longest_wait);
        }
    }

    /// Tries each waiting file once. A file that fails stays for the next round, until it has failed too often.
    fn upload_some(&mut self, place: &Place) {
        for _ in 0..self.uploads.waiting.len().div_ceil(MOST_FILES_AT_ONCE) {
            let round: Vec<(String, u32)> =
                self.uploads.waiting.drain(..self.uploads.waiting.len().min(MOST_FILES_AT_ONCE)).collect();
            let names: Vec<String> = round.iter().map(|(name, _)| name.clone()).collect();
            let targets = self.client.targets(place, &names);
            for (name, tries) in round {
                let uploaded = match &targets {
                    Err(failure) => Err(failure.message().to_owned()),
                    Ok(targets) => match targets.iter().find(|target| target.name == name) {
                        None => Err("the server gives no place for it".to_owned()),
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
                    Err(_) if tries + 1 < MOST_UPLOAD_TRIES => self.uploads.waiting.push_back((name, tries + 1)),
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

/// Which files have been uploaded and which are still to be. The list survives on the disk, so that a run that goes on
/// does not upload all its pictures again.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    /// Files and how often they have failed.
    waiting: VecDeque<(String, u32)>,
    /// Files that have arrived and that the server has not been told of.
    news: Vec<String>,
    has_given_up: bool,
    list: PathBuf,
}

impl Uploads {
    /// The uploads of the run in `folder`, and the names of those that arrived in earlier sessions.
    pub(super) fn of(folder: &Path) -> (Self, BTreeSet<String>) {
        let list = folder.join("logs").join("uploaded.txt");
        // Without the list all is uploaded again, which is harmless.
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

    /// The server knows of the files that arrived.
    fn keep_news(&mut self) {
        let text: String = self.news.drain(..).map(|name| name + "\n").collect();
        if !text.is_empty() {
            // See above: a list that cannot be written costs time, not data.
            let opened = place::open_to_append(&self.list);
            let _ = opened.and_then(|mut file| file.write_all(text.as_bytes()));
        }
    }
}
