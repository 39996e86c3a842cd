//! The command line: options and commands.

use std::path::PathBuf;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::commands::average::AverageArgs;
use crate::commands::caption::CaptionArgs;
use crate::commands::evaluate::EvaluateArgs;
use crate::commands::export::ExportArgs;
use crate::commands::given_paths::path_argument;
use crate::commands::inspect::InspectArgs;
use crate::commands::look::LookArgs;
use crate::commands::plan::PlanArgs;
use crate::commands::prepare_data::PrepareDataArgs;
use crate::commands::processes::{Connected, start_processes};
use crate::commands::report::ReportArgs;
use crate::commands::score::ScoreArgs;
use crate::commands::score_pairs::ScorePairsArgs;
#[cfg(feature = "serve")]
use crate::commands::serve::{self, ServeArgs};
use crate::commands::train::TrainRequest;
use crate::commands::upload::UploadArgs;
use crate::commands::version::VERSION;
use crate::commands::{
    average, caption, evaluate, export, inspect, look, plan, prepare_data, report, score, score_pairs, train, upload,
};
use crate::training::trainer::Outcome;
use base::error::{UsageError, usage_error};
use base::process;
use base::terminal::{self, Verbosity};
use base::threads;
use base::visible::is_hidden;

/// Trains image-captioning models.
#[derive(Debug, Parser)]
#[command(
    name = "caption-train",
    version = VERSION,
    arg_required_else_help = true,
    after_help = "Train with --config FILE, resume with --resume FILE; everything else is a command."
)]
struct Cli {
    /// Train with this config file
    #[arg(long, value_name = "FILE", conflicts_with = "resume", value_parser = path_argument())]
    config: Option<PathBuf>,
    /// Resume from this checkpoint, from the newest intact one in a run folder, or in that of the newest run ("auto")
    #[arg(long, value_name = "FILE|RUN|auto", value_parser = path_argument())]
    resume: Option<PathBuf>,
    /// Override a value of the config; may be repeated
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    overrides: Vec<String>,
    /// auto, cpu, cuda or cuda:N; short for --set training.device=DEVICE
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Train in this many processes on this machine, connected by the MPI that is installed
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=4096))]
    processes: Option<u16>,
    /// Print only warnings and errors
    #[arg(long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Print more details
    #[arg(long, global = true)]
    verbose: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prepare a data set for training
    PrepareData(PrepareDataArgs),
    /// Write an HTML page of a prepared data set: images and captions to search, numbers, duplicates, odd captions
    Look(LookArgs),
    /// Caption images with a trained model
    Caption(CaptionArgs),
    /// Caption a split of a data set with a model and score the captions
    Evaluate(EvaluateArgs),
    /// Score captions from any source: BLEU, METEOR, ROUGE-L, CIDEr-D
    Score(ScoreArgs),
    /// Say how probable a model finds captions that are given, to clean data or rank captions
    ScorePairs(ScorePairsArgs),
    /// Average the weights of several checkpoints of one model
    Average(AverageArgs),
    /// Export a model as a folder for Python's transformers
    Export(ExportArgs),
    /// Upload a model with a model card to the Hugging Face Hub
    Upload(UploadArgs),
    /// Write an HTML report of a run, or compare several: curves, scores, captions
    Report(ReportArgs),
    /// Serve a local web page to try a model
    #[cfg(feature = "serve")]
    Serve(ServeArgs),
    /// Show the contents of a checkpoint
    Inspect(InspectArgs),
    /// Show what a run would do and need, without training
    Plan(PlanArgs),
}

/// All commands and options, so that tests can hold the documentation to them.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command of the command line.
pub fn run() -> anyhow::Result<Outcome> {
    let cli = Cli::try_parse().or_else(refuse)?;
    terminal::set_verbosity(match (cli.quiet, cli.verbose) {
        (true, _) => Verbosity::Quiet,
        (_, true) => Verbosity::Verbose,
        _ => Verbosity::Normal,
    });
    if cli.command.is_some()
        && (cli.config.is_some()
            || cli.resume.is_some()
            || cli.device.is_some()
            || cli.processes.is_some()
            || !cli.overrides.is_empty())
    {
        return Err(usage_error(
            "--config, --resume, --set, --device and --processes before a command are options of training",
            "write the command first, followed by its own options",
        ));
    }
    match &cli.command {
        None => process::keep_freed_memory(),
        #[cfg(feature = "serve")]
        Some(Command::Serve(_)) => process::give_back_freed_memory(),
        Some(_) => {}
    }
    // Training connects to other processes first, which share the processors.
    if !matches!(cli.command, None | Some(Command::Inspect(_) | Command::Plan(_))) {
        threads::start(1)?;
    }
    let completed = |()| Outcome::Completed;
    match &cli.command {
        Some(Command::PrepareData(args)) => prepare_data::run(args).map(completed),
        Some(Command::Look(args)) => look::run(args).map(completed),
        Some(Command::Caption(args)) => caption::run(args).map(completed),
        Some(Command::Evaluate(args)) => evaluate::run(args),
        Some(Command::Score(args)) => score::run(args).map(completed),
        Some(Command::ScorePairs(args)) => score_pairs::run(args).map(completed),
        Some(Command::Average(args)) => average::run(args).map(completed),
        Some(Command::Export(args)) => export::run(args).map(completed),
        Some(Command::Upload(args)) => upload::run(args),
        Some(Command::Report(args)) => report::run(args).map(completed),
        #[cfg(feature = "serve")]
        Some(Command::Serve(args)) => serve::run(args),
        Some(Command::Inspect(args)) => inspect::run(args).map(completed),
        Some(Command::Plan(args)) => plan::run(args, &Connected::new()?).map(completed),
        None => {
            let request = request(&cli)?;
            if let Some(count) = cli.processes.filter(|&count| count > 1) {
                return start_processes(usize::from(count));
            }
            train::run(&request, &overrides(&cli), &Connected::new()?)
        }
    }
}

/// Prints clap's message, in its colours. If it quotes an argument that would control the terminal, such as a file name
/// that a shell filled in, it becomes an error of our own.
fn refuse(error: clap::Error) -> anyhow::Result<Cli> {
    let text = error.render().to_string();
    if !text.chars().any(|character| is_hidden(character) && character != '\n') {
        error.exit();
    }
    Err(UsageError(text.trim_start_matches("error: ").trim_end().to_owned()).into())
}

fn request(cli: &Cli) -> anyhow::Result<TrainRequest> {
    match (&cli.config, &cli.resume) {
        (Some(config), _) => Ok(TrainRequest::Config(config.clone())),
        (None, Some(checkpoint)) => Ok(TrainRequest::Resume(checkpoint.clone())),
        (None, None) => Err(usage_error(
            "nothing to train",
            "give a config file with --config FILE, or a checkpoint, a run folder or auto with --resume",
        )),
    }
}

fn overrides(cli: &Cli) -> Vec<String> {
    let device = cli.device.iter().map(|device| format!("training.device={device}"));
    cli.overrides.iter().cloned().chain(device).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_device_is_an_override_of_the_config() {
        let cli = Cli::parse_from(["caption-train", "--config", "a.toml", "--set", "seed=1", "--device", "cpu"]);
        assert_eq!(overrides(&cli), ["seed=1", "training.device=cpu"]);
    }
}
