//! The files of a model: which of them a repository has and which it must have.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context as _;

use super::repository::{MAIN, Repository, RepositoryKind};
use super::settings::Settings;
use super::source::{Along, Conditions, Source, State};
use crate::model_id::ModelId;
use crate::requests::{ModelKind, ModelSnapshot};
use base::bounded_file::{self, MAX_TABLE_BYTES};
use base::error::failure;
use base::terminal::message;
use base::weight_forms::{WEIGHT_FORMS, WeightForm, WeightFormat};

const CONFIG: &str = "config.json";
/// The description of a model of open_clip, which may lack the other.
const OPEN_CLIP_CONFIG: &str = "open_clip_config.json";

/// What to do without a network.
const LOCAL_FOLDER: &str = "get the repository's files on a machine with a network and give their folder instead of \
                            the id";
/// Weight files that an index may name: twice those of the largest open models.
const MAX_SHARDS: usize = 512;

/// See [`super::model_folder`].
pub(super) fn folder(
    id: &ModelId,
    kind: ModelKind,
    settings: &Settings,
    conditions: &Conditions,
) -> anyhow::Result<ModelSnapshot> {
    let repository = Repository {
        kind: RepositoryKind::Model,
        id: id.id(),
        revision: id.revision().unwrap_or(MAIN),
        manual: LOCAL_FOLDER,
        copied_to: None,
    };
    let source = Source::open(&repository, settings, conditions)?;
    let commit = source.commit(&[CONFIG, OPEN_CLIP_CONFIG])?;
    let mut files = vec![description(&source, &commit)?];
    for &name in kind.files() {
        files.extend(source.find(&commit, name)?.map(|state| (name, state)));
    }
    for (name, state) in &files {
        check_size(id, name, state)?;
    }
    let (form, state) = weights(id, &source, &commit)?;
    if form.format == WeightFormat::Pickle && !matches!(state, State::Named(_)) {
        message(&format!(
            "{id} has no safetensors: downloading {}, which holds pickles; they are read without executing anything",
            form.name
        ));
    }
    let mut shards = BTreeSet::new();
    if form.is_index {
        check_size(id, form.name, &state)?;
        // It names the other files, and is the only one that is downloaded before everything is known to fit.
        let index = source.fetch(&commit, vec![(form.name, state)], Along::default(), conditions)?.remove(0);
        let found = read_index(&index.path, form.format.ending());
        shards = found.with_context(|| format!("{} of {id} cannot be used", form.name))?;
    } else {
        files.push((form.name, state));
    }
    for shard in &shards {
        files.push((shard, source.need(&commit, shard)?));
    }
    source.fetch(&commit, files, Along::default(), conditions)?;
    Ok(ModelSnapshot { folder: source.finish(&commit), commit })
}

/// The description of the model: `config.json`, or that of open_clip where there is none.
fn description(source: &Source<'_>, commit: &str) -> anyhow::Result<(&'static str, State)> {
    for name in [CONFIG, OPEN_CLIP_CONFIG] {
        if let Some(state) = source.find(commit, name)? {
            return Ok((name, state));
        }
    }
    Ok((CONFIG, source.need(commit, CONFIG)?))
}

/// The weights of a repository, in the first form that it has.
fn weights(id: &ModelId, source: &Source<'_>, commit: &str) -> anyhow::Result<(&'static WeightForm, State)> {
    for form in &WEIGHT_FORMS {
        if let Some(state) = source.find(commit, form.name)? {
            return Ok((form, state));
        }
    }
    if source.is_offline() {
        let [preferred, ..] = &WEIGHT_FORMS;
        return Ok((preferred, source.need(commit, preferred.name)?));
    }
    Err(failure(
        format!("{id} has neither {}", WEIGHT_FORMS.map(|form| form.name).join(" nor ")),
        "choose a repository with safetensors weights, or a revision that has them, such as a pull request that \
         converts them (owner/name@refs/pr/1)",
    ))
}

/// Refuses a file that is announced as larger than what is read of its kind.
fn check_size(id: &ModelId, name: &str, state: &State) -> anyhow::Result<()> {
    if state.bytes() <= MAX_TABLE_BYTES {
        return Ok(());
    }
    let found = format!("{name} of {id} has {} bytes, expected at most {MAX_TABLE_BYTES}", state.bytes());
    Err(failure(found, "choose another repository, or check HF_ENDPOINT"))
}

fn read_index(path: &Path, ending: &str) -> anyhow::Result<BTreeSet<String>> {
    let text = bounded_file::read_text(path, MAX_TABLE_BYTES);
    shard_names(&text.with_context(|| format!("cannot read {}", path.display()))?, ending)
}

/// The files that an index of shards names, each once, none of them a path, and all with this ending.
fn shard_names(index: &str, ending: &str) -> anyhow::Result<BTreeSet<String>> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: std::collections::HashMap<String, String>,
    }
    let index: Index = serde_json::from_str(index).context("expected {\"weight_map\": {\"tensor\": \"file\"}}")?;
    let names: BTreeSet<String> = index.weight_map.into_values().collect();
    let is_plain = |name: &str| crate::requests::is_relative(name) && !name.contains('/') && name.ends_with(ending);
    if let Some(name) = names.iter().find(|name| !is_plain(name)) {
        anyhow::bail!("{name:?} is not a file name that ends in {ending}");
    }
    anyhow::ensure!(!names.is_empty(), "it names no files");
    anyhow::ensure!(names.len() <= MAX_SHARDS, "it names {} files, expected at most {MAX_SHARDS}", names.len());
    Ok(names)
}

#[cfg(test)]
mod tests;
