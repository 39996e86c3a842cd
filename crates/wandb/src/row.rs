//! Metrics as the server wants them: a path of keys and the value as JSON text.
//!
//! JSON has no NaN and no infinities, the server knows them as bare words. They travel as the texts that
//! [`number`] gives and lose their quotation marks where the value is written.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// A value and where it belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    /// `["val", "loss"]` for `{"val": {"loss": ...}}`.
    pub(super) path: Vec<String>,
    /// The value as JSON text.
    pub(super) json: String,
}

impl Item {
    /// A value on the first level.
    pub(super) fn new(key: &str, value: &Value) -> Self {
        Self { path: vec![key.to_owned()], json: json_text(value) }
    }
}

/// A number for a row, also where it is NaN or infinite.
pub fn number(value: f64) -> Value {
    match serde_json::Number::from_f64(value) {
        Some(number) => Value::Number(number),
        None if value.is_nan() => Value::from("NaN"),
        None if value > 0.0 => Value::from("Infinity"),
        None => Value::from("-Infinity"),
    }
}

/// The values of nested objects, each with its path.
pub(super) fn items(values: &Map<String, Value>) -> Vec<Item> {
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
pub(super) struct Tree(BTreeMap<String, Node>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Leaf(String),
    Branch(Tree),
}

impl Tree {
    /// The object that `items` describe; of two with one path the later one counts.
    pub(super) fn of(items: &[Item]) -> Self {
        let mut tree = Self::default();
        items.iter().for_each(|item| tree.set(item));
        tree
    }

    /// Sets one value.
    pub(super) fn set(&mut self, item: &Item) {
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
    pub(super) fn to_json(&self) -> String {
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
}
