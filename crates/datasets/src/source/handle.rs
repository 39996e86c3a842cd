//! Reads the files of a source one after the other, and keeps the archive open that was read from last.

use std::fs::File;
use std::path::Path;

use anyhow::Context as _;

use crate::source::limits::read_to_limit;
use crate::source::zip_archive::ZipReader;
use crate::source::{Archive, MAX_FILE_BYTES, Place, Source, SourceFile};
use base::bounded_file;
use base::fault::fault;

/// The archive that was read from last, open.
#[derive(Default)]
pub(super) struct Handle {
    zip: Option<(usize, ZipReader)>,
    tar: Option<(usize, File)>,
}

impl Handle {
    /// Opens the archive that holds `file`.
    pub(super) fn open(&mut self, source: &Source, file: &SourceFile) -> anyhow::Result<()> {
        let Some(index) = file.container() else { return Ok(()) };
        match &source.archives[index].1 {
            Archive::Zip(archive) if self.zip.as_ref().is_none_or(|(open, _)| *open != index) => {
                self.zip = Some((index, archive.reader()?));
            }
            Archive::Tar(archive) if self.tar.as_ref().is_none_or(|(open, _)| *open != index) => {
                self.tar = Some((index, archive.reader()?));
            }
            Archive::Zip(_) | Archive::Tar(_) => {}
        }
        Ok(())
    }

    /// The first bytes of `file`, `most` of them.
    pub(super) fn read(&mut self, source: &Source, file: &SourceFile, most: u64) -> anyhow::Result<Vec<u8>> {
        self.open(source, file)?;
        match file.place {
            Place::Folder { .. } => read_loose(&source.root.join(&file.path), most, file.bytes),
            Place::Zip { archive: index, member } => {
                let Archive::Zip(archive) = &source.archives[index].1 else { unreachable!("a zip is listed as one") };
                let (_, reader) = self.zip.as_mut().context("it was opened")?;
                archive.read(reader, &archive.members()[member], most)
            }
            Place::Tar { archive: index, member } => {
                let Archive::Tar(archive) = &source.archives[index].1 else { unreachable!("a tar is listed as one") };
                let (_, reader) = self.tar.as_mut().context("it was opened")?;
                archive.read(reader, &archive.members()[member], most)
            }
        }
    }
}

fn read_loose(path: &Path, most: u64, expected: u64) -> anyhow::Result<Vec<u8>> {
    let cannot = || format!("cannot read {}", path.display());
    let file = bounded_file::open(path).with_context(cannot)?;
    let bytes = read_to_limit(file, most.min(MAX_FILE_BYTES + 1), expected + 1).with_context(cannot)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let message = format!("{} has more than {MAX_FILE_BYTES} bytes", path.display());
        return Err(fault(message, "divide it into several files"));
    }
    Ok(bytes)
}
