//! Gathers the data of a report: the contents of a run's folder, and where its best model looks in some of the images.
//! `comparison` gathers those of several runs. The pages themselves are the crate `report`.
//!
//! What is missing or cannot be read is left out with a warning: a report is wanted most when something went wrong.

pub mod comparison;
mod gallery;
pub(crate) mod page_file;

use std::collections::{HashMap, HashSet};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use candle_core::Device;
use serde::Deserialize;

use crate::config::{self, RunConfig};
use crate::data::split::split_images;
use crate::run::checkpoint::find_latest::latest_in_run;
use crate::run::checkpoint::layout::{CheckpointMetadata, MODEL_PREFIX};
use crate::run::checkpoint::reader::{TensorShapes, read_metadata};
use crate::run::checkpoint_names::best_file_name;
use crate::run::environment::{Environment, Process};
use crate::run::report::page_file::{check_free, write_page};
use crate::run::run_directory::RunDirectory;
use crate::run::split_scores;
use crate::run::status::RunStatus;
use base::bounded_file::{self, MAX_CAPTIONS_BYTES, MAX_DESCRIPTION_BYTES};
use base::error::one_line;
use base::quoting::shell_word;
use base::terminal;
use datasets::image_id::ImageId;
use datasets::prepared::{Dataset, Split};
use records::metrics_log;
use report::{CaptionedImage, CaptionedSplit, FileLink, GENERATOR, ReportData, SplitScores, Status};

/// The page, in the run's folder.
pub const REPORT_FILE: &str = "report.html";
/// Images that are shown.
pub const NUM_IMAGES: usize = 24;

/// Writes the page of a run into a file. `num_images` are shown with their captions; 0 needs neither data set nor
/// model.
///
/// # Errors
/// A folder that is not a run's; a file that cannot be written, or exists and is not a report.
pub fn write(run: &RunDirectory, path: &Path, num_images: usize) -> Result<()> {
    // Earlier versions wrote no generator.
    let is_older =
        |head: &str| head.contains(" – training report</title>") && head.contains("img-src data:; style-src");
    check_free(path, "a report", |head| head.contains(GENERATOR) || is_older(head))?;
    let Gathered { mut data, missing } = gather(run, num_images, &Device::Cpu)?;
    missing.iter().for_each(|what| terminal::warning(&format!("the report has {what}")));
    // The page names the run's files by where they are beside it.
    if path.parent() != Some(run.path()) {
        data.files.clear();
    }
    write_page(path, &report::render(&data).context("cannot create the page")?)
}

struct Gathered {
    data: ReportData,
    /// Descriptions of what could not be gathered.
    missing: Vec<String>,
}

/// What the files of a run say without its data set.
struct RunFiles {
    /// Without scores, captions and what comes from the data set.
    data: ReportData,
    config: RunConfig,
    /// The newest checkpoint.
    newest: Option<(PathBuf, CheckpointMetadata)>,
    /// Descriptions of what could not be read.
    missing: Vec<String>,
}

impl RunFiles {
    /// # Errors
    /// A config that cannot be read.
    fn read(run: &RunDirectory) -> Result<Self> {
        let mut missing = Vec::new();
        let toml = run.path().join("config.resolved.toml");
        let toml = bounded_file::read_text(&toml, MAX_DESCRIPTION_BYTES)
            .with_context(|| format!("cannot read {}", toml.display()))?;
        let config = config::parse(&toml, "config.resolved.toml", &[])?;
        let mut note = |what: &str, error: &anyhow::Error| missing.push(format!("{what}: {}", one_line(error)));
        let newest = latest_in_run(run.path(), read_metadata);
        let newest = newest.map_err(|error| note("no checkpoint", &error)).ok();
        let metadata = newest.as_ref().map(|(_, (metadata, _))| metadata);
        let metrics = bounded_file::open(&run.metrics()).and_then(|file| metrics_log::read(BufReader::new(file)));
        let metrics = metrics.map_err(|error| note("no metrics", &error.into())).unwrap_or_default();
        let status = RunStatus::read(run).map_err(|error| note("no status", &error));
        let status = match status {
            Ok(Some(status)) => shown(status),
            Ok(None) => status_of_0_1(run, metadata, &config),
            Err(()) => Status::Unfinished,
        };
        let data = ReportData {
            run_name: run.path().file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            status,
            written_by: metadata.map(|metadata| metadata.written_by.clone()).unwrap_or_default(),
            num_epochs: Some(config.training.num_epochs as u64),
            num_parameters: newest.as_ref().map(|(_, (_, tensors))| num_parameters(tensors)),
            images_per_update: Some((config.training.batch_size * config.training.gradient_accumulation_steps) as u64),
            max_grad_norm: config.training.max_grad_norm,
            metrics,
            config_toml: Some(toml),
            ..ReportData::default()
        };
        Ok(Self { data, config, newest: newest.map(|(path, (metadata, _))| (path, metadata)), missing })
    }
}

fn gather(run: &RunDirectory, num_images: usize, device: &Device) -> Result<Gathered> {
    let RunFiles { mut data, config, newest, mut missing } = RunFiles::read(run)?;
    let mut note = |what: &str, error: &anyhow::Error| missing.push(format!("{what}: {}", one_line(error)));
    let dataset = open_dataset(&config, newest.as_ref().map(|(_, metadata)| metadata));
    let dataset = dataset.map_err(|error| note("no data set", &error)).ok();
    let environment = Environment::read(run).map_err(|error| note("no environment", &error)).ok().flatten();
    data.environment =
        environment.and_then(|found| found.processes.into_iter().next_back()).map_or_else(Vec::new, rows);
    data.scores = read_scores(run).map_err(|error| note("no scores", &error)).unwrap_or_default();
    let captions = match (&dataset, data.scores.first()) {
        (Some(dataset), Some(scores)) => {
            let found = read_captions(run, dataset, &scores.split);
            found.map_err(|error| note("no captions of a split", &error)).ok()
        }
        _ => None,
    };
    data.gallery = match (&newest, &dataset) {
        (Some((path, metadata)), Some(dataset)) if num_images > 0 => {
            let best = best_checkpoint(run, metadata).unwrap_or_else(|| path.clone());
            let shown = match &captions {
                Some(SplitCaptions { split, images }) => {
                    gallery::draw(&best, dataset, images, Some(&split.images), num_images, device)
                }
                None => side(&metadata.config, dataset, Split::Val)
                    .and_then(|images| gallery::draw(&best, dataset, &images, None, num_images, device)),
            };
            shown.map_err(|error| note("no images", &error)).unwrap_or_default()
        }
        _ => Vec::new(),
    };
    data.captions = captions.map(|captions| captions.split);
    data.files = links(run);
    Ok(Gathered { data, missing })
}

fn num_parameters(tensors: &TensorShapes) -> u64 {
    let of_model = tensors.iter().filter(|(name, _)| name.starts_with(MODEL_PREFIX));
    of_model.map(|(_, shape)| shape.iter().product::<usize>() as u64).sum()
}

/// Captions of a split with the images that they are of.
struct SplitCaptions {
    split: CaptionedSplit,
    /// The image of each caption, as index in the data set.
    images: Vec<usize>,
}

fn open_dataset(config: &RunConfig, metadata: Option<&CheckpointMetadata>) -> Result<Dataset> {
    let directory = config.data.directory.as_deref().context("data.directory is not set")?;
    let dataset = Dataset::open(directory)?;
    let is_own = metadata.is_none_or(|metadata| metadata.dataset_digest == dataset.digest);
    anyhow::ensure!(is_own, "{} is not the data set that the run was trained on", directory.display());
    Ok(dataset)
}

fn best_checkpoint(run: &RunDirectory, metadata: &CheckpointMetadata) -> Option<PathBuf> {
    Some(run.checkpoints().join(best_file_name(&metadata.state)?)).filter(|path| path.is_file())
}

fn shown(status: RunStatus) -> Status {
    match status {
        RunStatus::Running => Status::Unfinished,
        RunStatus::Finished => Status::Finished,
        RunStatus::EndedEarly => Status::EndedEarly,
        RunStatus::Interrupted { step } => Status::Interrupted { global_step: step },
        RunStatus::Failed { message } => Status::Failed { message },
    }
}

/// How a run ended whose folder is of version 0.1 from before `status.json`: by its latest checkpoint and the last
/// lines of its log.
fn status_of_0_1(run: &RunDirectory, metadata: Option<&CheckpointMetadata>, config: &RunConfig) -> Status {
    const FAILED: &str = "the run ended with an error: ";
    const STOPPED: &str = "stopped; go on with: ";
    let state = metadata.map(|metadata| &metadata.state);
    if let Some(state) = state {
        if state.epoch >= config.training.num_epochs as u64 && state.validated_epoch == state.epoch {
            return Status::Finished;
        }
        if state.is_out_of_patience(config.training.patience) {
            return Status::EndedEarly;
        }
    }
    let log = bounded_file::read(&run.path().join("train.log"), MAX_CAPTIONS_BYTES).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let last = log.lines().rev().take(20).find_map(|line| {
        if let Some(at) = line.find(FAILED) {
            return Some(Status::Failed { message: line[at + FAILED.len()..].to_owned() });
        }
        let global_step = state.map_or(0, |state| state.global_step);
        line.contains(STOPPED).then_some(Status::Interrupted { global_step })
    });
    last.unwrap_or(Status::Unfinished)
}

/// The scores of splits in a run's folder.
///
/// # Errors
/// A file of another kind.
pub(crate) fn read_scores(run: &RunDirectory) -> Result<Vec<SplitScores>> {
    let mut found = Vec::new();
    for split in Split::ALL.into_iter().rev() {
        let path = run.predictions().join(format!("{}.scores.json", split.name()));
        if path.is_file() {
            found.push(split_scores::SplitScores::read(&path)?.into());
        }
    }
    Ok(found)
}

/// A few captions of a split: file, caption, and a reference.
///
/// # Errors
/// A data set or captions that are not there.
pub(crate) fn sample_captions(run: &RunDirectory, split: &str) -> Result<Vec<[String; 3]>> {
    const NUM_SHOWN: usize = 5;
    let toml = bounded_file::read_text(&run.path().join("config.resolved.toml"), MAX_DESCRIPTION_BYTES)?;
    let dataset = open_dataset(&config::parse(&toml, "config.resolved.toml", &[])?, None)?;
    let captions = read_captions(run, &dataset, split)?;
    let sample = |(image, &index): (&CaptionedImage, &usize)| {
        let reference = image.references.first().cloned().unwrap_or_default();
        [dataset.images.get(index).filename().to_owned(), image.caption.clone(), reference]
    };
    Ok(captions.split.images.iter().zip(&captions.images).take(NUM_SHOWN).map(sample).collect())
}

#[derive(Deserialize)]
struct Prediction {
    image_id: ImageId,
    caption: String,
}

fn read_captions(run: &RunDirectory, dataset: &Dataset, split: &str) -> Result<SplitCaptions> {
    let path = run.predictions().join(format!("{split}.json"));
    let cannot = || format!("cannot use {}", path.display());
    let bytes = bounded_file::read(&path, MAX_CAPTIONS_BYTES).with_context(cannot)?;
    let predictions: Vec<Prediction> = serde_json::from_slice(&bytes).with_context(cannot)?;
    let wanted: HashSet<&ImageId> = predictions.iter().map(|prediction| &prediction.image_id).collect();
    let ids = dataset.images.iter().map(|image| image.id()).enumerate();
    let by_id: HashMap<ImageId, usize> =
        ids.filter(|(_, id)| wanted.contains(id)).map(|(index, id)| (id, index)).collect();
    let mut captions =
        SplitCaptions { split: CaptionedSplit { split: split.to_owned(), images: Vec::new() }, images: Vec::new() };
    for Prediction { image_id, caption } in predictions {
        let Some(&image) = by_id.get(&image_id) else { continue };
        let references = dataset.images.get(image).owned_captions();
        captions.split.images.push(CaptionedImage { caption, references });
        captions.images.push(image);
    }
    Ok(captions)
}

fn rows(process: Process) -> Vec<(String, String)> {
    let mut rows = vec![
        ("program".to_owned(), process.program),
        ("command".to_owned(), command(&process.arguments)),
        ("system".to_owned(), process.system),
    ];
    rows.extend(process.processor.map(|name| ("processor".to_owned(), name)));
    rows.push(("processors".to_owned(), process.num_processors.to_string()));
    rows.extend(
        process.memory_bytes.map(|bytes| ("memory".to_owned(), format!("{:.1} GB", bytes as f64 / base::GIGABYTE))),
    );
    rows.extend(process.gpus.into_iter().map(|name| ("GPU".to_owned(), name)));
    rows.push(("device".to_owned(), process.device));
    rows.push(("compute threads".to_owned(), process.compute_threads.to_string()));
    rows.push(("loader threads".to_owned(), process.loader_threads.to_string()));
    rows
}

/// What was written on the command line, as a shell reads it.
fn command(arguments: &[String]) -> String {
    let words = arguments.iter().map(|argument| format!(" {}", shell_word(argument)));
    format!("caption-train{}", words.collect::<String>())
}

fn links(run: &RunDirectory) -> Vec<FileLink> {
    const FILES: [(&str, &str); 7] = [
        ("config.toml", "the config as it was written"),
        ("metrics.jsonl", "an object for each logged update, epoch and validation"),
        ("results.csv", "a row for each validation"),
        ("train.log", "what the console showed"),
        ("environment.json", "machine, program and command line"),
        ("checkpoints/last.safetensors", "the newest state"),
        ("predictions", "captions of splits, and their scores"),
    ];
    let there = FILES.into_iter().filter(|(path, _)| run.path().join(Path::new(path)).exists());
    there.map(|(path, what)| FileLink { path: path.to_owned(), what: what.to_owned() }).collect()
}

/// The images of one side of a run's split.
fn side(config: &RunConfig, dataset: &Dataset, side: Split) -> Result<Vec<usize>> {
    let indices = split_images(dataset, config.data.split, config.data.validation_fraction, config.seed)?;
    Ok(indices.side(side).to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_run_of_0_1_ended_as_its_log_says() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDirectory::create(folder.path(), "run").unwrap();
        let status = |log: &str| {
            fs::write(run.path().join("train.log"), log).unwrap();
            status_of_0_1(&run, None, &RunConfig::default())
        };
        assert_eq!(status("epoch 1\n"), Status::Unfinished);
        let stopped = "stopped; go on with: caption-train --resume last.safetensors\n";
        assert_eq!(status(stopped), Status::Interrupted { global_step: 0 });
        let failed = format!("{stopped}the run ended with an error: no disk\n");
        assert_eq!(status(&failed), Status::Failed { message: "no disk".to_owned() });
    }
}
