//! What beginning a run and captioning both need of a pretrained model's folder: tokenizer, image processing, and words
//! for what of its weights fits and what does not.

use std::path::Path;

use anyhow::Result;

use crate::config::TokenizerConfig;
use crate::model::caption_decoder::DecoderShape;
use crate::model::encoder::EncoderShape;
use crate::model::generation_defaults::GenerationDefaults;
use crate::tokenizer::{CaptionTokenizer, ModelTokenIds};
use base::fault::{WithHint as _, fault};
use base::visible;
use pixels::image_processor::{FolderProcessing, ImageProcessor};

/// Names of tensors in a message; the rest are counted.
const LISTED: usize = 4;
/// Characters of such a name that are shown.
const MOST_OF_A_NAME: usize = 100;

/// What to do about weights that do not fit.
pub const UNFIT_HINT: &str = "config.json and the weights must be of one model: fetch them again from one place";

/// The head of an error about weights that do not fit.
pub fn unfit(folder: &Path) -> String {
    format!("cannot use the weights in {}", folder.display())
}

/// Whether a parameter may be absent in a file: CLIP's last LayerNorm acts on a pooled output that captioning has no use
/// for, and is kept for export alone.
pub fn is_dispensable(name: &str) -> bool {
    name.contains("post_layernorm")
}

/// The tokenizer of a model's folder, and the config that describes it.
///
/// # Errors
/// A folder without a tokenizer; one that has more tokens than the model.
pub fn read_tokenizer(
    folder: &Path,
    defaults: &GenerationDefaults,
    decoder: &DecoderShape,
) -> Result<(CaptionTokenizer, TokenizerConfig)> {
    let ids = ModelTokenIds { start: defaults.start, end: defaults.end, pad: defaults.pad };
    let (tokenizer, config) = CaptionTokenizer::from_model_folder(folder, ids)?;
    if tokenizer.vocab_size() > decoder.vocab_size {
        return Err(fault(
            format!(
                "the tokenizer in {} has {} tokens and its model {}",
                folder.display(),
                tokenizer.vocab_size(),
                decoder.vocab_size
            ),
            "fetch tokenizer and weights again from one place",
        ));
    }
    Ok((tokenizer, config))
}

/// The image processing of a model's folder, for the wanted image size. What a person should know of it goes to `notes`.
///
/// # Errors
/// A folder that does not describe it; a description that cannot be used.
pub fn read_processor(folder: &Path, shape: &EncoderShape, notes: &mut Vec<String>) -> Result<ImageProcessor> {
    const HINT: &str = "processor_config.json or preprocessor_config.json says how the encoder's images were resized and \
                        normalised: save the model's processor (AutoImageProcessor) into its folder too";
    let FolderProcessing { processor, note } = ImageProcessor::from_folder(folder).hint(|| HINT)?.ok_or_else(|| {
        let message = "neither a processor_config.json with an image_processor nor a preprocessor_config.json";
        fault(format!("{} holds {message}", folder.display()), HINT)
    })?;
    notes.extend(note);
    Ok(processor.with_image_size(shape.image_size))
}

/// A note on tensors of a file that belong to nothing in the model.
pub fn unused_note(folder: &Path, unused: &[String]) -> Option<String> {
    (!unused.is_empty()).then(|| format!("left out of {}: {}", folder.display(), listed(unused)))
}

/// A note on parameters that begin anew inside of a pretrained model.
pub fn new_note(new: &[String]) -> Option<String> {
    (!new.is_empty()).then(|| format!("new and untrained: {}", listed(new)))
}

fn listed(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(LISTED).map(|name| visible::cut(name, MOST_OF_A_NAME)).collect();
    let rest = names.len().saturating_sub(LISTED);
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    let noun = if names.len() == 1 { "tensor" } else { "tensors" };
    format!("{} {noun}: {}{more}", names.len(), shown.join(", "))
}
