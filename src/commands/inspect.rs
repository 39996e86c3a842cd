//! `caption-train inspect`: shows the contents of a checkpoint.

use std::path::PathBuf;

use serde_json::json;

use crate::commands::given_paths::path_argument;
use crate::config;
use crate::run::checkpoint::layout::{CheckpointMetadata, MODEL_PREFIX};
use crate::run::checkpoint::reader::read_metadata;
use base::terminal;
use base::visible::line;

/// Show the contents of a checkpoint.
#[derive(Clone, Debug, clap::Args)]
pub struct InspectArgs {
    /// Checkpoint file
    #[arg(value_parser = path_argument())]
    pub checkpoint: PathBuf,
    /// Print one JSON object with all metadata and the shapes of all tensors
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &InspectArgs) -> anyhow::Result<()> {
    let (metadata, tensors) = read_metadata(&args.checkpoint)?;
    if args.json {
        let shapes: serde_json::Map<_, _> = tensors.into_iter().map(|(name, shape)| (name, json!(shape))).collect();
        terminal::json(&json!({ "metadata": metadata, "tensors": shapes }).to_string())?;
        return Ok(());
    }
    let values = |prefix: &str| -> usize {
        let of_prefix = tensors.iter().filter(|(name, _)| name.starts_with(prefix));
        of_prefix.map(|(_, shape)| shape.iter().product::<usize>()).sum()
    };
    let state = &metadata.state;
    let loss = |loss: Option<f64>| loss.map_or("none yet".to_owned(), |loss| format!("{loss:.4}"));
    let position = if state.updates_in_epoch == 0 {
        String::new()
    } else {
        format!(", and {} updates of the next", state.updates_in_epoch)
    };
    let lines = [
        format!("checkpoint      {}", line(&args.checkpoint.to_string_lossy())),
        format!("format version  {}, written by {}", metadata.format_version, line(&metadata.written_by)),
        format!("completed       {} of {} epochs{position}", state.epoch, metadata.config.training.num_epochs),
        format!("step            {} of {}", state.global_step, metadata.total_updates),
        format!("train loss      {}", loss(state.train_loss)),
        format!(
            "val loss        {} (best {}, epoch {})",
            loss(state.val_loss),
            loss(state.best_val_loss),
            state.best_epoch
        ),
        format!("skipped         {} updates", state.skipped_updates),
        format!("parameters      {} in {} tensors", values(MODEL_PREFIX), tensors.len()),
        format!("optimizer       {} values, {} updates", values("optimizer."), metadata.optimizer_step),
        format!("dataset.json    SHA-256 {}", line(&metadata.dataset_digest)),
    ];
    let config = [String::new(), config::to_toml(&metadata.config)];
    let average = metadata.average_of.iter().map(|source| {
        format!(
            "mean of         {}, SHA-256 {}",
            line(&source.checkpoint.to_string_lossy()),
            line(&source.tensors_digest)
        )
    });
    for line in lines.into_iter().chain(average).chain(adapter_lines(&metadata)).chain(config) {
        terminal::data(&line)?;
    }
    Ok(())
}

/// Which weights the checkpoint of an adapter lacks, and where they were.
fn adapter_lines(metadata: &CheckpointMetadata) -> Vec<String> {
    let Some(lora) = &metadata.config.model.lora else { return Vec::new() };
    let mut lines = vec![format!("adapter         LoRA of rank {}, scaled by {}", lora.rank, lora.scaling())];
    if let Some(base) = &metadata.base {
        lines.push(format!("its base        in {}, not in the checkpoint", line(&base.folders.list())));
        lines.push(format!("                SHA-256 {} over its tensors", line(&base.digest)));
    }
    lines
}
