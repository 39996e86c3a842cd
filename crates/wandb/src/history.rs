//! Rows of metrics, as a path of keys and the value as JSON text, and the end of the history that is already written.
//!
//! JSON has no NaN and no infinities; the server reads them as bare words. They are passed as the strings that
//! [`number`] returns and lose their quotation marks when the value is written.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// A value and its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    /// `["val", "loss"]` for `{"val": {"loss": ...}}`.
    pub(crate) path: Vec<String>,
    /// The value as JSON text.
    pub(crate) json: String,
}

impl Item {
    /// A value at the top level.
    pub(crate) fn new(key: &str, value: &Value) -> Self {
        Self { path: vec![key.to_owned()], json: json_text(value) }
    }
}

/// A number for a row, which may be NaN or infinite.
pub fn number(value: f64) -> Value {
    match serde_json::Number::from_f64(value) {
        Some(number) => Value::Number(number),
        None if value.is_nan() => Value::from("NaN"),
        None if value > 0.0 => Value::from("Infinity"),
        None => Value::from("-Infinity"),
    }
}

/// The values of nested objects, each with its path.
pub(crate) fn items(values: &Map<String, Value>) -> Vec<Item> {
    let mut found = Vec::new();
    collect(values, &mut Vec::new(), &mut found);
    found
}

fn collect(values: &Map<String, Value>, path: &mut Vec<String>, found: &mut Vec<Item>) {
    for (key, value) in values {
        path.push(key.clone());
        match value {
            Value::Object(inner) if !inner.is_empty() => collect(inner, path, found),
            _ => found.push(Item { path: path.clone(), json: json_text(value) }),
        }
        path.pop();
    }
}

fn json_text(value: &Value) -> String {
    match value.as_str() {
        Some(word @ ("NaN" | "Infinity" | "-Infinity")) => word.to_owned(),
        _ => value.to_string(),
    }
}

/// Nested values by their paths, to be written as one object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tree(BTreeMap<String, Node>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Leaf(String),
    Branch(Tree),
}

impl Tree {
    /// The object that `items` describe; a later item replaces an earlier one with the same path.
    pub(crate) fn of(items: &[Item]) -> Self {
        let mut tree = Self::default();
        items.iter().for_each(|item| tree.set(item));
        tree
    }

    pub(crate) fn set(&mut self, item: &Item) {
        self.set_at(&item.path, &item.json);
    }

    fn set_at(&mut self, path: &[String], json: &str) {
        let Some((key, rest)) = path.split_first() else { return };
        if rest.is_empty() {
            self.0.insert(key.clone(), Node::Leaf(json.to_owned()));
            return;
        }
        let node = self.0.entry(key.clone()).or_insert_with(|| Node::Branch(Self::default()));
        if let Node::Leaf(_) = node {
            *node = Node::Branch(Self::default());
        }
        if let Node::Branch(tree) = node {
            tree.set_at(rest, json);
        }
    }

    /// The object as JSON text, in which NaN and infinities are bare words.
    pub(crate) fn to_json(&self) -> String {
        let mut text = String::from("{");
        for (index, (key, node)) in self.0.iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            text.push_str(&Value::from(key.as_str()).to_string());
            text.push(':');
            match node {
                Node::Leaf(json) => text.push_str(json),
                Node::Branch(tree) => text.push_str(&tree.to_json()),
            }
        }
        text.push('}');
        text
    }
}

/// The end of a history: a resumed run neither leaves a hole nor writes a row twice.
///
/// A run that was killed at step 130 and resumes from a checkpoint of step 100 repeats steps 101 to 130 with equal
/// values. The history only grows: a value is new if its step is after the last one, or if it is the first of its name
/// at the last step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HistoryTail {
    last: Option<Last>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Last {
    step: u64,
    /// `None` means all keys.
    keys: Option<BTreeSet<String>>,
}

impl HistoryTail {
    /// A history of which only the last step is known: that step counts as complete.
    pub(crate) fn through(step: u64) -> Self {
        Self { last: Some(Last { step, keys: None }) }
    }

    pub(crate) fn step(&self) -> Option<u64> {
        self.last.as_ref().map(|last| last.step)
    }

    /// Adds values that the history has at `step`.
    pub(crate) fn add<'a>(&mut self, step: u64, keys: impl IntoIterator<Item = &'a str>) {
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

    /// Whether the history lacks the value `key` of `step`.
    pub(crate) fn is_new(&self, step: u64, key: &str) -> bool {
        match &self.last {
            None => true,
            Some(last) if last.step == step => last.keys.as_ref().is_some_and(|keys| !keys.contains(key)),
            Some(last) => last.step < step,
        }
    }

    /// The new values of a row; none if only its time is new.
    pub(crate) fn new_of(&self, step: u64, items: Vec<Item>) -> Vec<Item> {
        let first = |item: &Item| item.path.first().cloned().unwrap_or_default();
        let kept: Vec<Item> =
            items.into_iter().filter(|item| is_internal(&first(item)) || self.is_new(step, &first(item))).collect();
        if kept.iter().all(|item| is_internal(&first(item))) { Vec::new() } else { kept }
    }
}

/// `_step`, `_timestamp` and `_runtime` are part of every row.
fn is_internal(key: &str) -> bool {
    key.starts_with('_')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nested_values_keep_their_place() {
        let Value::Object(values) = json!({"train/loss": 1.5, "val": {"a": 1, "b": {"c": "x"}}, "empty": {}}) else {
            unreachable!()
        };
        let items = items(&values);
        assert_eq!(items.len(), 4);
        let text = Tree::of(&items).to_json();
        assert_eq!(text, r#"{"empty":{},"train/loss":1.5,"val":{"a":1,"b":{"c":"x"}}}"#);
    }

    #[test]
    fn numbers_that_json_does_not_know_are_bare_words() {
        let row: Map<String, Value> = [("a", f64::NAN), ("b", f64::INFINITY), ("c", f64::NEG_INFINITY), ("d", 0.5)]
            .into_iter()
            .map(|(key, value)| (key.to_owned(), number(value)))
            .chain([("captions".to_owned(), json!(["NaN"]))])
            .collect();
        let text = Tree::of(&items(&row)).to_json();
        assert_eq!(text, r#"{"a":NaN,"b":Infinity,"c":-Infinity,"captions":["NaN"],"d":0.5}"#);
    }

    #[test]
    fn a_later_value_replaces_an_earlier_one_of_any_form() {
        let mut tree = Tree::default();
        for value in [json!({"a": 1}), json!({"a": {"b": 2}}), json!({"a": {"c": 3}})] {
            items(value.as_object().unwrap()).iter().for_each(|item| tree.set(item));
        }
        assert_eq!(tree.to_json(), r#"{"a":{"b":2,"c":3}}"#);
    }

    fn keys(tail: &HistoryTail, step: u64) -> Vec<String> {
        let row = json!({"_step": step, "loss": 1, "val": {"a": 1}});
        let new = tail.new_of(step, items(row.as_object().unwrap()));
        new.into_iter().map(|item| item.path[0].clone()).collect()
    }

    #[test]
    fn a_row_is_new_once() {
        let mut tail = HistoryTail::default();
        assert_eq!(keys(&tail, 0), ["_step", "loss", "val"]);
        tail.add(0, ["_step", "loss", "val"]);
        assert!(keys(&tail, 0).is_empty());
        assert_eq!(keys(&tail, 1).len(), 3);
    }

    #[test]
    fn what_was_missing_at_the_last_step_is_still_taken() {
        let mut tail = HistoryTail::default();
        tail.add(130, ["loss"]);
        assert_eq!(keys(&tail, 130), ["_step", "val"]);
        assert!(keys(&tail, 129).is_empty());
        tail.add(100, ["val"]);
        assert_eq!(tail.step(), Some(130));
        tail.add(130, ["val"]);
        assert!(keys(&tail, 130).is_empty());
    }

    #[test]
    fn a_last_step_of_unknown_content_counts_as_whole() {
        let tail = HistoryTail::through(7);
        assert!(keys(&tail, 7).is_empty() && !keys(&tail, 8).is_empty());
    }
}
