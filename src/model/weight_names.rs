//! The result of translating the names of a pretrained file into those used here, which are the ones that transformers
//! writes. The tables of names are in the families' files.

use std::collections::BTreeMap;

use anyhow::bail;
use candle_core::Tensor;

/// Tensors under the names used here, and what belongs to something else (a classifier, CLIP's text tower).
#[derive(Clone, Debug, Default)]
pub struct Renamed {
    /// The tensors that the model uses.
    pub tensors: BTreeMap<String, Tensor>,
    /// Names in the file that it does not use.
    pub unused: Vec<String>,
}

impl Renamed {
    /// Adds a tensor that the file calls `source`.
    ///
    /// # Errors
    /// A name that is taken.
    pub fn insert(&mut self, name: String, tensor: Tensor, source: &str) -> anyhow::Result<()> {
        if self.tensors.insert(name.clone(), tensor).is_some() {
            bail!("two tensors of the file map to {name}; the second is {source}");
        }
        Ok(())
    }
}

/// Whether two tensors of a file are the same parameter, stored under both of its names.
pub fn is_equal(a: &Tensor, b: &Tensor) -> bool {
    let values = |tensor: &Tensor| tensor.flatten_all().and_then(|flat| flat.to_vec1::<f32>()).ok();
    a.dims() == b.dims() && values(a).is_some_and(|values_of_a| Some(values_of_a) == values(b))
}
