//! `caption-train score`: scores captions from any source.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::commands::given_paths::path_argument;
use crate::evaluation::caption_files::{read_caption_set, read_reference_lists};
use base::error::{failure, usage_error};
use base::terminal;
use metrics::bootstrap::{LEAST_RESAMPLES, NUM_RESAMPLES};
use metrics::comparison::compare;
use metrics::corpus::Captions;
use metrics::meteor::Meteor;
use metrics::score::{ScoreOptions, score};

/// Score captions as in the COCO evaluation: BLEU, METEOR, ROUGE-L and CIDEr-D, but not SPICE.
#[derive(Clone, Debug, clap::Args)]
pub struct ScoreArgs {
    /// One caption per image: COCO results, the output of `caption` (with --json the best caption counts), or another
    /// format that prepare-data reads; or JSON objects with captions and references
    #[arg(long, value_name = "FILE", value_parser = path_argument())]
    pub candidates: PathBuf,
    /// References: COCO annotations, a dataset_*.json in Karpathy's schema, or another format that prepare-data reads;
    /// a file or a folder
    #[arg(long, value_name = "FILE", value_parser = path_argument())]
    pub references: Option<PathBuf>,
    /// Only score against this split of the references: train, val or test
    #[arg(long, value_name = "SPLIT", requires = "references")]
    pub split: Option<String>,
    /// Other captions of the same images: also score these, and say whether the difference is real (paired bootstrap)
    #[arg(long, value_name = "FILE", value_parser = path_argument())]
    pub compare: Option<PathBuf>,
    /// How they are scored.
    #[command(flatten)]
    pub metrics: MetricArgs,
    /// Print a JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Debug, clap::Args)]
pub struct MetricArgs {
    /// Folder `meteor` of the Python package pycocoevalcap, for METEOR with synonyms and paraphrases
    #[arg(long, value_name = "DIR", value_parser = path_argument())]
    pub meteor_resources: Option<PathBuf>,
    /// Take CIDEr-D's document frequencies from these references, in any format of --references
    #[arg(long, value_name = "FILE", value_parser = path_argument())]
    pub document_frequencies: Option<PathBuf>,
    /// Number of bootstrap resamples for the confidence intervals (0 = no intervals)
    #[arg(long, value_name = "N", default_value_t = NUM_RESAMPLES)]
    pub bootstrap: usize,
}

impl MetricArgs {
    /// The references for document frequencies, if given.
    pub fn documents(&self) -> Result<Option<Vec<Vec<String>>>> {
        self.document_frequencies.as_deref().map(read_reference_lists).transpose()
    }
}

/// Prints the scores, or the differences from those of other captions.
pub fn run(args: &ScoreArgs) -> Result<()> {
    if args.compare.is_some() && args.metrics.bootstrap < LEAST_RESAMPLES {
        return Err(usage_error(
            format!("--compare needs at least {LEAST_RESAMPLES} resamples: with fewer no difference can be real"),
            "leave out --bootstrap, or give it a number such as 1000",
        ));
    }
    let candidates = read(args, &args.candidates)?;
    let others = args.compare.as_deref().map(|path| read(args, path)).transpose()?;
    let (meteor, documents) = (Meteor::open(args.metrics.meteor_resources.as_deref())?, args.metrics.documents()?);
    let options = ScoreOptions {
        meteor: &meteor,
        document_references: documents.as_deref(),
        training_captions: None,
        num_resamples: args.metrics.bootstrap,
        seed: 0,
    };
    let (json, lines) = match (others, &args.compare) {
        (Some(others), Some(path)) => {
            check_same_images([(&args.candidates, &candidates), (path, &others)])?;
            let comparison = compare(&[others, candidates], &options);
            let names = [path, &args.candidates].map(|path| path.display().to_string());
            (serde_json::to_string(&comparison)?, comparison.lines(&[&names[0], &names[1]]))
        }
        _ => {
            let report = score(&candidates, &options);
            (serde_json::to_string(&report)?, report.lines())
        }
    };
    match args.json {
        true => terminal::json(&json)?,
        false => lines.iter().try_for_each(|line| terminal::data(line))?,
    }
    Ok(())
}

/// Files of captions that are compared have the same images in the same order.
fn check_same_images([(path, captions), (other, others)]: [(&Path, &[Captions]); 2]) -> Result<()> {
    if captions.len() != others.len() {
        return Err(failure(
            format!("{} has {} images, {} has {}", path.display(), captions.len(), other.display(), others.len()),
            "give two files with a caption for each of the same images",
        ));
    }
    let differs = |(one, other): (&Captions, &Captions)| one.references != other.references;
    if let Some(place) = captions.iter().zip(others).position(differs) {
        return Err(failure(
            format!("caption {} of the two files has different references", place + 1),
            "give files with the same images in the same order, or --references, which finds images by name",
        ));
    }
    Ok(())
}

/// The captions in a file with their references.
fn read(args: &ScoreArgs, candidates: &Path) -> Result<Vec<Captions>> {
    let set = read_caption_set(candidates, args.references.as_deref(), args.split.as_deref())?;
    for note in &set.notes {
        terminal::warning(note);
    }
    if set.num_uncaptioned > 0 {
        terminal::warning(&format!(
            "{} of {} images have references but no caption and are not scored",
            set.num_uncaptioned,
            set.num_uncaptioned + set.captions.len()
        ));
    }
    Ok(set.captions)
}
