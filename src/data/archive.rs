//! Reads zip archives of unknown origin: everything in them is checked, and nothing is believed that can be counted.
//!
//! An archive with an absolute path, a `..`, a backslash, a link, an encrypted member, two members of one name or
//! members that share bytes is refused whole, before anything is written. Sizes are counted while reading. What is
//! extracted goes through `base::atomic_file`; a file that is already there with the same content is kept, so that a
//! second run goes on where the first one stopped.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, BufReader, ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use rayon::prelude::*;
use zip::ZipArchive;
use zip::result::ZipError;

use crate::base::atomic_file;
use crate::base::fault::{WithHint as _, fault};
use crate::base::terminal::Progress;
use crate::data::dataset::is_safe_relative;

/// What an archive may hold at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Number of members.
    pub num_members: usize,
    /// Bytes of one member, uncompressed.
    pub member_bytes: u64,
    /// Bytes of all members that are read by one call, uncompressed.
    pub total_bytes: u64,
    /// Uncompressed bytes for each compressed one, in a member of more than a mebibyte.
    pub ratio: u64,
}

impl Limits {
    /// For archives of images: three times the largest in use (COCO 2017: 123,000 images, 20 GB).
    pub const IMAGES: Self = Self { num_members: 500_000, member_bytes: 64 << 20, total_bytes: 64 << 30, ratio: 200 };
    /// For archives of annotations.
    pub const ANNOTATIONS: Self = Self { num_members: 10_000, member_bytes: 1 << 30, total_bytes: 4 << 30, ratio: 200 };
}

/// Members below this size are never called a compression bomb: an empty text compresses as well as one.
const RATIO_FROM: u64 = 1 << 20;

/// A file in an archive.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its path in the archive, checked: relative, with `/` between the parts.
    pub name: String,
    index: usize,
    declared_bytes: u64,
    compressed_bytes: u64,
}

impl Member {
    /// The last part of the path.
    pub fn file_name(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or(&self.name)
    }
}

/// What an extraction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extraction {
    /// Files written.
    pub num_written: usize,
    /// Files that were there already with the same content.
    pub num_kept: usize,
    /// Members that were not selected.
    pub num_left_out: usize,
}

/// A zip archive whose list of members has been checked.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    limits: Limits,
    members: Vec<Member>,
}

impl Archive {
    /// Opens `path` and checks the list of its members. Folders and what macOS adds (`__MACOSX/`, `._*`, `.DS_Store`)
    /// are left out of it.
    ///
    /// # Errors
    /// A file that cannot be read, is no zip archive, is cut or damaged, or is refused as the module says.
    pub fn open(path: &Path, limits: Limits) -> anyhow::Result<Self> {
        let mut zip = open_zip(path)?;
        let members = check_members(&mut zip, limits)
            .with_context(|| format!("the archive {} is refused", path.display()))
            .hint(|| "use the archive as its publisher distributes it, or unpack it yourself")?;
        Ok(Self { path: path.to_owned(), limits, members })
    }

    /// The files in the archive, in its order.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The content of one member.
    ///
    /// # Errors
    /// A damaged archive, or a member beyond the limits.
    pub fn read(&self, member: &Member) -> anyhow::Result<Vec<u8>> {
        self.read_member(&mut open_zip(&self.path)?, member, &AtomicU64::new(0))
    }

    /// Writes the members for which `select` gives a path to that path below `output`, on all threads; `progress`
    /// advances by one for each.
    ///
    /// # Errors
    /// As [`Archive::read`], two members for one file, a path that leaves `output`, and what writing gives. What was
    /// written before the error stays.
    pub fn extract(
        &self,
        output: &Path,
        select: &dyn Fn(&Member) -> Option<PathBuf>,
        progress: &Progress,
    ) -> anyhow::Result<Extraction> {
        let selected = self.targets(output, select)?;
        let folders: BTreeSet<&Path> = selected.iter().filter_map(|(_, target)| target.parent()).collect();
        for folder in folders {
            explain_write(fs::create_dir_all(folder), folder)?;
        }
        let total = AtomicU64::new(0);
        let part = selected.len().div_ceil(rayon::current_num_threads()).max(1);
        let num_written: usize = selected
            .par_chunks(part)
            .map(|part| -> anyhow::Result<usize> {
                let mut zip = open_zip(&self.path)?;
                let mut num_written = 0;
                for (member, target) in part {
                    let bytes = self.read_member(&mut zip, member, &total)?;
                    num_written += usize::from(write_if_changed(target, &bytes)?);
                    progress.advance(1, "");
                }
                Ok(num_written)
            })
            .try_reduce(|| 0, |a, b| Ok(a + b))?;
        Ok(Extraction {
            num_written,
            num_kept: selected.len() - num_written,
            num_left_out: self.members.len() - selected.len(),
        })
    }

    fn targets(
        &self,
        output: &Path,
        select: &dyn Fn(&Member) -> Option<PathBuf>,
    ) -> anyhow::Result<Vec<(&Member, PathBuf)>> {
        let mut first_of: HashMap<String, &str> = HashMap::new();
        let mut selected = Vec::new();
        for member in &self.members {
            let Some(relative) = select(member) else { continue };
            let text = relative.to_str().filter(|text| is_safe_relative(text));
            let text = text.with_context(|| format!("member {} would leave {}", member.name, output.display()))?;
            // Two names that differ in case alone are one file on macOS and Windows.
            if let Some(first) = first_of.insert(text.to_lowercase(), &member.name) {
                let message = format!("{}: {first} and {} would be one file", self.path.display(), member.name);
                return Err(fault(message, "remove one of the two from the archive"));
            }
            selected.push((member, output.join(relative)));
        }
        Ok(selected)
    }

    fn read_member(&self, zip: &mut Zip, member: &Member, total: &AtomicU64) -> anyhow::Result<Vec<u8>> {
        let place = || format!("member {} of {}", member.name, self.path.display());
        let mut reader = zip.by_index(member.index).map_err(damaged).with_context(place)?;
        let mut bytes = Vec::with_capacity(member.declared_bytes.min(1 << 20) as usize);
        let mut buffer = vec![0; 1 << 16];
        loop {
            let read = reader.read(&mut buffer).map_err(|error| damaged(error.into())).with_context(place)?;
            if read == 0 {
                return Ok(bytes);
            }
            bytes.extend_from_slice(&buffer[..read]);
            let all = total.fetch_add(read as u64, Ordering::Relaxed) + read as u64;
            self.check_sizes(member, bytes.len() as u64, all).with_context(place)?;
        }
    }

    fn check_sizes(&self, member: &Member, bytes: u64, total: u64) -> anyhow::Result<()> {
        let limits = self.limits;
        let excess = if bytes > limits.member_bytes {
            format!("it has more than {} bytes", limits.member_bytes)
        } else if total > limits.total_bytes {
            format!("the members have more than {} bytes together", limits.total_bytes)
        } else if bytes > RATIO_FROM && bytes / limits.ratio > member.compressed_bytes {
            format!("it grows by more than {} times: a compression bomb", limits.ratio)
        } else {
            return Ok(());
        };
        Err(fault(excess, "unpack the archive yourself if you trust it, and give the folder"))
    }
}

/// Writes `bytes` to `path` unless they are there already; gives whether it wrote.
pub(crate) fn write_if_changed(path: &Path, bytes: &[u8]) -> anyhow::Result<bool> {
    let there = fs::symlink_metadata(path).is_ok_and(|file| file.is_file() && file.len() == bytes.len() as u64);
    if there && fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(false);
    }
    explain_write(atomic_file::write(path, bytes), path)?;
    Ok(true)
}

/// Says what could not be written, and the way out of a full disk and of a folder that may not be written.
pub(crate) fn explain_write<T>(result: io::Result<T>, path: &Path) -> anyhow::Result<T> {
    let kind = result.as_ref().err().map(io::Error::kind);
    result.with_context(|| format!("cannot write {}", path.display())).hint(|| match kind {
        Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
            "free some space and run the same command again: it goes on where it stopped"
        }
        Some(ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => "choose a folder that may be written",
        _ => "check that the path names a folder that may be written",
    })
}

type Zip = ZipArchive<BufReader<File>>;

fn open_zip(path: &Path) -> anyhow::Result<Zip> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    ZipArchive::new(BufReader::new(file))
        .map_err(damaged)
        .with_context(|| format!("{} is not a whole zip archive", path.display()))
}

fn damaged(error: ZipError) -> anyhow::Error {
    let hint = match &error {
        ZipError::Io(io) if io.raw_os_error().is_some() => return anyhow::Error::new(error),
        ZipError::UnsupportedArchive(_) | ZipError::CompressionMethodNotSupported(_) => {
            "unpack the archive yourself and give the folder"
        }
        _ => "the file is cut or damaged: download it again",
    };
    fault(error, hint)
}

fn check_members(zip: &mut Zip, limits: Limits) -> anyhow::Result<Vec<Member>> {
    anyhow::ensure!(
        zip.len() <= limits.num_members,
        "it has {} members, at most {} are accepted",
        zip.len(),
        limits.num_members
    );
    anyhow::ensure!(!zip.has_duplicate_names(), "two of its members have the same name");
    let mut members = Vec::with_capacity(zip.len());
    for index in 0..zip.len() {
        let entry = zip.by_index_data(index).map_err(damaged)?;
        let name = entry.name().map_err(damaged)?.into_owned();
        check_name(&name)?;
        // The upper four of the 16 bits are the kind of the file; archives made without Unix have none.
        let kind = entry.unix_mode().unwrap_or(0) & 0o170_000;
        anyhow::ensure!(!entry.is_symlink() && kind != 0o120_000, "its member {name} is a link");
        anyhow::ensure!(matches!(kind, 0 | 0o100_000 | 0o040_000), "its member {name} is no file and no folder");
        anyhow::ensure!(!entry.encrypted(), "its member {name} is encrypted");
        if !entry.is_dir() && !is_system_junk(&name) {
            let (declared_bytes, compressed_bytes) = (entry.size(), entry.compressed_size());
            members.push(Member { name, index, declared_bytes, compressed_bytes });
        }
    }
    anyhow::ensure!(!zip.has_overlapping_files().map_err(damaged)?, "its members share bytes: a compression bomb");
    Ok(members)
}

fn check_name(name: &str) -> anyhow::Result<()> {
    anyhow::ensure!(is_safe_relative(name.strip_suffix('/').unwrap_or(name)), "its member {name:?} has an unsafe path");
    Ok(())
}

fn is_system_junk(name: &str) -> bool {
    let file_name = name.rsplit('/').next().unwrap_or(name);
    name.split('/').any(|part| part == "__MACOSX") || file_name.starts_with("._") || file_name == ".DS_Store"
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use tempfile::TempDir;
    use zip::write::SimpleFileOptions;
    use zip::{CompressionMethod, ZipWriter};

    use super::*;
    use crate::base::fault::describe;

    const SMALL: Limits = Limits { num_members: 5, member_bytes: 4 << 20, total_bytes: 6 << 20, ratio: 200 };

    fn archive(members: &[(&str, &[u8])]) -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.zip");
        let mut writer = ZipWriter::new(File::create(&path).unwrap());
        for (name, bytes) in members {
            let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
            writer.start_file(*name, options).unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap();
        (folder, path)
    }

    /// Changes the archive as a text: `from` and `to` have one length.
    fn patch(path: &Path, from: &[u8], to: &[u8]) {
        let mut bytes = fs::read(path).unwrap();
        for start in 0..=bytes.len() - from.len() {
            if bytes[start..].starts_with(from) {
                bytes[start..start + to.len()].copy_from_slice(to);
            }
        }
        fs::write(path, bytes).unwrap();
    }

    fn extract_all(path: &Path, output: &Path) -> anyhow::Result<Extraction> {
        let select = |member: &Member| Some(PathBuf::from(member.file_name()));
        Archive::open(path, SMALL)?.extract(output, &select, &Progress::new("extracting", 1, 0))
    }

    fn refusal(path: &Path) -> String {
        let output = path.parent().unwrap().join("out");
        let text = describe(&extract_all(path, &output).unwrap_err());
        assert!(text.contains("hint: "), "{text}");
        text
    }

    #[test]
    fn selected_members_are_written_and_kept_by_a_second_run() {
        let (folder, path) = archive(&[("d/a.jpg", b"one"), ("d/b.jpg", b"two"), ("d/c.txt", b"three")]);
        let output = folder.path().join("out/images");
        let archive = Archive::open(&path, SMALL).unwrap();
        let select = |member: &Member| member.name.ends_with(".jpg").then(|| PathBuf::from(member.file_name()));
        let run = || archive.extract(&output, &select, &Progress::new("extracting", 2, 0)).unwrap();
        assert_eq!(run(), Extraction { num_written: 2, num_kept: 0, num_left_out: 1 });
        assert_eq!(fs::read(output.join("b.jpg")).unwrap(), b"two");
        fs::write(output.join("b.jpg"), b"2wo").unwrap();
        assert_eq!(run(), Extraction { num_written: 1, num_kept: 1, num_left_out: 1 });
        assert_eq!(fs::read(output.join("b.jpg")).unwrap(), b"two");
        assert_eq!(fs::read_dir(&output).unwrap().count(), 2);
    }

    #[test]
    fn one_member_is_read_into_memory() {
        let (_folder, path) = archive(&[("d/a.txt", b"one")]);
        let archive = Archive::open(&path, SMALL).unwrap();
        assert_eq!(archive.read(&archive.members()[0]).unwrap(), b"one");
    }

    #[test]
    fn what_macos_adds_is_left_out() {
        let (_folder, path) =
            archive(&[("__MACOSX/d/a.jpg", b"x"), ("d/._a.jpg", b"x"), (".DS_Store", b"x"), ("a", b"y")]);
        let archive = Archive::open(&path, SMALL).unwrap();
        assert_eq!(archive.members().iter().map(|member| member.name.as_str()).collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn unsafe_paths_are_refused_before_anything_is_written() {
        for name in ["../evil.jpg", "/abs/il.jpg", "a/../b.jpgx", "..\\evil.jpg", "C:/evil.jpg", "a/./vil.jpg"] {
            let placeholder = "N".repeat(name.len());
            let (folder, path) = archive(&[("good.jpg", b"x"), (&placeholder, b"x")]);
            patch(&path, placeholder.as_bytes(), name.as_bytes());
            let text = refusal(&path);
            assert!(text.contains("unsafe path"), "{name}: {text}");
            assert!(!folder.path().join("out").exists());
        }
    }

    #[test]
    fn links_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.zip");
        let mut writer = ZipWriter::new(File::create(&path).unwrap());
        writer.add_symlink("a.jpg", "/etc/passwd", SimpleFileOptions::default()).unwrap();
        writer.finish().unwrap();
        assert!(refusal(&path).contains("a.jpg is a link"));
    }

    #[test]
    fn two_members_of_one_name_or_for_one_file_are_refused() {
        let (_folder, path) = archive(&[("a.jpg", b"x"), ("b.jpg", b"y")]);
        patch(&path, b"b.jpg", b"a.jpg");
        assert!(refusal(&path).contains("same name"));
        let (_folder, path) = archive(&[("d/a.jpg", b"x"), ("e/A.jpg", b"y")]);
        assert!(refusal(&path).contains("d/a.jpg and e/A.jpg would be one file"));
    }

    #[test]
    fn more_members_or_bytes_than_the_limits_are_refused() {
        let names: Vec<String> = (0..6).map(|n| format!("{n}.jpg")).collect();
        let members: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), b"x".as_slice())).collect();
        assert!(refusal(&archive(&members).1).contains("6 members"));
        let mut noise = vec![0; 5 << 20];
        let mut stream = crate::base::random::Stream::new(0, "test", "noise");
        noise.iter_mut().for_each(|byte| *byte = stream.next_u64() as u8);
        let (_folder, path) = archive(&[("a.jpg", &noise)]);
        assert!(refusal(&path).contains("more than 4194304 bytes"));
        let (_folder, path) = archive(&[("a.jpg", &noise[..4 << 20]), ("b.jpg", &noise[..4 << 20])]);
        assert!(refusal(&path).contains("6291456 bytes together"));
    }

    #[test]
    fn a_compression_bomb_is_refused() {
        let (_folder, path) = archive(&[("a.jpg", &vec![0; 4 << 20])]);
        assert!(refusal(&path).contains("compression bomb"));
    }

    #[test]
    fn a_size_in_the_header_that_lies_is_found_while_reading() {
        let content: Vec<u8> = (0..1_000_000u32).flat_map(u32::to_le_bytes).take(100_000).collect();
        let (_folder, path) = archive(&[("a.jpg", &content)]);
        patch(&path, &100_000u32.to_le_bytes(), &10u32.to_le_bytes());
        assert!(refusal(&path).contains("download it again"));
    }

    #[test]
    fn a_cut_or_damaged_archive_says_to_download_again() {
        let (_folder, path) = archive(&[("a.jpg", b"some content of the image")]);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 30]).unwrap();
        let text = refusal(&path);
        assert!(text.contains("a.zip is not a whole zip archive") && text.contains("download it again"), "{text}");
        let mut damaged = whole;
        damaged[40] ^= 0x10;
        fs::write(&path, damaged).unwrap();
        let text = refusal(&path);
        assert!(text.contains("member a.jpg") && text.contains("download it again"), "{text}");
    }

    #[test]
    fn an_output_that_cannot_be_written_is_named() {
        let (folder, path) = archive(&[("a.jpg", b"x")]);
        let output = folder.path().join("file/images");
        fs::write(folder.path().join("file"), b"").unwrap();
        let text = describe(&extract_all(&path, &output).unwrap_err());
        assert!(text.contains("cannot write") && text.contains("file/images"), "{text}");
    }
}
