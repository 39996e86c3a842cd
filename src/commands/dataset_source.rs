//! Data sets that are on the Hub: which repository and files, and what a person should know before they are fetched.

use std::path::{Path, PathBuf};

use base::fault::{fault, one_line, usage};
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
    terms: "Flickr30k is for research and education alone; its images belong to those who put them on Flickr, and fall \
            under Flickr's terms of use (https://shannon.cs.illinois.edu/DenotationGraph/)",
    manual: "get flickr_annotations_30k.csv and flickr30k-images.zip of the Hub data set \
             nlphuji/flickr30k on another machine, put both into one folder, and run `caption-train prepare-data \
             --dataset flickr30k --source FOLDER` (in a config file: `data.source`); images and captions of Flickr30k in \
             any other form will do as well",
    copied_to: None,
};

/// Files of a data set that are on this machine now.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Where they are.
    pub folder: PathBuf,
    /// Where they came from.
    pub origin: Origin,
}

/// Whether the data set called `name` can be had from the Hub.
pub fn is_on_the_hub(name: &str) -> bool {
    name == "flickr30k"
}

/// What [`fetch`] would do.
pub fn describe(name: &str, revision: Option<&str>) -> String {
    let request = DatasetRequest { revision, ..FLICKR30K };
    format!(
        "data set {name} would be downloaded from the Hub: {} of {} at {}, about 4.4 GB; then prepared",
        request.files.join(" and "),
        request.id,
        revision.unwrap_or("main")
    )
}

/// Downloads what is not in the Hub's cache on this machine. `copied_to` is where its images will be stored as they are.
///
/// # Errors
/// As [`dataset_files`].
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

/// What a run does when the source of its data set has changed since the data set was prepared. It never prepares it anew:
/// other runs may be using it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnChange {
    /// It does not begin: a new run would be trained on what is out of date.
    Refuse,
    /// It says so and keeps to the data set as it is: a resumed run cannot change to another one.
    Warn,
}

/// Makes sure that `directory` holds the data set called `name`: from `source` where one is given, else from the Hub where
/// it is there.
///
/// # Errors
/// As [`ensure_dataset`] and [`fetch`], and a source that has changed, unless `on_change` says otherwise.
pub fn ensure(name: &str, directory: &Path, source: Option<&Path>, on_change: OnChange) -> anyhow::Result<()> {
    if KnownDataset::named(name).is_none() {
        let names = KnownDataset::ALL.map(KnownDataset::name).join(", ");
        let hint =
            format!("these are known: {names}; for any other set data.directory to the folder that prepare-data made");
        return Err(usage(format!("data.dataset = {name:?} is no data set that is known by name"), hint));
    }
    let is_there = is_there(name, directory)?;
    let changes = source.filter(|_| is_there).map(|source| (source, source_changes(name, directory, source)));
    match changes {
        // The data set is there: a run does not need the source.
        Some((_, Err(error))) => {
            terminal::warning(&format!("cannot tell whether its source has changed: {}", one_line(&error)))
        }
        Some((source, Ok(Some(how)))) => match on_change {
            OnChange::Warn => terminal::warning(&format!("{how}; the run keeps to the data set as it is")),
            OnChange::Refuse => {
                let (source, directory) = (shell_path(source), shell_path(directory));
                let hint = format!(
                    "run `caption-train prepare-data --dataset {name} --source {source} --output {directory}` to prepare it \
                     anew, or remove `data.source` to train on the data set as it is"
                );
                return Err(fault(how, hint));
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
