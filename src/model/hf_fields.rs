//! Fields of a `config.json` as transformers writes it: a default where one is absent or null.

use anyhow::Context as _;
use serde_json::Value;

use crate::model::layers::HiddenActivation;

/// The class of transformers that a config names, the first of several.
pub fn class_name(config: &Value) -> Option<&str> {
    config.pointer("/architectures/0").and_then(Value::as_str)
}

/// A whole number.
///
/// # Errors
/// Anything else.
pub fn whole_number(config: &Value, name: &str, default: usize) -> anyhow::Result<usize> {
    match config.get(name) {
        None | Some(Value::Null) => Ok(default),
        Some(value) => {
            let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
            number.with_context(|| format!("{name}: expected a whole number, found {value}"))
        }
    }
}

/// A number.
///
/// # Errors
/// Anything else.
pub fn real_number(config: &Value, name: &str, default: f64) -> anyhow::Result<f64> {
    match config.get(name) {
        None | Some(Value::Null) => Ok(default),
        Some(value) => value.as_f64().with_context(|| format!("{name}: expected a number, found {value}")),
    }
}

/// A truth value.
///
/// # Errors
/// Anything else.
pub fn boolean(config: &Value, name: &str, default: bool) -> anyhow::Result<bool> {
    match config.get(name) {
        None | Some(Value::Null) => Ok(default),
        Some(value) => value.as_bool().with_context(|| format!("{name}: expected true or false, found {value}")),
    }
}

/// The activation of an MLP.
///
/// # Errors
/// One that is not known. Null too, which transformers does not write.
pub fn activation(config: &Value, name: &str, default: HiddenActivation) -> anyhow::Result<HiddenActivation> {
    let Some(value) = config.get(name) else { return Ok(default) };
    serde_json::from_value(value.clone())
        .with_context(|| format!("{name} {value} is not one of gelu, gelu_new, quick_gelu"))
}

/// The model's `model_type`; empty where none is named.
pub fn model_type(config: &Value) -> &str {
    config.get("model_type").and_then(Value::as_str).unwrap_or("")
}
