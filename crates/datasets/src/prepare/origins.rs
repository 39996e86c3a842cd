//! What a data set was prepared from, with digests.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use rayon::prelude::*;

use crate::output::{self, FileDigest, SourceRecord, Use};
use crate::prepare::images::{self, StoreResult};
use crate::source::{Source, Stamp};
use base::digest::{Hasher, sha256_file};

/// Archives, annotation files and images that a data set is made of, and the record of the whole source, which is at
/// `path`; `weighed` are files that might have been images of it. Many annotation files are one for each image, and are
/// listed as one.
pub(super) fn sources(
    source: &Source,
    path: &Path,
    wanted: &[images::ImageJob<'_>],
    taken: &[StoreResult],
    annotations: &[usize],
    weighed: &[usize],
) -> (Vec<FileDigest>, SourceRecord) {
    const MAX_NAMED: usize = 50;
    let archived = wanted.iter().map(|wanted| wanted.file).filter(|&file| !source.is_loose(file));
    let paths: BTreeSet<&str> = annotations.iter().copied().chain(archived).map(|file| source.origin(file)).collect();
    let stamps: HashMap<&str, Stamp> = source.on_disk().filter(|(path, _)| paths.contains(path)).collect();
    let loose: BTreeSet<&str> =
        annotations.iter().filter(|&&file| source.is_loose(file)).map(|&file| source.origin(file)).collect();
    let mut uses: HashMap<&str, Use> = HashMap::new();
    let (mut sources, mut texts) = (Vec::new(), Vec::new());
    for path in paths {
        let (digest, stamp) = (sha256_file(&source.locate(path)), stamps.get(path).copied());
        let bytes = stamp.map_or(0, |stamp| stamp.bytes);
        let used = match &digest {
            // What was read before may be what it is no longer.
            Ok(_) if Stamp::of(&source.locate(path)).ok() != stamp => Use::Seen,
            Ok(digest) => Use::Read(digest.clone()),
            Err(_) if loose.contains(path) => Use::Unreadable,
            Err(_) => Use::Seen,
        };
        let is_one_of_many = loose.len() > MAX_NAMED && loose.contains(path);
        if used != Use::Unreadable {
            let file = FileDigest { name: path.to_owned(), bytes, sha256: digest.unwrap_or_default() };
            if is_one_of_many { texts.push(file) } else { sources.push(file) }
        }
        uses.insert(path, used);
    }
    if !texts.is_empty() {
        sources.push(together(output::LOOSE_CAPTIONS, &texts));
    }
    sources.extend(images::loose(source, wanted, taken).map(|files| together(output::LOOSE_IMAGES, &files)));
    for (wanted, taken) in wanted.iter().zip(taken).filter(|(wanted, _)| source.is_loose(wanted.file)) {
        let used = match taken {
            StoreResult::Stored(images::StoredImage { digest, .. })
            | StoreResult::Broken { digest, .. }
            | StoreResult::Filtered { digest, .. } => Use::Read(images::hex(digest)),
            StoreResult::Unreadable(_) => Use::Unreadable,
        };
        uses.insert(&source.files()[wanted.file].path, used);
    }
    let mut others = source.looked_into();
    others.extend(weighed);
    others.retain(|&file| source.is_loose(file) && !uses.contains_key(source.origin(file)));
    let others: Vec<&str> = others.into_iter().map(|file| source.origin(file)).collect();
    let stamps: HashMap<&str, Stamp> = source.on_disk().collect();
    let weighed = |&path: &&str| {
        let full = source.locate(path);
        let digest = sha256_file(&full).ok()?;
        // What was looked into before may be what it is no longer.
        let is_same = Stamp::of(&full).ok().as_ref() == stamps.get(path);
        Some(if is_same { Use::Weighed(digest) } else { Use::Seen })
    };
    let used: Vec<Use> = others.par_iter().map(|path| weighed(path).unwrap_or(Use::Unreadable)).collect();
    uses.extend(others.into_iter().zip(used));
    (sources, SourceRecord::new(path, source, uses))
}

/// Many files as one: the sum of their sizes, and the SHA-256 of the lines `SHA-256  NAME`.
pub fn together(name: &str, files: &[FileDigest]) -> FileDigest {
    let mut hasher = Hasher::new();
    files.iter().for_each(|file| hasher.update(format!("{}  {}\n", file.sha256, file.name).as_bytes()));
    FileDigest { name: name.to_owned(), bytes: files.iter().map(|file| file.bytes).sum(), sha256: hasher.finish() }
}
