//! `caption-train upload`: uploads a model with a model card to the Hugging Face Hub.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use candle_core::Device;

use crate::commands::given_paths::path_argument;
use crate::commands::model_source::{base_folders, checkpoint_path};
use crate::commands::signals::watch_signals;
use crate::run::captioning_model::CaptioningModel;
use crate::run::export;
use crate::run::model_card::Card;
use crate::training::trainer::Outcome;
use base::error::{WithHint as _, usage_error};
use base::stop::StopFlag;
use base::{terminal, threads};
use hub::{self, Upload, UploadStopped, Uploaded};

/// Upload a model to the Hugging Face Hub.
#[derive(Clone, Debug, clap::Args)]
pub struct UploadArgs {
    /// Checkpoint of a run, folder of a VisionEncoderDecoderModel or of a BLIP, or its id on the Hub
    #[arg(long, value_name = "CHECKPOINT", value_parser = path_argument())]
    pub checkpoint: PathBuf,
    /// Repository: owner/name, or only name for one of your own; created if it does not exist
    #[arg(long, value_name = "REPO")]
    pub repo: String,
    /// Create a public repository
    #[arg(long)]
    pub public: bool,
    /// Also upload the checkpoint, from which training can be resumed; it contains the config, including paths of this
    /// machine
    #[arg(long)]
    pub include_checkpoint: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Publication<'a> {
    pub(super) repo: &'a str,
    pub(super) is_private: bool,
    pub(super) include_checkpoint: bool,
}

/// Uploads the export, the card and, if requested, the checkpoint.
pub fn run(args: &UploadArgs) -> Result<Outcome> {
    let stop = watch_signals("stopped; nothing was uploaded")?;
    hub::check_target(&args.repo)?;
    let path = checkpoint_path(&args.checkpoint)?;
    if args.include_checkpoint && path.is_dir() {
        return Err(usage_error(
            format!("{} is not a checkpoint of a run", path.display()),
            "remove --include-checkpoint, or give a checkpoint file",
        ));
    }
    if args.include_checkpoint && args.public {
        terminal::warning("the checkpoint contains the config, including paths of this machine");
    }
    let publication =
        Publication { repo: &args.repo, is_private: !args.public, include_checkpoint: args.include_checkpoint };
    let card = Card::of_checkpoint(repository_name(&args.repo), &path);
    stop.attend();
    match publish(&path, &card, &publication, &stop) {
        Ok(uploaded) => {
            terminal::message(&format!("uploaded    {} (commit {})", uploaded.url, uploaded.commit));
            Ok(Outcome::Completed)
        }
        Err(error) if error.chain().any(|link| link.is::<UploadStopped>()) => {
            terminal::message("upload stopped; run the same command to continue");
            Ok(Outcome::Interrupted)
        }
        Err(error) => Err(error),
    }
}

/// The name in a repository's id.
pub(super) fn repository_name(repo: &str) -> &str {
    repo.rsplit('/').next().unwrap_or(repo)
}

/// Exports the model to a temporary folder and uploads it.
pub(super) fn publish(
    checkpoint: &Path,
    card: &Card,
    publication: &Publication<'_>,
    stop: &StopFlag,
) -> Result<Uploaded> {
    let model = CaptioningModel::open_with(checkpoint, &Device::Cpu, &base_folders)?;
    if stop.is_raised() {
        return Err(UploadStopped.into());
    }
    let folder = tempfile::tempdir()
        .context("cannot create a folder for the export")
        .hint(|| "free some disk space, or set TMPDIR to a writable folder")?;
    export::write(&model, folder.path(), card)?;
    drop(model);
    let mut files = Vec::new();
    let entries = fs::read_dir(folder.path()).context("cannot list the export")?;
    for entry in entries {
        let entry = entry.context("cannot list the export")?;
        files.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
    }
    if publication.include_checkpoint {
        files.push(("checkpoint.safetensors".to_owned(), checkpoint.to_owned()));
    }
    files.sort_by(|one, other| one.0.cmp(&other.0));
    let request = Upload {
        repo: publication.repo.to_owned(),
        private: publication.is_private,
        message: format!("Upload {}", repository_name(publication.repo)),
        files,
    };
    threads::check_network()?;
    hub::upload(&request, stop)
}
