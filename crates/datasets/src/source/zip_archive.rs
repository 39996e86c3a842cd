//! Reads zip archives of unknown origin: everything in them is checked, and nothing is believed that can be counted.
//!
//! A backslash between folders, as old programs of Windows write it, counts as a slash. An archive with an absolute path, a
//! `..`, a link, two members of one name, members that share bytes, or
//! more than its limits is refused whole, before anything is read from it. A member that turns out larger than the list
//! says, is damaged, encrypted or packed in a way that is not known is refused when it is read.

use std::collections::HashSet;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use zip::ZipArchive;
use zip::result::ZipError;

use crate::source::limits::{Limits, check_name, is_system_junk, read_to_limit};
use base::bounded_file;
use base::fault::{WithHint as _, fault};

/// A file in an archive.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its path in the archive, checked: relative, with `/` between the parts.
    pub name: String,
    /// Its size, uncompressed.
    pub bytes: u64,
    index: usize,
}

/// A zip archive whose list of members has been checked.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    members: Vec<Member>,
    remark: Option<String>,
}

impl Archive {
    /// Opens `path` and checks the list of its members. Folders and what macOS adds (`__MACOSX/`, `._*`, `.DS_Store`)
    /// are left out of it.
    ///
    /// # Errors
    /// A file that cannot be read, is no zip archive, is cut or damaged, or is refused as the module says.
    pub fn open(path: &Path, limits: Limits) -> anyhow::Result<Self> {
        let mut zip = open_zip(path)?;
        let (members, remark) = check_members(&mut zip, limits)
            .with_context(|| format!("the archive {} is refused", path.display()))
            .hint(|| "use the archive as its publisher distributes it, or unpack it yourself and give the folder")?;
        Ok(Self { path: path.to_owned(), members, remark })
    }

    /// The files in the archive, in its order.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// What was read otherwise than it is written.
    pub fn remark(&self) -> Option<&str> {
        self.remark.as_deref()
    }

    /// Opens the archive once more, to read members of it.
    ///
    /// # Errors
    /// An archive that is gone or was changed.
    pub fn reader(&self) -> anyhow::Result<ZipReader> {
        Ok(ZipReader(open_zip(&self.path)?))
    }

    /// The first `most` bytes of a member's content.
    ///
    /// # Errors
    /// A damaged archive, or a member that is larger than its list says.
    pub fn read(&self, reader: &mut ZipReader, member: &Member, most: u64) -> anyhow::Result<Vec<u8>> {
        let place = || format!("member {} of {}", member.name, self.path.display());
        let content = reader.0.by_index(member.index).map_err(damaged).with_context(place)?;
        let most = most.min(member.bytes.saturating_add(1));
        let bytes =
            read_to_limit(content, most, member.bytes).map_err(|error| damaged(error.into())).with_context(place)?;
        if bytes.len() as u64 > member.bytes {
            let message = format!("it has more than the {} bytes that the archive lists", member.bytes);
            return Err(fault(message, "the file is damaged: download it again")).with_context(place);
        }
        Ok(bytes)
    }
}

/// An archive that is open for reading.
pub struct ZipReader(Zip);

type Zip = ZipArchive<BufReader<File>>;

fn open_zip(path: &Path) -> anyhow::Result<Zip> {
    let file = bounded_file::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    ZipArchive::new(BufReader::new(file))
        .map_err(damaged)
        .with_context(|| format!("{} is not a whole zip archive", path.display()))
}

fn damaged(error: ZipError) -> anyhow::Error {
    let hint = match &error {
        ZipError::Io(io) if io.raw_os_error().is_some() => return anyhow::Error::new(error),
        ZipError::UnsupportedArchive(ZipError::PASSWORD_REQUIRED) => {
            return fault("it is encrypted", "unpack the archive yourself and give the folder");
        }
        ZipError::UnsupportedArchive(_) | ZipError::CompressionMethodNotSupported(_) => {
            "unpack the archive yourself and give the folder"
        }
        _ => "the file is cut or damaged: download it again",
    };
    fault(error, hint)
}

fn check_members(zip: &mut Zip, limits: Limits) -> anyhow::Result<(Vec<Member>, Option<String>)> {
    anyhow::ensure!(
        zip.len() <= limits.num_members,
        "it has {} members, at most {} are accepted",
        zip.len(),
        limits.num_members
    );
    anyhow::ensure!(!zip.has_duplicate_names(), "two of its members have the same name");
    let mut members = Vec::with_capacity(zip.len());
    let (mut names, mut num_mended, mut total) = (HashSet::new(), 0, 0u64);
    for index in 0..zip.len() {
        let entry = zip.by_index_data(index).map_err(damaged)?;
        let name = match std::str::from_utf8(entry.name_raw()) {
            // macOS writes UTF-8 without saying so.
            Ok(name) => name.to_owned(),
            Err(_) => entry.name().map_err(damaged)?.into_owned(),
        };
        let is_mended = name.contains('\\');
        let name = name.replace('\\', "/");
        check_name(&name)?;
        // The upper four of the 16 bits are the kind of the file; archives made without Unix have none.
        let kind = entry.unix_mode().unwrap_or(0) & 0o170_000;
        anyhow::ensure!(!entry.is_symlink() && kind != 0o120_000, "its member {name} is a link");
        anyhow::ensure!(matches!(kind, 0 | 0o100_000 | 0o040_000), "its member {name} is no file and no folder");
        if !name.ends_with('/') && !is_system_junk(&name) {
            num_mended += usize::from(is_mended);
            anyhow::ensure!(names.insert(name.clone()), "two of its members have the same name {name}");
            let (bytes, compressed_bytes) = (entry.size(), entry.compressed_size());
            limits.check_member(&name, bytes, &mut total)?;
            limits.check_ratio(&name, bytes, compressed_bytes)?;
            members.push(Member { name, index, bytes });
        }
    }
    anyhow::ensure!(!zip.has_overlapping_files().map_err(damaged)?, "its members share bytes: a compression bomb");
    let remark = || format!("{num_mended} of its names have backslashes between folders: read as slashes");
    Ok((members, (num_mended > 0).then(remark)))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use tempfile::TempDir;
    use zip::write::SimpleFileOptions;
    use zip::{CompressionMethod, ZipWriter};

    use super::*;
    use base::fault::describe;

    const SMALL: Limits =
        Limits { num_members: 5, image_bytes: 4 << 20, text_bytes: 5 << 20, total_bytes: 6 << 20, ratio: 200 };

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

    fn read_all(path: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
        let archive = Archive::open(path, SMALL)?;
        let mut reader = archive.reader()?;
        archive.members().iter().map(|member| archive.read(&mut reader, member, u64::MAX)).collect()
    }

    fn refusal(path: &Path) -> String {
        let text = describe(&read_all(path).unwrap_err());
        assert!(text.contains("hint: "), "{text}");
        text
    }

    #[test]
    fn members_are_read_whole_or_from_their_start() {
        let (_folder, path) = archive(&[("d/a.jpg", b"one"), ("d/b.txt", b"three")]);
        assert_eq!(read_all(&path).unwrap(), [b"one".to_vec(), b"three".to_vec()]);
        let archive = Archive::open(&path, SMALL).unwrap();
        let start = archive.read(&mut archive.reader().unwrap(), &archive.members()[1], 2).unwrap();
        assert_eq!(start, b"th");
    }

    #[test]
    fn what_macos_adds_is_left_out() {
        let (_folder, path) =
            archive(&[("__MACOSX/d/a.jpg", b"x"), ("d/._a.jpg", b"x"), (".DS_Store", b"x"), ("a", b"y")]);
        let archive = Archive::open(&path, SMALL).unwrap();
        assert_eq!(archive.members().iter().map(|member| member.name.as_str()).collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn unsafe_paths_are_refused_before_anything_is_read() {
        for name in ["../evil.jpg", "/abs/il.jpg", "a/../b.jpgx", "..\\evil.jpg", "C:/evil.jpg", "a/./vil.jpg"] {
            let placeholder = "N".repeat(name.len());
            let (_folder, path) = archive(&[("good.jpg", b"x"), (&placeholder, b"x")]);
            patch(&path, placeholder.as_bytes(), name.as_bytes());
            let text = refusal(&path);
            assert!(text.contains("unsafe path"), "{name}: {text}");
        }
    }

    #[test]
    fn backslashes_between_folders_are_slashes_where_that_is_safe() {
        let (_folder, path) = archive(&[("d+e+a.jpg", b"one"), ("d+b.txt", b"two")]);
        patch(&path, b"d+e+a.jpg", b"d\\e\\a.jpg");
        patch(&path, b"d+b.txt", b"d\\b.txt");
        let opened = Archive::open(&path, SMALL).unwrap();
        let names: Vec<&str> = opened.members().iter().map(|member| member.name.as_str()).collect();
        assert_eq!(names, ["d/e/a.jpg", "d/b.txt"]);
        assert_eq!(opened.remark(), Some("2 of its names have backslashes between folders: read as slashes"));
        assert_eq!(read_all(&path).unwrap(), [b"one".to_vec(), b"two".to_vec()]);
        for name in ["d\\..\\..\\e.jpg", "C:\\evil.jpg", "\\\\host\\e.jpg", "\\abs\\il.jpg"] {
            let placeholder = "N".repeat(name.len());
            let (_folder, path) = archive(&[(&placeholder, b"x")]);
            patch(&path, placeholder.as_bytes(), name.as_bytes());
            assert!(refusal(&path).contains("unsafe path"), "{name}");
        }
        let (_folder, path) = archive(&[("d+a.jpg", b"x"), ("d/a.jpg", b"y")]);
        patch(&path, b"d+a.jpg", b"d\\a.jpg");
        assert!(refusal(&path).contains("same name d/a.jpg"));
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
    fn two_members_of_one_name_are_refused() {
        let (_folder, path) = archive(&[("a.jpg", b"x"), ("b.jpg", b"y")]);
        patch(&path, b"b.jpg", b"a.jpg");
        assert!(refusal(&path).contains("same name"));
    }

    #[test]
    fn more_members_or_bytes_than_the_limits_are_refused() {
        let names: Vec<String> = (0..6).map(|n| format!("{n}.jpg")).collect();
        let members: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), b"x".as_slice())).collect();
        assert!(refusal(&archive(&members).1).contains("6 members"));
        let mut noise = vec![0; 5 << 20];
        let mut stream = base::random::Stream::new(0, "test", "noise");
        noise.iter_mut().for_each(|byte| *byte = stream.next_u64() as u8);
        let (_folder, path) = archive(&[("a.jpg", &noise)]);
        assert!(refusal(&path).contains("a.jpg has 5242880 bytes, at most 4194304"));
        assert!(read_all(&archive(&[("a.json", &noise)]).1).is_ok(), "text may be longer than an image");
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
}
