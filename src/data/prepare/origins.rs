//! What a data set was made of, with digests.

use std::collections::BTreeSet;

use anyhow::Context as _;

use crate::base::digest::{Hasher, sha256_file};
use crate::data::prepare::images::{self, Taken};
use crate::data::prepare::report::{self, SourceFile};
use crate::data::source::Source;

/// Archives, annotation files and images that a data set is made of. Annotation files beyond a few are one each for an
/// image, and are told as one.
pub(super) fn sources(
    source: &Source,
    wanted: &[images::Wanted<'_>],
    taken: &[Taken],
    annotations: &[usize],
) -> anyhow::Result<Vec<SourceFile>> {
    const MOST: usize = 50;
    let archived = wanted.iter().map(|wanted| wanted.file).filter(|&file| !source.is_loose(file));
    let paths: BTreeSet<&str> = annotations.iter().copied().chain(archived).map(|file| source.origin(file)).collect();
    let digest = |path: &&str| -> anyhow::Result<SourceFile> {
        let full = source.locate(path);
        let cannot = || format!("cannot read {}", full.display());
        let sha256 = sha256_file(&full).with_context(cannot)?;
        Ok(SourceFile { name: (*path).to_owned(), bytes: std::fs::metadata(&full).with_context(cannot)?.len(), sha256 })
    };
    let mut sources: Vec<SourceFile> = paths.iter().map(digest).collect::<anyhow::Result<_>>()?;
    if annotations.iter().filter(|&&file| source.is_loose(file)).count() > MOST {
        let loose: BTreeSet<&str> = annotations.iter().map(|&file| source.origin(file)).collect();
        let (many, others): (Vec<_>, Vec<_>) = sources.into_iter().partition(|file| loose.contains(file.name.as_str()));
        sources = others;
        sources.push(together(report::LOOSE_CAPTIONS, &many));
    }
    sources.extend(images::loose(source, wanted, taken).map(|files| together(report::LOOSE_IMAGES, &files)));
    Ok(sources)
}

/// Many files as one: the sum of their sizes, and the SHA-256 of the lines `SHA-256  NAME`.
fn together(name: &str, files: &[SourceFile]) -> SourceFile {
    let mut hasher = Hasher::new();
    files.iter().for_each(|file| hasher.update(format!("{}  {}\n", file.sha256, file.name).as_bytes()));
    SourceFile { name: name.to_owned(), bytes: files.iter().map(|file| file.bytes).sum(), sha256: hasher.finish() }
}
