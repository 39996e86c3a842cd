//! Whether the tensors of a file are those that a model needs: what is missing, left over or of another shape, by name.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::bail;
use candle_core::Tensor;

use crate::model::role::ParameterSpec;

/// Names that an error lists of each kind; the rest are counted.
const LISTED: usize = 12;

/// Compares `loaded` with what a model declares. Returns the names of the parameters that are not in `loaded`, each of
/// which `may_be_new` accepted.
///
/// # Errors
/// Tensors that are missing and may not be new, that nothing declares, or that have another shape: all of them by name.
pub fn check_fit(
    specs: &[ParameterSpec],
    loaded: &BTreeMap<String, Tensor>,
    may_be_new: impl Fn(&ParameterSpec) -> bool,
) -> anyhow::Result<Vec<String>> {
    let absent = specs.iter().filter(|spec| !loaded.contains_key(&spec.name));
    let (new, missing): (Vec<&ParameterSpec>, Vec<_>) = absent.partition(|spec| may_be_new(spec));
    let missing: Vec<String> = missing.iter().map(|spec| format!("{} {:?}", spec.name, spec.shape)).collect();
    let declared: BTreeSet<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
    let left_over: Vec<String> = loaded.keys().filter(|name| !declared.contains(name.as_str())).cloned().collect();
    let misshapen: Vec<String> = specs
        .iter()
        .filter_map(|spec| loaded.get(&spec.name).map(|tensor| (spec, tensor.dims())))
        .filter(|(spec, found)| spec.shape != *found)
        .map(|(spec, found)| format!("{}: expected {:?}, found {found:?}", spec.name, spec.shape))
        .collect();
    let kinds = [("missing", missing), ("not part of the model", left_over), ("of another shape", misshapen)];
    let problems: Vec<String> =
        kinds.iter().filter(|(_, names)| !names.is_empty()).map(|(kind, names)| list(kind, names)).collect();
    if !problems.is_empty() {
        bail!("the tensors do not fit the model:{}", problems.concat());
    }
    Ok(new.into_iter().map(|spec| spec.name.clone()).collect())
}

fn list(kind: &str, names: &[String]) -> String {
    let shown = names.iter().take(LISTED).map(|name| format!("\n      {name}"));
    let rest = names.len().saturating_sub(LISTED);
    let more = if rest > 0 { format!("\n      and {rest} more") } else { String::new() };
    format!("\n    {kind} ({}):{}{more}", names.len(), shown.collect::<String>())
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::model::initialization::Initializer;
    use crate::model::role::{Kind, Part, Role};

    fn specs(names: &[&str]) -> Vec<ParameterSpec> {
        let spec = |name: &&str| ParameterSpec {
            name: (*name).to_owned(),
            shape: vec![2, 3],
            initializer: Initializer::Zeros,
            role: Role { part: Part::Decoder, depth: 0, kind: Kind::Weight, used: true, connects: false },
            layout: ops::WeightLayout::OutIn,
        };
        names.iter().map(spec).collect()
    }

    fn tensors(shapes: &[(&str, (usize, usize))]) -> BTreeMap<String, Tensor> {
        let tensor = |shape: (usize, usize)| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
        shapes.iter().map(|(name, shape)| ((*name).to_owned(), tensor(*shape))).collect()
    }

    #[test]
    fn every_tensor_that_does_not_fit_is_named_with_what_is_wrong() {
        let loaded = tensors(&[("b", (3, 2)), ("c", (2, 3)), ("x", (1, 1)), ("y", (1, 1))]);
        let error = check_fit(&specs(&["a", "b", "c", "d"]), &loaded, |_| false).unwrap_err();
        insta::assert_snapshot!(error, @r"
        the tensors do not fit the model:
            missing (2):
              a [2, 3]
              d [2, 3]
            not part of the model (2):
              x
              y
            of another shape (1):
              b: expected [2, 3], found [3, 2]
        ");
    }

    #[test]
    fn only_what_may_be_new_is_left_to_begin_anew() {
        let loaded = tensors(&[("a", (2, 3))]);
        let fits = |new: &str| check_fit(&specs(&["a", "b"]), &loaded, |spec| spec.name == new);
        assert_eq!(fits("b").unwrap(), ["b"]);
        assert!(fits("a").unwrap_err().to_string().contains("missing (1):\n      b"));
    }

    #[test]
    fn a_long_list_ends_with_a_count() {
        let names: Vec<String> = (0..20).map(|index| format!("p{index:02}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let text = check_fit(&specs(&names), &BTreeMap::new(), |_| false).unwrap_err().to_string();
        assert!(text.contains("p11") && !text.contains("p12") && text.ends_with("and 8 more"), "{text}");
    }
}
