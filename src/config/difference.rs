//! What differs between two configs of one run.

use std::collections::BTreeMap;

use toml::Value;

use crate::config::RunConfig;
use crate::config::load::{is_safe_on_resume, to_toml};

/// The first key, in the order of the alphabet, that differs between the two and that may not change while a run goes
/// on.
pub fn first_unsafe_difference(checkpoint: &RunConfig, config: &RunConfig) -> Option<String> {
    let (old, new) = (flatten(checkpoint), flatten(config));
    let keys = old.keys().chain(new.keys().filter(|key| !old.contains_key(*key)));
    let mut differing: Vec<&String> = keys.filter(|key| old.get(*key) != new.get(*key)).collect();
    differing.sort();
    // Where a run goes on from is no part of what it computes.
    differing.into_iter().find(|key| !is_safe_on_resume(key) && *key != "training.resume_from").cloned()
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
