//! The files that a person has: a folder with all that is in it and in the zip and tar archives in it, or one archive.
//!
//! An archive counts as a folder of its name, so that each file has one path, such as
//! `Flickr8k_Dataset.zip/Flicker8k_Dataset/1.jpg`. Files of folders come before those of archives.

mod limits;
pub mod tar_archive;
pub mod zip_archive;

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rayon::prelude::*;

use crate::base::bounded_file;
use crate::base::fault::{fault, one_line};
use crate::data::prepare::report::PREPARATION_FILE;
use crate::data::source::limits::{is_system_junk, read_to_limit};
use crate::data::source::zip_archive::ZipReader;

pub use limits::Limits;

/// Folders within one another; deeper ones are not looked into.
const MAX_DEPTH: usize = 12;
/// Files and members in all.
const MAX_FILES: usize = 4_000_000;
/// Bytes of a file that lies in a folder and is read as a whole.
const MAX_FILE_BYTES: u64 = 4 << 30;

/// Whether a file of this name is taken for an image.
pub fn is_image_name(name: &str) -> bool {
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    ending.is_some_and(|ending| ["jpg", "jpeg", "png", "webp"].contains(&ending.as_str()))
}

/// The path without the ending of its last part.
pub fn without_ending(path: &str) -> &str {
    let name_at = path.rfind('/').map_or(0, |at| at + 1);
    path[name_at..].rfind('.').map_or(path, |dot| &path[..name_at + dot])
}

/// A file of a [`Source`].
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// Its path below the source, with `/` between the parts.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    place: Place,
}

impl SourceFile {
    /// The last part of the path.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// The path without its last part; empty at the top.
    pub fn folder(&self) -> &str {
        self.path.rsplit_once('/').map_or("", |(folder, _)| folder)
    }

    /// Whether it lies in a tar archive.
    pub fn is_in_tar(&self) -> bool {
        matches!(self.place, Place::Tar { .. })
    }

    fn container(&self) -> Option<usize> {
        match self.place {
            Place::Folder => None,
            Place::Zip { archive, .. } | Place::Tar { archive, .. } => Some(archive),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Folder,
    Zip { archive: usize, member: usize },
    Tar { archive: usize, member: usize },
}

#[derive(Debug)]
enum Archive {
    Zip(zip_archive::Archive),
    Tar(tar_archive::Archive),
}

/// What a person has.
#[derive(Debug)]
pub struct Source {
    root: PathBuf,
    files: Vec<SourceFile>,
    archives: Vec<(String, Archive)>,
    packed: Vec<String>,
    left_aside: Vec<(String, String)>,
    /// The folder that is made of the source: what is there already is not taken for it.
    output: Option<PathBuf>,
}

impl Source {
    /// Lists the folder or archive `root`. Hidden files and folders, folders that a preparation made, the folder `output`
    /// and what macOS adds are passed over. An archive in a folder that is damaged, refused or lies there unpacked as well
    /// is left aside.
    ///
    /// # Errors
    /// A path that is neither, an archive named as the source that is damaged or refused, a folder that cannot be listed.
    pub fn open(root: &Path, output: Option<&Path>) -> anyhow::Result<Self> {
        let mut source = Self {
            root: root.to_owned(),
            files: Vec::new(),
            archives: Vec::new(),
            packed: Vec::new(),
            left_aside: Vec::new(),
            output: output.and_then(|output| fs::canonicalize(output).ok()),
        };
        if root.is_dir() {
            source.walk("", 0)?;
        } else if root.is_file() {
            let name = root.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            source.root = root.parent().map_or_else(PathBuf::new, Path::to_owned);
            if !matches!(kind_of(&name), Kind::Zip | Kind::Tar) {
                let message = format!("the source {} is neither a folder nor a zip or tar archive", root.display());
                return Err(fault(message, "give the folder with the images and their captions"));
            }
            source.add_archive(name)?;
        } else {
            let message = format!("the source {} is not there", root.display());
            return Err(fault(message, "give the folder with the archives as they are distributed, or unpacked"));
        }
        Ok(source)
    }

    /// All files: those of folders in the order of their paths, then those of archives in the archives' order.
    pub fn files(&self) -> &[SourceFile] {
        &self.files
    }

    /// Archives of kinds that cannot be read, for a message.
    pub fn packed(&self) -> &[String] {
        &self.packed
    }

    /// Archives that were left aside, and why, in one line.
    pub fn left_aside(&self) -> &[(String, String)] {
        &self.left_aside
    }

    /// Indices of the files for which `is_wanted` holds.
    pub fn find(&self, is_wanted: impl Fn(&SourceFile) -> bool) -> Vec<usize> {
        (0..self.files.len()).filter(|&file| is_wanted(&self.files[file])).collect()
    }

    /// The whole content of a file.
    ///
    /// # Errors
    /// What reading gives.
    pub fn read(&self, file: usize) -> anyhow::Result<Vec<u8>> {
        self.read_start(file, u64::MAX)
    }

    /// The first bytes of a file, `most` of them.
    ///
    /// # Errors
    /// What reading gives.
    pub fn read_start(&self, file: usize, most: u64) -> anyhow::Result<Vec<u8>> {
        Handle::default().read(self, &self.files[file], most)
    }

    /// Reads the files at `wanted` on all threads, those of an archive one after the other, and gives what `work` makes
    /// of each (its place in `wanted` and its content).
    ///
    /// # Errors
    /// What reading and `work` give.
    pub fn for_each<T: Send>(
        &self,
        wanted: &[usize],
        work: impl Fn(usize, Vec<u8>) -> anyhow::Result<T> + Sync,
    ) -> anyhow::Result<Vec<T>> {
        const LEAST: usize = 64;
        let mut order: Vec<usize> = (0..wanted.len()).collect();
        order.sort_by_key(|&position| wanted[position]);
        let part = wanted.len().div_ceil(4 * rayon::current_num_threads()).max(LEAST);
        let parts = order.par_chunks(part).map(|part| {
            let mut handle = Handle::default();
            let result = |&position: &usize| {
                let bytes = handle.read(self, &self.files[wanted[position]], u64::MAX)?;
                Ok((position, work(position, bytes)?))
            };
            part.iter().map(result).collect::<anyhow::Result<Vec<_>>>()
        });
        let mut results: Vec<(usize, T)> = parts.collect::<anyhow::Result<Vec<_>>>()?.into_iter().flatten().collect();
        results.sort_by_key(|(position, _)| *position);
        Ok(results.into_iter().map(|(_, result)| result).collect())
    }

    /// What to digest so that a data set's origin is known: the archive that holds a file, or the file itself.
    pub fn origin(&self, file: usize) -> &str {
        let file = &self.files[file];
        file.container().map_or(&file.path, |archive| &self.archives[archive].0)
    }

    /// Whether a file lies in a folder rather than in an archive.
    pub fn is_loose(&self, file: usize) -> bool {
        self.files[file].container().is_none()
    }

    /// Where the file or archive at `path` below the source is.
    pub fn locate(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn walk(&mut self, folder: &str, depth: usize) -> anyhow::Result<()> {
        let mut archives = Vec::new();
        self.walk_folder(folder, depth, &mut BTreeSet::new(), &mut archives)?;
        let loose: HashMap<String, u64> = self.files.iter().map(|file| (file.path.clone(), file.bytes)).collect();
        for path in archives {
            let (files, archives) = (self.files.len(), self.archives.len());
            let reason = match self.add_archive(path.clone()) {
                Ok(()) if self.is_unpacked(&path, files, &loose) => "all its files lie beside it, unpacked".to_owned(),
                Ok(()) => continue,
                Err(error) => one_line(&error),
            };
            self.files.truncate(files);
            self.archives.truncate(archives);
            self.left_aside.push((path, reason));
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

    fn walk_folder(
        &mut self,
        folder: &str,
        depth: usize,
        linked: &mut BTreeSet<PathBuf>,
        archives: &mut Vec<String>,
    ) -> anyhow::Result<()> {
        let path = self.root.join(folder);
        let mut folders = Vec::new();
        for name in list(&path)? {
            let below = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
            let here = path.join(&name);
            // A link that leads nowhere is no file.
            let Ok(metadata) = fs::metadata(&here) else { continue };
            if metadata.is_dir() {
                let is_prepared = here.join(PREPARATION_FILE).is_file()
                    || self.output.is_some() && fs::canonicalize(&here).ok() == self.output;
                let is_new = !here.is_symlink() || fs::canonicalize(&here).is_ok_and(|real| linked.insert(real));
                if depth < MAX_DEPTH && !is_prepared && is_new {
                    folders.push(below);
                }
                continue;
            }
            match kind_of(&name) {
                _ if !metadata.is_file() => {}
                Kind::Zip | Kind::Tar => archives.push(below),
                Kind::Packed => self.packed.push(below),
                Kind::Plain => self.add(SourceFile { path: below, bytes: metadata.len(), place: Place::Folder })?,
            }
        }
        for below in folders {
            self.walk_folder(&below, depth + 1, linked, archives)?;
        }
        Ok(())
    }

    fn add_archive(&mut self, path: String) -> anyhow::Result<()> {
        let (index, full) = (self.archives.len(), self.root.join(&path));
        if matches!(kind_of(&path), Kind::Zip) {
            let archive = zip_archive::Archive::open(&full, Limits::DATASET)?;
            for (member, entry) in archive.members().iter().enumerate() {
                let place = Place::Zip { archive: index, member };
                self.add(SourceFile { path: format!("{path}/{}", entry.name), bytes: entry.bytes, place })?;
            }
            self.archives.push((path, Archive::Zip(archive)));
        } else {
            let archive = tar_archive::Archive::open(&full, Limits::DATASET)?;
            for (member, entry) in archive.members().iter().enumerate() {
                let place = Place::Tar { archive: index, member };
                self.add(SourceFile { path: format!("{path}/{}", entry.name), bytes: entry.bytes, place })?;
            }
            self.archives.push((path, Archive::Tar(archive)));
        }
        Ok(())
    }

    fn add(&mut self, file: SourceFile) -> anyhow::Result<()> {
        if self.files.len() >= MAX_FILES {
            let message = format!("{} holds more than {MAX_FILES} files", self.root.display());
            return Err(fault(message, "give the folder of the data set alone"));
        }
        self.files.push(file);
        Ok(())
    }
}

enum Kind {
    Zip,
    Tar,
    Packed,
    Plain,
}

fn kind_of(name: &str) -> Kind {
    let name = name.to_ascii_lowercase();
    let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
    match () {
        () if ends(&[".zip"]) => Kind::Zip,
        () if ends(&[".tar"]) => Kind::Tar,
        () if ends(&[".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar", ".parquet", ".arrow"]) => Kind::Packed,
        () if ends(&[".pkl", ".pickle", ".p"]) => Kind::Packed,
        () => Kind::Plain,
    }
}

fn list(folder: &Path) -> anyhow::Result<Vec<String>> {
    let cannot = || format!("cannot list {}", folder.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(cannot)? {
        // A name that is not UTF-8 stands in no annotation file.
        if let Ok(name) = entry.with_context(cannot)?.file_name().into_string()
            && !name.starts_with('.')
            && !name.contains('\\')
            && !is_system_junk(&name)
        {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The archive that was read from last, open.
#[derive(Default)]
struct Handle {
    zip: Option<(usize, ZipReader)>,
    tar: Option<(usize, File)>,
}

impl Handle {
    fn read(&mut self, source: &Source, file: &SourceFile, most: u64) -> anyhow::Result<Vec<u8>> {
        match file.place {
            Place::Folder => read_loose(&source.root.join(&file.path), most, file.bytes),
            Place::Zip { archive: index, member } => {
                let Archive::Zip(archive) = &source.archives[index].1 else { unreachable!("a zip is listed as one") };
                if self.zip.as_ref().is_none_or(|(open, _)| *open != index) {
                    self.zip = Some((index, archive.reader()?));
                }
                let (_, reader) = self.zip.as_mut().context("it was opened")?;
                archive.read(reader, &archive.members()[member], most)
            }
            Place::Tar { archive: index, member } => {
                let Archive::Tar(archive) = &source.archives[index].1 else { unreachable!("a tar is listed as one") };
                if self.tar.as_ref().is_none_or(|(open, _)| *open != index) {
                    self.tar = Some((index, archive.reader()?));
                }
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

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::base::fault::describe;

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
        put(folder.path(), "more.tar.gz", b"no");
        let source = Source::open(folder.path(), None).unwrap();
        let paths: Vec<&str> = source.files().iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["b/2.jpg", "a.zip/x/1.jpg", "a.zip/t.txt"]);
        assert_eq!(source.packed(), ["more.tar.gz"]);
        assert_eq!((source.files()[1].name(), source.files()[1].folder()), ("1.jpg", "a.zip/x"));
        assert_eq!((source.origin(1), source.origin(0)), ("a.zip", "b/2.jpg"));
        assert!(source.is_loose(0) && !source.is_loose(1));
        assert_eq!(source.read(2).unwrap(), b"text");
        assert_eq!(source.read_start(2, 2).unwrap(), b"te");
        let work = |position: usize, bytes: Vec<u8>| Ok((position, String::from_utf8(bytes)?));
        let read = source.for_each(&[1, 0, 2], work).unwrap();
        assert_eq!(read, [(0, "one".to_owned()), (1, "two".to_owned()), (2, "text".to_owned())]);
        let alone = Source::open(&folder.path().join("a.zip"), None).unwrap();
        assert_eq!(alone.files()[0].path, "a.zip/x/1.jpg");
        assert_eq!(alone.read(0).unwrap(), b"one");
    }

    #[test]
    fn a_source_that_cannot_be_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), "a.txt", b"x");
        put(folder.path(), "b/c.zip", b"no zip");
        for (path, expected) in [
            ("absent", "absent is not there"),
            ("a.txt", "a.txt is neither a folder nor a zip or tar archive"),
            ("b/c.zip", "c.zip is not a whole zip archive"),
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
        let left: Vec<&str> = source.left_aside().iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(left, ["a.zip", "half.zip"]);
        assert!(source.left_aside()[1].1.contains("download it again"), "{:?}", source.left_aside());
    }

    #[test]
    fn what_was_made_of_a_source_is_no_part_of_it() {
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
    fn names_of_images_and_their_stems() {
        assert!(
            is_image_name("a/b.JPG") && is_image_name("x.webp") && !is_image_name("a.jpg/b") && !is_image_name("jpg")
        );
        assert_eq!((without_ending("a.b/c"), without_ending("a/b.c.jpg")), ("a.b/c", "a/b.c"));
    }
}
