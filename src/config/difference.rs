//! What differs between two configs of one run, or between those of several runs.

use std::collections::{BTreeMap, BTreeSet};

use toml::Value;

use crate::config::RunConfig;
use crate::config::load::{is_safe_on_resume, to_toml};

/// The first key, in the order of the alphabet, that differs between the two and that a resumed run may not change.
pub fn first_unsafe_difference(checkpoint: &RunConfig, config: &RunConfig) -> Option<String> {
    let (old, new) = (flatten(checkpoint), flatten(config));
    let keys = old.keys().chain(new.keys().filter(|key| !old.contains_key(*key)));
    let mut differing: Vec<&String> = keys.filter(|key| old.get(*key) != new.get(*key)).collect();
    differing.sort();
    // What comes with a pretrained model is in the checkpoint, and in the config only if the user wrote it.
    let is_brought = |key: &str| {
        let section = key.starts_with("tokenizer.") || key.starts_with("model.decoder.");
        section && config.model.brings_decoder() && !config.written.contains(key)
    };
    // Where a run resumes does not change what it computes.
    let counts = |key: &&String| !is_safe_on_resume(key) && *key != "training.resume_from" && !is_brought(key);
    differing.into_iter().find(counts).cloned()
}

/// A key with two values.
#[derive(Clone, Debug, PartialEq)]
pub struct WrittenDifference {
    /// The dotted key.
    pub key: String,
    /// What the user wrote.
    pub written: Value,
    /// The value in the other config.
    pub other: Value,
}

/// The first key that the user wrote in `config` and that has another value in `other`.
pub fn first_written_difference(config: &RunConfig, other: &RunConfig) -> Option<WrittenDifference> {
    let (ours, mut theirs) = (flatten(config), flatten(other));
    let written = ours.into_iter().filter(|(key, _)| config.written.contains(key));
    let mut pairs = written.map(|(key, value)| (theirs.remove(&key), key, value));
    pairs.find_map(|(other, key, written)| {
        // An absent key is one that the other config has no value for.
        let other = other.unwrap_or_else(|| Value::String("absent".to_owned()));
        (other != written).then_some(WrittenDifference { key, written, other })
    })
}

/// The keys whose values are not the same in all configs, in the order of the alphabet, and each config's value; `None`
/// where it has none.
pub fn differences(configs: &[&RunConfig]) -> Vec<(String, Vec<Option<Value>>)> {
    let flat: Vec<BTreeMap<String, Value>> = configs.iter().map(|config| flatten(config)).collect();
    let keys: BTreeSet<&String> = flat.iter().flat_map(BTreeMap::keys).collect();
    let values =
        keys.into_iter().map(|key| (key.clone(), flat.iter().map(|config| config.get(key).cloned()).collect()));
    values.filter(|(_, values): &(_, Vec<_>)| values.windows(2).any(|pair| pair[0] != pair[1])).collect()
}

fn flatten(config: &RunConfig) -> BTreeMap<String, Value> {
    let table: toml::Table = toml::from_str(&to_toml(config)).expect("the text of a config is a TOML table");
    let mut flat = BTreeMap::new();
    let mut waiting: Vec<(String, Value)> = table.into_iter().collect();
    while let Some((key, value)) = waiting.pop() {
        match value {
            Value::Table(table) => {
                waiting.extend(table.into_iter().map(|(name, value)| (format!("{key}.{name}"), value)))
            }
            value => {
                flat.insert(key, value);
            }
        }
    }
    flat
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_that_a_pretrained_model_replaced_is_not_a_difference_and_a_written_value_is() {
        let mut new = RunConfig::default();
        new.model.init_from = Some("model".to_owned());
        let mut old = new.clone();
        old.model.decoder.hidden_size = 768;
        old.tokenizer.start_token = "<s>".to_owned();
        assert_eq!(first_unsafe_difference(&old, &new), None);
        new.written = ["model.decoder.hidden_size".to_owned()].into_iter().collect();
        assert_eq!(first_unsafe_difference(&old, &new), Some("model.decoder.hidden_size".to_owned()));
    }

    #[test]
    fn only_a_written_key_can_contradict_what_a_model_brings() {
        let mut config = RunConfig::default();
        let mut brought = config.clone();
        brought.model.decoder.hidden_size = 768;
        assert_eq!(first_written_difference(&config, &brought), None);
        config.written = ["model.decoder.hidden_size".to_owned()].into_iter().collect();
        let found = first_written_difference(&config, &brought).unwrap();
        assert_eq!((found.written.to_string(), found.other.to_string()), ("512".to_owned(), "768".to_owned()));
        brought.model.decoder.hidden_size = 512;
        assert_eq!(first_written_difference(&config, &brought), None);
    }

    #[test]
    fn keys_that_differ_in_any_of_several_configs_are_listed_with_the_value_of_each() {
        let one = RunConfig::default();
        let mut two = one.clone();
        two.optimizer.encoder_learning_rate = Some(0.25);
        let mut three = two.clone();
        three.seed = 7;
        let shown = |configs: &[&RunConfig]| -> Vec<String> {
            let text = |value: Option<Value>| value.map_or("none".to_owned(), |value| value.to_string());
            let line = |(key, values): (String, Vec<_>)| {
                format!("{key}: {}", values.into_iter().map(text).collect::<Vec<_>>().join(", "))
            };
            differences(configs).into_iter().map(line).collect()
        };
        let expected = ["optimizer.encoder_learning_rate: none, 0.25, 0.25", "seed: 0, 0, 7"];
        assert_eq!(shown(&[&one, &two, &three]), expected);
        assert!(shown(&[&two, &two.clone()]).is_empty());
    }

    #[test]
    fn a_changed_learning_rate_is_found_and_a_changed_number_of_epochs_is_not() {
        let old = RunConfig::default();
        let mut new = old.clone();
        new.training.num_epochs += 1;
        new.training.resume_from = Some("last.safetensors".into());
        assert_eq!(first_unsafe_difference(&old, &new), None);
        new.optimizer.learning_rate *= 2.0;
        assert_eq!(first_unsafe_difference(&old, &new), Some("optimizer.learning_rate".to_owned()));
        new = old.clone();
        new.optimizer.encoder_learning_rate = Some(0.1);
        assert_eq!(first_unsafe_difference(&old, &new), Some("optimizer.encoder_learning_rate".to_owned()));
    }
}
