//! `caption-train score-pairs`: how probable a model finds captions that are given.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

use crate::commands::device::select_device;
use crate::commands::given_paths::path_argument;
use crate::commands::model_source::{base_folders, checkpoint_path};
use crate::data::batch::Example;
use crate::data::example_list::ExampleList;
use crate::data::examples::{Framing, Sequence};
use crate::data::prompts::prompt_of;
use crate::data::split::split_images;
use crate::evaluation::captioning::CaptioningSettings;
use crate::evaluation::pair_scores::{GivenPairs, score_pairs};
use crate::run::captioning_model::CaptioningModel;
use base::atomic_file;
use base::error::{WithHint as _, failure, one_line, usage_error};
use base::terminal::{self, Progress};
use base::worker_pools::WorkerPools;
use datasets::annotations::read_pair_list;
use datasets::picture_file::PictureFile;
use datasets::prepared::{Dataset, Split};

/// Print the log-probability of each given caption of an image, as JSON Lines in the order of the pairs.
#[derive(Clone, Debug, clap::Args)]
pub struct ScorePairsArgs {
    /// Checkpoint of a run, folder of a VisionEncoderDecoderModel or of a BLIP, or its id on the Hub
    #[arg(long, value_name = "CHECKPOINT", value_parser = path_argument())]
    pub checkpoint: PathBuf,
    /// Images and captions: JSON Lines, a JSON list, a table with a header, or lines of an image, a tab and its caption
    #[arg(value_name = "FILE", value_parser = path_argument(), required_unless_present = "data", conflicts_with = "data")]
    pub pairs: Option<PathBuf>,
    /// Folder of the images in FILE [default: that of FILE]
    #[arg(long, value_name = "DIR", value_parser = path_argument(), conflicts_with = "data")]
    pub images: Option<PathBuf>,
    /// Prepared data set, in place of FILE
    #[arg(long, value_name = "DIR", value_parser = path_argument())]
    pub data: Option<PathBuf>,
    /// Only this split of the data set: train, val or test [default: all]
    #[arg(long, value_name = "SPLIT", requires = "data")]
    pub split: Option<String>,
    /// Text before captions without a prompt of their own, which is not scored [default: that of the run]
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// Write the lines to this file
    #[arg(long, value_name = "FILE", value_parser = path_argument())]
    pub output: Option<PathBuf>,
    /// Pairs scored at a time
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub batch_size: usize,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: String,
}

/// A caption and its image, as they were given.
struct Given {
    /// Index among the files.
    image: usize,
    caption: String,
    prompt: Option<String>,
}

/// All pairs, and their images: as they are called, and where they are.
#[derive(Default)]
struct AllGiven {
    pairs: Vec<Given>,
    names: Vec<String>,
    files: Vec<PictureFile>,
}

/// Prints a JSON object for each pair. Pairs that cannot be scored have an error in theirs, and make the command fail at
/// the end.
///
/// # Errors
/// A model or pairs that cannot be used; pairs that could not be scored; an output that cannot be written.
pub fn run(args: &ScorePairsArgs) -> Result<()> {
    if args.batch_size == 0 {
        return Err(usage_error("--batch-size must be at least 1", "64 is a common value"));
    }
    if let Some(output) = args.output.as_deref().filter(|output| fs::symlink_metadata(output).is_ok()) {
        return Err(usage_error(format!("{} exists", output.display()), "choose another file with --output"));
    }
    let device = select_device(&args.device)?;
    let opened = CaptioningModel::open_with(&checkpoint_path(&args.checkpoint)?, &device, &base_folders)?;
    for note in &opened.notes {
        terminal::message(note);
    }
    let given = match (&args.data, &args.pairs) {
        (Some(folder), _) => of_dataset(folder, args.split.as_deref(), &opened)?,
        (None, Some(file)) => of_file(file, args.images.as_deref())?,
        (None, None) => return Err(usage_error("no pairs to score", "give a file of them, or a data set with --data")),
    };
    let of_run = args.prompt.as_deref().or(opened.prompt_of_run()).map(str::trim).filter(|text| !text.is_empty());
    let lines = Lines { opened: &opened, given: &given, of_run, texts: HashMap::new() };
    let num_threads = rayon::current_num_threads();
    // A GPU takes whole batches.
    let num_pools = if device.is_cpu() { num_threads.min(args.batch_size) } else { 1 };
    let pools = WorkerPools::new(num_pools, 1)?;
    let settings =
        CaptioningSettings { batch_size: args.batch_size, num_parts: num_pools, workers: num_threads, device };
    let num_failed = match &args.output {
        None => lines.write(&settings, &pools, &mut |line| Ok(terminal::json(line)?))?,
        Some(path) => {
            let mut num_failed = 0;
            atomic_file::write_with(path, |file| {
                num_failed = lines.write(&settings, &pools, &mut |line| Ok(writeln!(file, "{line}")?))?;
                anyhow::Ok(())
            })
            .with_context(|| format!("cannot write {}", path.display()))
            .hint(|| "free some disk space and make the folder writable")?;
            num_failed
        }
    };
    if num_failed > 0 {
        let count = given.pairs.len();
        return Err(failure(
            format!("{num_failed} of {count} pairs could not be scored"),
            "the lines with an \"error\" say why",
        ));
    }
    Ok(())
}

fn of_file(file: &Path, images: Option<&Path>) -> Result<AllGiven> {
    let folder = images.or(file.parent()).unwrap_or(Path::new(""));
    let (mut all, mut known) = (AllGiven::default(), HashMap::new());
    for pair in read_pair_list(file)? {
        let image = *known.entry(pair.image).or_insert_with_key(|name| {
            all.names.push(name.clone());
            all.files.push(folder.join(name).into());
            all.files.len() - 1
        });
        all.pairs.push(Given { image, caption: pair.caption, prompt: pair.extras.prompt });
    }
    Ok(all)
}

/// Of the model's own data set the split is that of its run.
fn of_dataset(folder: &Path, split: Option<&str>, opened: &CaptioningModel) -> Result<AllGiven> {
    let parse = |name: &str| {
        Split::parse(name).ok_or_else(|| usage_error(format!("unknown split {name:?}"), "use train, val or test"))
    };
    let wanted = split.map(parse).transpose()?;
    let dataset = Dataset::open(folder)?;
    let own = opened.training.as_ref().filter(|training| training.dataset_digest == dataset.digest);
    let images: Vec<usize> = match (wanted, own.map(|training| &training.config)) {
        (Some(split), Some(config)) => {
            split_images(&dataset, config.data.split, config.data.validation_fraction, config.seed)?
                .side(split)
                .to_owned()
        }
        (wanted, _) => {
            let is_wanted = |image: &usize| wanted.is_none_or(|split| dataset.images.get(*image).split() == split);
            (0..dataset.images.len()).filter(is_wanted).collect()
        }
    };
    if images.is_empty() {
        let message = format!("the data set in {} has no images in that split", dataset.directory.display());
        return Err(failure(message, "choose another split with --split"));
    }
    let mut all = AllGiven::default();
    for image in images {
        let record = dataset.images.get(image);
        for (place, caption) in record.captions().enumerate() {
            let prompt = prompt_of(record, place, None).map(str::to_owned);
            all.pairs.push(Given { image: all.files.len(), caption: caption.to_owned(), prompt });
        }
        all.names.push(record.filename().to_owned());
        all.files.push(dataset.picture(image));
    }
    Ok(all)
}

/// The lines to print.
struct Lines<'a> {
    opened: &'a CaptioningModel,
    given: &'a AllGiven,
    /// The prompt of captions without their own.
    of_run: Option<&'a str>,
    /// Of tokens that were printed.
    texts: HashMap<u32, String>,
}

impl Lines<'_> {
    /// Gives each line to `write`; returns how many pairs could not be scored.
    fn write(
        mut self,
        settings: &CaptioningSettings,
        pools: &WorkerPools,
        write: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<usize> {
        let CaptioningModel { tokenizer, shape, captioner, processor, .. } = self.opened;
        let num_positions = shape.decoder.num_positions();
        let framing = Framing { tokenizer, max_seq_len: num_positions, prompt: self.of_run, weighs: false };
        let specials = tokenizer.special_ids();
        // A caption that is cut is another one.
        let whole = |sequence: Sequence| match sequence.num_tokens < num_positions {
            true => Ok(sequence),
            false => {
                let count = sequence.num_tokens - sequence.prompt_length;
                Err(format!("the caption has {count} tokens, too many for {num_positions} positions"))
            }
        };
        let (mut examples, mut odd) = (ExampleList::default(), HashMap::new());
        for (place, pair) in self.given.pairs.iter().enumerate() {
            let sequence = framing.sequence(self.prompt(pair), &pair.caption, "shorten the prompt");
            let (tokens, prompt_length) = match sequence.map_err(|error| one_line(&error)).and_then(whole) {
                Ok(sequence) => (sequence.tokens, sequence.prompt_length),
                Err(reason) => {
                    odd.insert(place, reason);
                    (vec![specials.start, specials.end], 0)
                }
            };
            examples.push(&Example { image: pair.image, tokens, prompt_length, weight: 1.0 });
        }
        let examples = Arc::new(examples);
        let targets = |place: usize| {
            let Example { mut tokens, prompt_length, .. } = examples.get(place);
            tokens.split_off(1 + prompt_length)
        };
        let files = self.given.files.clone();
        let pairs =
            GivenPairs { examples: Arc::clone(&examples), files, processor: processor.clone(), pad_id: specials.pad };
        let progress = Progress::new("scoring pairs", self.given.pairs.len() as u64, 0);
        let mut num_failed = 0;
        score_pairs(captioner, pairs, settings, pools, |place, scores| {
            let scores = match odd.remove(&place) {
                Some(reason) => scores.and(Err(reason)),
                None => scores,
            };
            num_failed += usize::from(scores.is_err());
            write(&self.line(place, &targets(place), scores)?)?;
            progress.advance(1, "");
            Ok(())
        })?;
        progress.finish();
        Ok(num_failed)
    }

    fn prompt<'p>(&'p self, pair: &'p Given) -> Option<&'p str> {
        pair.prompt.as_deref().or(self.of_run)
    }

    fn line(&mut self, place: usize, tokens: &[u32], scores: Result<Vec<f64>, String>) -> Result<String> {
        let pair = &self.given.pairs[place];
        let mut line = Map::new();
        line.insert("image".to_owned(), json!(self.given.names[pair.image]));
        if let Some(prompt) = self.prompt(pair) {
            line.insert("prompt".to_owned(), json!(prompt));
        }
        line.insert("caption".to_owned(), json!(pair.caption));
        match scores {
            Err(error) => drop(line.insert("error".to_owned(), json!(error))),
            Ok(scores) => {
                let (sum, count) = (scores.iter().sum::<f64>(), scores.len());
                let mean = sum / count as f64;
                let texts = tokens.iter().map(|&token| self.text(token)).collect::<Result<Vec<_>>>()?;
                let values = [
                    ("log_probability", json!(sum)),
                    ("num_tokens", json!(count)),
                    ("mean_log_probability", json!(mean)),
                    ("perplexity", json!((-mean).exp())),
                    ("tokens", json!(tokens)),
                    ("token_texts", json!(texts)),
                    ("token_log_probabilities", json!(scores)),
                ];
                line.extend(values.map(|(key, value)| (key.to_owned(), value)));
            }
        }
        Ok(Value::Object(line).to_string())
    }

    fn text(&mut self, token: u32) -> Result<String> {
        if let Some(text) = self.texts.get(&token) {
            return Ok(text.clone());
        }
        let text = self.opened.tokenizer.token_text(token)?;
        self.texts.insert(token, text.clone());
        Ok(text)
    }
}
