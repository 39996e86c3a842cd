//! The pretrained weights that an adapter was trained for. They are in no checkpoint: one names them by digest, and
//! they are read again from where they came from.

use std::collections::BTreeMap;

use anyhow::Result;
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::config::ModelConfig;
use crate::model::parameters::Parameters;
use crate::run::checkpoint::digests::digest_tensors;
use crate::run::initial_model::{ModelFolders, read_tensors};
use base::error::{WithHint as _, failure};

/// What a checkpoint says of the weights that it lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// SHA-256 over names, shapes and values of all tensors.
    pub digest: String,
    /// The folders that they were read from.
    pub folders: ModelFolders,
}

/// Finds the folders for the names in a config.
pub type FindBase<'a> = dyn Fn(&ModelConfig) -> Result<ModelFolders> + 'a;

const MOVED: &str = "put the model that the adapter was trained for back into its place, or begin a new run";

impl Base {
    /// The base among the parameters, read from `folders`.
    ///
    /// # Errors
    /// A failure of the device.
    pub fn of(parameters: &Parameters, folders: &ModelFolders) -> Result<Option<Self>> {
        let tensors: Vec<(String, Tensor)> = parameters
            .iter()
            .filter(|(_, parameter)| parameter.in_base)
            .map(|(name, parameter)| (name.to_owned(), parameter.var.as_detached_tensor()))
            .collect();
        if tensors.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self { digest: digest_tensors(&tensors)?, folders: folders.in_full() }))
    }

    /// Reads the tensors with these names: from the recorded folders, or from those that `find` names where one of
    /// the recorded is gone.
    ///
    /// # Errors
    /// Folders that cannot be found or read; other tensors than those that the adapter was trained for.
    pub fn read(
        &self,
        model: &ModelConfig,
        is_wanted: impl Fn(&str) -> bool,
        find: &FindBase<'_>,
    ) -> Result<BTreeMap<String, Tensor>> {
        let folders = if self.folders.exist() { self.folders.clone() } else { find(model).hint(|| MOVED)? };
        let mut tensors = read_tensors(model, &folders).hint(|| MOVED)?;
        tensors.retain(|name, _| is_wanted(name));
        let listed: Vec<(String, Tensor)> =
            tensors.iter().map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
        let found = digest_tensors(&listed)?;
        if found != self.digest {
            return Err(failure(
                format!(
                    "the weights in {} are not those that the adapter was trained for: expected SHA-256 {}, found {found}",
                    folders.list(),
                    self.digest
                ),
                MOVED,
            ));
        }
        Ok(tensors)
    }
}

/// For where nothing but the recorded folders can be used.
///
/// # Errors
/// Always: the names of the folders.
pub fn nowhere_else(model: &ModelConfig) -> Result<ModelFolders> {
    let names = [&model.init_from, &model.encoder.name, &model.decoder.name];
    let names: Vec<&str> = names.into_iter().flatten().map(String::as_str).collect();
    Err(failure(format!("the folder that the model {} was read from is gone", names.join(" and ")), MOVED))
}
