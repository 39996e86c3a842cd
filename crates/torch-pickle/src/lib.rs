//! Reads the tensors of PyTorch's weight files (`pytorch_model.bin`, `*.pt`, `*.pth`) without executing anything.
//!
//! Such a file is a zip archive: `NAME/data.pkl` is a pickle that says how the tensors lie in the storages, and
//! `NAME/data/KEY` are the storages. A pickle is a program that may call any function of Python. Here the few functions
//! that put tensors together are names of what they would have made, and any other is an error.

mod archive;
mod element;
mod kinds;
mod machine;
mod opcodes;
mod state_dict;
#[cfg(test)]
mod tests;
mod view;

use std::collections::BTreeMap;
use std::path::Path;

pub use element::Element;
pub use view::View;

use archive::Archive;

/// Bytes that all different tensors of a file may have together, as a multiple of the file's: what many names share
/// does not become many times as large.
const MAX_EXPANSION: u64 = 8;

/// A weight file whose pickle was read.
#[derive(Debug)]
pub struct WeightFile {
    archive: Archive,
    /// Every tensor by its name. Names of one tensor have the same view.
    tensors: BTreeMap<String, View>,
}

impl WeightFile {
    /// Opens a file and reads what it says about its tensors. No value is read.
    ///
    /// # Errors
    /// Anything but a file of torch 1.6 or newer; a pickle that asks for more than tensors and plain values; a tensor
    /// that is not within its storage; two tensors of one name; no tensors.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        kinds::check(path)?;
        let mut archive = Archive::open(path)?;
        let pickle = archive.pickle()?;
        let tensors = state_dict::tensors(&pickle)?;
        let mut distinct: Vec<&View> = tensors.values().collect();
        for view in &distinct {
            view.check(archive.storage_bytes(view.storage())?)?;
        }
        distinct.sort_unstable();
        distinct.dedup();
        let bytes = distinct.iter().map(|view| view.cost()).fold(0, u64::saturating_add);
        let most = archive.bytes().saturating_mul(MAX_EXPANSION);
        anyhow::ensure!(
            bytes <= most,
            "its tensors have {bytes} bytes in storages that they share, expected at most {most} in a file of {} bytes",
            archive.bytes()
        );
        Ok(Self { archive, tensors })
    }

    /// The tensors by their names.
    pub fn tensors(&self) -> &BTreeMap<String, View> {
        &self.tensors
    }

    /// The values of a tensor of real numbers, rounded to f32, in the order of its shape.
    ///
    /// # Errors
    /// A tensor of another kind; a file that cannot be read, or changed meanwhile; too little memory.
    pub fn read(&mut self, view: &View) -> anyhow::Result<Vec<f32>> {
        let (start, count) = view.span();
        let values = self.archive.values(view.storage(), view.element(), start, count)?;
        view.gather(values)
    }
}
