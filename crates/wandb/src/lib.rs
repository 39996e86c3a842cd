//! Weights & Biases: a run's metrics, pictures and console, on the disk and, when online, at the server.
//!
//! Everything is written to the run's log first. A thread sends what the log holds, so that a slow or dead server never
//! holds the training up; what did not arrive is sent by `wandb sync`. A run that goes on from a checkpoint keeps its id,
//! its folder and its history: steps that are there already are not written again.

#![cfg_attr(test, expect(clippy::disallowed_methods, reason = "tests write files of their own"))]

mod client;
mod follower;
mod log_file;
mod metadata;
mod netrc;
mod offline;
mod recording;
mod records;
mod row;
mod run_id;
mod seen;
mod settings;
mod shared;
mod stream;
mod surroundings;
mod times;

#[cfg(test)]
mod recorder;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value, json};

pub use metadata::{Gpu, Metadata};
pub use row::number;
pub use settings::{ApiKey, Mode, Options, Resume, Settings};
pub use surroundings::{Pace, Say, Surroundings, Tone};

use base::threads;
use client::{Client, Description};
use follower::Follower;
use log_file::LogReader;
use offline::{Before, LocalRun};
use recording::Recording;
use records::Part;
use row::Item;
use shared::Shared;
use stream::{Streamer, Uploads};

/// The official client whose protocol and files these are. The server's pages show it as the client's version.
const CLIENT_VERSION: &str = "0.31.0";

/// Where a run goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResumePoint {
    /// The run.
    pub run_id: String,
    /// The last step that the checkpoint knows.
    pub step: u64,
}

/// A picture to log.
#[derive(Clone, Copy, Debug)]
pub struct Picture<'a> {
    /// The content of a PNG file.
    pub png: &'a [u8],
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// What stands below it.
    pub caption: &'a str,
}

/// A run that is being logged. One that is dropped without [`Run::finish`] counts as broken off and can go on later.
pub struct Run {
    id: String,
    active: Option<Recording>,
}

impl Run {
    /// Begins a run, or goes on with one. When online, waits a little for the server's answer, so that the address of the
    /// run's page can be told; a server that does not answer, or refuses, is only warned of.
    ///
    /// # Errors
    /// A folder that cannot be written; an id that is none.
    pub fn start(
        settings: &Settings,
        metadata: &Metadata,
        resume: Option<&ResumePoint>,
        surroundings: Surroundings,
    ) -> anyhow::Result<Self> {
        let is_drawn = settings.run_id.is_none() && resume.is_none();
        let id = settings.run_id.clone().or_else(|| resume.map(|point| point.run_id.clone()));
        let id = id.unwrap_or_else(|| run_id::from_random(surroundings.random[0]));
        run_id::check(&id)?;
        if settings.mode == Mode::Disabled {
            return Ok(Self { id, active: None });
        }
        let now = (surroundings.clock)();
        let (mut local, before) = open(settings, &id, resume.is_some(), now)?;
        let started = now - before.seconds;
        let writer_id = uuid(surroundings.random[1], surroundings.random[2]);
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
                commit: metadata.git_commit.clone(),
                repo: metadata.git_remote.clone(),
                is_new: is_drawn,
            };
            Some(connect(settings, &surroundings, &local, &before, started, description)?)
        } else {
            None
        };
        let (seen, summary, is_silent) = (before.seen, before.summary, settings.silent);
        let active = Recording { local, seen, summary, pending: None, started, surroundings, is_silent, shared };
        active.greet();
        Ok(Self { id, active: Some(active) })
    }

    /// Logs values of a step. Values of one step make one row; a value that the history has already is left out, as is all
    /// of an earlier step. Numbers that may be NaN or infinite are made with [`number`].
    ///
    /// # Errors
    /// A log that cannot be written.
    pub fn log(&mut self, step: u64, values: &Map<String, Value>) -> anyhow::Result<()> {
        self.active.as_mut().map_or(Ok(()), |active| active.log(step, values))
    }

    /// Writes the row of the newest step, which otherwise waits for the next step: to be called before a checkpoint is
    /// saved, so that a run that goes on from it finds the row.
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

    /// Logs what was printed at `time`, in seconds since 1970; each line becomes one.
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

    /// Logs pictures of a step under one name.
    ///
    /// # Errors
    /// A picture or a log that cannot be written.
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
        self.active.as_mut().map_or(Ok(()), |active| active.summarize(row::items(values)))
    }

    /// Whether a person pressed Stop on the run's page.
    pub fn should_stop(&self) -> bool {
        self.shared().is_some_and(Shared::is_stopped)
    }

    /// The address of the run's page, once the server has told it.
    pub fn url(&self) -> Option<String> {
        self.shared().and_then(Shared::url)
    }

    /// The run's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The run's folder; `None` when disabled.
    pub fn folder(&self) -> Option<&Path> {
        self.active.as_ref().map(|active| active.local.folder())
    }

    /// Ends the run with an exit code, 0 for success, and waits for what is still on its way as long as there is progress.
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

/// The folder of a run that goes on, or a new one.
fn open(settings: &Settings, id: &str, is_resumed: bool, now: f64) -> anyhow::Result<(LocalRun, Before)> {
    if is_resumed && let Some(opened) = LocalRun::reopen(&settings.dir, id)? {
        return Ok(opened);
    }
    Ok((LocalRun::create(&settings.dir, id, settings.mode, now)?, Before::default()))
}

/// Starts the thread.
fn connect(
    settings: &Settings,
    surroundings: &Surroundings,
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
        pace: surroundings.pace.clone(),
        shared: Arc::clone(&shared),
        say: Arc::clone(&surroundings.say),
        description,
        follower: Follower::new(reader, before, started, uploaded),
        last_step_here: before.seen.step(),
        folder: local.folder().to_owned(),
        uploads,
        has_told: false,
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
