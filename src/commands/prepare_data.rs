//! `caption-train prepare-data`: makes a prepared data set. Its flags are its interface; it has no config file.

use std::path::PathBuf;

use crate::commands::dataset_source;
use crate::commands::given_paths::path_argument;
use base::fault::{fault, usage};
use base::terminal;
use datasets::output::finished;
use datasets::prepare::{self, Done, Request};
use datasets::prepared::SAMPLES_FILE;

/// Downloads or reads, checks and normalises a data set.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct PrepareDataArgs {
    /// flickr30k, flickr8k, coco, shapes, or a format where a source holds several [default: what the source holds;
    /// without a source flickr30k]
    #[arg(long, value_name = "NAME")]
    pub dataset: Option<String>,
    /// Folder to make [default: data/NAME]
    #[arg(long, value_name = "DIR", value_parser = path_argument())]
    pub output: Option<PathBuf>,
    /// Folder or archive with images and captions; without it flickr30k comes from the Hub. When it has changed since the
    /// data set was prepared from it, the data set is prepared anew
    #[arg(long, value_name = "PATH", value_parser = path_argument())]
    pub source: Option<PathBuf>,
    /// Branch, tag or commit of the Hub repository [default: main]
    #[arg(long, value_name = "REVISION", conflicts_with = "source")]
    pub revision: Option<String>,
    /// Which image is for what: a Karpathy JSON, a JSON object from split to names, a table with the columns image and
    /// split, or a folder with train.txt, val.txt and test.txt, a name on each line
    #[arg(long, value_name = "PATH", value_parser = path_argument())]
    pub split_file: Option<PathBuf>,
    /// Share of the training images drawn for validation where the captions name none [default: 0.1]
    #[arg(long, value_name = "SHARE")]
    pub validation_fraction: Option<f64>,
    /// Share of the training images drawn for testing where the captions name none [default: 0]
    #[arg(long, value_name = "SHARE")]
    pub test_fraction: Option<f64>,
    /// Take so many images at most, evenly spread
    #[arg(long, value_name = "NUMBER")]
    pub limit: Option<usize>,
    /// Store larger images resized, so that their short side has so many pixels; BMP, GIF and TIFF become PNG
    #[arg(long, value_name = "SHORT_SIDE")]
    pub resize: Option<u32>,
    /// Say what would happen, and write nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Prepares the data set and says what came of it.
///
/// # Errors
/// As [`prepare::prepare`] and [`dataset_source::fetch`].
pub fn run(args: &PrepareDataArgs) -> anyhow::Result<()> {
    let mut request = Request {
        dataset: args.dataset.clone(),
        source: args.source.clone(),
        origin: None,
        output: args.output.clone(),
        split_file: args.split_file.clone(),
        validation_fraction: args.validation_fraction,
        test_fraction: args.test_fraction,
        limit: args.limit,
        resize: args.resize,
        is_dry_run: args.dry_run,
    };
    if request.source.is_none() {
        let name = request.dataset.get_or_insert_with(|| "flickr30k".to_owned()).clone();
        let directory = request.output.get_or_insert_with(|| PathBuf::from("data").join(&name)).clone();
        if args.revision.is_some() && !dataset_source::is_on_the_hub(&name) {
            return Err(usage(format!("--revision was given, and {name} is not on the Hub"), "leave it out"));
        }
        if let Some(revision) = &args.revision
            && let Some(report) = finished(Some(&name), &directory)?
            && !report.origin.as_ref().is_some_and(|origin| origin.commit.starts_with(revision.as_str()))
        {
            let commit = report.origin.map_or_else(|| "files of your own".to_owned(), |origin| origin.commit);
            let message = format!("{} was prepared from {commit}, not {revision}", directory.display());
            return Err(fault(message, "name its commit, choose another `--output`, or remove the old folder first"));
        }
        if dataset_source::is_on_the_hub(&name) && !prepare::is_there(&name, &directory)? {
            prepare::check_options(&request)?;
            if args.dry_run {
                terminal::message(&dataset_source::describe(&name, args.revision.as_deref()));
                return Ok(());
            }
            // Smaller images take less, and nobody knows how much less.
            let copied_to = args.resize.is_none().then_some(directory.as_path());
            let fetched = dataset_source::fetch(&name, args.revision.as_deref(), copied_to)?;
            (request.source, request.origin) = (Some(fetched.folder), Some(fetched.origin));
        }
    }
    let outcome = prepare::prepare(&request)?;
    terminal::message(&prepare::summary(&outcome));
    let lack = prepare::lack_of_images(&outcome.report.images);
    if let Some(lack) = &lack {
        terminal::warning(lack);
    }
    match outcome.done {
        Done::Prepared => {
            let samples = outcome.directory.join(SAMPLES_FILE);
            if samples.is_file() {
                terminal::message(&format!("look at {}: some of the images with their captions", samples.display()));
            }
            if lack.is_none() {
                terminal::message(&prepare::next_step(&outcome));
            }
        }
        Done::DryRun => terminal::message("nothing was written: leave out --dry-run to prepare it"),
        Done::AlreadyPrepared => {}
    }
    Ok(())
}
