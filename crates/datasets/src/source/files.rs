//! The files that you have: a folder with all that is in it and in the archives in it, or one archive.
//!
//! An archive counts as a folder of its name, so that each file has one path, such as
//! `Flickr8k_Dataset.zip/Flicker8k_Dataset/1.jpg`. A Parquet file is both: a file that may have captions, and a folder
//! with the images that are in it. Files of folders come before those of archives.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use rayon::prelude::*;

use crate::column_names::ColumnNames;
use crate::name_forms::without_ending;
use crate::source::archive::{Archive, ArchiveFormat, MemberPlace, Reader};
use crate::source::limits::{Limits, read_to_limit};
use crate::source::listing::{
    FileKind, Listed, Listing, is_archive_name, is_parquet_name, is_too_many, kind_of, too_many,
};
use crate::source::parquet::{NoImage, Table};
use crate::source::pictures::UnreadPictures;
use crate::stamp::Stamp;
use base::bounded_file;
use base::error::{WithHint as _, failure, one_line};
use pixels::image_file::budget::budgets;

/// Bytes of a file that lies in a folder and is read as a whole.
const MAX_FILE_BYTES: u64 = 4 << 30;
/// Bytes of files that are read before threads work on them.
const MAX_BATCH_BYTES: u64 = 64 << 20;

#[derive(Clone, Debug)]
pub struct SourceFile {
    /// Its path below the source, with `/` between the parts.
    pub path: String,
    pub bytes: u64,
    place: Place,
}

impl SourceFile {
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// The path without its last part; empty at the top.
    pub fn folder(&self) -> &str {
        self.path.rsplit_once('/').map_or("", |(folder, _)| folder)
    }

    pub(crate) fn is_in_tar(&self) -> bool {
        matches!(self.place, Place::Archive { is_tar: true, .. })
    }

    fn container(&self) -> Option<usize> {
        match self.place {
            Place::Folder { .. } => None,
            Place::Archive { archive, .. } => Some(archive),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Folder { modified: i64, touched: i64 },
    Archive { archive: usize, member: usize, is_tar: bool },
}

/// What you have.
#[derive(Debug)]
pub struct Source {
    root: PathBuf,
    files: Vec<SourceFile>,
    /// Those that were skipped too, and Parquet files that were skipped.
    archive_files: Vec<Listed>,
    archives: Vec<OpenArchive>,
    /// Of each Parquet file in `files` its place among the archives.
    tables: HashMap<usize, usize>,
    /// What the user calls columns.
    columns: ColumnNames,
    packed: Vec<Listed>,
    skipped: Vec<(String, String)>,
    /// What was noticed of archives that are read.
    remarks: Vec<(String, String)>,
    listed_at: i64,
    /// Files that could not be looked into, and why.
    unreadable: Mutex<BTreeMap<String, String>>,
    /// Files that were read or looked into one by one.
    looked_into: Mutex<BTreeSet<usize>>,
    /// The archive that was last read in its order, and the file in it.
    in_order: Mutex<InOrder>,
}

#[derive(Debug)]
struct OpenArchive {
    path: String,
    archive: Archive,
    /// Where its members begin among the files.
    first: usize,
}

/// Reads on in an archive, and keeps what was read last: it is often asked for again.
#[derive(Default)]
struct InOrder {
    handle: Handle,
    last: Option<(usize, Vec<u8>)>,
}

impl std::fmt::Debug for InOrder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("InOrder").finish_non_exhaustive()
    }
}

impl Source {
    /// Lists the folder or archive `root` as [`Listing::of`] does, and what is in its archives. An archive in a folder
    /// that is damaged, refused or is also there unpacked is skipped.
    pub fn open(root: &Path, output: Option<&Path>) -> anyhow::Result<Self> {
        Self::open_with(root, output, &ColumnNames::default())
    }

    /// [`Source::open`], where the user names columns.
    pub fn open_with(root: &Path, output: Option<&Path>, columns: &ColumnNames) -> anyhow::Result<Self> {
        let listing = Listing::of(root, output)?;
        let is_folder = root.is_dir();
        let folder = if is_folder { root } else { root.parent().unwrap_or(Path::new("")) };
        let archives: Vec<String> = listing.archives.iter().map(|archive| archive.path.clone()).collect();
        let mut source = Self {
            listed_at: listing.taken,
            archive_files: listing.archives,
            packed: listing.packed,
            skipped: listing.skipped,
            columns: columns.clone(),
            ..Self::empty(folder)
        };
        let tables = source.add_loose(listing.files, is_folder)?;
        match archives.as_slice() {
            [archive] if !is_folder => source.add_archive(archive.clone())?,
            _ => source.add_archives(archives)?,
        }
        for (file, archive) in tables {
            source.tables.insert(file, source.archives.len());
            source.add_members(source.files[file].path.clone(), archive, false);
            if is_too_many(source.files.len()) {
                return Err(too_many(&source.root));
            }
        }
        Ok(source)
    }

    fn empty(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            files: Vec::new(),
            archive_files: Vec::new(),
            archives: Vec::new(),
            tables: HashMap::new(),
            columns: ColumnNames::default(),
            packed: Vec::new(),
            skipped: Vec::new(),
            remarks: Vec::new(),
            listed_at: 0,
            unreadable: Mutex::default(),
            looked_into: Mutex::default(),
            in_order: Mutex::default(),
        }
    }

    /// One file, whatever its name.
    pub fn file(path: &Path) -> anyhow::Result<Self> {
        let file = bounded_file::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        let bytes = file.metadata()?.len();
        if bytes > MAX_FILE_BYTES {
            let message = format!("{} has {bytes} bytes, expected at most {MAX_FILE_BYTES}", path.display());
            return Err(failure(message, "give the caption file"));
        }
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let files = vec![SourceFile { path: name, bytes, place: Place::Folder { modified: 0, touched: 0 } }];
        Ok(Self { files, ..Self::empty(path.parent().unwrap_or(Path::new(""))) })
    }

    /// All files on the disk, archives among them.
    pub fn on_disk(&self) -> impl Iterator<Item = (&str, Stamp)> {
        let loose = self.files.iter().filter_map(|file| match file.place {
            Place::Folder { modified, touched } => {
                Some((file.path.as_str(), Stamp { bytes: file.bytes, modified, touched }))
            }
            Place::Archive { .. } => None,
        });
        loose.chain(self.archive_files.iter().chain(&self.packed).map(|file| (file.path.as_str(), file.stamp)))
    }

    pub(crate) fn listed_at(&self) -> i64 {
        self.listed_at
    }

    /// All files: those of folders in the order of their paths, then those of archives in the archives' order.
    pub fn files(&self) -> &[SourceFile] {
        &self.files
    }

    /// Archives of kinds that cannot be read, for a message.
    pub fn packed(&self) -> impl Iterator<Item = &str> {
        self.packed.iter().map(|file| file.path.as_str())
    }

    /// Files, folders and archives that were skipped, and why, in one line.
    pub fn skipped(&self) -> Vec<(String, String)> {
        let unreadable = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
        let unreadable = unreadable.iter().map(|(path, reason)| (path.clone(), reason.clone()));
        self.skipped.iter().cloned().chain(unreadable).collect()
    }

    /// What was noticed of archives that are read.
    pub(crate) fn remarks(&self) -> &[(String, String)] {
        &self.remarks
    }

    /// The first of [`Source::skipped`] as the end of a message; empty where there are none.
    pub(crate) fn describe_skipped(&self) -> String {
        const NUM_SHOWN: usize = 3;
        let all = self.skipped();
        let shown = all.iter().take(NUM_SHOWN).map(|(path, reason)| format!("; {path} was skipped: {reason}"));
        let more = all.len().saturating_sub(NUM_SHOWN);
        let more = if more > 0 { format!("; and {more} more were skipped") } else { String::new() };
        shown.chain([more]).collect()
    }

    pub fn find(&self, is_wanted: impl Fn(&SourceFile) -> bool) -> Vec<usize> {
        (0..self.files.len()).filter(|&file| is_wanted(&self.files[file])).collect()
    }

    pub(crate) fn unread_pictures(&self) -> Vec<UnreadPictures> {
        UnreadPictures::among(self.files.iter().map(|file| file.path.as_str()))
    }

    pub fn read(&self, file: usize) -> anyhow::Result<Vec<u8>> {
        self.read_start(file, u64::MAX)
    }

    /// The first bytes of a file, `max` of them.
    pub fn read_start(&self, file: usize, max: u64) -> anyhow::Result<Vec<u8>> {
        self.looked_into.lock().unwrap_or_else(PoisonError::into_inner).insert(file);
        self.peek(file, max)
    }

    /// [`Source::read_start`] of a file that decides nothing about a data set.
    pub fn peek(&self, file: usize, max: u64) -> anyhow::Result<Vec<u8>> {
        /// Bytes of a file that is read as a whole, whatever is asked for.
        const KEPT: u64 = 16 << 20;
        if !self.is_in_order(file) {
            return Handle::default().read(self, &self.files[file], max);
        }
        let start =
            |bytes: &Vec<u8>| bytes[..usize::try_from(max).map_or(bytes.len(), |max| max.min(bytes.len()))].to_vec();
        let InOrder { handle, last } = &mut *self.in_order.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, bytes)) = last.as_ref().filter(|(known, _)| *known == file) {
            return Ok(start(bytes));
        }
        let whole = self.files[file].bytes;
        let bytes = handle.read(self, &self.files[file], if whole <= KEPT { u64::MAX } else { max })?;
        let read = start(&bytes);
        if whole <= KEPT {
            *last = Some((file, bytes));
        }
        Ok(read)
    }

    /// The first bytes of a file, `max` of them, to find out what it is. A file that cannot be read gives no bytes and
    /// is skipped.
    pub(crate) fn glance(&self, file: usize, max: u64) -> Vec<u8> {
        self.read_start(file, max).unwrap_or_else(|error| self.unread(file, &error))
    }

    /// The files that were read or looked into so far, but for those that [`Source::for_each`] read.
    pub(crate) fn looked_into(&self) -> BTreeSet<usize> {
        self.looked_into.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the files at `wanted` on all threads, those of an archive one after the other, and gives what `work` makes
    /// of each: its place in `wanted`, and its content or why it cannot be read.
    pub fn for_each<T: Send>(
        &self,
        wanted: &[usize],
        work: impl Fn(usize, anyhow::Result<Vec<u8>>) -> anyhow::Result<T> + Sync,
    ) -> anyhow::Result<Vec<T>> {
        let mut order: Vec<usize> = (0..wanted.len()).collect();
        order.sort_by_key(|&position| wanted[position]);
        let (in_order, anywhere): (Vec<usize>, Vec<usize>) =
            order.into_iter().partition(|&position| self.is_in_order(wanted[position]));
        let mut results = self.read_anywhere(wanted, &anywhere, &work)?;
        results.extend(self.read_in_order(wanted, &in_order, &work)?);
        results.sort_by_key(|(position, _)| *position);
        Ok(results.into_iter().map(|(_, result)| result).collect())
    }

    /// [`Source::for_each`] of what lies in folders, or in archives of which any part can be read at once.
    fn read_anywhere<T: Send>(
        &self,
        wanted: &[usize],
        order: &[usize],
        work: &(impl Fn(usize, anyhow::Result<Vec<u8>>) -> anyhow::Result<T> + Sync),
    ) -> anyhow::Result<Vec<(usize, T)>> {
        const MIN: usize = 64;
        let part = order.len().div_ceil(4 * rayon::current_num_threads()).max(MIN);
        let parts = order.par_chunks(part).map(|part| {
            let mut handle = Handle::default();
            let result = |&position: &usize| {
                let file = &self.files[wanted[position]];
                handle.open(self, file)?;
                // Held until the work is done.
                let share = budgets().files.take(file.bytes, || format!("reading its {} bytes takes", file.bytes));
                let (content, _share) = match share {
                    Ok(share) => (handle.read(self, file, u64::MAX), Some(share)),
                    Err(refused) => (Err(refused), None),
                };
                if content.is_err() {
                    self.check_there()?;
                }
                Ok((position, work(position, content)?))
            };
            part.iter().map(result).collect::<anyhow::Result<Vec<_>>>()
        });
        Ok(parts.collect::<anyhow::Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    /// [`Source::for_each`] of what lies in archives that are read in their order: a few files at a time, on which then
    /// all threads work.
    fn read_in_order<T: Send>(
        &self,
        wanted: &[usize],
        order: &[usize],
        work: &(impl Fn(usize, anyhow::Result<Vec<u8>>) -> anyhow::Result<T> + Sync),
    ) -> anyhow::Result<Vec<(usize, T)>> {
        let file = |position: usize| &self.files[wanted[position]];
        let (mut results, mut rest, mut handle) = (Vec::with_capacity(order.len()), order, Handle::default());
        while let Some(&first) = rest.first() {
            let container = file(first).container();
            let beside = container.map_or(0, |archive| self.archives[archive].archive.memory());
            let most = beside.saturating_add((budgets().files.size() / 4).min(MAX_BATCH_BYTES));
            let (mut bytes, mut count) = (beside, 0);
            while let Some(&next) = rest.get(count)
                && file(next).container() == container
                && (count == 0 || bytes + file(next).bytes <= most)
            {
                bytes += file(next).bytes;
                count += 1;
            }
            let (batch, others) = rest.split_at(count);
            rest = others;
            // Held until the work is done.
            let share = budgets().files.take(bytes, || format!("reading {bytes} bytes of it takes"));
            let refused = share.as_ref().err().map(one_line);
            let read = |&position: &usize| match &refused {
                Some(refused) => (position, Err(anyhow::anyhow!("{refused}"))),
                None => (position, handle.read(self, file(position), u64::MAX)),
            };
            let contents: Vec<(usize, anyhow::Result<Vec<u8>>)> = batch.iter().map(read).collect();
            if contents.iter().any(|(_, content)| content.is_err()) {
                self.check_there()?;
            }
            let done = contents.into_par_iter().map(|(position, content)| Ok((position, work(position, content)?)));
            results.extend(done.collect::<anyhow::Result<Vec<_>>>()?);
        }
        Ok(results)
    }

    /// What `work` makes of the place in `wanted` and the whole content of each file, to find out what it is. One that
    /// cannot be read has none and is skipped.
    pub(crate) fn look_into_each<T: Send>(
        &self,
        wanted: &[usize],
        work: impl Fn(usize, Vec<u8>) -> T + Sync,
    ) -> anyhow::Result<Vec<T>> {
        self.looked_into.lock().unwrap_or_else(PoisonError::into_inner).extend(wanted);
        self.for_each(wanted, |place, content| {
            Ok(work(place, content.unwrap_or_else(|error| self.unread(wanted[place], &error))))
        })
    }

    /// Leaves a file aside that cannot be read, and so has no content.
    fn unread(&self, file: usize, error: &anyhow::Error) -> Vec<u8> {
        let mut unreadable = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
        unreadable.insert(self.files[file].path.clone(), one_line(error));
        Vec::new()
    }

    /// One file of many may be unreadable; a drive that was taken away is another matter.
    fn check_there(&self) -> anyhow::Result<()> {
        let root = if self.root.as_os_str().is_empty() { Path::new(".") } else { &self.root };
        let there = fs::read_dir(root).with_context(|| format!("the source {} can no longer be read", root.display()));
        there.map(drop).hint(|| "make it readable again and run the same command: it continues where it stopped")
    }

    /// What to digest so that a data set's origin is known: the archive that holds a file, or the file itself.
    pub fn origin(&self, file: usize) -> &str {
        let file = &self.files[file];
        file.container().map_or(&file.path, |archive| &self.archives[archive].path)
    }

    /// What the user calls columns.
    pub(crate) fn columns(&self) -> &ColumnNames {
        &self.columns
    }

    /// What the file is, where it is a Parquet file.
    pub(crate) fn table(&self, file: usize) -> Option<&Table> {
        let archive = *self.tables.get(&file)?;
        self.looked_into.lock().unwrap_or_else(PoisonError::into_inner).insert(file);
        self.archives[archive].archive.table()
    }

    /// The file of the image in a row of the Parquet file `file`.
    pub(crate) fn image_in(&self, file: usize, row: usize) -> Result<&SourceFile, NoImage> {
        let archive = self.tables.get(&file).ok_or(NoImage::Absent)?;
        let OpenArchive { archive, first, .. } = &self.archives[*archive];
        let member = archive.table().ok_or(NoImage::Absent)?.image_of(row)?;
        self.files.get(first + member).ok_or(NoImage::Absent)
    }

    /// Where each of `files` lies in the only archive of the source; `None` where it is packed.
    pub(crate) fn places(&self, files: &[usize]) -> anyhow::Result<Option<Vec<MemberPlace>>> {
        let [OpenArchive { archive, first, .. }] = self.archives.as_slice() else { return Ok(None) };
        let Some(places) = archive.places()? else { return Ok(None) };
        Ok(files.iter().map(|file| places.get(file.checked_sub(*first)?).copied()).collect())
    }

    /// Whether a file is read fast only after those before it in its archive.
    fn is_in_order(&self, file: usize) -> bool {
        self.files[file].container().is_some_and(|archive| self.archives[archive].archive.is_in_order())
    }

    /// Whether a file lies in a folder rather than in an archive.
    pub(crate) fn is_loose(&self, file: usize) -> bool {
        self.files[file].container().is_none()
    }

    /// Where the file or archive at `path` below the source is.
    pub(crate) fn locate(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn add_archives(&mut self, paths: Vec<String>) -> anyhow::Result<()> {
        let loose: HashMap<String, u64> = self.files.iter().map(|file| (file.path.clone(), file.bytes)).collect();
        for path in paths {
            let (files, archives) = (self.files.len(), self.archives.len());
            let (aside, remarks) = (self.skipped.len(), self.remarks.len());
            let reason = match self.add_archive(path.clone()) {
                Ok(()) if is_too_many(self.files.len()) => return Err(too_many(&self.root)),
                Ok(()) if self.is_unpacked(&path, files, &loose) => "all its files are beside it, unpacked".to_owned(),
                Ok(()) => continue,
                Err(error) => one_line(&error),
            };
            self.files.truncate(files);
            self.archives.truncate(archives);
            self.skipped.truncate(aside);
            self.remarks.truncate(remarks);
            self.skipped.push((path, reason));
        }
        Ok(())
    }

    /// Whether the files of the archive at `path`, from `first` on, all lie in its folder or in one of its name.
    fn is_unpacked(&self, path: &str, first: usize, loose: &HashMap<String, u64>) -> bool {
        let folder = path.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
        let stem = without_ending(path);
        let is_loose = |file: &SourceFile| {
            let inside = &file.path[path.len() + 1..];
            [format!("{folder}{inside}"), format!("{stem}/{inside}")]
                .iter()
                .any(|place| loose.get(place) == Some(&file.bytes))
        };
        self.files.len() > first && self.files[first..].iter().all(is_loose)
    }

    fn add_archive(&mut self, path: String) -> anyhow::Result<()> {
        let format = match kind_of(&path) {
            FileKind::Archive(format) => format,
            FileKind::Packed | FileKind::Plain => anyhow::bail!("{path} is not an archive"),
        };
        let first = self.files.len();
        let is_tar = matches!(format, ArchiveFormat::Tar | ArchiveFormat::PackedTar(_));
        let archive = Archive::open(&self.root.join(&path), format, Limits::DATASET)?;
        self.add_members(path, archive, is_tar);
        let inner =
            self.files[first..].iter().filter(|file| is_archive_name(&file.path) || is_parquet_name(&file.path));
        let reason = "it is an archive inside another one: unpack the outer one";
        self.skipped.extend(inner.map(|file| (file.path.clone(), reason.to_owned())));
        Ok(())
    }

    fn add_members(&mut self, path: String, archive: Archive, is_tar: bool) {
        let (index, first) = (self.archives.len(), self.files.len());
        for (member, entry) in archive.members().iter().enumerate() {
            let place = Place::Archive { archive: index, member, is_tar };
            self.files.push(SourceFile { path: format!("{path}/{}", entry.name), bytes: entry.bytes, place });
        }
        self.remarks.extend(archive.remark().map(|remark| (path.clone(), remark.to_owned())));
        self.archives.push(OpenArchive { path, archive, first });
    }

    /// Adds the files of a folder, and opens those that are Parquet: one that cannot be used is skipped, or is an error
    /// where the source is that file.
    fn add_loose(&mut self, files: Vec<Listed>, is_folder: bool) -> anyhow::Result<Vec<(usize, Archive)>> {
        let image = self.columns.image.as_deref();
        let open = |file: &Listed| {
            let path = is_parquet_name(&file.path).then(|| self.root.join(&file.path))?;
            Some(Archive::open_table(&path, Limits::DATASET, image))
        };
        let opened: Vec<Option<anyhow::Result<Archive>>> = files.par_iter().map(open).collect();
        let mut tables = Vec::new();
        for (file, table) in files.into_iter().zip(opened) {
            match table {
                Some(Err(error)) if !is_folder => return Err(error),
                Some(Err(error)) => {
                    self.skipped.push((file.path.clone(), one_line(&error)));
                    self.archive_files.push(file);
                    continue;
                }
                Some(Ok(table)) => tables.push((self.files.len(), table)),
                None => {}
            }
            let Listed { path, stamp } = file;
            let place = Place::Folder { modified: stamp.modified, touched: stamp.touched };
            self.files.push(SourceFile { path, bytes: stamp.bytes, place });
        }
        Ok(tables)
    }
}

/// Reads files one after the other, and keeps the archive open that was read last.
#[derive(Default)]
struct Handle(Option<(usize, Reader)>);

impl Handle {
    fn open(&mut self, source: &Source, file: &SourceFile) -> anyhow::Result<()> {
        if let Some(index) = file.container()
            && self.0.as_ref().is_none_or(|(open, _)| *open != index)
        {
            self.0 = Some((index, source.archives[index].archive.reader()?));
        }
        Ok(())
    }

    /// The first `max` bytes of `file`.
    fn read(&mut self, source: &Source, file: &SourceFile, max: u64) -> anyhow::Result<Vec<u8>> {
        self.open(source, file)?;
        match (file.place, &mut self.0) {
            (Place::Archive { archive, member, .. }, Some((_, reader))) => {
                let archive = &source.archives[archive].archive;
                archive.read(reader, &archive.members()[member], max)
            }
            _ => read_loose(&source.root.join(&file.path), max, file.bytes),
        }
    }
}

fn read_loose(path: &Path, max: u64, expected: u64) -> anyhow::Result<Vec<u8>> {
    let cannot = || format!("cannot read {}", path.display());
    let file = bounded_file::open(path).with_context(cannot)?;
    let bytes = read_to_limit(file, max.min(MAX_FILE_BYTES + 1), expected + 1).with_context(cannot)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let message = format!("{} has more than {MAX_FILE_BYTES} bytes", path.display());
        return Err(failure(message, "split it into several files"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use base::error::describe;

    fn put(folder: &Path, path: &str, bytes: &[u8]) {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, bytes) in members {
            writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    #[test]
    fn folders_and_archives_are_one_tree() {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), "b/2.jpg", b"two");
        put(folder.path(), "a.zip", &zip(&[("x/1.jpg", b"one"), ("t.txt", b"text")]));
        put(folder.path(), ".hidden/3.jpg", b"no");
        put(folder.path(), "__MACOSX/4.jpg", b"no");
        put(folder.path(), "prepared/preparation.json", b"{}");
        put(folder.path(), "prepared/images/5.jpg", b"no");
        put(folder.path(), "more.tar.xz", b"no");
        let source = Source::open(folder.path(), None).unwrap();
        let paths: Vec<&str> = source.files().iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["b/2.jpg", "a.zip/x/1.jpg", "a.zip/t.txt"]);
        assert_eq!(source.packed().collect::<Vec<_>>(), ["more.tar.xz"]);
        assert_eq!((source.files()[1].name(), source.files()[1].folder()), ("1.jpg", "a.zip/x"));
        assert_eq!((source.origin(1), source.origin(0)), ("a.zip", "b/2.jpg"));
        assert!(source.is_loose(0) && !source.is_loose(1));
        assert_eq!(source.read(2).unwrap(), b"text");
        assert_eq!(source.read_start(2, 2).unwrap(), b"te");
        let work = |position: usize, content: anyhow::Result<Vec<u8>>| Ok((position, String::from_utf8(content?)?));
        let read = source.for_each(&[1, 0, 2], work).unwrap();
        assert_eq!(read, [(0, "one".to_owned()), (1, "two".to_owned()), (2, "text".to_owned())]);
        let single = Source::open(&folder.path().join("a.zip"), None).unwrap();
        assert_eq!(single.files()[0].path, "a.zip/x/1.jpg");
        assert_eq!(single.read(0).unwrap(), b"one");
    }

    #[test]
    fn a_source_that_cannot_be_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), "a.txt", b"x");
        put(folder.path(), "b/c.zip", b"no zip");
        for (path, expected) in [
            ("absent", "absent does not exist"),
            ("a.txt", "a.txt is neither a folder nor an archive nor a Parquet file"),
            ("b/c.zip", "c.zip is not a complete zip archive"),
        ] {
            let text = describe(&Source::open(&folder.path().join(path), None).unwrap_err());
            assert!(text.contains(expected) && text.contains("hint: "), "{text}");
        }
    }

    #[test]
    fn an_archive_that_is_damaged_or_lies_there_unpacked_is_left_aside() {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), "half.zip", b"no zip");
        put(folder.path(), "a.zip", &zip(&[("x/1.jpg", b"one")]));
        put(folder.path(), "b.zip", &zip(&[("1.jpg", b"one"), ("2.jpg", b"two")]));
        put(folder.path(), "a/x/1.jpg", b"one");
        put(folder.path(), "b/1.jpg", b"one");
        let source = Source::open(folder.path(), None).unwrap();
        let paths: Vec<&str> = source.files().iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["a/x/1.jpg", "b/1.jpg", "b.zip/1.jpg", "b.zip/2.jpg"]);
        assert_eq!(source.read(3).unwrap(), b"two");
        let left: Vec<String> = source.skipped().into_iter().map(|(path, _)| path).collect();
        assert_eq!(left, ["a.zip", "half.zip"]);
        assert!(source.skipped()[1].1.contains("download it again"), "{:?}", source.skipped());
    }

    #[test]
    fn what_was_made_of_a_source_is_not_a_part_of_it() {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), "1.jpg", b"one");
        put(folder.path(), "data/x/images/1.jpg", b"one");
        let source = Source::open(folder.path(), Some(&folder.path().join("data/x"))).unwrap();
        assert_eq!(source.files().len(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_circle_of_links_ends() {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), "real/1.jpg", b"x");
        std::os::unix::fs::symlink(folder.path(), folder.path().join("real/loop")).unwrap();
        std::os::unix::fs::symlink("nowhere", folder.path().join("dead.jpg")).unwrap();
        let source = Source::open(folder.path(), None).unwrap();
        let count = source.files().iter().filter(|file| file.name() == "1.jpg").count();
        assert!((1..=2).contains(&count), "{:?}", source.files());
    }

    #[test]
    fn a_file_that_cannot_be_read_is_reported_and_a_source_that_is_gone_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("source");
        put(&root, "a.txt", b"one");
        put(&root, "b.txt", b"two");
        let source = Source::open(&root, None).unwrap();
        fs::remove_file(root.join("a.txt")).unwrap();
        assert_eq!(source.glance(0, 9), b"");
        assert_eq!(source.glance(1, 2), b"tw");
        assert!(source.skipped()[0].1.contains("cannot read"), "{:?}", source.skipped());
        assert!(source.describe_skipped().starts_with("; a.txt was skipped: cannot read"));
        let is_read = |_: usize, content: anyhow::Result<Vec<u8>>| Ok(content.is_ok());
        assert_eq!(source.for_each(&[0, 1], is_read).unwrap(), [false, true]);
        fs::remove_dir_all(&root).unwrap();
        let text = describe(&source.for_each(&[0, 1], is_read).unwrap_err());
        assert!(text.contains("can no longer be read") && text.contains("hint: "), "{text}");
    }

    #[test]
    fn many_things_left_aside_are_reported_in_a_few_words() {
        let folder = tempfile::tempdir().unwrap();
        (0..5).for_each(|number| put(folder.path(), &format!("{number}.zip"), b"no zip"));
        let text = Source::open(folder.path(), None).unwrap().describe_skipped();
        assert!(
            text.contains("2.zip") && !text.contains("3.zip") && text.ends_with("; and 2 more were skipped"),
            "{text}"
        );
    }

    #[test]
    fn stems_of_names() {
        assert_eq!((without_ending("a.b/c"), without_ending("a/b.c.jpg")), ("a.b/c", "a/b.c"));
    }
}
