//! `caption-train prepare-data`: prepares a dataset. It is controlled by its options; it has no config file.

use std::path::PathBuf;

use crate::commands::dataset_source::{HubDataset, Wanted};
use crate::commands::given_paths::path_argument;
use crate::commands::prepare_filters::FilterArgs;
use crate::commands::shards;
use base::error::{failure, usage_error};
use base::terminal;
use datasets::column_names::ColumnNames;
use datasets::prepare::shards::build::{BuildRequest, build};
use datasets::prepare::{self, Done, Request};
use datasets::prepared::SAMPLES_FILE;

/// Download or read, check and normalize a data set.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct PrepareDataArgs {
    /// flickr30k, flickr8k, coco, shapes; owner/name or owner/name@revision of the Hub; or a format if a source contains
    /// several [default: detected from the source; flickr30k without a source]
    #[arg(long, value_name = "NAME")]
    pub dataset: Option<String>,
    /// Output folder [default: data/NAME]
    #[arg(long, value_name = "DIR", value_parser = path_argument())]
    pub output: Option<PathBuf>,
    /// Folder, archive or Parquet file with images and captions; without it flickr30k or owner/name is downloaded from
    /// the Hub. If it has changed since the data set was prepared, the data set is prepared again
    #[arg(long, value_name = "PATH", value_parser = path_argument())]
    pub source: Option<PathBuf>,
    /// Tar files and Parquet files whose images stay where they are: paths, patterns or folders. An index of them goes
    /// into the output folder
    #[arg(long, value_name = "PATTERN", num_args = 1.., requires = "output", value_parser = path_argument(),
        conflicts_with_all = ["source", "dataset", "split_file", "limit", "resize", "dry_run", "revision", "config_name",
            "FilterArgs"])]
    pub shards: Vec<PathBuf>,
    /// Branch, tag or commit of the Hub repository [default: main]
    #[arg(long, value_name = "REVISION", conflicts_with = "source")]
    pub revision: Option<String>,
    /// Config of the Hub repository, if it has several
    #[arg(long, value_name = "NAME", conflicts_with = "source")]
    pub config_name: Option<String>,
    /// Splits: a Karpathy JSON, a JSON object from split to image names, a table with the columns image and split, or a
    /// folder with train.txt, val.txt and test.txt, one name per line
    #[arg(long, value_name = "PATH", value_parser = path_argument())]
    pub split_file: Option<PathBuf>,
    /// Names of columns or keys where they are not the usual ones, such as `image=photo,caption=text`; roles are image,
    /// caption (also several), prompt, weight and split
    #[arg(long, value_name = "ROLE=NAME", value_delimiter = ',')]
    pub columns: Vec<String>,
    /// Fraction of the training images drawn for validation if there is no validation split [default: 0.1, with --shards
    /// 0]
    #[arg(long, value_name = "SHARE")]
    pub validation_fraction: Option<f64>,
    /// Fraction of the training images drawn for testing if there is no test split [default: 0]
    #[arg(long, value_name = "SHARE")]
    pub test_fraction: Option<f64>,
    /// Use at most this many images, evenly spread; of Parquet files on the Hub only the first row groups with as many
    /// rows are downloaded
    #[arg(long, value_name = "NUMBER")]
    pub limit: Option<usize>,
    /// Shrink larger images so that their short side has this many pixels; BMP, GIF and TIFF become PNG
    #[arg(long, value_name = "SHORT_SIDE")]
    pub resize: Option<u32>,
    #[command(flatten)]
    pub filters: FilterArgs,
    /// Print what would happen without writing anything
    #[arg(long)]
    pub dry_run: bool,
}

/// Prepares the data set and prints a summary.
pub fn run(args: &PrepareDataArgs) -> anyhow::Result<()> {
    if let (Some(output), false) = (&args.output, args.shards.is_empty()) {
        let outcome = build(&BuildRequest {
            patterns: shards::texts(&args.shards)?,
            directory: output.clone(),
            columns: ColumnNames::parse(&args.columns)?,
            validation_fraction: args.validation_fraction,
            test_fraction: args.test_fraction,
        })?;
        terminal::message(&prepare::summary(&outcome));
        if outcome.done == Done::Prepared {
            terminal::message(&prepare::next_step(&outcome));
        }
        return Ok(());
    }
    let mut request = Request {
        dataset: args.dataset.clone(),
        source: args.source.clone(),
        origin: None,
        output: args.output.clone(),
        split_file: args.split_file.clone(),
        columns: ColumnNames::parse(&args.columns)?,
        validation_fraction: args.validation_fraction,
        test_fraction: args.test_fraction,
        limit: args.limit,
        resize: args.resize,
        filters: args.filters.request(),
        is_dry_run: args.dry_run,
    };
    if request.source.is_none() {
        request.dataset.get_or_insert_with(|| "flickr30k".to_owned());
    }
    let hub = request.dataset.as_deref().map(|name| HubDataset::named(name, args.revision.as_deref())).transpose()?;
    let hub = hub.flatten();
    if let Some(hub) = &hub {
        if let (Some(revision), true) = (&hub.revision, args.source.is_some()) {
            let message = format!("--dataset has the revision {revision}, which a source of your own does not have");
            return Err(usage_error(message, format!("write --dataset {}", hub.name)));
        }
        // Without its revision.
        request.dataset = Some(hub.name.clone());
    }
    let mut is_cut = false;
    if let (None, Some(name)) = (&request.source, request.dataset.clone()) {
        let directory = request.output.get_or_insert_with(|| PathBuf::from("data").join(&name)).clone();
        let Some(hub) = hub.as_ref() else {
            for (option, value) in [("--revision", &args.revision), ("--config-name", &args.config_name)] {
                if value.is_some() {
                    let message = format!("{option} has no effect: {name} is not on the Hub");
                    return Err(usage_error(message, format!("remove {option}")));
                }
            }
            return finish(&request, is_cut);
        };
        if let Some(difference) = hub.difference(args.config_name.as_deref(), &directory)? {
            let hint = "ask for what is there, choose another `--output`, or remove the old folder first";
            return Err(failure(difference, hint));
        }
        if !prepare::is_there(&name, &directory)? {
            prepare::check_options(&request)?;
            let wanted = Wanted { config: args.config_name.as_deref(), limit: args.limit };
            if args.dry_run {
                terminal::message(&hub.describe(wanted)?);
                return Ok(());
            }
            // The size of resized images is not known in advance.
            let copied_to = args.resize.is_none().then_some(directory.as_path());
            let fetched = hub.fetch(wanted, copied_to)?;
            is_cut = fetched.is_cut;
            (request.source, request.origin) = (Some(fetched.folder), Some(fetched.origin));
        }
    }
    finish(&request, is_cut)
}

/// `is_cut` says whether there is more at the source than was downloaded.
fn finish(request: &Request, is_cut: bool) -> anyhow::Result<()> {
    let outcome = prepare::prepare(request)?;
    terminal::message(&prepare::summary(&outcome));
    let lack = prepare::lack_of_images(&outcome.report.images);
    if let Some(lack) = &lack {
        terminal::warning(lack);
    }
    if let Some(limit) = request.limit.filter(|_| is_cut)
        && let Some(lack) = prepare::lack_of_limit(&outcome.report.images, limit)
    {
        terminal::warning(&lack);
    }
    match outcome.done {
        Done::Prepared => {
            let samples = outcome.directory.join(SAMPLES_FILE);
            if samples.is_file() {
                terminal::message(&format!("sample images with captions: {}", samples.display()));
            }
            if lack.is_none() {
                terminal::message(&prepare::next_step(&outcome));
            }
        }
        Done::DryRun => terminal::message("nothing was written; run without --dry-run to prepare the data set"),
        Done::AlreadyPrepared => {}
    }
    Ok(())
}
