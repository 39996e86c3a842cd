//! Whether a source is still what a data set was made of: by sizes and times, and by content where these do not tell.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::Path;

use rayon::prelude::*;

use crate::annotations::{Choice, Wanted, choose, may_hold_captions};
use crate::prepare::old_report;
use crate::prepare::report::Preparation;
use crate::prepare::source_record::{FileRecord, SourceRecord, Use, place_of};
use crate::source::{Listed, Listing, Source, is_archive_name, is_image_name, is_packed_name};
use base::bounded_file;
use base::digest::sha256_file;

/// How a source stands to the data set that was made of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is what the data set was made of.
    Same,
    /// It has changed since: how.
    Changed(String),
    /// The data set was made of another one: of which, and how they differ.
    Other(String),
}

/// Compares `source` with what the data set in `directory`, whose report is `report`, was made of. `wanted` is what is asked
/// for.
///
/// # Errors
/// A source that cannot be listed.
pub(super) fn since(report: &Preparation, directory: &Path, source: &Path, wanted: Wanted) -> anyhow::Result<Standing> {
    let listing = Listing::of(source, Some(directory))?;
    let Some(record) = SourceRecord::read(directory, &report.dataset_sha256) else {
        return old_report::since(report, directory, source, &listing, wanted);
    };
    let root = if source.is_dir() { source } else { source.parent().unwrap_or(source) };
    let (mut differences, is_refreshed) = compare(&record, &listing, root);
    if differences.are_texts_alone() && reads_the_same(&record, source, directory, wanted) {
        differences = Differences::default();
    }
    if differences.is_empty() {
        if is_refreshed {
            record.refresh(directory, &listing);
        }
        return Ok(Standing::Same);
    }
    Ok(if record.path == place_of(source) {
        Standing::Changed(differences.to_string())
    } else {
        Standing::Other(format!("{}; there is a difference: {differences}", record.path))
    })
}

/// Files of one kind of difference.
#[derive(Debug, Default)]
struct Files {
    count: usize,
    first: String,
    /// All of them are texts, which may be captions or not.
    are_texts: bool,
}

impl Files {
    /// `is_text`: reading the captions again tells whether the file matters.
    fn add(&mut self, path: &str, is_text: bool) {
        if self.count == 0 {
            (self.first, self.are_texts) = (path.to_owned(), true);
        }
        self.count += 1;
        self.are_texts &= is_text;
    }
}

/// What differs.
#[derive(Debug, Default)]
pub(super) struct Differences {
    changed: Files,
    added: Files,
    removed: Files,
    /// Files of which nothing is in the data set.
    changed_beside: Files,
    removed_beside: Files,
}

impl Differences {
    /// A file with another content.
    pub(super) fn changed(&mut self, path: &str) {
        self.changed.add(path, false);
    }

    /// A file with another content, of which nothing is in the data set.
    fn changed_beside(&mut self, path: &str) {
        self.changed_beside.add(path, !is_image_name(path) && !is_archive_name(path));
    }

    /// A file that was not there.
    pub(super) fn added(&mut self, path: &str) {
        self.added.add(path, !is_image_name(path) && !is_archive_name(path));
    }

    /// A file that is no longer there.
    pub(super) fn removed(&mut self, path: &str) {
        self.removed.add(path, false);
    }

    /// A file that is no longer there, of which nothing is in the data set.
    fn removed_beside(&mut self, path: &str) {
        self.removed_beside.add(path, !is_image_name(path) && !is_archive_name(path));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all().iter().all(|(files, _)| files.count == 0)
    }

    fn are_texts_alone(&self) -> bool {
        !self.is_empty() && self.all().iter().all(|(files, _)| files.count == 0 || files.are_texts)
    }

    fn all(&self) -> [(&Files, &'static str); 5] {
        [
            (&self.changed, "changed"),
            (&self.added, "added"),
            (&self.removed, "removed"),
            (&self.changed_beside, "changed"),
            (&self.removed_beside, "removed"),
        ]
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |(files, what): (&Files, &str)| match files.count {
            0 => None,
            1 => Some(format!("1 file was {what} ({})", files.first)),
            count => Some(format!("{count} files were {what} (such as {})", files.first)),
        };
        // What is in the data set says enough.
        let num_kinds = if self.changed.count + self.removed.count > 0 { 3 } else { 5 };
        let parts: Vec<String> = self.all().into_iter().take(num_kinds).filter_map(part).collect();
        formatter.write_str(&parts.join(", "))
    }
}

/// Whether a new file may change what is made of a source.
pub(super) fn may_matter(path: &str) -> bool {
    is_image_name(path) || is_archive_name(path) || is_packed_name(path) || may_hold_captions(path)
}

/// What differs, and whether files have other times and the same content.
fn compare(record: &SourceRecord, listing: &Listing, root: &Path) -> (Differences, bool) {
    let mut known: HashMap<&str, &FileRecord> = record.files.iter().map(|file| (file.path.as_str(), file)).collect();
    let mut differences = Differences::default();
    let mut in_doubt: Vec<(&Listed, &FileRecord)> = Vec::new();
    for file in listing.all() {
        match known.remove(file.path.as_str()) {
            None if may_matter(&file.path) => differences.added(&file.path),
            None => {}
            Some(before) => match &before.used {
                Use::Unused => {}
                Use::Unreadable => {
                    if bounded_file::open(&root.join(&file.path)).is_ok() {
                        differences.changed(&file.path);
                    }
                }
                Use::Read(_) | Use::Weighed(_) | Use::Seen if before.has(file.stamp) => {}
                // Nothing of it was read: another owner or name makes no difference.
                Use::Seen if before.has_size_and_time(file.stamp) => {}
                Use::Read(_) | Use::Weighed(_) if before.has_size(file.stamp) => in_doubt.push((file, before)),
                Use::Weighed(_) => differences.changed_beside(&file.path),
                Use::Seen if is_packed_name(&file.path) => differences.changed_beside(&file.path),
                Use::Read(_) | Use::Seen => differences.changed(&file.path),
            },
        }
    }
    let is_same = |(file, before): &(&Listed, &FileRecord)| match &before.used {
        Use::Read(digest) | Use::Weighed(digest) => {
            sha256_file(&root.join(&file.path)).is_ok_and(|found| found == *digest)
        }
        Use::Seen | Use::Unreadable | Use::Unused => false,
    };
    let are_same: Vec<bool> = in_doubt.par_iter().map(is_same).collect();
    for ((file, before), is_same) in in_doubt.iter().zip(&are_same) {
        match before.used {
            _ if *is_same => {}
            Use::Weighed(_) => differences.changed_beside(&file.path),
            _ => differences.changed(&file.path),
        }
    }
    let mut gone: Vec<&FileRecord> = known.into_values().collect();
    gone.sort_unstable_by_key(|file| &file.path);
    for file in gone {
        match file.used {
            Use::Read(_) => differences.removed(&file.path),
            Use::Seen if !is_packed_name(&file.path) => differences.removed(&file.path),
            Use::Weighed(_) | Use::Seen => differences.removed_beside(&file.path),
            Use::Unreadable | Use::Unused => {}
        }
    }
    (differences, are_same.contains(&true))
}

/// Whether captions would be read from the same files as before, whatever texts lie beside them now.
fn reads_the_same(record: &SourceRecord, source: &Path, directory: &Path, wanted: Wanted) -> bool {
    let Ok(source) = Source::open(source, Some(directory)) else { return false };
    let Ok(Choice { found, .. }) = choose(&source, wanted) else { return false };
    let now: BTreeSet<&str> =
        found.files.iter().filter(|&&file| source.is_loose(file)).map(|&file| source.origin(file)).collect();
    let is_text =
        |file: &&FileRecord| !is_image_name(&file.path) && !is_archive_name(&file.path) && !is_packed_name(&file.path);
    let is_of_data_set = |file: &&FileRecord| !matches!(file.used, Use::Unused | Use::Weighed(_));
    let before = record.files.iter().filter(is_of_data_set).filter(is_text);
    before.map(|file| file.path.as_str()).collect::<BTreeSet<_>>() == now
}
