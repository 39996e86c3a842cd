//! Datasets on the Hub: repositories, files and terms of use.

use std::path::{Path, PathBuf};

use base::error::{failure, one_line, usage_error};
use base::quoting::shell_path;
use base::{terminal, threads};
use datasets::annotations::{KnownDataset, flickr30k_hub};
use datasets::output::{FileDigest, Origin};
use datasets::prepare::{ensure_dataset, is_there, source_changes};
use hub::{DatasetRequest, dataset_files};

const FLICKR30K: DatasetRequest<'static> = DatasetRequest {
    id: "nlphuji/flickr30k",
    files: &[flickr30k_hub::FILE, "flickr30k-images.zip"],
    revision: None,
    terms: "Flickr30k is only for research and education; its images belong to their Flickr users and are subject to \
            Flickr's terms of use (https://shannon.cs.illinois.edu/DenotationGraph/)",
    manual: "get flickr_annotations_30k.csv and flickr30k-images.zip of the Hub dataset \
             nlphuji/flickr30k on another machine, put both into one folder, and run `caption-train prepare-data \
             --dataset flickr30k --source FOLDER` (in a config file: `data.source`); Flickr30k in any other format \
             works too",
    copied_to: None,
};

#[derive(Clone, Debug)]
pub struct Fetched {
    pub folder: PathBuf,
    pub origin: Origin,
}

/// Whether the data set `name` can be downloaded from the Hub.
pub fn is_on_the_hub(name: &str) -> bool {
    name == "flickr30k"
}

/// Describes what [`fetch`] would do.
pub fn describe(name: &str, revision: Option<&str>) -> String {
    let request = DatasetRequest { revision, ..FLICKR30K };
    format!(
        "would download the data set {name} from the Hub ({} of {} at {}, about 4.4 GB) and prepare it",
        request.files.join(" and "),
        request.id,
        revision.unwrap_or("main")
    )
}

/// Downloads what the Hub's cache lacks. `copied_to` is the folder into which the images will be copied.
pub fn fetch(_name: &str, revision: Option<&str>, copied_to: Option<&Path>) -> anyhow::Result<Fetched> {
    threads::check_network()?;
    let downloaded = dataset_files(&DatasetRequest { revision, copied_to, ..FLICKR30K })?;
    let file = |file: hub::DownloadedFile| FileDigest { name: file.name, bytes: file.bytes, sha256: file.sha256 };
    let origin = Origin {
        repository: FLICKR30K.id.to_owned(),
        commit: downloaded.commit,
        files: downloaded.files.into_iter().map(file).collect(),
    };
    Ok(Fetched { folder: downloaded.folder, origin })
}

/// What a run does if the source of its data set has changed since the data set was prepared. It never prepares it
/// again: other runs may be using it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnChange {
    /// Fails: a new run would train on outdated data.
    Refuse,
    /// Warns and uses the data set as it is: a resumed run cannot change its data.
    Warn,
}

/// Ensures that `directory` contains the data set `name`: from `source` if given, else from the Hub if it is there.
pub fn ensure(name: &str, directory: &Path, source: Option<&Path>, on_change: OnChange) -> anyhow::Result<()> {
    if KnownDataset::named(name).is_none() {
        let names = KnownDataset::ALL.map(KnownDataset::name).join(", ");
        let hint = format!(
            "known data sets: {names}; for another one, set data.directory to the output folder of prepare-data"
        );
        return Err(usage_error(format!("unknown data set {name:?} (data.dataset)"), hint));
    }
    let is_there = is_there(name, directory)?;
    let changes = source.filter(|_| is_there).map(|source| (source, source_changes(name, directory, source)));
    match changes {
        // The data set exists, and the run does not need its source.
        Some((_, Err(error))) => {
            terminal::warning(&format!("cannot check whether the data set's source has changed: {}", one_line(&error)))
        }
        Some((source, Ok(Some(how)))) => match on_change {
            OnChange::Warn => terminal::warning(&format!("{how}; the run uses the data set as it is")),
            OnChange::Refuse => {
                let (source, directory) = (shell_path(source), shell_path(directory));
                let hint = format!(
                    "run `caption-train prepare-data --dataset {name} --source {source} --output {directory}` to \
                     prepare it again, or remove `data.source` to train on the data set as it is"
                );
                return Err(failure(how, hint));
            }
        },
        Some((_, Ok(None))) | None => {}
    }
    if source.is_some() || !is_on_the_hub(name) || is_there {
        return ensure_dataset(name, directory, source, None);
    }
    let fetched = fetch(name, None, Some(directory))?;
    ensure_dataset(name, directory, Some(&fetched.folder), Some(fetched.origin))
}
