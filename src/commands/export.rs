//! `caption-train export`: a model as a folder that Python's transformers loads.

use std::path::PathBuf;

use anyhow::Result;
use candle_core::Device;

use crate::commands::given_paths::path_argument;
use crate::commands::model_source::checkpoint_path;
use crate::run::captioning_model::CaptioningModel;
use crate::run::export;
use crate::run::model_card::Card;
use base::quoting::python_string;
use base::terminal;

/// Writes a model as a folder that transformers loads: a `VisionEncoderDecoderModel`, or a BLIP.
#[derive(Clone, Debug, clap::Args)]
pub struct ExportArgs {
    /// Checkpoint of a run, folder of a VisionEncoderDecoderModel or of a BLIP, or its id on the Hub
    #[arg(long, value_name = "CHECKPOINT", value_parser = path_argument())]
    pub checkpoint: PathBuf,
    /// Output folder; it must be absent or empty
    #[arg(long, value_name = "FOLDER", value_parser = path_argument())]
    pub output: PathBuf,
}

/// Writes the folder.
///
/// # Errors
/// A checkpoint that cannot be used; a folder that is not empty or cannot be written.
pub fn run(args: &ExportArgs) -> Result<()> {
    let model = CaptioningModel::open(&checkpoint_path(&args.checkpoint)?, &Device::Cpu)?;
    for note in &model.notes {
        terminal::message(note);
    }
    let title = args.output.file_name().map_or_else(|| "caption-train".into(), |name| name.to_string_lossy());
    let class = export::write(&model, &args.output, &Card::of_checkpoint(&title, &args.checkpoint))?;
    terminal::message(&format!(
        "exported to {}; in Python: {class}.from_pretrained({})",
        args.output.display(),
        python_string(&args.output)
    ));
    Ok(())
}
