//! Words for what of a folder's weights fits the model and what does not.

use std::path::Path;

use serde_json::Value;

use crate::hf::weights::pickled;
use crate::model::decoders::DecoderConfig;
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

/// A note on the label smoothing with which transformers would train a BLIP, if the run's is another.
pub fn smoothing_note(folder: &Path, config: &Value, label_smoothing: f64) -> Option<String> {
    let named = config.get("text_config")?.get("label_smoothing")?.as_f64()?;
    (named != 0.0 && named != label_smoothing).then(|| {
        format!(
            "config.json in {} names label_smoothing = {named}, which is not followed: training.label_smoothing is \
             {label_smoothing}",
            folder.display()
        )
    })
}

/// A note on a dropout of attention that is not that of states.
pub fn dropout_note(folder: &Path, decoder: &DecoderConfig) -> Option<String> {
    let DecoderConfig::Bert(bert) = decoder else { return None };
    let (named, dropout) = (bert.attention_dropout?, bert.dropout);
    Some(format!(
        "config.json in {} names attention_probs_dropout_prob = {named}, which is not followed: states and attention \
         have the dropout {dropout}; model.decoder.dropout changes it",
        folder.display()
    ))
}

fn listed(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(MAX_LISTED).map(|name| visible::cut(name, MAX_NAME)).collect();
    let rest = names.len().saturating_sub(MAX_LISTED);
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    let noun = if names.len() == 1 { "tensor" } else { "tensors" };
    format!("{} {noun}: {}{more}", names.len(), shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_smoothing_that_the_run_does_not_have_is_noted() {
        let note = |named: f64, own: f64| {
            smoothing_note(Path::new("x"), &serde_json::json!({ "text_config": { "label_smoothing": named } }), own)
        };
        assert!(note(0.1, 0.0).unwrap().contains("label_smoothing = 0.1"));
        assert_eq!((note(0.1, 0.1), note(0.0, 0.1)), (None, None));
    }

    #[test]
    fn a_dropout_of_attention_that_the_run_does_not_have_is_noted() {
        let note = |of_attention: f64| {
            let config = serde_json::json!({ "model_type": "bert", "attention_probs_dropout_prob": of_attention });
            dropout_note(Path::new("x"), &DecoderConfig::from_hf(&config).unwrap())
        };
        assert!(note(0.3).unwrap().contains("attention_probs_dropout_prob = 0.3"));
        assert_eq!(note(0.1), None);
    }
}
