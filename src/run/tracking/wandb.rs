//! Weights & Biases. The protocol and the files are in the crate `wandb`.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::config::{RunConfig, WandbConfig, WandbMode};
use crate::run::environment::Process;
use crate::run::run_directory::RunDirectory;
use crate::run::tracking::log_lines::LogLine;
use crate::run::tracking::sample_pictures::{MAX_SHOWN, SamplePictures};
use crate::run::tracking::scalars::{Scalars, of_record};
use crate::run::tracking::system_monitor::{INTERVAL, SystemMonitor};
use crate::run::tracking::tracker::{Tracker, TrackerContext, TrackerKind};
use crate::training::events::{Event, Sample};
use crate::training::train_state::TrainState;
use base::bounded_file::{self, MAX_DESCRIPTION_BYTES};
use base::stop::StopFlag;
use base::{system_usage, terminal};
use metrics::score::Scores;
use wandb::{Context, Metadata, Mode, Options, Picture, ResumePoint, Run, Settings, Tone};

pub(super) const KIND: TrackerKind = TrackerKind {
    name: "Weights & Biases",
    check: |config| settings(&config.tracking.wandb, &RunDirectory::at(&config.output_dir)).map(drop),
    start: |context| {
        let Some(settings) = settings(&context.config.tracking.wandb, context.run)? else { return Ok(None) };
        Ok(Some(Box::new(WeightsAndBiases::start(&settings, context)?)))
    },
};

/// Keeps the id of the run, so that it is the same after a resume.
const ID_FILE: &str = "wandb.json";
const FORMAT_VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    format_version: u32,
    run_id: String,
}

/// Where and how a run is logged, from its config and the environment; `None` where it is not.
///
/// # Errors
/// A setting that cannot be, such as `online` without a key.
fn settings(config: &WandbConfig, run: &RunDirectory) -> Result<Option<Settings>> {
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
    // No messages for a user who has set nothing up for it.
    let is_wanted = config.mode.is_some() || std::env::var_os("WANDB_MODE").is_some();
    settings.silent |= !is_wanted && settings.mode == Mode::Offline;
    if settings.name.is_none() {
        settings.name = run.path().file_name().map(|name| name.to_string_lossy().into_owned());
    }
    Ok(Some(settings).filter(|settings| settings.mode != Mode::Disabled))
}

pub struct WeightsAndBiases {
    run: Run,
    folder: RunDirectory,
    /// What is sent beside numbers.
    sent: WandbConfig,
    pictures: Rc<RefCell<SamplePictures>>,
    /// The name of this machine, where the console must not show it.
    hidden_host: Option<String>,
    /// Absent where nothing of the machine is sent.
    monitor: Option<SystemMonitor>,
    log_interval: u64,
    validation_interval: u64,
    num_epochs: u64,
    /// Updates between two validations within epochs, where there are any.
    validate_every: Option<u64>,
    /// A server that is slow at the start gives the address of the run's page later.
    has_shown_page: bool,
}

impl WeightsAndBiases {
    /// Begins a run, or resumes the one that the folder has begun.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn start(settings: &Settings, context: &TrackerContext<'_>) -> Result<Self> {
        let TrackerContext { run: folder, config, state, process, pictures } = context;
        let path = folder.path().join(ID_FILE);
        let resume = read_id(&path)?.map(|run_id| ResumePoint { run_id, step: state.global_step });
        let say = Arc::new(|tone, text: &str| match tone {
            Tone::Message => terminal::message(text),
            Tone::Warning => terminal::warning(text),
        });
        let sent = config.tracking.wandb.clone();
        if !settings.silent {
            terminal::message(&describe(&sent));
        }
        let metadata = metadata(config, process);
        let run = Run::start(settings, &metadata, resume.as_ref(), Context::real(say))?;
        let identity = Identity { format_version: FORMAT_VERSION, run_id: run.id().to_owned() };
        folder.write(ID_FILE, &format!("{}\n", serde_json::to_string(&identity)?))?;
        let training = &config.training;
        Ok(Self {
            has_shown_page: settings.mode != Mode::Online || run.url().is_some(),
            run,
            folder: (*folder).clone(),
            pictures: Rc::clone(pictures),
            monitor: sent.system.then(|| SystemMonitor::start(INTERVAL)),
            hidden_host: system_usage::host_name().filter(|host| !sent.host && !host.is_empty()),
            sent,
            log_interval: training.log_interval as u64,
            validation_interval: training.validation_interval as u64,
            num_epochs: training.num_epochs as u64,
            validate_every: training.scst.as_ref().map(|scst| scst.validate_every as u64),
        })
    }

    /// Whether the values of a validation will belong to the row of the newest update.
    fn awaits_validation(&self, state: &TrainState) -> bool {
        state.needs_validation(self.validation_interval, self.num_epochs)
            || state.needs_validation_of_update(self.validate_every)
    }

    /// The row that a process left waiting for its validation, where it was killed within that.
    fn restore(&mut self, step: u64) -> Result<()> {
        let records = self.folder.records()?;
        records
            .iter()
            .filter_map(of_record)
            .filter(|scalars| scalars.step == step)
            .try_for_each(|scalars| self.log(scalars))
    }

    fn log(&mut self, Scalars { step, values }: Scalars) -> Result<()> {
        let values = values.into_iter().map(|(name, value)| (name, wandb::number(value)));
        self.run.log(step, &values.collect())
    }

    fn samples(&mut self, step: u64, samples: &[Sample<'_>]) -> Result<()> {
        if !self.sent.images {
            return Ok(());
        }
        let mut shown = Vec::new();
        for sample in samples.iter().take(MAX_SHOWN) {
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

impl Tracker for WeightsAndBiases {
    fn observe(&mut self, event: &Event<'_>) -> Result<()> {
        let record = event.record().filter(|record| record.is_logged(self.log_interval));
        if let Some(scalars) = record.as_ref().and_then(of_record) {
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
            // One row for an epoch's last update and its validation. A run resumed from the checkpoint restores it;
            // where this process ends in an orderly way within the validation, it is written without that, which then
            // is a second.
            Event::Saving { state } if self.awaits_validation(state) => Ok(()),
            // A run resumed from the checkpoint does not log the row again.
            Event::Saving { .. } => self.run.commit(),
            _ => Ok(()),
        }
    }

    /// A stop was requested on the run's page.
    fn poll(&mut self, log: &[LogLine], stop: &StopFlag) -> Result<()> {
        for line in log.iter().filter(|_| self.sent.sends_console()) {
            match &self.hidden_host {
                Some(host) => self.run.console_line(line.time, &without_word(&line.text, host))?,
                None => self.run.console_line(line.time, &line.text)?,
            }
        }
        for sample in self.monitor.iter().flat_map(SystemMonitor::take) {
            self.run.system_metrics(sample.time, &sample.values)?;
        }
        if !self.has_shown_page
            && let Some(url) = self.run.url()
        {
            self.has_shown_page = true;
            terminal::message(&format!("Weights & Biases: {url}"));
        }
        if self.run.should_stop() && !stop.is_raised() {
            terminal::message("stop was pressed on the run's page");
            stop.raise();
        }
        Ok(())
    }

    fn scores(&mut self, split: &str, scores: &Scores<f64>) -> Result<()> {
        let values = scores.named().map(|(name, value)| (format!("{split}/{name}"), wandb::number(value)));
        self.run.summary(&values.into_iter().collect())
    }

    fn finish(self: Box<Self>, exit_code: i32) -> Result<()> {
        self.run.finish(exit_code)
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
        "{} has format version {}, and this program reads {FORMAT_VERSION}",
        path.display(),
        identity.format_version
    );
    Ok(Some(identity.run_id))
}

/// The text with `HOST` wherever `word` occurs as a whole word.
fn without_word(text: &str, word: &str) -> String {
    let is_part = |character: char| character.is_alphanumeric() || character == '-' || character == '_';
    let (mut kept, mut rest) = (String::new(), text);
    while let Some(at) = rest.find(word) {
        let (before, after) = (&rest[..at], &rest[at + word.len()..]);
        let last = before.chars().next_back().or_else(|| kept.chars().next_back());
        let is_alone = !last.is_some_and(is_part) && !after.starts_with(is_part);
        kept += before;
        kept += if is_alone { "HOST" } else { word };
        rest = after;
    }
    kept + rest
}

/// Tells the user what is sent in addition to losses and scores.
fn describe(sent: &WandbConfig) -> String {
    let parts = [
        (sent.config, "the config"),
        (sent.sends_command(), "the command line"),
        (sent.sends_console(), "the console output"),
        (sent.host, "the name of this machine"),
        (sent.paths, "its paths"),
        (sent.system, "its hardware and load"),
        (sent.images, "pictures of the validation split with their captions"),
    ];
    let name = |wanted: bool| parts.iter().filter(move |(is_sent, _)| *is_sent == wanted).map(|(_, name)| *name);
    let mut text = "Weights & Biases gets losses and scores".to_owned();
    for part in name(true) {
        text += &format!(", {part}");
    }
    let kept: Vec<&str> = name(false).collect();
    if kept.is_empty() {
        text += " (each can be turned off under [tracking.wandb])";
    } else {
        text += &format!("; not sent: {}", kept.join(", "));
    }
    text
}

fn metadata(config: &RunConfig, process: &Process) -> Metadata {
    let sent = &config.tracking.wandb;
    let mut metadata = Metadata { program: "caption-train".to_owned(), ..Metadata::default() };
    if sent.config {
        metadata.config = config_values(config);
    }
    if sent.sends_command() {
        metadata.args = process.arguments.clone();
        metadata.executable = std::env::current_exe().ok().map(|path| path.to_string_lossy().into_owned());
    }
    if sent.host {
        metadata.host = system_usage::host_name().unwrap_or_default();
    }
    if sent.system {
        let threads = process.num_processors as u64;
        // Without GPUs the driver need not be asked again.
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

/// The config as an object; without what names a place of this machine, if paths are not sent.
fn config_values(config: &RunConfig) -> Value {
    let mut values = serde_json::to_value(config).unwrap_or(Value::Null);
    if config.tracking.wandb.paths {
        return values;
    }
    // An id of the Hub goes too: it looks like a folder that was moved.
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
