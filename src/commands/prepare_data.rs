//! `caption-train prepare-data`: makes a prepared data set. Its flags are its interface; it has no config file.

use std::path::PathBuf;

use crate::base::terminal;
use crate::data::prepare::{self, Outcome};

/// Checks, extracts and normalises a data set.
#[derive(Clone, Debug, clap::Args)]
pub struct PrepareDataArgs {
    /// Name of the data set
    #[arg(long, value_name = "NAME", default_value = "flickr30k")]
    pub dataset: String,
    /// Folder to make [default: data/NAME]
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Folder with the archives as they are distributed, or unpacked
    #[arg(long, value_name = "PATH")]
    pub source: Option<PathBuf>,
}

/// Prepares the data set and says what came of it.
///
/// # Errors
/// As [`prepare::prepare`].
pub fn run(args: &PrepareDataArgs) -> anyhow::Result<()> {
    let output = args.output.clone().unwrap_or_else(|| PathBuf::from("data").join(&args.dataset));
    let outcome = prepare::prepare(&args.dataset, args.source.as_deref(), &output)?;
    terminal::message(&prepare::summary(&outcome, &output));
    if let Outcome::Prepared(_) = outcome {
        let directory = output.display();
        terminal::message(&format!(
            "next: train with `data.directory = \"{directory}\"` in a config file: caption-train --config run.toml"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fault::describe;

    #[test]
    fn the_bare_command_says_what_can_be_prepared() {
        let args = PrepareDataArgs { dataset: "flickr30k".into(), output: None, source: None };
        let text = describe(&run(&args).unwrap_err());
        assert!(text.contains("flickr30k cannot be prepared yet") && text.contains("--dataset shapes"), "{text}");
    }
}
