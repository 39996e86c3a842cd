//! Data sets that are on the Hub: which repository and files, and what a person should know before they are fetched.

use std::path::{Path, PathBuf};

use crate::base::fault::usage;
use crate::base::threads;
use crate::data::annotations::{KnownDataset, flickr30k_hub};
use crate::data::prepare::report::{Origin, SourceFile};
use crate::data::prepare::{ensure_dataset, is_there};
use crate::hub::{DatasetRequest, dataset_files};

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
    let file =
        |file: crate::hub::DownloadedFile| SourceFile { name: file.name, bytes: file.bytes, sha256: file.sha256 };
    let origin = Origin {
        repository: FLICKR30K.id.to_owned(),
        commit: downloaded.commit,
        files: downloaded.files.into_iter().map(file).collect(),
    };
    Ok(Fetched { folder: downloaded.folder, origin })
}

/// Makes sure that `directory` holds the data set called `name`: from `source` where one is given, else from the Hub where
/// it is there.
///
/// # Errors
/// As [`ensure_dataset`] and [`fetch`].
pub fn ensure(name: &str, directory: &Path, source: Option<&Path>) -> anyhow::Result<()> {
    if KnownDataset::named(name).is_none() {
        let names = KnownDataset::ALL.map(KnownDataset::name).join(", ");
        let hint =
            format!("these are known: {names}; for any other set data.directory to the folder that prepare-data made");
        return Err(usage(format!("data.dataset = {name:?} is no data set that is known by name"), hint));
    }
    if source.is_some() || !is_on_the_hub(name) || is_there(name, directory)? {
        return ensure_dataset(name, directory, source, None);
    }
    let fetched = fetch(name, None, Some(directory))?;
    ensure_dataset(name, directory, Some(&fetched.folder), Some(fetched.origin))
}
