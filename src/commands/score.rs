//! `caption-train score`: the scores of captions that anybody wrote.

use std::path::PathBuf;

use anyhow::Result;

use crate::commands::given_paths::path_argument;
use crate::evaluation::caption_files::{read_caption_set, read_reference_lists};
use base::terminal;
use metrics::bootstrap::NUM_RESAMPLES;
use metrics::meteor::Meteor;
use metrics::score::{ScoreOptions, score};

/// Scores captions as the COCO evaluation does: BLEU, METEOR, ROUGE-L, CIDEr-D. SPICE is not among them.
#[derive(Clone, Debug, clap::Args)]
pub struct ScoreArgs {
    /// Captions, one for each image: COCO results, what `caption` prints (also with --json, of which the best caption
    /// counts), or another form that prepare-data reads; or JSON objects with references beside the captions
    #[arg(long, value_name = "FILE", value_parser = path_argument())]
    pub candidates: PathBuf,
    /// References: COCO annotations, a dataset_*.json in Karpathy's schema, or another form that prepare-data reads; a file
    /// or a folder
    #[arg(long, value_name = "FILE", value_parser = path_argument())]
    pub references: Option<PathBuf>,
    /// Score against this split of the references only: train, val or test
    #[arg(long, value_name = "SPLIT", requires = "references")]
    pub split: Option<String>,
    /// How they are scored.
    #[command(flatten)]
    pub metrics: MetricArgs,
    /// Print a JSON object
    #[arg(long)]
    pub json: bool,
}

/// How captions are scored.
#[derive(Clone, Debug, clap::Args)]
pub struct MetricArgs {
    /// METEOR with synonyms and paraphrases: the folder `meteor` of the Python package pycocoevalcap
    #[arg(long, value_name = "DIR", value_parser = path_argument())]
    pub meteor_resources: Option<PathBuf>,
    /// Weigh the n-grams of CIDEr-D by these references, in any form that --references may have
    #[arg(long, value_name = "FILE", value_parser = path_argument())]
    pub document_frequencies: Option<PathBuf>,
    /// Resamples for the confidence intervals; 0 for none
    #[arg(long, value_name = "N", default_value_t = NUM_RESAMPLES)]
    pub bootstrap: usize,
}

impl MetricArgs {
    /// The references that weigh n-grams, where a file is named.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub fn documents(&self) -> Result<Option<Vec<Vec<String>>>> {
        self.document_frequencies.as_deref().map(read_reference_lists).transpose()
    }
}

/// Prints the scores.
///
/// # Errors
/// Files that cannot be read or do not fit together.
pub fn run(args: &ScoreArgs) -> Result<()> {
    let set = read_caption_set(&args.candidates, args.references.as_deref(), args.split.as_deref())?;
    for note in &set.notes {
        terminal::warning(note);
    }
    if set.num_uncaptioned > 0 {
        terminal::warning(&format!(
            "{} of {} images have references and no caption: they are not scored",
            set.num_uncaptioned,
            set.num_uncaptioned + set.captions.len()
        ));
    }
    let (meteor, documents) = (Meteor::open(args.metrics.meteor_resources.as_deref())?, args.metrics.documents()?);
    let options = ScoreOptions {
        meteor: &meteor,
        document_references: documents.as_deref(),
        training_captions: None,
        num_resamples: args.metrics.bootstrap,
        seed: 0,
    };
    let report = score(&set.captions, &options);
    if args.json {
        terminal::json(&serde_json::to_string(&report)?)?;
    } else {
        report.lines().iter().try_for_each(|line| terminal::data(line))?;
    }
    Ok(())
}
