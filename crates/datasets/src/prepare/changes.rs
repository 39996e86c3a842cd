//! Whether a source is still what a data set was prepared from: by sizes and times, and by content if these are not
//! enough.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use rayon::prelude::*;

use crate::annotations::{Choice, Selector, choose};
use crate::column_names::ColumnNames;
use crate::output::{FileRecord, Preparation, SourceRecord, Use, place_of};
use crate::prepare::differences::{Differences, Standing, may_matter};
use crate::prepare::old_report;
use crate::source::{Listed, Listing, Source, is_archive_name, is_packed_name};
use base::bounded_file;
use base::digest::sha256_file;
use pixels::picture_formats::is_image_name;

/// Compares `source` with what the data set in `directory`, whose report is `report`, was made of. `wanted` is what is
/// asked for.
pub(super) fn since(
    report: &Preparation,
    directory: &Path,
    source: &Path,
    wanted: Selector,
) -> anyhow::Result<Standing> {
    let listing = Listing::of(source, Some(directory))?;
    let Some(record) = SourceRecord::read(directory, &report.dataset_sha256) else {
        return old_report::since(report, directory, source, &listing, wanted);
    };
    let root = if source.is_dir() { source } else { source.parent().unwrap_or(source) };
    let (mut differences, is_refreshed) = compare(&record, &listing, root);
    if differences.are_texts_alone() && reads_the_same(&record, source, directory, wanted, &report.options.columns) {
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
        Standing::Other(format!("{}, with differences: {differences}", record.path))
    })
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
fn reads_the_same(
    record: &SourceRecord,
    source: &Path,
    directory: &Path,
    wanted: Selector,
    columns: &ColumnNames,
) -> bool {
    let Ok(source) = Source::open_with(source, Some(directory), columns) else { return false };
    let Ok(Choice { found, .. }) = choose(&source, wanted) else { return false };
    let now: BTreeSet<&str> =
        found.files.iter().filter(|&&file| source.is_loose(file)).map(|&file| source.origin(file)).collect();
    let is_text =
        |file: &&FileRecord| !is_image_name(&file.path) && !is_archive_name(&file.path) && !is_packed_name(&file.path);
    let is_of_data_set = |file: &&FileRecord| !matches!(file.used, Use::Unused | Use::Weighed(_));
    let before = record.files.iter().filter(is_of_data_set).filter(is_text);
    before.map(|file| file.path.as_str()).collect::<BTreeSet<_>>() == now
}
