//! Which values of the history are there already, so that a resumed run leaves no hole and writes nothing twice.
//!
//! A run that was killed at step 130 and goes on from a checkpoint of step 100 makes steps 101 to 130 again, with equal
//! values. The history only grows: a value is new where its step lies behind the last one, or where it is the first of its
//! name at the last step.

use std::collections::BTreeSet;

use super::row::Item;

/// The end of a history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    last: Option<Last>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Last {
    step: u64,
    /// `None` stands for all there may be.
    keys: Option<BTreeSet<String>>,
}

impl Seen {
    /// A history of which only the last step is known: it counts as whole.
    pub(super) fn through(step: u64) -> Self {
        Self { last: Some(Last { step, keys: None }) }
    }

    /// The last step.
    pub(super) fn step(&self) -> Option<u64> {
        self.last.as_ref().map(|last| last.step)
    }

    /// These values are there at `step`.
    pub(super) fn note<'a>(&mut self, step: u64, keys: impl IntoIterator<Item = &'a str>) {
        let keys = keys.into_iter().filter(|key| !is_internal(key)).map(str::to_owned);
        match &mut self.last {
            Some(last) if last.step > step => {}
            Some(last) if last.step == step => {
                if let Some(known) = &mut last.keys {
                    known.extend(keys);
                }
            }
            _ => self.last = Some(Last { step, keys: Some(keys.collect()) }),
        }
    }

    /// Whether the value `key` of `step` is still to come.
    pub(super) fn is_new(&self, step: u64, key: &str) -> bool {
        match &self.last {
            None => true,
            Some(last) if last.step == step => last.keys.as_ref().is_some_and(|keys| !keys.contains(key)),
            Some(last) => last.step < step,
        }
    }

    /// What is new of a row, and nothing where that is only its time.
    pub(super) fn new_of(&self, step: u64, items: Vec<Item>) -> Vec<Item> {
        let first = |item: &Item| item.path.first().cloned().unwrap_or_default();
        let kept: Vec<Item> =
            items.into_iter().filter(|item| is_internal(&first(item)) || self.is_new(step, &first(item))).collect();
        if kept.iter().all(|item| is_internal(&first(item))) { Vec::new() } else { kept }
    }
}

/// `_step`, `_timestamp` and `_runtime` belong to every row.
fn is_internal(key: &str) -> bool {
    key.starts_with('_')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::row::items;
    use super::*;

    fn keys(seen: &Seen, step: u64) -> Vec<String> {
        let row = json!({"_step": step, "loss": 1, "val": {"a": 1}});
        let new = seen.new_of(step, items(row.as_object().unwrap()));
        new.into_iter().map(|item| item.path[0].clone()).collect()
    }

    #[test]
    fn a_row_is_new_once() {
        let mut seen = Seen::default();
        assert_eq!(keys(&seen, 0), ["_step", "loss", "val"]);
        seen.note(0, ["_step", "loss", "val"]);
        assert!(keys(&seen, 0).is_empty());
        assert_eq!(keys(&seen, 1).len(), 3);
    }

    #[test]
    fn what_was_missing_at_the_last_step_is_still_taken() {
        let mut seen = Seen::default();
        seen.note(130, ["loss"]);
        assert_eq!(keys(&seen, 130), ["_step", "val"]);
        assert!(keys(&seen, 129).is_empty());
        seen.note(100, ["val"]);
        assert_eq!(seen.step(), Some(130));
        seen.note(130, ["val"]);
        assert!(keys(&seen, 130).is_empty());
    }

    #[test]
    fn a_last_step_of_unknown_content_counts_as_whole() {
        let seen = Seen::through(7);
        assert!(keys(&seen, 7).is_empty() && !keys(&seen, 8).is_empty());
    }
}
