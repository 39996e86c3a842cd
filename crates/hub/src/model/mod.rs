//! The files of a model: which of them a repository has and which it must have.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context as _;

use super::repository::{MAIN, Repository, RepositoryKind};
use super::settings::Settings;
use super::source::{Conditions, Source, State};
use crate::model_id::ModelId;
use crate::requests::{ModelKind, ModelSnapshot};
use base::bounded_file::{self, MAX_TABLE_BYTES};
use base::error::failure;
use base::terminal::message;

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";

/// A form in which a repository may have its weights.
struct Form {
    name: &'static str,
    kind: FormKind,
}

enum FormKind {
    Whole,
    /// A list of shards whose names end like this.
    Shards(&'static str),
}

/// From the one that is preferred to the last resort: the names of transformers, then those of open_clip.
const FORMS: [Form; 6] = [
    Form { name: WEIGHTS, kind: FormKind::Whole },
    Form { name: "model.safetensors.index.json", kind: FormKind::Shards(".safetensors") },
    Form { name: "open_clip_model.safetensors", kind: FormKind::Whole },
    Form { name: "pytorch_model.bin", kind: FormKind::Whole },
    Form { name: "pytorch_model.bin.index.json", kind: FormKind::Shards(".bin") },
    Form { name: "open_clip_pytorch_model.bin", kind: FormKind::Whole },
];

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
        terms: "",
        manual: LOCAL_FOLDER,
        copied_to: None,
    };
    let source = Source::open(&repository, settings, conditions)?;
    let commit = source.commit(CONFIG)?;
    let mut files = vec![(CONFIG, source.need(&commit, CONFIG)?)];
    for &name in kind.files() {
        files.extend(source.find(&commit, name)?.map(|state| (name, state)));
    }
    for (name, state) in &files {
        check_size(id, name, state)?;
    }
    let (form, state) = weights(id, &source, &commit)?;
    if form.name.contains(".bin") && !matches!(state, State::Named(_)) {
        message(&format!(
            "{id} has no safetensors: downloading {}, which holds pickles; they are read without executing anything",
            form.name
        ));
    }
    let mut shards = BTreeSet::new();
    match form.kind {
        FormKind::Whole => files.push((form.name, state)),
        FormKind::Shards(ending) => {
            check_size(id, form.name, &state)?;
            // It names the other files, and is the only one that is downloaded before everything is known to fit.
            let index = source.fetch(&commit, vec![(form.name, state)], conditions)?.remove(0);
            let found = read_index(&index.path, ending);
            shards = found.with_context(|| format!("{} of {id} cannot be used", form.name))?;
        }
    }
    for shard in &shards {
        files.push((shard, source.need(&commit, shard)?));
    }
    source.fetch(&commit, files, conditions)?;
    Ok(ModelSnapshot { folder: source.finish(&commit), commit })
}

/// The weights of a repository, in the first form that it has.
fn weights(id: &ModelId, source: &Source<'_>, commit: &str) -> anyhow::Result<(&'static Form, State)> {
    for form in &FORMS {
        if let Some(state) = source.find(commit, form.name)? {
            return Ok((form, state));
        }
    }
    if source.is_offline() {
        let [preferred, ..] = &FORMS;
        return Ok((preferred, source.need(commit, preferred.name)?));
    }
    Err(failure(
        format!("{id} has neither {}", FORMS.map(|form| form.name).join(" nor ")),
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
