//! Resolves the name of a model to a local path: a folder or file as it is, a Hub id through the Hub's cache, at the
//! revision that is asked for.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::config::{ModelConfig, ModelName, RunConfig};
use crate::run::initial_model::ModelFolders;
use base::error::usage_error;
use base::terminal::detail;
use base::{threads, visible};
use hub::{ModelId, ModelKind, ModelSnapshot, is_commit};

/// Moves the revisions that follow the names of a config (`owner/name@revision`) to their own keys.
///
/// # Errors
/// A name and a key with different revisions; an invalid revision; a revision of a folder.
pub fn settle_revisions(config: &mut RunConfig) -> Result<()> {
    for ModelName { key, revision_key, name, revision } in config.model.names_mut() {
        let Some(given) = name else { continue };
        let id = match look_at(given) {
            Place::Hub(id) => id,
            // What is wrong with a path is said where it is looked for.
            Place::Folder(_) | Place::Nowhere if revision.is_none() => continue,
            Place::Folder(_) | Place::Nowhere => {
                return Err(usage_error(
                    format!("{revision_key} is set, but {key} is the folder {}", visible::line(given)),
                    format!("remove {revision_key}: only a repository on the Hub has revisions"),
                ));
            }
        };
        let named = ModelId::parse(id)?;
        if let (Some(in_name), Some(in_key)) = (named.revision(), revision.as_deref())
            && in_name != in_key
        {
            return Err(usage_error(
                format!("{key} names the revision {in_name:?}, but {revision_key} is {in_key:?}"),
                "remove one of them",
            ));
        }
        let wanted = revision.as_deref().or(named.revision());
        let settled = ModelId::new(named.id(), wanted)?;
        *revision = settled.revision().map(str::to_owned);
        if revision.is_some() {
            config.written.add(revision_key);
        }
        *name = Some(settled.id().to_owned());
    }
    Ok(())
}

/// Takes over the commits of a run that is resumed. Its weights are in its checkpoint: a branch that has moved since
/// does not change them, another commit would be a mistake.
pub fn keep_commits(model: &mut ModelConfig, of_checkpoint: &ModelConfig) {
    let mut of_checkpoint = of_checkpoint.clone();
    for (ours, theirs) in model.names_mut().into_iter().zip(of_checkpoint.names_mut()) {
        let is_fixed = ours.revision.as_deref().is_some_and(is_commit);
        if ours.name == theirs.name && !is_fixed {
            ours.revision.clone_from(theirs.revision);
        }
    }
}

/// The folders of the models that the config names, downloaded if needed. The revision of each that is on the Hub
/// becomes the commit that was found.
pub fn model_folders(model: &mut ModelConfig) -> Result<ModelFolders> {
    let [captioner, encoder, decoder] = model.names_mut();
    Ok(ModelFolders {
        captioner: folder_of_key(captioner, ModelKind::WithTokenizer)?,
        encoder: folder_of_key(encoder, ModelKind::Encoder)?,
        decoder: folder_of_key(decoder, ModelKind::WithTokenizer)?,
    })
}

/// The folders of the models that an adapter was trained for, at the commits that its checkpoint names.
pub fn base_folders(model: &ModelConfig) -> Result<ModelFolders> {
    model_folders(&mut model.clone())
}

fn folder_of_key(model: ModelName<'_>, kind: ModelKind) -> Result<Option<PathBuf>> {
    let ModelName { key, name, revision, .. } = model;
    let Some(name) = name else { return Ok(None) };
    let what = format!("the folder {} ({key})", visible::line(name));
    let found = find(name, revision.as_deref(), &what, kind)?;
    if found.commit.is_some() {
        *revision = found.commit;
    }
    Ok(Some(found.folder))
}

/// Resolves `--checkpoint`: a checkpoint file, the folder of a captioner, or the id of one on the Hub.
pub fn checkpoint_path(name: &Path) -> Result<PathBuf> {
    match name.to_str() {
        // The extension distinguishes a file from an id, so that a mistyped path is not looked up on the Hub.
        Some(id) if !name.exists() && name.extension().is_none_or(|extension| extension != "safetensors") => {
            Ok(find(id, None, &format!("the checkpoint {}", visible::line(id)), ModelKind::WithTokenizer)?.folder)
        }
        _ => Ok(name.to_path_buf()),
    }
}

/// [`checkpoint_path`] of each.
pub fn checkpoint_paths(names: &[PathBuf]) -> Result<Vec<PathBuf>> {
    names.iter().map(|name| checkpoint_path(name)).collect()
}

/// What a name stands for.
enum Place<'a> {
    Folder(&'a Path),
    /// An id, perhaps with a revision.
    Hub(&'a str),
    /// A path to nothing.
    Nowhere,
}

fn look_at(name: &str) -> Place<'_> {
    let path = Path::new(name);
    if path.is_dir() {
        return Place::Folder(path);
    }
    // A Hub id is `name` or `owner/name`; anything that looks like a path is one.
    let (id, _) = ModelId::split(name);
    let looks_local = path.is_absolute() || name.starts_with('.') || id.matches('/').count() > 1;
    if looks_local { Place::Nowhere } else { Place::Hub(name) }
}

struct Found {
    folder: PathBuf,
    /// Of what came from the Hub.
    commit: Option<String>,
}

fn find(name: &str, revision: Option<&str>, what: &str, kind: ModelKind) -> Result<Found> {
    match look_at(name) {
        Place::Folder(folder) => Ok(Found { folder: folder.to_owned(), commit: None }),
        Place::Nowhere => Err(usage_error(
            format!("{what} does not exist"),
            "give a folder in the Hub's format or the id of a Hub repository, such as google/vit-base-patch16-224-in21k",
        )),
        Place::Hub(name) => {
            let id = ModelId::parse(name)?;
            let id = ModelId::new(id.id(), revision.or(id.revision()))?;
            threads::check_network()?;
            let ModelSnapshot { folder, commit } = hub::model_folder(&id, kind)?;
            detail(&format!("{id} is the commit {commit}"));
            Ok(Found { folder, commit: Some(commit) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::error::{describe, is_usage_error};

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn encoder(name: &str, revision: Option<&str>) -> ModelConfig {
        let mut model = ModelConfig::default();
        model.encoder.name = Some(name.to_owned());
        model.encoder.revision = revision.map(str::to_owned);
        model
    }

    fn settled(name: &str, revision: Option<&str>) -> Result<(Option<String>, Option<String>)> {
        let mut config = RunConfig { model: encoder(name, revision), ..RunConfig::default() };
        settle_revisions(&mut config)?;
        Ok((config.model.encoder.name, config.model.encoder.revision))
    }

    #[test]
    fn a_revision_may_follow_the_name_or_have_its_key() {
        let expected = (Some("owner/name".to_owned()), Some("refs/pr/4".to_owned()));
        for (name, revision) in [
            ("owner/name@refs/pr/4", None),
            ("owner/name", Some("refs/pr/4")),
            ("owner/name@refs/pr/4", Some("refs/pr/4")),
        ] {
            assert_eq!(settled(name, revision).unwrap(), expected);
        }
        assert_eq!(settled("owner/name", None).unwrap(), (expected.0, None));
    }

    #[test]
    fn two_revisions_and_those_of_folders_are_refused() {
        let text = describe(&settled("owner/name@v1", Some("v2")).unwrap_err());
        assert!(text.contains("model.encoder.name names the revision \"v1\", but model.encoder.revision is \"v2\""));
        let folder = tempfile::tempdir().unwrap();
        let text = describe(&settled(folder.path().to_str().unwrap(), Some("v1")).unwrap_err());
        assert!(text.contains("model.encoder.revision is set, but model.encoder.name is the folder"), "{text}");
        for revision in ["..", "../x", "a\nb", ""] {
            assert!(is_usage_error(&settled("owner/name", Some(revision)).unwrap_err()), "{revision:?}");
        }
    }

    #[test]
    fn a_folder_may_have_a_name_that_looks_like_a_revision() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vit@2");
        std::fs::create_dir(&path).unwrap();
        let name = path.to_str().unwrap();
        assert_eq!(settled(name, None).unwrap(), (Some(name.to_owned()), None));
        assert_eq!(model_folders(&mut encoder(name, None)).unwrap().encoder, Some(path));
    }

    #[test]
    fn a_resumed_run_keeps_its_commit_unless_another_one_is_named() {
        let known = encoder("owner/name", Some(COMMIT));
        let other = COMMIT.replace('0', "f");
        for (name, revision, expected) in [
            ("owner/name", None, Some(COMMIT)),
            ("owner/name", Some("refs/pr/4"), Some(COMMIT)),
            ("owner/name", Some(other.as_str()), Some(other.as_str())),
            ("owner/other", Some("v1"), Some("v1")),
        ] {
            let mut model = encoder(name, revision);
            keep_commits(&mut model, &known);
            assert_eq!(model.encoder.revision.as_deref(), expected, "{name} {revision:?}");
        }
    }
}
