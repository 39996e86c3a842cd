//! What lies in a folder, without looking into any file: paths, sizes and times. What cannot be listed or is no file is
//! skipped with the reason and never opened: a named pipe would wait for a writer forever.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context as _;

use crate::compression::Packing;
use crate::prepared::{MARKER_FILE, PREPARATION_FILE};
use crate::source::archive::ArchiveFormat;
use crate::source::limits::is_system_junk;
use crate::stamp::{Stamp, nanoseconds};
use base::error::{WithHint as _, failure};

/// Folders within one another; deeper ones are not looked into.
const MAX_DEPTH: usize = 12;
const MAX_FILES: usize = 4_000_000;
/// In each folder of a run.
const RUN_FILE: &str = "config.resolved.toml";

/// The endings of texts: compressed, they are read as archives of one file.
pub(crate) const TEXTS: [&str; 11] =
    [".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".tab", ".psv", ".txt", ".token", ".caption", ".captions"];

pub(crate) fn is_archive_name(name: &str) -> bool {
    matches!(kind_of(name), FileKind::Archive(_))
}

/// Whether a file of this name is taken for an archive of a kind that cannot be read.
pub(crate) fn is_packed_name(name: &str) -> bool {
    matches!(kind_of(name), FileKind::Packed)
}

/// Whether a file of this name is a compressed text.
pub(crate) fn is_packed_text_name(name: &str) -> bool {
    matches!(kind_of(name), FileKind::Archive(ArchiveFormat::PackedText(_)))
}

pub(crate) fn is_parquet_name(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with(".parquet")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    Archive(ArchiveFormat),
    /// An archive, or a packed file, of a kind that cannot be read.
    Packed,
    /// A Parquet file among them.
    Plain,
}

pub(super) fn kind_of(name: &str) -> FileKind {
    let name = name.to_ascii_lowercase();
    let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
    let packings = [(".gz", Packing::Gzip), (".zst", Packing::Zstd), (".zstd", Packing::Zstd)];
    for (inside, packing) in
        packings.iter().filter_map(|(ending, packing)| Some((name.strip_suffix(ending)?, *packing)))
    {
        if inside.ends_with(".tar") {
            return FileKind::Archive(ArchiveFormat::PackedTar(packing));
        }
        if TEXTS.iter().any(|ending| inside.ends_with(ending)) {
            return FileKind::Archive(ArchiveFormat::PackedText(packing));
        }
    }
    match () {
        () if ends(&[".zip"]) => FileKind::Archive(ArchiveFormat::Zip),
        () if ends(&[".tar"]) => FileKind::Archive(ArchiveFormat::Tar),
        () if ends(&[".tgz"]) => FileKind::Archive(ArchiveFormat::PackedTar(Packing::Gzip)),
        () if ends(&[".tzst"]) => FileKind::Archive(ArchiveFormat::PackedTar(Packing::Zstd)),
        () if ends(&[".gz", ".bz2", ".tbz", ".tbz2", ".xz", ".txz", ".lzma", ".zst", ".zstd"]) => FileKind::Packed,
        () if ends(&[".lz4", ".br", ".7z", ".rar", ".arrow"]) => FileKind::Packed,
        () if ends(&[".pkl", ".pickle", ".p"]) => FileKind::Packed,
        () => FileKind::Plain,
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its path below the root, with `/` between the parts.
    pub path: String,
    pub stamp: Stamp,
}

/// The files of a folder and of the folders in it, in the order of their paths: those of a folder before those of its
/// subfolders.
#[derive(Debug, Default)]
pub struct Listing {
    /// Files that are not archives.
    pub files: Vec<Listed>,
    pub archives: Vec<Listed>,
    /// Archives of kinds that cannot be read.
    pub packed: Vec<Listed>,
    /// What is skipped, and why.
    pub skipped: Vec<(String, String)>,
    /// When listing began, in nanoseconds since 1970.
    pub taken: i64,
}

impl Listing {
    /// All files, archives of every kind among them.
    pub fn all(&self) -> impl Iterator<Item = &Listed> {
        self.files.iter().chain(&self.archives).chain(&self.packed)
    }

    /// Lists the folder `root`, or the archive. Hidden files and folders, folders that a preparation or a run made, the
    /// folder `output` and what macOS adds are skipped. A folder that cannot be listed, a broken link and
    /// what is neither file nor folder are skipped.
    pub fn of(root: &Path, output: Option<&Path>) -> anyhow::Result<Self> {
        let mut listing = Self { taken: nanoseconds(SystemTime::now()), ..Self::default() };
        let Ok(metadata) = fs::metadata(root) else {
            let message = format!("the source {} does not exist", root.display());
            return Err(failure(message, "give the folder with the archives, as they are distributed or unpacked"));
        };
        if metadata.is_dir() {
            let output = output.and_then(|output| fs::canonicalize(output).ok());
            Walk { root, output, linked: BTreeSet::new(), listing: &mut listing }.folder("", 0)?;
            return Ok(listing);
        }
        let name = root.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        if !metadata.is_file() || !is_archive_name(&name) && !is_parquet_name(&name) {
            let message =
                format!("the source {} is neither a folder nor an archive nor a Parquet file", root.display());
            return Err(failure(
                message,
                "give the folder with the images and their captions, or an archive that has both: .zip, .tar, .tar.gz, \
                 .tar.zst or .parquet",
            ));
        }
        let list = if is_parquet_name(&name) { &mut listing.files } else { &mut listing.archives };
        list.push(Listed { path: name, stamp: Stamp::from(&metadata) });
        Ok(listing)
    }
}

struct Walk<'a> {
    root: &'a Path,
    /// The folder that is prepared from the source: what is there already is not taken for it.
    output: Option<PathBuf>,
    /// Targets of links that were followed.
    linked: BTreeSet<PathBuf>,
    listing: &'a mut Listing,
}

impl Walk<'_> {
    fn folder(&mut self, folder: &str, depth: usize) -> anyhow::Result<()> {
        let path = self.root.join(folder);
        let mut folders = Vec::new();
        for name in self.names(folder)? {
            let below = join(folder, &name);
            let here = path.join(&name);
            let metadata = match fs::metadata(&here) {
                Ok(metadata) => metadata,
                Err(error) => {
                    let reason = why_not(&here, &error);
                    self.listing.skipped.push((below, reason));
                    continue;
                }
            };
            if metadata.is_dir() {
                if self.is_wanted(&here) {
                    folders.push(below);
                }
            } else if metadata.is_file() {
                let file = Listed { path: below, stamp: Stamp::from(&metadata) };
                match kind_of(&name) {
                    FileKind::Archive(_) => self.listing.archives.push(file),
                    FileKind::Packed => self.listing.packed.push(file),
                    FileKind::Plain => self.listing.files.push(file),
                }
                anyhow::ensure!(self.listing.files.len() <= MAX_FILES, too_many(self.root));
            } else {
                self.skip(below, "it is neither a file nor a folder");
            }
        }
        for below in folders {
            if depth >= MAX_DEPTH {
                self.skip(below, format!("it is more than {MAX_DEPTH} folders deep"));
                continue;
            }
            self.folder(&below, depth + 1)?;
        }
        Ok(())
    }

    fn names(&mut self, folder: &str) -> anyhow::Result<Vec<String>> {
        let path = self.root.join(folder);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if folder.is_empty() => {
                let cannot = || format!("cannot list the source {}", path.display());
                return Err(error).with_context(cannot).hint(|| "give a folder that you may read");
            }
            Err(error) => {
                self.skip(folder.to_owned(), format!("the folder cannot be listed: {error}"));
                return Ok(Vec::new());
            }
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = match entry {
                Ok(entry) => entry.file_name(),
                Err(error) => {
                    let reason = format!("the folder cannot be listed completely: {error}");
                    self.skip(if folder.is_empty() { "." } else { folder }.to_owned(), reason);
                    break;
                }
            };
            match name.into_string() {
                Ok(name) if name.starts_with('.') || is_system_junk(&name) => {}
                Ok(name) if name.contains('\\') => {
                    self.skip(join(folder, &name), "its name has a backslash, which separates folders elsewhere");
                }
                Ok(name) => names.push(name),
                // It is in no annotation file.
                Err(name) => self.skip(join(folder, &name.to_string_lossy()), "its name is not UTF-8"),
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Whether a folder is part of the source: not one that was prepared from it, nor one that a link led to before.
    fn is_wanted(&mut self, folder: &Path) -> bool {
        let is_made = [PREPARATION_FILE, MARKER_FILE, RUN_FILE].iter().any(|name| folder.join(name).is_file())
            || self.output.is_some() && fs::canonicalize(folder).ok() == self.output;
        let mut is_new = || !folder.is_symlink() || fs::canonicalize(folder).is_ok_and(|real| self.linked.insert(real));
        !is_made && is_new()
    }

    fn skip(&mut self, path: String, reason: impl Into<String>) {
        self.listing.skipped.push((path, reason.into()));
    }
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// Why the metadata of the file at `path` cannot be read.
fn why_not(path: &Path, error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound if path.is_symlink() => "it is a broken link".to_owned(),
        _ => format!("it cannot be accessed: {error}"),
    }
}

/// The refusal of a source that is not a data set.
pub(super) fn too_many(root: &Path) -> anyhow::Error {
    let message = format!("{} contains more than {MAX_FILES} files", root.display());
    failure(message, "give only the folder of the data set")
}

/// Whether this is more than [`MAX_FILES`].
pub(super) fn is_too_many(count: usize) -> bool {
    count > MAX_FILES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(folder: &Path, path: &str) {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"x").unwrap();
    }

    fn paths(listing: &Listing) -> Vec<&str> {
        listing.files.iter().map(|file| file.path.as_str()).collect()
    }

    #[test]
    fn files_come_with_their_stamps_and_what_was_made_of_them_is_skipped() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["b/2.jpg", "1.jpg", "c.tar", "d.txz", ".x/3.jpg", "__MACOSX/4.jpg", "out/images/1.jpg"] {
            put(folder.path(), path);
        }
        for made in [PREPARATION_FILE, MARKER_FILE, RUN_FILE] {
            put(folder.path(), &format!("made_{}/{made}", made.trim_start_matches('.')));
            put(folder.path(), &format!("made_{}/5.jpg", made.trim_start_matches('.')));
        }
        let listing = Listing::of(folder.path(), Some(&folder.path().join("out"))).unwrap();
        assert_eq!(paths(&listing), ["1.jpg", "b/2.jpg"]);
        assert_eq!((listing.archives[0].path.as_str(), listing.packed[0].path.as_str()), ("c.tar", "d.txz"));
        assert_eq!(listing.files[0].stamp, Stamp::of(&folder.path().join("1.jpg")).unwrap());
        assert!(listing.files[0].stamp.modified > 0 && listing.skipped.is_empty());
    }

    #[test]
    fn names_say_how_a_file_is_packed() {
        let tar = |packing| FileKind::Archive(ArchiveFormat::PackedTar(packing));
        let text = |packing| FileKind::Archive(ArchiveFormat::PackedText(packing));
        for (name, kind) in [
            ("a.tar.gz", tar(Packing::Gzip)),
            ("A.TGZ", tar(Packing::Gzip)),
            ("a.tar.zst", tar(Packing::Zstd)),
            ("a.jsonl.gz", text(Packing::Gzip)),
            ("train.csv.zstd", text(Packing::Zstd)),
            ("train.gz", FileKind::Packed),
            ("a.jpg.gz", FileKind::Packed),
            ("a.tar.xz", FileKind::Packed),
            ("a.parquet", FileKind::Plain),
            ("a.json", FileKind::Plain),
        ] {
            assert_eq!(kind_of(name), kind, "{name}");
        }
        assert!(is_parquet_name("Train-00000-of-00001.PARQUET") && !is_parquet_name("parquet"));
    }

    #[cfg(unix)]
    #[test]
    fn what_is_not_a_file_is_named_and_never_opened() {
        use std::os::unix::ffi::OsStrExt as _;
        use std::os::unix::fs::symlink;
        use std::os::unix::net::UnixListener;

        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        put(folder.path(), "a.jpg");
        symlink("nowhere", path("dead.jpg")).unwrap();
        symlink("loop.jpg", path("loop.jpg")).unwrap();
        symlink(path("a.jpg"), path("link.jpg")).unwrap();
        let _socket = UnixListener::bind(path("s.jpg")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, path("pipe.jpg"), rustix::fs::Mode::RUSR).unwrap();
        symlink("pipe.jpg", path("to_pipe.jpg")).unwrap();
        fs::write(folder.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9.jpg")), b"x").unwrap();
        put(folder.path(), r"b\c.jpg");
        let deep = (0..MAX_DEPTH + 1).map(|depth| format!("{depth}/")).collect::<String>();
        put(folder.path(), &format!("{deep}deep.jpg"));
        let listing = Listing::of(folder.path(), None).unwrap();
        assert_eq!(paths(&listing), ["a.jpg", "link.jpg"]);
        for (name, expected) in [
            ("dead.jpg", "a broken link"),
            ("loop.jpg", "cannot be accessed"),
            ("s.jpg", "neither a file nor a folder"),
            ("pipe.jpg", "neither a file nor a folder"),
            ("to_pipe.jpg", "neither a file nor a folder"),
            ("caf\u{fffd}.jpg", "its name is not UTF-8"),
            (r"b\c.jpg", "has a backslash"),
            (deep.trim_end_matches('/'), "more than 12 folders deep"),
        ] {
            let reason = listing.skipped.iter().find(|(path, _)| path == name).map(|(_, reason)| reason.as_str());
            assert!(reason.is_some_and(|reason| reason.contains(expected)), "{name}: {:?}", listing.skipped);
        }
        assert_eq!(listing.skipped.len(), 8, "{:?}", listing.skipped);
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_may_not_be_listed_is_left_aside() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), "a.jpg");
        put(folder.path(), "lost+found/b.jpg");
        let closed = folder.path().join("lost+found");
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
        let listing = Listing::of(folder.path(), None).unwrap();
        // An administrator may list every folder.
        if fs::read_dir(&closed).is_ok() {
            assert_eq!(paths(&listing), ["a.jpg", "lost+found/b.jpg"]);
        } else {
            assert_eq!(paths(&listing), ["a.jpg"]);
            assert!(listing.skipped[0].1.contains("cannot be listed"), "{:?}", listing.skipped);
        }
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    }

    #[test]
    fn a_source_that_cannot_be_one_is_named() {
        use base::error::describe;

        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), "a.txt");
        for (path, expected) in
            [("absent", "does not exist"), ("a.txt", "neither a folder nor an archive nor a Parquet file")]
        {
            let text = describe(&Listing::of(&folder.path().join(path), None).unwrap_err());
            assert!(text.contains(expected) && text.contains("hint: "), "{text}");
        }
    }
}
