//! Words for what of a folder's weights fits the model and what does not.

use std::path::Path;

use crate::hf::weights::pickled;
use base::visible;

/// Names of tensors in a message; the rest are counted.
const MAX_LISTED: usize = 4;
/// Characters of such a name that are shown.
const MAX_NAME: usize = 100;

/// What to do about weights that do not fit.
pub const UNFIT_HINT: &str = "config.json and the weights must belong to the same model: download them again from the \
                              same source";

/// The head of an error about weights that do not fit.
pub fn unfit(folder: &Path) -> String {
    format!("cannot use the weights in {}", folder.display())
}

/// A note on tensors of a file that belong to nothing in the model.
pub fn unused_note(folder: &Path, unused: &[String]) -> Option<String> {
    (!unused.is_empty()).then(|| format!("left out of {}: {}", folder.display(), listed(unused)))
}

/// A note on weights that are pickles.
pub fn pickle_note(folder: &Path) -> Option<String> {
    let name = pickled(folder)?;
    Some(format!("{} has no safetensors: read from {name}, of which nothing was executed", folder.display()))
}

/// A note on parameters that have no weights in a pretrained model.
pub fn new_note(new: &[String]) -> Option<String> {
    (!new.is_empty()).then(|| format!("new and untrained: {}", listed(new)))
}

fn listed(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(MAX_LISTED).map(|name| visible::cut(name, MAX_NAME)).collect();
    let rest = names.len().saturating_sub(MAX_LISTED);
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    let noun = if names.len() == 1 { "tensor" } else { "tensors" };
    format!("{} {noun}: {}{more}", names.len(), shown.join(", "))
}
