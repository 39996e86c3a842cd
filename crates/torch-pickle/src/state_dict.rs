//! The tensors of a state dict: what a pickle has made, by name.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail, ensure};

use crate::machine::{self, Made, Object, Value};
use crate::view::View;
use base::visible;

/// Where training scripts put the weights beside the rest of their state.
const WRAPPERS: [&str; 2] = ["model", "state_dict"];
/// Characters of a name that are shown.
const MAX_NAME: usize = 100;

/// The tensors of a pickle: of the dictionary under `model` or `state_dict` in its own, whatever tensors a training
/// script put beside it, else of its own.
pub(crate) fn tensors(pickle: &[u8]) -> anyhow::Result<BTreeMap<String, View>> {
    let made = machine::run(pickle)?;
    let entries = entries(&made, made.result).context("it holds no dictionary of tensors")?;
    // Each is looked at once, however often a file names it.
    let mut wrapped = Vec::new();
    for wrapper in WRAPPERS {
        let mut named_so = entries.iter().filter(|&&(key, _)| made.is_text(key, wrapper));
        let Some(&(_, value)) = named_so.next() else { continue };
        ensure!(named_so.next().is_none(), "two entries have the name {wrapper}");
        if let Some(inner) = self::entries(&made, value) {
            wrapped.extend(Some(named(&made, inner)?).filter(|tensors| !tensors.is_empty()));
        }
    }
    match (wrapped.pop(), wrapped.pop()) {
        (Some(tensors), None) => Ok(tensors),
        (Some(_), Some(_)) => bail!("it has weights under each of {}", WRAPPERS.join(" and ")),
        (None, _) => {
            let found = named(&made, entries)?;
            ensure!(!found.is_empty(), "its dictionary has no tensors, nor has one under {}", WRAPPERS.join(" or "));
            Ok(found)
        }
    }
}

fn entries<'a>(made: &'a Made<'_>, value: Value) -> Option<&'a [(Value, Value)]> {
    match made.object(value) {
        Some(Object::Dict { entries, .. }) => Some(entries),
        _ => None,
    }
}

/// The tensors among the entries of a dictionary.
fn named(made: &Made<'_>, entries: &[(Value, Value)]) -> anyhow::Result<BTreeMap<String, View>> {
    let mut tensors = BTreeMap::new();
    for &(key, value) in entries {
        let Some(Object::Tensor(view)) = made.object(value) else { continue };
        let name = made.text(key).context("the name of a tensor is not a text")?;
        let is_new = tensors.insert(name.to_owned(), View::clone(view)).is_none();
        ensure!(is_new, "two tensors have the name {}", visible::cut(name, MAX_NAME));
    }
    Ok(tensors)
}
