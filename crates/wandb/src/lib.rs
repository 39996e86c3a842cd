//! Weights & Biases: a run's metrics, images and console, on disk and, when online, at the server.
//!
//! Everything is written to the run's log first. A thread sends what the log holds, so that a slow or dead server never
//! delays the training; what did not arrive is sent by `wandb sync`. A run that resumes from a checkpoint keeps its id,
//! its folder and its history: steps that are already there are not written again.

#![cfg_attr(test, expect(clippy::disallowed_methods, reason = "tests write files of their own"))]

mod client;
mod context;
mod follower;
mod history;
mod local_run;
mod log_file;
mod metadata;
mod netrc;
mod records;
mod settings;
mod stream;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base::quoting::shell_path;
use base::threads;
use serde_json::{Map, Value, json};

pub use context::{Context, Pace, Say, Tone};
pub use history::number;
pub use metadata::{Gpu, Metadata};
pub use settings::{ApiKey, Mode, Options, Resume, Settings};

use client::{Client, Description};
use follower::Follower;
use history::{HistoryTail, Item, Tree};
use local_run::{Before, LocalRun};
use log_file::LogReader;
use records::Part;
use stream::{Finish, Shared, Streamer, Uploads};

/// How long a run that was stopped or failed waits without progress.
const MAX_WAIT_AFTER_STOP: Duration = Duration::from_secs(10);

/// Where a run resumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResumePoint {
    pub run_id: String,
    /// The last step of the checkpoint.
    pub step: u64,
}

/// An image to log.
#[derive(Clone, Copy, Debug)]
pub struct Picture<'a> {
    /// The content of a PNG file.
    pub png: &'a [u8],
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    pub caption: &'a str,
}

/// A run that is being logged. One that is dropped without [`Run::finish`] counts as interrupted and can be resumed.
pub struct Run {
    id: String,
    /// Absent when disabled.
    active: Option<Recording>,
}

impl Run {
    /// Starts or resumes a run. When online, waits briefly for the server's answer, so that the address of the run's
    /// page can be printed; a server that does not answer, or refuses, only causes a warning.
    ///
    /// # Errors
    /// A folder that cannot be written, or an invalid id.
    pub fn start(
        settings: &Settings,
        metadata: &Metadata,
        resume: Option<&ResumePoint>,
        context: Context,
    ) -> anyhow::Result<Self> {
        let is_drawn = settings.run_id.is_none() && resume.is_none();
        let id = settings.run_id.clone().or_else(|| resume.map(|point| point.run_id.clone()));
        let id = id.unwrap_or_else(|| settings::random_run_id(context.random[0]));
        settings::check_run_id(&id)?;
        if settings.mode == Mode::Disabled {
            return Ok(Self { id, active: None });
        }
        let now = (context.clock)();
        let (mut local, before) = open(settings, &id, resume.is_some(), now)?;
        let started = now - before.seconds;
        let writer_id = uuid(context.random[1], context.random[2]);
        let config: Vec<Item> = metadata.config_values().iter().map(|(key, value)| Item::new(key, value)).collect();
        if local.num_records() == 1 {
            let first_step = resume.map(|point| point.step.saturating_add(1));
            local.write(&records::run(settings, &id, metadata, &config, started, first_step))?;
            local.write(&records::telemetry())?;
        } else {
            local.write(&Part::Config(config))?;
        }
        local.write(&records::environment(metadata, &writer_id, now))?;
        let server_config = metadata.server_config(&writer_id, now);
        local.write_file("config.yaml", metadata::yaml(&server_config).as_bytes())?;
        let file = serde_json::to_string_pretty(&metadata.file(&writer_id, now)).unwrap_or_default();
        local.write_file("wandb-metadata.json", file.as_bytes())?;

        let shared = if settings.mode == Mode::Online {
            let description = Description {
                id: id.clone(),
                config: Value::Object(server_config).to_string(),
                host: metadata.host.clone(),
                program: metadata.program.clone(),
                is_new: is_drawn,
            };
            Some(connect(settings, &context, &local, &before, started, description)?)
        } else {
            None
        };
        let (written, summary, is_silent) = (before.tail, before.summary, settings.silent);
        let active = Recording { local, written, summary, pending: None, started, context, is_silent, shared };
        active.greet();
        Ok(Self { id, active: Some(active) })
    }

    /// Logs values of a step. Values of one step form one row; values that the history already has, and those of an
    /// earlier step, are skipped. Use [`number`] for numbers that may be NaN or infinite.
    ///
    /// # Errors
    /// A log that cannot be written.
    pub fn log(&mut self, step: u64, values: &Map<String, Value>) -> anyhow::Result<()> {
        self.active.as_mut().map_or(Ok(()), |active| active.log(step, values))
    }

    /// Writes the row of the newest step, which otherwise waits for the next step. Call it before a checkpoint is
    /// saved, so that a run that resumes from it finds the row.
    ///
    /// # Errors
    /// A log that cannot be written.
    pub fn commit(&mut self) -> anyhow::Result<()> {
        self.active.as_mut().map_or(Ok(()), Recording::commit)
    }

    /// Logs measurements of the machine, such as `cpu` or `gpu.0.memory`, taken at `time`, in seconds since 1970.
    ///
    /// # Errors
    /// A log that cannot be written.
    pub fn system_metrics(&mut self, time: f64, values: &Map<String, Value>) -> anyhow::Result<()> {
        let Some(active) = &mut self.active else { return Ok(()) };
        let items = values.iter().map(|(key, value)| Item::new(key, value)).collect();
        active.write(&Part::Stats { time, items })
    }

    /// Logs what was printed at `time`, in seconds since 1970, line by line.
    ///
    /// # Errors
    /// A log that cannot be written.
    pub fn console_line(&mut self, time: f64, text: &str) -> anyhow::Result<()> {
        let Some(active) = &mut self.active else { return Ok(()) };
        for line in text.lines() {
            active.local.write_line(time, line)?;
        }
        active.publish();
        Ok(())
    }

    /// Logs images of a step under one name.
    ///
    /// # Errors
    /// An image or a log that cannot be written.
    pub fn images(&mut self, key: &str, step: u64, pictures: &[Picture<'_>]) -> anyhow::Result<()> {
        let Some(active) = &mut self.active else { return Ok(()) };
        let Some(first) = pictures.first().filter(|_| active.takes(step, key)) else { return Ok(()) };
        let mut names = Vec::with_capacity(pictures.len());
        for picture in pictures {
            names.push(active.local.write_image(key, step, picture.png)?);
        }
        let captions: Vec<&str> = pictures.iter().map(|picture| picture.caption).collect();
        let value = json!({
            "_type": "images/separated",
            "width": first.width,
            "height": first.height,
            "format": "png",
            "count": pictures.len(),
            "filenames": names,
            "captions": captions,
        });
        active.log(step, &Map::from_iter([(key.to_owned(), value)]))
    }

    /// Sets values of the summary. A value that is logged later under the same name replaces them.
    ///
    /// # Errors
    /// A log that cannot be written.
    pub fn summary(&mut self, values: &Map<String, Value>) -> anyhow::Result<()> {
        self.active.as_mut().map_or(Ok(()), |active| active.summarize(history::items(values)))
    }

    /// Whether the user pressed Stop on the run's page.
    pub fn should_stop(&self) -> bool {
        self.shared().is_some_and(|shared| shared.state().is_stopped)
    }

    /// The address of the run's page, once the server has given it.
    pub fn url(&self) -> Option<String> {
        self.shared().and_then(|shared| shared.state().url.clone())
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    /// The run's folder; `None` when disabled.
    pub fn folder(&self) -> Option<&Path> {
        self.active.as_ref().map(|active| active.local.folder())
    }

    /// Ends the run with an exit code, 0 for success, and waits for unsent data as long as there is progress.
    ///
    /// # Errors
    /// A log that cannot be written.
    pub fn finish(mut self, exit_code: i32) -> anyhow::Result<()> {
        self.active.take().map_or(Ok(()), |active| active.finish(exit_code))
    }

    fn shared(&self) -> Option<&Shared> {
        self.active.as_ref()?.shared.as_deref()
    }
}

/// The folder of a run that resumes, or a new one.
fn open(settings: &Settings, id: &str, is_resumed: bool, now: f64) -> anyhow::Result<(LocalRun, Before)> {
    if is_resumed && let Some(opened) = LocalRun::reopen(&settings.dir, id)? {
        return Ok(opened);
    }
    Ok((LocalRun::create(&settings.dir, id, settings.mode, now)?, Before::default()))
}

/// Starts the thread that sends the log.
fn connect(
    settings: &Settings,
    context: &Context,
    local: &LocalRun,
    before: &Before,
    started: f64,
    description: Description,
) -> anyhow::Result<Arc<Shared>> {
    threads::check_network()?;
    let shared = Arc::new(Shared::default());
    shared.publish(local.position());
    let (uploads, uploaded) = Uploads::of(local.folder());
    let reader = LogReader::open(local.log_path())?;
    let streamer = Streamer {
        client: Client::new(settings)?,
        settings: settings.clone(),
        pace: context.pace.clone(),
        shared: Arc::clone(&shared),
        say: Arc::clone(&context.say),
        description,
        follower: Follower::new(reader, before, started, uploaded),
        last_local_step: before.tail.step(),
        folder: local.folder().to_owned(),
        uploads,
        has_warned: false,
    };
    threads::spawn("wandb", move || streamer.run())?;
    Ok(shared)
}

/// Random bits in the form of a UUID, version 4.
fn uuid(high: u64, low: u64) -> String {
    let high = (high & !0xf000) | 0x4000;
    let low = (low & !(3 << 62)) | 1 << 63;
    let (first, second, third) = (high >> 32, high >> 16 & 0xffff, high & 0xffff);
    format!("{first:08x}-{second:04x}-{third:04x}-{:04x}-{:012x}", low >> 48, low & 0xffff_ffff_ffff)
}

/// A run that is not disabled: it gathers rows, writes each to the log once, and waits for the end of sending.
struct Recording {
    local: LocalRun,
    written: HistoryTail,
    summary: Tree,
    /// The row of the newest step: values of one step arrive in several calls and form one row.
    pending: Option<Pending>,
    /// When the run would have started had it never been interrupted, in seconds since 1970.
    started: f64,
    context: Context,
    is_silent: bool,
    /// Absent when offline.
    shared: Option<Arc<Shared>>,
}

struct Pending {
    step: u64,
    time: f64,
    values: Map<String, Value>,
}

impl Recording {
    /// Prints the address of the run's page if the server gives it soon.
    fn greet(&self) {
        let Some(shared) = &self.shared else { return };
        if let Some(url) = shared.wait_for_connection(self.context.pace.connect_wait) {
            self.say(Tone::Message, &format!("Weights & Biases: {url}"));
        }
    }

    fn say(&self, tone: Tone, text: &str) {
        if tone == Tone::Warning || !self.is_silent {
            (self.context.say)(tone, text);
        }
    }

    /// Whether the history still lacks a value.
    fn takes(&self, step: u64, key: &str) -> bool {
        self.pending.as_ref().is_none_or(|pending| pending.step <= step) && self.written.is_new(step, key)
    }

    fn log(&mut self, step: u64, values: &Map<String, Value>) -> anyhow::Result<()> {
        let new: Vec<_> = values.iter().filter(|(key, _)| self.takes(step, key)).collect();
        if new.is_empty() {
            return Ok(());
        }
        if self.pending.as_ref().is_some_and(|pending| pending.step != step) {
            self.commit()?;
        }
        let new: Vec<(String, Value)> = new.into_iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        let time = (self.context.clock)();
        let pending = self.pending.get_or_insert_with(|| Pending { step, time, values: Map::new() });
        pending.values.extend(new);
        Ok(())
    }

    fn commit(&mut self) -> anyhow::Result<()> {
        let Some(Pending { step, time, values }) = self.pending.take() else { return Ok(()) };
        let mut items = history::items(&values);
        let seconds = (time - self.started).max(0.0);
        for (key, value) in [("_step", json!(step)), ("_timestamp", json!(time)), ("_runtime", json!(seconds))] {
            items.push(Item::new(key, &value));
        }
        // Before the history, as in the official client: then no row lacks its summary.
        self.summarize(items.clone())?;
        self.write(&Part::History { step, items })?;
        self.written.add(step, values.keys().map(String::as_str));
        Ok(())
    }

    fn summarize(&mut self, items: Vec<Item>) -> anyhow::Result<()> {
        items.iter().for_each(|item| self.summary.set(item));
        self.write(&Part::Summary(items))
    }

    fn write(&mut self, part: &Part) -> anyhow::Result<()> {
        self.local.write(part)?;
        self.publish();
        Ok(())
    }

    /// Lets the thread send what the log holds now.
    fn publish(&self) {
        if let Some(shared) = &self.shared {
            shared.publish(self.local.position());
        }
    }

    fn finish(mut self, code: i32) -> anyhow::Result<()> {
        self.commit()?;
        let seconds = ((self.context.clock)() - self.started).max(0.0) as u64;
        let runtime = Item { path: vec!["_wandb".to_owned(), "runtime".to_owned()], json: seconds.to_string() };
        self.summarize(vec![runtime])?;
        self.local.write_file("wandb-summary.json", self.summary.to_json().as_bytes())?;
        self.write(&Part::Exit { code, seconds })?;
        self.local.sync()?;
        // Whoever stops a run may kill it soon.
        let patience = self.context.pace.finish_wait;
        let patience = if code == 0 { patience } else { patience.min(MAX_WAIT_AFTER_STOP) };
        let sync = format!("`wandb sync {}`", shell_path(self.local.folder()));
        match &self.shared {
            None => self.say(Tone::Message, &format!("Weights & Biases: to upload this run: {sync}")),
            // The thread has said why.
            Some(shared) if shared.is_over() => {}
            Some(shared) if shared.finish(patience) != Finish::Unanswered => {}
            Some(_) => {
                self.say(Tone::Warning, &format!("Weights & Biases does not answer; send the rest with {sync}"));
            }
        }
        Ok(())
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        // A destructor cannot report a failure.
        let _ = self.commit();
        if let Some(shared) = &self.shared {
            shared.abandon();
        }
    }
}
