//! The digest of tensors, which goes over their names, shapes and values.

use anyhow::Result;
use candle_core::Tensor;

use crate::model::tensor_file::for_each_block;
use base::digest::Hasher;

/// SHA-256 over name, shape and values of every tensor, in the order of the names.
pub(super) fn digest_tensors(tensors: &[(String, Tensor)]) -> Result<String> {
    let mut hasher = Hasher::new();
    for (name, tensor) in tensors {
        digest_head(&mut hasher, name, tensor.dims());
        for_each_block(tensor, |bytes| {
            hasher.update(bytes);
            Ok(())
        })?;
    }
    Ok(hasher.finish())
}

/// Adds what of a tensor is not its values.
pub(super) fn digest_head(hasher: &mut Hasher, name: &str, shape: &[usize]) {
    hasher.update(name.as_bytes());
    hasher.update(format!("{shape:?}").as_bytes());
}
