//! `caption-train evaluate`: captions a split of a data set with a model and scores what it wrote.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;

use crate::commands::decoding_args::DecodingArgs;
use crate::commands::device::select_device;
use crate::commands::given_paths::path_argument;
use crate::commands::model_source::{base_folders, checkpoint_paths};
use crate::commands::score::MetricArgs;
use crate::commands::signals::watch_signals;
use crate::config::{RunConfig, ScstConfig};
use crate::data::image_source::{ImageFiles, ImageSource, Views};
use crate::data::prompts::Prompts;
use crate::data::split::split_images;
use crate::evaluation::captioning::CaptioningSettings;
use crate::run::checkpoint::layout::CheckpointMetadata;
use crate::run::ensemble::{Ensemble, Member};
use crate::run::run_directory::RunDirectory;
use crate::run::split_evaluation::{self, ModelOrigin};
use crate::training::collective::Alone;
use crate::training::shared_captions::Team;
use crate::training::trainer::Outcome;
use base::error::{failure, usage_error};
use base::terminal;
use base::worker_pools::WorkerPools;
use datasets::prepared::{Dataset, Split};
use metrics::meteor::Meteor;
use metrics::score::ScoreOptions;
use pixels::image_processor::ImageProcessor;

/// Captions a split and scores the captions.
#[derive(Clone, Debug, clap::Args)]
pub struct EvaluateArgs {
    /// Checkpoint of a run, folder of a VisionEncoderDecoderModel or of a BLIP, or its id on the Hub; repeated, the models
    /// caption together
    #[arg(long = "checkpoint", required = true, value_name = "CHECKPOINT", value_parser = path_argument())]
    pub checkpoints: Vec<PathBuf>,
    /// train, val or test
    #[arg(long, value_name = "SPLIT", default_value = "test")]
    pub split: String,
    /// Prepared data set [default: the one that the (first) checkpoint was trained on]
    #[arg(long, value_name = "DIR", value_parser = path_argument())]
    pub data: Option<PathBuf>,
    /// Folder for SPLIT.json and SPLIT.scores.json [default: predictions/ in the folder of the checkpoint's run]
    #[arg(long, value_name = "DIR", value_parser = path_argument())]
    pub output: Option<PathBuf>,
    /// Text that every caption continues, not counted as a part of it [default: each image's own, else the run's]
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// Images captioned at a time
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub batch_size: usize,
    /// How captions are written.
    #[command(flatten)]
    pub decoding: DecodingArgs,
    /// How they are scored.
    #[command(flatten)]
    pub metrics: MetricArgs,
    /// Print the scores as a JSON object
    #[arg(long)]
    pub json: bool,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: String,
}

/// Writes predictions and scores, adds a line to the run's `metrics.jsonl`, and prints the scores.
///
/// # Errors
/// A checkpoint or data that cannot be used, an image that cannot be read, a disk that cannot be written.
pub fn run(args: &EvaluateArgs) -> Result<Outcome> {
    let Some(split) = Split::parse(&args.split) else {
        return Err(usage_error(format!("unknown split {:?}", args.split), "use train, val or test"));
    };
    if args.batch_size == 0 {
        return Err(usage_error("--batch-size must be at least 1", "64 is a common value"));
    }
    let stop = watch_signals("stopped; nothing was written")?;
    let device = select_device(&args.device)?;
    let ensemble = Ensemble::open(&checkpoint_paths(&args.checkpoints)?, &device, &base_folders)?;
    let (opened, num_positions) = (ensemble.first(), ensemble.num_positions());
    let decoding = args.decoding.resolve(&opened.decoding, opened.tokenizer.special_ids(), num_positions, 1)?;
    let data = EvaluatedData::open(args, split, &ensemble)?;
    let prompts = match &args.prompt {
        Some(text) => Prompts::of_all(ensemble.prompt(Some(text.as_str()))?),
        None => {
            let (tokenizer, of_run) = (&opened.tokenizer, ensemble.prompt_of_run());
            Prompts::of_dataset(&data.dataset, &data.images, of_run, tokenizer, num_positions)?
        }
    };
    let path = ensemble.path_of_one();
    let run = path.and_then(RunDirectory::of_checkpoint).filter(|_| data.is_own);
    let Some(folder) = args.output.clone().or_else(|| run.as_ref().map(RunDirectory::predictions)) else {
        let message = match path {
            Some(_) => "the checkpoint is not in a run that was trained on this data set",
            None => "several checkpoints caption together, which no run does",
        };
        return Err(usage_error(
            format!("{message}, so there is no default folder for captions"),
            "choose a folder with --output DIR",
        ));
    };
    split_evaluation::check_output(&folder, split.name())?;
    let (meteor, documents) = (Meteor::open(args.metrics.meteor_resources.as_deref())?, args.metrics.documents()?);
    let num_threads = rayon::current_num_threads();
    // A GPU takes whole batches.
    let num_pools = if device.is_cpu() { num_threads.min(args.batch_size) } else { 1 };
    let pools = WorkerPools::new(num_pools, 1)?;
    let training_captions = data.training_images.as_deref().map(|images| data.dataset.captions_of(images));
    let source = |processor: &ImageProcessor| {
        let files = ImageFiles::of_dataset(Arc::clone(&data.dataset), processor.clone(), None);
        ImageSource::files(Arc::new(files), Views::Whole)
    };
    let sources: Vec<ImageSource> = ensemble.processors.iter().map(source).collect();
    let trainings = || ensemble.members().iter().filter_map(|member| member.model.training.as_ref());
    let mut rewards: Vec<String> = trainings()
        .filter_map(|training| training.config.training.scst.as_ref())
        .map(ScstConfig::reward_signature)
        .collect();
    rewards.sort();
    rewards.dedup();
    let reward = Some(rewards.join("|")).filter(|reward| !reward.is_empty());
    let progress = |training: &CheckpointMetadata| (training.state.epoch, training.state.global_step);
    stop.attend();
    let request = split_evaluation::Request {
        dataset: &data.dataset,
        split: split.name(),
        images: &data.images,
        prompts: &prompts,
        sources: &sources,
        writer: &ensemble.writer(decoding),
        model: ModelOrigin {
            path: path.unwrap_or(Path::new("")),
            progress: path.and(opened.training.as_ref()).map(progress),
            reward: reward.as_deref(),
            ensemble: &ensemble.origins(),
        },
        team: Team { pools: &pools, collective: &Alone },
        settings: &CaptioningSettings {
            batch_size: args.batch_size,
            num_parts: num_pools,
            workers: num_threads,
            device,
        },
        options: &ScoreOptions {
            meteor: &meteor,
            document_references: documents.as_deref(),
            training_captions: training_captions.as_deref(),
            num_resamples: args.metrics.bootstrap,
            seed: 0,
        },
    };
    let Some(mut found) = split_evaluation::evaluate(&request, || !stop.is_raised())? else {
        terminal::warning("captioning was stopped; nothing was written");
        return Ok(Outcome::Interrupted);
    };
    found.show();
    if args.json {
        terminal::json(&found.to_json()?)?;
    } else {
        found.report().lines().iter().try_for_each(|line| terminal::data(line))?;
    }
    terminal::message(&format!("captions in {}", found.write(&folder)?.display()));
    if let Some(run) = run {
        run.append_metrics(&found.record()?)?;
    }
    Ok(Outcome::Completed)
}

/// What is captioned.
struct EvaluatedData {
    dataset: Arc<Dataset>,
    /// The images of the split.
    images: Vec<usize>,
    /// Whether a model was trained on it.
    is_own: bool,
    /// What the models learned from, where that is known.
    training_images: Option<Vec<usize>>,
}

impl EvaluatedData {
    fn open(args: &EvaluateArgs, split: Split, ensemble: &Ensemble) -> Result<Self> {
        let own = ensemble.first().training.as_ref().and_then(|training| training.config.data.directory.as_deref());
        let Some(directory) = args.data.as_deref().or(own) else {
            return Err(usage_error("no data set to caption", "give its folder with --data DIR"));
        };
        let dataset = Dataset::open(directory)?;
        // Of the models that were trained on it, how each run split it.
        let mut splits = Vec::new();
        for Member { path, model, .. } in ensemble.members() {
            let training = model.training.as_ref().filter(|training| training.dataset_digest == dataset.digest);
            if let Some(CheckpointMetadata { config: RunConfig { data, seed, .. }, .. }) = training {
                splits.push((path, split_images(&dataset, data.split, data.validation_fraction, *seed)?));
            }
        }
        if splits.is_empty() && args.data.is_none() {
            return Err(failure(
                format!("the data set in {} is not the one that the checkpoint was trained on", directory.display()),
                "give another data set with --data DIR",
            ));
        }
        let images: Vec<usize> = match splits.first() {
            Some((_, indices)) => indices.side(split).to_owned(),
            // Another data set says itself what each image is for.
            None => {
                let all = 0..dataset.images.len();
                all.filter(|&image| dataset.images.get(image).split() == split).collect()
            }
        };
        if images.is_empty() {
            return Err(failure(
                format!("the data set in {} has no images in the split {}", dataset.directory.display(), split.name()),
                "choose another split with --split, or another data set with --data",
            ));
        }
        let evaluated: HashSet<&usize> = images.iter().filter(|_| split != Split::Train).collect();
        for (path, indices) in splits.iter().skip(1) {
            let num_seen = indices.train.iter().filter(|image| evaluated.contains(image)).count();
            if num_seen > 0 {
                terminal::warning(&format!(
                    "{num_seen} of the {} images are among those that {} was trained on",
                    images.len(),
                    path.display()
                ));
            }
        }
        let is_own = !splits.is_empty();
        let mut training_images: Vec<usize> = splits.into_iter().flat_map(|(_, indices)| indices.train).collect();
        if ensemble.path_of_one().is_none() {
            training_images.sort_unstable();
            training_images.dedup();
        }
        let training_images = is_own.then_some(training_images);
        Ok(Self { dataset: Arc::new(dataset), images, is_own, training_images })
    }
}
