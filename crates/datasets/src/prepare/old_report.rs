//! Compares a source with the report of a release that kept no record of each file: digests of archives and of a few
//! annotation files, and one digest over all images and one over all texts beside them.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use rayon::prelude::*;

use crate::annotations::{Choice, Selector, choose};
use crate::output::{FileDigest, LOOSE_CAPTIONS, LOOSE_IMAGES, Preparation};
use crate::prepare::differences::{Differences, Standing, may_matter};
use crate::prepare::origins::together;
use crate::prepared::{Dataset, PREPARATION_FILE};
use crate::source::{Listed, Listing, Source, Stamp, is_archive_name};
use base::digest::sha256_file;
use pixels::picture_formats::is_image_name;

/// As [`changes::since`](super::changes::since). A file that is older than the report and has its size counts as it
/// was.
pub(super) fn since(
    report: &Preparation,
    directory: &Path,
    source: &Path,
    listing: &Listing,
    wanted: Selector,
) -> anyhow::Result<Standing> {
    let root = if source.is_dir() { source } else { source.parent().unwrap_or(source) };
    let time = Stamp::of(&directory.join(PREPARATION_FILE)).map_or(0, |stamp| stamp.modified);
    let files: HashMap<&str, &Listed> =
        listing.files.iter().chain(&listing.archives).map(|file| (file.path.as_str(), file)).collect();
    let is_newer = |file: &Listed| file.stamp.modified == 0 || file.stamp.modified > time;
    let mut differences = Differences::default();
    for named in report.sources.iter().filter(|named| ![LOOSE_IMAGES, LOOSE_CAPTIONS].contains(&named.name.as_str())) {
        match files.get(named.name.as_str()) {
            Some(file) if file.stamp.bytes == named.bytes => {
                if is_newer(file) && !sha256_file(&root.join(&named.name)).is_ok_and(|found| found == named.sha256) {
                    differences.changed(&named.name);
                }
            }
            // Nothing shows whether it is the same source at all.
            Some(_) => return Ok(other(&named.name, "has another size")),
            None => return Ok(other(&named.name, "is not there")),
        }
    }
    let aggregate = |name: &str| report.sources.iter().find(|file| file.name == name);
    if let Some(expected) = aggregate(LOOSE_IMAGES) {
        compare_images(expected, directory, root, listing, is_newer, &mut differences)?;
    }
    if let Some(expected) = aggregate(LOOSE_CAPTIONS)
        && let Some(file) = listing.files.iter().find(|file| is_newer(file) && is_text(&file.path))
        && !has_same_texts(expected, source, directory, wanted)
    {
        differences.changed(&file.path);
    }
    Ok(if differences.is_empty() { Standing::Same } else { Standing::Changed(differences.to_string()) })
}

fn other(name: &str, what: &str) -> Standing {
    Standing::Other(format!("files of which {name} {what} here"))
}

fn is_text(path: &str) -> bool {
    may_matter(path) && !is_image_name(path) && !is_archive_name(path)
}

/// Finds the images of the data set by the names that they have in it: those of their files, or their paths.
fn compare_images(
    expected: &FileDigest,
    directory: &Path,
    root: &Path,
    listing: &Listing,
    is_newer: impl Fn(&Listed) -> bool,
    differences: &mut Differences,
) -> anyhow::Result<()> {
    let dataset = Dataset::open(directory)?;
    let images = || listing.files.iter().filter(|file| is_image_name(&file.path));
    let by_path: HashMap<&str, &Listed> = images().map(|file| (file.path.as_str(), file)).collect();
    let by_name: HashMap<&str, &Listed> =
        images().map(|file| (file.path.rsplit('/').next().unwrap_or_default(), file)).collect();
    let mut found: Vec<(&str, &Listed)> = Vec::new();
    for image in dataset.images.iter() {
        let name = image.filename();
        match by_path.get(name).or_else(|| by_name.get(name)) {
            Some(file) => found.push((name, file)),
            None => differences.removed(name),
        }
    }
    let ours: HashSet<&str> = found.iter().map(|(_, file)| file.path.as_str()).collect();
    images()
        .filter(|file| is_newer(file) && !ours.contains(file.path.as_str()))
        .for_each(|file| differences.added(&file.path));
    let is_same_size = found.iter().map(|(_, file)| file.stamp.bytes).sum::<u64>() == expected.bytes;
    if !differences.is_empty() || is_same_size && !found.iter().any(|(_, file)| is_newer(file)) {
        return Ok(());
    }
    let digested = |(name, file): &(&str, &Listed)| FileDigest {
        name: (*name).to_owned(),
        bytes: file.stamp.bytes,
        sha256: sha256_file(&root.join(&file.path)).unwrap_or_default(),
    };
    let files: Vec<FileDigest> = found.par_iter().map(digested).collect();
    if together(LOOSE_IMAGES, &files) != *expected {
        let newer = found.iter().find(|(_, file)| is_newer(file)).or(found.first());
        newer.into_iter().for_each(|(_, file)| differences.changed(&file.path));
    }
    Ok(())
}

fn has_same_texts(expected: &FileDigest, source: &Path, directory: &Path, wanted: Selector) -> bool {
    let Ok(source) = Source::open(source, Some(directory)) else { return false };
    let Ok(Choice { found, .. }) = choose(&source, wanted) else { return false };
    let mut paths: Vec<&str> =
        found.files.iter().filter(|&&file| source.is_loose(file)).map(|&file| source.origin(file)).collect();
    paths.sort_unstable();
    let digested = |path: &&str| FileDigest {
        name: (*path).to_owned(),
        bytes: Stamp::of(&source.locate(path)).map_or(0, |stamp| stamp.bytes),
        sha256: sha256_file(&source.locate(path)).unwrap_or_default(),
    };
    together(LOOSE_CAPTIONS, &paths.par_iter().map(digested).collect::<Vec<_>>()) == *expected
}
