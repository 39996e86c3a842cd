//! Data sets on the Hub: those with a name of their own, and any other by its id.

use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use base::error::{failure, one_line, usage_error};
use base::quoting::shell_path;
use base::{GIGABYTE, terminal, threads};
use datasets::annotations::{self, KnownDataset, flickr30k_hub, role_of, split_named};
use datasets::output::{FileDigest, Origin, Preparation, finished};
use datasets::prepare::{ensure_dataset, is_there, source_changes, together};
use datasets::source::first_rows;
use hub::{
    DatasetRequest, DownloadedFile, FileRole, Files, ModelId, Part, Reading, Search, check_dataset_id, dataset_files,
    plan_dataset,
};

/// A data set that has a name of its own.
struct Known {
    name: &'static str,
    id: &'static str,
    files: &'static [&'static str],
    terms: &'static str,
    manual: &'static str,
}

const KNOWN: [Known; 1] = [Known {
    name: "flickr30k",
    id: "nlphuji/flickr30k",
    files: &[flickr30k_hub::FILE, "flickr30k-images.zip"],
    terms: "Flickr30k is only for research and education; its images belong to their Flickr users and are subject to \
            Flickr's terms of use (https://shannon.cs.illinois.edu/DenotationGraph/)",
    manual: "get flickr_annotations_30k.csv and flickr30k-images.zip of the Hub dataset \
             nlphuji/flickr30k on another machine, put both into one folder, and run `caption-train prepare-data \
             --dataset flickr30k --source FOLDER` (in a config file: `data.source`); Flickr30k in any other format \
             works too",
}];

const READING: Reading = Reading {
    role_of: |path| match role_of(path) {
        annotations::FileRole::Parquet => FileRole::Parquet,
        annotations::FileRole::Archive => FileRole::Archive,
        annotations::FileRole::Picture => FileRole::Picture,
        annotations::FileRole::Text => FileRole::Text,
        annotations::FileRole::Other => FileRole::Other,
    },
    split_of: split_named,
    first_rows: part_of,
};

fn part_of(
    length: u64,
    rows: u64,
    read: &mut dyn FnMut(Range<u64>) -> anyhow::Result<Vec<u8>>,
) -> anyhow::Result<Part> {
    let first = first_rows(length, rows, read)?;
    let (num_rows, is_whole, has_bytes) = (first.num_rows, first.is_all, first.has_bytes);
    Ok(Part { ranges: first.ranges, end: first.end, num_rows, is_whole, has_bytes })
}

/// A data set on the Hub, as `--dataset` or `data.dataset` names it.
pub struct HubDataset {
    /// `flickr30k`, or `owner/name`.
    pub name: String,
    pub revision: Option<String>,
    known: Option<&'static Known>,
    manual: String,
}

/// What is wanted of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    /// One of several configs.
    pub config: Option<&'a str>,
    /// Images that are enough.
    pub limit: Option<usize>,
}

#[derive(Clone, Debug)]
pub struct Fetched {
    pub folder: PathBuf,
    pub origin: Origin,
    /// Whether there are rows that the limit has left out.
    pub is_cut: bool,
}

impl HubDataset {
    /// The data set `name`, if it is on the Hub: `flickr30k`, `owner/name` or `owner/name@revision`.
    ///
    /// # Errors
    /// What cannot be an id; a revision in `name` and another one in `revision`.
    pub fn named(name: &str, revision: Option<&str>) -> anyhow::Result<Option<Self>> {
        let (id, own_revision) = ModelId::split(name);
        let known = KNOWN.iter().find(|known| known.name == id);
        if known.is_none() && !id.contains('/') {
            return Ok(None);
        }
        check_dataset_id(known.map_or(id, |known| known.id))?;
        if own_revision.is_some() && revision.is_some() {
            return Err(usage_error(
                format!("{name} has a revision, and --revision gives one too"),
                "give one of them",
            ));
        }
        let manual = || {
            format!(
                "get the files of {id} on another machine, put them into one folder, and run `caption-train \
                 prepare-data --dataset {id} --source FOLDER` (in a config file: `data.source`)"
            )
        };
        Ok(Some(Self {
            name: id.to_owned(),
            revision: own_revision.or(revision).map(str::to_owned),
            known,
            manual: known.map_or_else(manual, |known| known.manual.to_owned()),
        }))
    }

    fn request<'a>(&'a self, wanted: Wanted<'a>, copied_to: Option<&'a Path>) -> anyhow::Result<DatasetRequest<'a>> {
        if let (Some(known), Some(config)) = (self.known, wanted.config) {
            let message = format!("{} has no config {config} (--config-name)", known.name);
            return Err(usage_error(message, "leave out --config-name"));
        }
        let limit = wanted.limit.map(|limit| limit as u64);
        let found = || Files::Found(Search { config: wanted.config, limit, reading: &READING });
        Ok(DatasetRequest {
            id: self.known.map_or(&self.name, |known| known.id),
            files: self.known.map_or_else(found, |known| Files::Named(known.files)),
            revision: self.revision.as_deref(),
            terms: self.known.map_or("", |known| known.terms),
            manual: &self.manual,
            copied_to,
        })
    }

    /// Says what [`HubDataset::fetch`] would do. The Hub is asked.
    pub fn describe(&self, wanted: Wanted<'_>) -> anyhow::Result<String> {
        const NUM_SHOWN: usize = 12;
        threads::check_network()?;
        let request = self.request(wanted, None)?;
        let plan = plan_dataset(&request)?;
        let absent: Vec<_> = plan.files.iter().filter(|file| file.absent_bytes > 0).collect();
        let total = absent.iter().map(|file| file.absent_bytes).fold(0, u64::saturating_add);
        let config = plan.config.map_or_else(String::new, |config| format!(", config {config}"));
        let mut lines = vec![format!(
            "would download {} of the data set {} from the Hub ({} at commit {}{config}) and prepare it: {} files, {} of \
             them not in the cache",
            size(total),
            self.name,
            request.id,
            plan.commit,
            plan.files.len(),
            absent.len()
        )];
        lines.extend(
            absent.iter().take(NUM_SHOWN).map(|file| format!("  {:>9}  {}", size(file.absent_bytes), file.name)),
        );
        if absent.len() > NUM_SHOWN {
            lines.push(format!("  and {} more", absent.len() - NUM_SHOWN));
        }
        lines.push(plan.terms);
        Ok(lines.join("\n"))
    }

    /// Downloads what the Hub's cache lacks. `copied_to` is the folder into which the images will be copied.
    pub fn fetch(&self, wanted: Wanted<'_>, copied_to: Option<&Path>) -> anyhow::Result<Fetched> {
        /// More are recorded as one.
        const MAX_NAMED: usize = 200;
        threads::check_network()?;
        let request = self.request(wanted, copied_to)?;
        let downloaded = dataset_files(&request)?;
        let file = |file: DownloadedFile| FileDigest { name: file.name, bytes: file.bytes, sha256: file.sha256 };
        let mut files: Vec<FileDigest> = downloaded.files.into_iter().map(file).collect();
        if files.len() > MAX_NAMED {
            files = vec![together(&format!("{} files", files.len()), &files)];
        }
        let origin = Origin {
            repository: request.id.to_owned(),
            revision: Some(downloaded.revision),
            commit: downloaded.commit,
            config: downloaded.config,
            files,
        };
        Ok(Fetched { folder: downloaded.folder, origin, is_cut: downloaded.is_cut })
    }

    /// Why the data set in `directory` is not the one that was asked for; `None` if it is, or is not there.
    pub fn difference(&self, config: Option<&str>, directory: &Path) -> anyhow::Result<Option<String>> {
        if self.revision.is_none() && config.is_none() {
            return Ok(None);
        }
        let Some(Preparation { origin, .. }) = finished(Some(&self.name), directory)? else { return Ok(None) };
        let of =
            |what: &str, wanted: &str| Some(format!("{} was prepared from {what}, not {wanted}", directory.display()));
        let Some(origin) = origin else {
            return Ok(of("local files", self.revision.as_deref().or(config).unwrap_or_default()));
        };
        let is_other =
            |wanted: &&str| !origin.commit.starts_with(wanted) && origin.revision.as_deref() != Some(*wanted);
        if let Some(wanted) = self.revision.as_deref().filter(is_other) {
            return Ok(of(&origin.commit, wanted));
        }
        let found = origin.config.as_deref();
        Ok(config
            .filter(|wanted| found != Some(*wanted))
            .and_then(|wanted| of(&format!("config {}", found.unwrap_or("default")), &format!("config {wanted}"))))
    }
}

fn size(bytes: u64) -> String {
    match bytes as f64 {
        bytes if bytes >= GIGABYTE => format!("{:.2} GB", bytes / GIGABYTE),
        bytes if bytes >= 1e6 => format!("{:.1} MB", bytes / 1e6),
        bytes => format!("{:.1} kB", bytes / 1e3),
    }
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
    let hub = HubDataset::named(name, None).context("data.dataset")?;
    if hub.is_none() && KnownDataset::named(name).is_none() {
        let names = KnownDataset::ALL.map(KnownDataset::name).join(", ");
        let hint = format!(
            "known data sets: {names}, and owner/name for one of the Hub; for another one, set data.directory to the \
             output folder of prepare-data"
        );
        return Err(usage_error(format!("unknown data set {name:?} (data.dataset)"), hint));
    }
    let name = hub.as_ref().map_or(name, |hub| &hub.name);
    let is_there = is_there(name, directory)?;
    let shown = shell_path(directory);
    if is_there && let Some(hub) = &hub {
        let difference = hub.difference(None, directory)?;
        let hint = || "choose another data.directory, or remove the old folder first".to_owned();
        difference.map_or(Ok(()), |how| on_change.act(how, hint))?;
    }
    let changes = source.filter(|_| is_there).map(|source| (source, source_changes(name, directory, source)));
    match changes {
        // The data set exists, and the run does not need its source.
        Some((_, Err(error))) => {
            terminal::warning(&format!("cannot check whether the data set's source has changed: {}", one_line(&error)))
        }
        Some((source, Ok(Some(how)))) => on_change.act(how, || {
            let source = shell_path(source);
            format!(
                "run `caption-train prepare-data --dataset {name} --source {source} --output {shown}` to prepare it \
                 again, or remove `data.source` to train on the data set as it is"
            )
        })?,
        Some((_, Ok(None))) | None => {}
    }
    match hub.as_ref().filter(|_| source.is_none() && !is_there) {
        Some(hub) => {
            let fetched = hub.fetch(Wanted::default(), Some(directory))?;
            ensure_dataset(name, directory, Some(&fetched.folder), Some(fetched.origin))
        }
        None => ensure_dataset(name, directory, source, None),
    }
}

impl OnChange {
    fn act(self, how: String, hint: impl FnOnce() -> String) -> anyhow::Result<()> {
        match self {
            Self::Warn => {
                terminal::warning(&format!("{how}; the run uses the data set as it is"));
                Ok(())
            }
            Self::Refuse => Err(failure(how, hint())),
        }
    }
}
