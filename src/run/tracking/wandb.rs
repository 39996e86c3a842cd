//! Tells Weights & Biases of a run: what happens, as its client takes it. The protocol and the files are in `wandb`.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::config::{RunConfig, WandbConfig, WandbMode};
use crate::run::environment::Process;
use crate::run::run_directory::RunDirectory;
use crate::run::tracking::log_lines::LogLine;
use crate::run::tracking::records;
use crate::run::tracking::sample_pictures::{MOST, SamplePictures};
use crate::run::tracking::scalars::{Scalars, is_logged, of_event, of_line};
use crate::run::tracking::system_monitor::{INTERVAL, SystemMonitor};
use crate::training::events::{Event, Observer, Sample};
use crate::training::train_state::TrainState;
use base::bounded_file::{self, MAX_DESCRIPTION_BYTES};
use base::stop::StopFlag;
use base::{system_usage, terminal};
use wandb::{Metadata, Mode, Options, Picture, ResumePoint, Run, Settings, Surroundings, Tone};

/// Keeps the id of the run, so that it is the same when it goes on.
const ID_FILE: &str = "wandb.json";
const FORMAT_VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    format_version: u32,
    run_id: String,
}

/// Where a run is told to, from its config and the environment; `None` where nobody is told.
///
/// # Errors
/// A setting that cannot be, such as `online` without a key.
pub fn settings(config: &WandbConfig, run: &RunDirectory) -> Result<Option<Settings>> {
    let options = Options {
        mode: config.mode.map(|mode| match mode {
            WandbMode::Online => Mode::Online,
            WandbMode::Offline => Mode::Offline,
            WandbMode::Disabled => Mode::Disabled,
        }),
        project: config.project.clone(),
        entity: config.entity.clone(),
        name: config.name.clone(),
        tags: config.tags.clone(),
    };
    let mut settings = Settings::resolve(&options, run.path(), &|name| std::env::var(name).ok())?;
    // Who has set nothing up for it need not hear of it.
    let is_wanted = config.mode.is_some() || std::env::var_os("WANDB_MODE").is_some();
    settings.silent |= !is_wanted && settings.mode == Mode::Offline;
    if settings.name.is_none() {
        settings.name = run.path().file_name().map(|name| name.to_string_lossy().into_owned());
    }
    Ok(Some(settings).filter(|settings| settings.mode != Mode::Disabled))
}

/// What there is to tell of a run before its first update.
#[derive(Clone, Copy)]
pub struct About<'a> {
    /// Its config.
    pub config: &'a RunConfig,
    /// Where it begins.
    pub state: &'a TrainState,
    /// What computes it.
    pub process: &'a Process,
}

/// The observer.
pub struct WeightsAndBiases {
    run: Run,
    /// What it is told, beside numbers.
    told: WandbConfig,
    pictures: Rc<RefCell<SamplePictures>>,
    /// The name of this machine, where the console must not show it.
    hidden_host: Option<String>,
    /// Absent where the machine is not told of.
    monitor: Option<SystemMonitor>,
    console: Receiver<LogLine>,
    stop: StopFlag,
    log_interval: u64,
    validation_interval: u64,
    num_epochs: u64,
    /// The run's `metrics.jsonl`.
    metrics: PathBuf,
    /// A server that was slow at the start tells the address of the page later.
    has_told_page: bool,
}

impl WeightsAndBiases {
    /// Begins a run, or goes on with the one that this folder has begun. `console` gives what the console shows.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn start(
        settings: &Settings,
        run: &RunDirectory,
        about: &About<'_>,
        pictures: Rc<RefCell<SamplePictures>>,
        console: Receiver<LogLine>,
        stop: StopFlag,
    ) -> Result<Self> {
        let path = run.path().join(ID_FILE);
        let resume = read_id(&path)?.map(|run_id| ResumePoint { run_id, step: about.state.global_step });
        let say = Arc::new(|tone, text: &str| match tone {
            Tone::Message => terminal::message(text),
            Tone::Warning => terminal::warning(text),
        });
        let told = about.config.tracking.wandb.clone();
        if !settings.silent {
            terminal::message(&describe(&told));
        }
        let metadata = metadata(about.config, about.process);
        let started = Run::start(settings, &metadata, resume.as_ref(), Surroundings::real(say))?;
        let identity = Identity { format_version: FORMAT_VERSION, run_id: started.id().to_owned() };
        run.write(ID_FILE, &format!("{}\n", serde_json::to_string(&identity)?))?;
        let training = &about.config.training;
        let has_told_page = settings.mode != Mode::Online || started.url().is_some();
        Ok(Self {
            has_told_page,
            run: started,
            pictures,
            monitor: told.system.then(|| SystemMonitor::start(INTERVAL)),
            hidden_host: system_usage::host_name().filter(|host| !told.host && !host.is_empty()),
            told,
            console,
            stop,
            log_interval: training.log_interval as u64,
            validation_interval: training.validation_interval as u64,
            num_epochs: training.num_epochs as u64,
            metrics: run.metrics(),
        })
    }

    /// Ends the run.
    ///
    /// # Errors
    /// A log that cannot be written.
    pub fn finish(mut self, exit_code: i32) -> Result<()> {
        self.pass_on()?;
        self.run.finish(exit_code)
    }

    /// Numbers that are known behind the last update.
    ///
    /// # Errors
    /// A log that cannot be written.
    pub fn summarize(&mut self, values: &[(String, f64)]) -> Result<()> {
        self.pass_on()?;
        let values = values.iter().map(|(name, value)| (name.clone(), wandb::number(*value)));
        self.run.summary(&values.collect())
    }

    /// Logs what came up beside the loop, and asks for a stop where a person did so on the page of the run.
    ///
    /// # Errors
    /// A log that cannot be written.
    pub fn pass_on(&mut self) -> Result<()> {
        for line in self.console.try_iter().filter(|_| self.told.sends_console()) {
            match &self.hidden_host {
                Some(host) => self.run.console_line(line.time, &without_word(&line.text, host))?,
                None => self.run.console_line(line.time, &line.text)?,
            }
        }
        for sample in self.monitor.iter().flat_map(SystemMonitor::take) {
            self.run.system_metrics(sample.time, &sample.values)?;
        }
        if !self.has_told_page
            && let Some(url) = self.run.url()
        {
            self.has_told_page = true;
            terminal::message(&format!("Weights & Biases: {url}"));
        }
        if self.run.should_stop() && !self.stop.is_raised() {
            terminal::message("stop was pressed on the page of the run");
            self.stop.raise();
        }
        Ok(())
    }

    /// Whether the values of a validation will belong to the row of the newest update.
    fn awaits_validation(&self, state: &TrainState) -> bool {
        state.needs_validation(self.validation_interval, self.num_epochs)
    }

    /// The row that a process left waiting for its validation, where it was killed within that.
    fn restore(&mut self, step: u64) -> Result<()> {
        let lines = records::lines(&self.metrics)?;
        for scalars in lines.iter().filter_map(of_line).filter(|scalars| scalars.step == step) {
            self.log(scalars)?;
        }
        Ok(())
    }

    fn log(&mut self, Scalars { step, values }: Scalars) -> Result<()> {
        let values = values.into_iter().map(|(name, value)| (name, wandb::number(value)));
        self.run.log(step, &values.collect())
    }

    fn samples(&mut self, step: u64, samples: &[Sample<'_>]) -> Result<()> {
        if !self.told.images {
            return Ok(());
        }
        let mut shown = Vec::new();
        for sample in samples.iter().take(MOST) {
            if let Some(picture) = self.pictures.borrow_mut().get(sample.image) {
                shown.push((picture, sample.caption.text.as_str()));
            }
        }
        let pictures: Vec<Picture<'_>> = shown
            .iter()
            .map(|(picture, caption)| Picture {
                png: &picture.png,
                width: picture.width,
                height: picture.height,
                caption,
            })
            .collect();
        self.run.images("val/samples", step, &pictures)
    }
}

impl Observer for WeightsAndBiases {
    fn observe(&mut self, event: &Event<'_>) -> Result<()> {
        self.pass_on()?;
        if let Some(scalars) = of_event(event).filter(|_| is_logged(event, self.log_interval)) {
            self.log(scalars)?;
        }
        match event {
            Event::Started { state, .. } if self.awaits_validation(state) => self.restore(state.global_step),
            Event::Validated { state, samples, .. } => {
                self.samples(state.global_step, samples)?;
                let best = [
                    ("best_epoch", json!(state.best_epoch)),
                    ("best_val_loss", json!(state.best_val_loss)),
                    ("best_cider", json!(state.best_cider)),
                ];
                let best = best.into_iter().filter(|(_, value)| !value.is_null());
                self.run.summary(&best.map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>())
            }
            // One row for an epoch's last update and its validation. A run that goes on from the checkpoint restores it; where
            // this process ends in an orderly way within the validation, it is written without that, which then is a second.
            Event::Save { state, .. } if self.awaits_validation(state) => Ok(()),
            // A run that goes on from the checkpoint finds the row.
            Event::Save { .. } => self.run.commit(),
            _ => Ok(()),
        }
    }
}

fn read_id(path: &Path) -> Result<Option<String>> {
    if !path.is_file() {
        return Ok(None);
    }
    let cannot = || format!("cannot read {}", path.display());
    let bytes = bounded_file::read(path, MAX_DESCRIPTION_BYTES).with_context(cannot)?;
    let identity: Identity = serde_json::from_slice(&bytes).with_context(cannot)?;
    anyhow::ensure!(
        identity.format_version == FORMAT_VERSION,
        "{} has format version {}, and this program knows {FORMAT_VERSION}",
        path.display(),
        identity.format_version
    );
    Ok(Some(identity.run_id))
}

/// The text with `HOST` where `word` stands by itself.
fn without_word(text: &str, word: &str) -> String {
    let is_part = |character: char| character.is_alphanumeric() || character == '-' || character == '_';
    let (mut kept, mut rest) = (String::new(), text);
    while let Some(at) = rest.find(word) {
        let (before, behind) = (&rest[..at], &rest[at + word.len()..]);
        let last = before.chars().next_back().or_else(|| kept.chars().next_back());
        let is_alone = !last.is_some_and(is_part) && !behind.starts_with(is_part);
        kept += before;
        kept += if is_alone { "HOST" } else { word };
        rest = behind;
    }
    kept + rest
}

/// What is told of a run beside losses and scores, for its person.
fn describe(told: &WandbConfig) -> String {
    let parts = [
        (told.config, "the config"),
        (told.sends_command(), "the command line"),
        (told.sends_console(), "what the console shows"),
        (told.host, "the name of this machine"),
        (told.paths, "its paths"),
        (told.system, "what it has and how busy it is"),
        (told.images, "pictures of the validation split with their captions"),
    ];
    let name = |wanted: bool| parts.iter().filter(move |(is_sent, _)| *is_sent == wanted).map(|(_, name)| *name);
    let mut text = "Weights & Biases gets losses and scores".to_owned();
    for part in name(true) {
        text += &format!(", {part}");
    }
    let kept: Vec<&str> = name(false).collect();
    if kept.is_empty() {
        text += " (the keys of [tracking.wandb] keep each of these here)";
    } else {
        text += &format!("; kept here: {}", kept.join(", "));
    }
    text
}

fn metadata(config: &RunConfig, process: &Process) -> Metadata {
    let told = &config.tracking.wandb;
    let mut metadata = Metadata { program: "caption-train".to_owned(), ..Metadata::default() };
    if told.config {
        metadata.config = config_values(config);
    }
    if told.sends_command() {
        metadata.args = process.arguments.clone();
        metadata.executable = std::env::current_exe().ok().map(|path| path.to_string_lossy().into_owned());
    }
    if told.host {
        metadata.host = system_usage::host_name().unwrap_or_default();
    }
    if told.system {
        let threads = process.num_processors as u64;
        // Where there are none the driver need not be asked again.
        let usage = if process.gpus.is_empty() { Vec::new() } else { system_usage::gpus() };
        let gpus = process.gpus.iter().cloned().zip(usage);
        metadata.os = format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH);
        (metadata.cpu_cores, metadata.cpu_threads) = (threads, threads);
        metadata.memory_bytes = process.memory_bytes.unwrap_or(0);
        metadata.gpus =
            gpus.map(|(name, gpu)| wandb::Gpu { name, memory_bytes: gpu.memory_total_bytes as u64 }).collect();
    }
    metadata
}

/// The config as an object; without what names a place of this machine, if it is not told.
fn config_values(config: &RunConfig) -> Value {
    let mut values = serde_json::to_value(config).unwrap_or(Value::Null);
    if config.tracking.wandb.paths {
        return values;
    }
    // An id of the Hub goes too: it cannot be told from a folder that was moved.
    for (key, _) in config.clone().paths_mut() {
        let pointer = format!("/{}", key.replace('.', "/"));
        if let Some(value) = values.pointer_mut(&pointer) {
            *value = Value::Null;
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_machine_is_hidden_where_it_stands_by_itself() {
        for (text, expected) in [
            ("process 7 on vm, since 2026", "process 7 on HOST, since 2026"),
            ("vm", "HOST"),
            ("vm vm (vm)", "HOST HOST (HOST)"),
            ("vmstat, kvm, vm-2 and my_vm", "vmstat, kvm, vm-2 and my_vm"),
            ("", ""),
        ] {
            assert_eq!(without_word(text, "vm"), expected);
        }
    }

    #[test]
    fn without_paths_the_config_names_no_folder_of_this_machine() {
        let mut config = RunConfig { output_dir: "runs/secret".into(), ..RunConfig::default() };
        config.model.init_from = Some("secretmodel/m".to_owned());
        config.model.encoder.name = Some("/home/ann/vit".to_owned());
        config.tracking.wandb.paths = false;
        let text = config_values(&config).to_string();
        assert!(!text.contains("secret") && !text.contains("ann") && text.contains("num_epochs"), "{text}");
    }
}
