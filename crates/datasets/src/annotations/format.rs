//! A format of annotations: how its files are found among the candidates, and read.

use std::collections::BTreeMap;

use crate::annotations::builder::Reading;
use crate::annotations::candidates::Candidates;
use crate::annotations::family::Family;
use crate::annotations::input::Input;
use crate::annotations::known_dataset::KnownDataset;
use crate::annotations::raw_dataset::RawDataset;
use crate::annotations::split_names::split_of_path;
use crate::source::Source;

/// How annotations are written, and what reads them.
#[derive(Debug)]
pub struct Format {
    pub name: &'static str,
    pub description: &'static str,
    /// Annotations of this format among the files that no earlier format has claimed; several where they are of
    /// different data sets.
    pub(crate) find: fn(&Candidates<'_>) -> anyhow::Result<Vec<Match>>,
    pub(crate) read: fn(&Input<'_>) -> anyhow::Result<RawDataset>,
}

impl PartialEq for Format {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Format {}

/// How sure it is that files were meant as captions. The surest count; of the others it is said that they are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Certainty {
    /// They are exactly in a known format.
    Sure,
    /// They can be read as captions in one way only.
    Near,
    /// They lie beside the images, which many files do.
    Beside,
}

/// Annotations in a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    pub format: &'static Format,
    pub dataset: Option<KnownDataset>,
    /// Their files, as indices into [`Source::files`].
    pub files: Vec<usize>,
    /// Files that say the same and are not read.
    pub(crate) spare: Vec<usize>,
    pub(crate) certainty: Certainty,
}

impl Match {
    pub(crate) fn new(format: &'static Format, dataset: Option<KnownDataset>, files: Vec<usize>) -> Self {
        Self { format, dataset, files, spare: Vec::new(), certainty: Certainty::Sure }
    }

    pub(crate) fn some(format: &'static Format, dataset: Option<KnownDataset>, files: Vec<usize>) -> Vec<Self> {
        if files.is_empty() { Vec::new() } else { vec![Self::new(format, dataset, files)] }
    }

    /// The first of the files; nothing where there are none. A copy often lies inside of the folder of the images too.
    pub(crate) fn first(format: &'static Format, dataset: Option<KnownDataset>, mut files: Vec<usize>) -> Vec<Self> {
        let spare = files.split_off(files.len().min(1));
        Self::some(format, dataset, files).into_iter().map(|found| Self { spare: spare.clone(), ..found }).collect()
    }

    /// Format and files in a few words.
    pub fn describe(&self, source: &Source) -> String {
        let first = self.files.first().map_or("", |&file| source.files()[file].path.as_str());
        match self.files.len() {
            0 | 1 => format!("{} ({first})", self.format.name),
            more => format!("{} ({first} and {} more)", self.format.name, more - 1),
        }
    }

    /// Images and captions, for a data set.
    pub fn read(&self, source: &Source) -> anyhow::Result<RawDataset> {
        self.read_as(source, Reading::Preparation)
    }

    /// Images and captions for `reading`.
    pub fn read_as(&self, source: &Source, reading: Reading) -> anyhow::Result<RawDataset> {
        (self.format.read)(&Input { source, files: &self.files, reading })
    }
}

/// The files as annotations of `format`: those together that are the splits of one data set, by their names alone where
/// all of them name one.
pub(crate) fn grouped(
    candidates: &Candidates<'_>,
    format: &'static Format,
    files: Vec<usize>,
    certainty: impl Fn(usize) -> Certainty,
) -> Vec<Match> {
    let name = |file: usize| candidates.source.files()[file].name();
    if files.len() > 1 && files.iter().all(|&file| split_of_path(name(file)).is_some()) {
        let certainty = files.iter().map(|&file| certainty(file)).min().unwrap_or(Certainty::Near);
        return vec![Match { certainty, ..Match::new(format, None, files) }];
    }
    by_family(candidates, format, files, certainty)
}

/// The files as annotations of `format`: those together whose names differ in their splits only.
pub(crate) fn by_family(
    candidates: &Candidates<'_>,
    format: &'static Format,
    files: Vec<usize>,
    certainty: impl Fn(usize) -> Certainty,
) -> Vec<Match> {
    let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for file in files {
        groups.entry(Family::of(&candidates.source.files()[file].path).name).or_default().push(file);
    }
    let found = |files: Vec<usize>| {
        let certainty = files.iter().map(|&file| certainty(file)).min().unwrap_or(Certainty::Near);
        Match { certainty, ..Match::new(format, None, files) }
    };
    let mut all: Vec<Match> = groups.into_values().map(found).collect();
    all.sort_by_key(|found| found.files[0]);
    all
}
