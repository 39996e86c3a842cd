//! The pretrained weights that an adapter was trained for. They are in no checkpoint: one names them by digest, and
//! they are read again from where they came from.

use std::collections::BTreeMap;

use anyhow::Result;
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::config::{ModelConfig, ModelName};
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
        let folders = self.found_folders(model, find)?;
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

    /// The recorded folders; for those that are gone the ones that `find` names. It is asked only about models of which
    /// a commit is recorded: the name of another is that of a folder, and no repository.
    fn found_folders(&self, model: &ModelConfig, find: &FindBase<'_>) -> Result<ModelFolders> {
        if self.folders.exist() {
            return Ok(self.folders.clone());
        }
        let (mut model, mut recorded) = (model.clone(), self.folders.clone());
        for (ModelName { name, revision, .. }, folder) in model.names_mut().into_iter().zip(recorded.all_mut()) {
            let Some(folder) = folder else { continue };
            if folder.is_dir() {
                *name = None;
            } else if revision.is_none() {
                let message = format!("the folder {} that the adapter was trained for is gone", folder.display());
                return Err(failure(message, MOVED));
            }
        }
        let mut found = find(&model).hint(|| MOVED)?;
        for (found, recorded) in found.all_mut().into_iter().zip(recorded.all_mut()) {
            if found.is_none() {
                *found = recorded.take();
            }
        }
        Ok(found)
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn of_folder(folder: &str) -> Base {
        let folders = ModelFolders { captioner: Some(PathBuf::from(folder)), ..ModelFolders::default() };
        Base { digest: String::new(), folders }
    }

    #[test]
    fn a_folder_that_is_gone_is_named_and_not_looked_for_elsewhere() {
        let model = ModelConfig { init_from: Some("models/blip".to_owned()), ..ModelConfig::default() };
        let find = |_: &ModelConfig| -> Result<ModelFolders> { panic!("nothing is looked up") };
        let error = of_folder("/gone/models/blip").read(&model, |_| true, &find).unwrap_err();
        let text = base::error::describe(&error);
        assert!(
            text.starts_with("the folder /gone/models/blip that the adapter") && text.contains("hint: put"),
            "{text}"
        );
    }

    #[test]
    fn a_model_with_a_commit_is_looked_for_beside_the_folders_that_are_there() {
        let there = tempfile::tempdir().unwrap();
        let mut model = ModelConfig::default();
        model.encoder.name = Some("vit".to_owned());
        model.decoder.name = Some("owner/gpt2".to_owned());
        model.decoder.revision = Some("0123456789abcdef0123456789abcdef01234567".to_owned());
        let mut base = of_folder("");
        base.folders = ModelFolders {
            captioner: None,
            encoder: Some(there.path().to_owned()),
            decoder: Some(PathBuf::from("/gone/cache")),
        };
        let find = |model: &ModelConfig| {
            assert_eq!((&model.encoder.name, model.decoder.name.as_deref()), (&None, Some("owner/gpt2")));
            Ok(ModelFolders { decoder: Some(PathBuf::from("/cache/gpt2")), ..ModelFolders::default() })
        };
        let found = base.found_folders(&model, &find).unwrap();
        assert_eq!(found.encoder.as_deref(), Some(there.path()));
        assert_eq!(found.decoder, Some(PathBuf::from("/cache/gpt2")));
    }
}
