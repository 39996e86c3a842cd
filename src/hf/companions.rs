//! What comes with the weights in a model's folder: tokenizer and image processing.

use std::path::Path;

use anyhow::Result;

use crate::config::TokenizerConfig;
use crate::hf::generation_config::GenerationDefaults;
use crate::hf::token_ids::TokenIds;
use crate::model::decoders::DecoderConfig;
use crate::model::encoders::EncoderConfig;
use crate::tokenizer::{CaptionTokenizer, ModelTokenIds};
use base::error::{WithHint as _, failure};
use pixels::image_processor::{FolderProcessing, ImageProcessor};

/// The tokenizer of a model's folder, and the config that describes it.
///
/// # Errors
/// A folder without a tokenizer; one that has more tokens than the model.
pub fn read_tokenizer(
    folder: &Path,
    defaults: &GenerationDefaults,
    decoder: &DecoderConfig,
) -> Result<(CaptionTokenizer, TokenizerConfig)> {
    let TokenIds { start, end, pad } = defaults.tokens;
    let ids = ModelTokenIds { start, end, pad };
    CaptionTokenizer::from_model_folder(folder, ids, decoder.vocab_size())
}

/// The image processing of a model's folder, for the wanted image size. What the user should know about it goes to
/// `notes`.
///
/// # Errors
/// A folder that does not describe it; a description that cannot be used.
pub fn read_processor(folder: &Path, encoder: &EncoderConfig, notes: &mut Vec<String>) -> Result<ImageProcessor> {
    const HINT: &str = "processor_config.json or preprocessor_config.json says how the encoder's images were resized and \
                        normalised: save the model's processor (AutoImageProcessor) into its folder too";
    let FolderProcessing { processor, note } = ImageProcessor::from_folder(folder).hint(|| HINT)?.ok_or_else(|| {
        let message = "neither a processor_config.json with an image_processor nor a preprocessor_config.json";
        failure(format!("{} contains {message}", folder.display()), HINT)
    })?;
    notes.extend(note);
    Ok(processor.with_image_size(encoder.image_size()))
}
