//! The files of a model: which of them a repository has and which it must have.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::repository::{MAIN, Repository, RepositoryKind};
use super::settings::Settings;
use super::source::{Conditions, Source, State};
use crate::requests::ModelKind;
use base::bounded_file::{self, MAX_TABLE_BYTES};
use base::error::failure;

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// The same weights in a format that can run code and is never read.
const PICKLED: [&str; 2] = ["pytorch_model.bin", "pytorch_model.bin.index.json"];
/// What to do without a network.
const LOCAL_FOLDER: &str = "get the repository's files on a machine with a network and give their folder instead of \
                            the id";
/// Weight files that an index may name: twice those of the largest open models.
const MAX_SHARDS: usize = 512;

/// See [`super::model_folder`].
pub(super) fn folder(
    id: &str,
    kind: ModelKind,
    settings: &Settings,
    conditions: &Conditions,
) -> anyhow::Result<PathBuf> {
    let repository = Repository {
        kind: RepositoryKind::Model,
        id,
        revision: MAIN,
        terms: "",
        manual: LOCAL_FOLDER,
        copied_to: None,
    };
    let source = Source::open(&repository, settings, conditions)?;
    let commit = source.commit(CONFIG)?;
    let mut shards = BTreeSet::new();
    let mut files = vec![(CONFIG, source.need(&commit, CONFIG)?)];
    for &name in kind.files() {
        files.extend(source.find(&commit, name)?.map(|state| (name, state)));
    }
    if let Some(weights) = source.find(&commit, WEIGHTS)? {
        files.push((WEIGHTS, weights));
    } else if let Some(index) = source.find(&commit, INDEX)? {
        check_size(id, INDEX, &index)?;
        // It names the other files, and is the only one that is downloaded before everything is known to fit.
        let index = source.fetch(&commit, vec![(INDEX, index)], conditions)?.remove(0);
        shards = read_index(&index.path).with_context(|| format!("{INDEX} of {id} cannot be used"))?;
    } else if source.is_offline() {
        files.push((WEIGHTS, source.need(&commit, WEIGHTS)?));
    } else {
        return Err(no_weights(id, &source, &commit, kind));
    }
    for (name, state) in files.iter().filter(|(name, _)| *name != WEIGHTS) {
        check_size(id, name, state)?;
    }
    for shard in &shards {
        files.push((shard, source.need(&commit, shard)?));
    }
    source.fetch(&commit, files, conditions)?;
    Ok(source.finish(&commit))
}

/// Refuses a file that is announced as larger than what is read of its kind.
fn check_size(id: &str, name: &str, state: &State) -> anyhow::Result<()> {
    if state.bytes() <= MAX_TABLE_BYTES {
        return Ok(());
    }
    let found = format!("{name} of {id} has {} bytes, expected at most {MAX_TABLE_BYTES}", state.bytes());
    Err(failure(found, "choose another repository, or check HF_ENDPOINT"))
}

fn no_weights(id: &str, source: &Source<'_>, commit: &str, kind: ModelKind) -> anyhow::Error {
    let pickled = |name: &&&str| source.find(commit, name).is_ok_and(|state| state.is_some());
    if let Some(name) = PICKLED.iter().find(pickled) {
        return failure(
            format!("{id} has its weights only as {name}, a format that can run code when it is loaded"),
            kind.conversion(),
        );
    }
    failure(format!("{id} has neither {WEIGHTS} nor {INDEX}"), "choose a repository with safetensors weights")
}

fn read_index(path: &Path) -> anyhow::Result<BTreeSet<String>> {
    let text = bounded_file::read_text(path, MAX_TABLE_BYTES);
    shard_names(&text.with_context(|| format!("cannot read {}", path.display()))?)
}

/// The files that a `model.safetensors.index.json` names, each once and none of them a path.
fn shard_names(index: &str) -> anyhow::Result<BTreeSet<String>> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: std::collections::HashMap<String, String>,
    }
    let index: Index = serde_json::from_str(index).context("expected {\"weight_map\": {\"tensor\": \"file\"}}")?;
    let names: BTreeSet<String> = index.weight_map.into_values().collect();
    let is_plain =
        |name: &str| crate::requests::is_relative(name) && !name.contains('/') && name.ends_with(".safetensors");
    if let Some(name) = names.iter().find(|name| !is_plain(name)) {
        anyhow::bail!("{name:?} is not the name of a safetensors file");
    }
    anyhow::ensure!(!names.is_empty(), "it names no files");
    anyhow::ensure!(names.len() <= MAX_SHARDS, "it names {} files, expected at most {MAX_SHARDS}", names.len());
    Ok(names)
}

#[cfg(test)]
mod tests;
