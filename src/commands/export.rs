//! `caption-train export`: a model as a folder that Python's transformers loads.

use std::path::PathBuf;

use anyhow::Result;
use candle_core::Device;

use crate::commands::given_paths::path_argument;
use crate::commands::model_source::{base_folders, checkpoint_path};
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
    /// What to export: the merged model, the adapter alone, or the base
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = LoraExport::Merged)]
    pub lora: LoraExport,
}

/// What is written of a model with an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LoraExport {
    /// A model whose weights hold what the adapter adds.
    Merged,
    /// The adapter, which PEFT loads onto the base.
    Adapter,
    /// The model without the adapter.
    Base,
}

/// Writes the folder.
///
/// # Errors
/// A checkpoint that cannot be used; a folder that is not empty or cannot be written.
pub fn run(args: &ExportArgs) -> Result<()> {
    let model = CaptioningModel::open_with(&checkpoint_path(&args.checkpoint)?, &Device::Cpu, &base_folders)?;
    for note in &model.notes {
        terminal::message(note);
    }
    let title = args.output.file_name().map_or_else(|| "caption-train".into(), |name| name.to_string_lossy());
    let card = Card::of_checkpoint(&title, &args.checkpoint);
    let class = match args.lora {
        LoraExport::Merged => export::write(&model, &args.output, &card)?,
        LoraExport::Base => export::write_base(&model, &args.output, &card)?,
        LoraExport::Adapter => {
            export::write_adapter(&model, &args.output)?;
            terminal::message(&format!(
                "exported to {}; in Python: PeftModel.from_pretrained(model, {})",
                args.output.display(),
                python_string(&args.output)
            ));
            return Ok(());
        }
    };
    terminal::message(&format!(
        "exported to {}; in Python: {class}.from_pretrained({})",
        args.output.display(),
        python_string(&args.output)
    ));
    Ok(())
}
