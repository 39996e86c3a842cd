//! An archive of unknown origin: zip, tar, a compressed tar or text, or the images in a Parquet file. One with an
//! absolute path, a `..`, a link, two members of one name, members that share bytes, or more than its limits is refused
//! whole, before anything is read from it. Folders and what macOS adds (`__MACOSX/`, `._*`, `.DS_Store`) are left out of
//! the list.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::compression::Packing;
use crate::name_forms::without_ending;
use crate::shards::place::Place;
use crate::source::limits::{Limits, Member, Members, check_name, read_to_limit};
use crate::source::packing::{self, Unpacked};
use crate::source::parquet::{self, ImageReader, Table};
use crate::source::zip_archive::Zip;
use crate::source::{tar_archive, zip_archive};
use base::bounded_file;
use base::error::{WithHint as _, failure};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveFormat {
    Zip,
    Tar,
    PackedTar(Packing),
    /// A text that is compressed: its only member.
    PackedText(Packing),
}

/// An archive whose list of members has been checked.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    content: Content,
    limits: Limits,
    members: Vec<Member>,
    remark: Option<String>,
}

/// Where a member lies in its archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemberPlace {
    /// Of the first shard, and without a digest.
    pub(crate) place: Place,
    /// The SHA-256 of what lies there, where it was read to find it.
    pub(crate) digest: Option<[u8; 32]>,
}

impl MemberPlace {
    fn unread(place: Place) -> Self {
        Self { place, digest: None }
    }

    fn read(place: Place) -> Self {
        Self { place, digest: Some(place.digest) }
    }
}

#[derive(Debug)]
enum Content {
    Files(ArchiveFormat),
    Table(Box<Table>),
}

/// Reads members of an archive.
pub struct Reader(Open);

enum Open {
    Zip(Zip),
    Tar(File),
    Packed(Packing, Option<Unpacked>),
    Images(Box<ImageReader>),
}

impl Archive {
    /// Opens `path` and checks the list of its members.
    pub fn open(path: &Path, format: ArchiveFormat, limits: Limits) -> anyhow::Result<Self> {
        let listed = match format {
            ArchiveFormat::Zip => zip_archive::list(&mut open_zip(path)?, limits),
            ArchiveFormat::Tar => tar_archive::list(&open_file(path)?, limits),
            ArchiveFormat::PackedTar(packing) => {
                tar_archive::list_in_order(Unpacked::open(path, packing, limits)?, limits)
            }
            ArchiveFormat::PackedText(packing) => list_text(Unpacked::open(path, packing, limits)?, path, limits),
        };
        let (members, remark) = listed
            .with_context(|| format!("the archive {} is refused", path.display()))
            .hint(|| "use the archive as it is distributed, or unpack it yourself and give the folder")?;
        Ok(Self { path: path.to_owned(), content: Content::Files(format), limits, members, remark })
    }

    /// Opens the Parquet file at `path`, whose images are its members: those of the column called `image`, where one is
    /// given.
    pub(crate) fn open_table(path: &Path, limits: Limits, image: Option<&str>) -> anyhow::Result<Self> {
        let (table, found) = parquet::open(path, limits, image)
            .with_context(|| format!("the Parquet file {} cannot be used", path.display()))?;
        let content = Content::Table(Box::new(table));
        Ok(Self { path: path.to_owned(), content, limits, members: found.members, remark: found.remark })
    }

    /// The files in the archive, in its order.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// What to report about an archive that is accepted.
    pub fn remark(&self) -> Option<&str> {
        self.remark.as_deref()
    }

    /// What the archive is, where that is a Parquet file.
    pub(crate) fn table(&self) -> Option<&Table> {
        match &self.content {
            Content::Table(table) => Some(table),
            Content::Files(_) => None,
        }
    }

    /// Whether members are read fast in their order only.
    pub(super) fn is_in_order(&self) -> bool {
        !matches!(self.content, Content::Files(ArchiveFormat::Zip | ArchiveFormat::Tar))
    }

    /// Bytes of memory that reading takes beside the members.
    pub(super) fn memory(&self) -> u64 {
        self.table().map_or(0, Table::memory)
    }

    /// Where each of the members lies in the file, with what is known of its content; `None` where they are packed.
    pub(crate) fn places(&self) -> anyhow::Result<Option<Vec<MemberPlace>>> {
        match &self.content {
            Content::Files(ArchiveFormat::Tar) => {
                Ok(Some(self.members.iter().map(tar_archive::place).map(MemberPlace::unread).collect()))
            }
            Content::Files(_) => Ok(None),
            Content::Table(table) => {
                let places = parquet::places(table, &self.members)
                    .with_context(|| format!("the Parquet file {} cannot be used", self.path.display()))?;
                Ok(Some(places.into_iter().map(MemberPlace::read).collect()))
            }
        }
    }

    /// Opens the archive once more, to read members of it.
    pub fn reader(&self) -> anyhow::Result<Reader> {
        Ok(Reader(match self.content {
            Content::Files(ArchiveFormat::Zip) => Open::Zip(open_zip(&self.path)?),
            Content::Files(ArchiveFormat::Tar) => Open::Tar(open_file(&self.path)?),
            Content::Files(ArchiveFormat::PackedTar(packing) | ArchiveFormat::PackedText(packing)) => {
                Open::Packed(packing, None)
            }
            Content::Table(_) => Open::Images(Box::default()),
        }))
    }

    /// The first `max` bytes of a member's content.
    pub fn read(&self, reader: &mut Reader, member: &Member, max: u64) -> anyhow::Result<Vec<u8>> {
        match (&mut reader.0, self.table()) {
            (Open::Zip(zip), _) => zip_archive::read(zip, member, max),
            (Open::Tar(file), _) => tar_archive::read(file, member, max),
            (Open::Packed(packing, unpacked), _) => self.read_packed(*packing, unpacked, member, max),
            (Open::Images(reader), Some(table)) => reader.read(table, member, max),
            (Open::Images(_), None) => Ok(Vec::new()),
        }
        .with_context(|| format!("member {} of {}", member.name, self.path.display()))
    }

    /// Reads on to a member that comes later, or begins anew.
    fn read_packed(
        &self,
        packing: Packing,
        unpacked: &mut Option<Unpacked>,
        member: &Member,
        max: u64,
    ) -> anyhow::Result<Vec<u8>> {
        let mut content = match unpacked.take().filter(|content| content.position() <= member.place) {
            Some(content) => content,
            None => Unpacked::open(&self.path, packing, self.limits)?,
        };
        let before = member.place - content.position();
        let max = max.min(member.bytes);
        let read = io::copy(&mut content.by_ref().take(before), &mut io::sink())
            .and_then(|_| read_to_limit(content.by_ref(), max, member.bytes));
        let bytes = read.map_err(|error| failure(&error, packing::hint(&error)))?;
        if bytes.len() as u64 != max {
            return Err(failure("the file ends within it", "the file was changed meanwhile: run the command again"));
        }
        *unpacked = Some(content);
        Ok(bytes)
    }
}

fn open_file(path: &Path) -> anyhow::Result<File> {
    bounded_file::open(path).with_context(|| format!("cannot open {}", path.display()))
}

fn open_zip(path: &Path) -> anyhow::Result<Zip> {
    zip_archive::open(open_file(path)?).with_context(|| format!("{} is not a complete zip archive", path.display()))
}

/// The text that is packed, which is called as the file without its last ending.
fn list_text(mut content: Unpacked, path: &Path, limits: Limits) -> anyhow::Result<(Vec<Member>, Option<String>)> {
    let file_name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let name = without_ending(&file_name);
    check_name(name)?;
    let most = limits.text_bytes.saturating_add(1);
    let read = io::copy(&mut content.by_ref().take(most), &mut io::sink());
    let bytes = read.map_err(|error| failure(&error, packing::hint(&error)))?;
    let mut members = Members::new(limits);
    members.add(name, bytes, 0)?;
    Ok((members.list, None))
}

#[cfg(test)]
mod zip_tests {
    use std::fs;
    use std::io::Write as _;

    use tempfile::TempDir;
    use zip::write::SimpleFileOptions;
    use zip::{CompressionMethod, ZipWriter};

    use super::*;
    use base::error::describe;

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
        let archive = Archive::open(path, ArchiveFormat::Zip, SMALL)?;
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
        let archive = Archive::open(&path, ArchiveFormat::Zip, SMALL).unwrap();
        let start = archive.read(&mut archive.reader().unwrap(), &archive.members()[1], 2).unwrap();
        assert_eq!(start, b"th");
    }

    #[test]
    fn what_macos_adds_is_left_out() {
        let (_folder, path) =
            archive(&[("__MACOSX/d/a.jpg", b"x"), ("d/._a.jpg", b"x"), (".DS_Store", b"x"), ("a", b"y")]);
        let archive = Archive::open(&path, ArchiveFormat::Zip, SMALL).unwrap();
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
        let opened = Archive::open(&path, ArchiveFormat::Zip, SMALL).unwrap();
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
        assert!(text.contains("a.zip is not a complete zip archive") && text.contains("download it again"), "{text}");
        let mut damaged = whole;
        damaged[40] ^= 0x10;
        fs::write(&path, damaged).unwrap();
        let text = refusal(&path);
        assert!(text.contains("member a.jpg") && text.contains("download it again"), "{text}");
    }
}

#[cfg(test)]
mod tar_tests {
    use std::fs;

    use tar::EntryType;

    use tempfile::TempDir;

    use super::*;
    use base::error::describe;

    const SMALL: Limits = Limits { num_members: 3, image_bytes: 1000, text_bytes: 2000, total_bytes: 2500, ratio: 200 };

    fn archive(members: &[(&str, &[u8], EntryType)]) -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar");
        let mut builder = tar::Builder::new(File::create(&path).unwrap());
        for (name, bytes, kind) in members {
            let mut header = tar::Header::new_gnu();
            // Written as it is: the builder itself refuses names that leave a folder.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_size(bytes.len() as u64);
            header.set_cksum();
            builder.append(&header, *bytes).unwrap();
        }
        builder.finish().unwrap();
        (folder, path)
    }

    fn refusal(members: &[(&str, &[u8], EntryType)]) -> String {
        let text = describe(&Archive::open(&archive(members).1, ArchiveFormat::Tar, SMALL).unwrap_err());
        assert!(text.contains("hint: "), "{text}");
        text
    }

    const FILE: EntryType = EntryType::Regular;

    #[test]
    fn members_are_read_from_their_places() {
        let members =
            [("./d/", b"".as_slice(), EntryType::Directory), ("./d/a.jpg", b"one", FILE), ("b.txt", b"two", FILE)];
        let (_folder, path) = archive(&members);
        let archive = Archive::open(&path, ArchiveFormat::Tar, SMALL).unwrap();
        let mut reader = archive.reader().unwrap();
        let names: Vec<&str> = archive.members().iter().map(|member| member.name.as_str()).collect();
        assert_eq!(names, ["d/a.jpg", "b.txt"]);
        let mut read = |member: usize, max| archive.read(&mut reader, &archive.members()[member], max).unwrap();
        assert_eq!(
            (read(1, u64::MAX), read(0, u64::MAX), read(0, 1)),
            (b"two".to_vec(), b"one".to_vec(), b"o".to_vec())
        );
    }

    #[test]
    fn what_would_leave_the_folder_and_links_are_refused() {
        for name in ["../evil.jpg", "/abs.jpg", "a/../../b.jpg", "..\\evil.jpg"] {
            assert!(refusal(&[(name, b"x", FILE)]).contains("unsafe path"), "{name}");
        }
        for kind in [EntryType::Symlink, EntryType::Link] {
            assert!(refusal(&[("a.jpg", b"", kind)]).contains("a.jpg is a link"));
        }
        assert!(refusal(&[("a.jpg", b"", EntryType::Char)]).contains("neither a file nor a folder"));
    }

    #[test]
    fn more_than_the_limits_and_two_of_a_name_are_refused() {
        let one = |name: &'static str| (name, b"x".as_slice(), FILE);
        assert!(refusal(&[one("a"), one("b"), one("c"), one("d")]).contains("more than the 3 members"));
        assert!(refusal(&[one("a"), one("a")]).contains("have the same name a"));
        assert!(refusal(&[("a.jpg", &[0; 1001], FILE)]).contains("at most 1000 are accepted"));
        assert!(refusal(&[("a", &[0; 1500], FILE), ("b", &[0; 1500], FILE)]).contains("more than 2500 bytes together"));
    }

    #[test]
    fn a_name_or_header_that_takes_memory_is_refused() {
        let name = "d/".repeat(100) + "a.jpg";
        let pax = format!("{} path={name}\n", name.len() + 10);
        for (kind, long) in [(EntryType::GNULongName, name.as_bytes()), (EntryType::XHeader, pax.as_bytes())] {
            let (_folder, path) = archive(&[("x", long, kind), ("a.jpg", b"one", FILE)]);
            let members = Archive::open(&path, ArchiveFormat::Tar, SMALL).unwrap().members;
            assert!(members.len() == 1 && members[0].name.ends_with("d/d/a.jpg"), "{members:?}");
        }
        for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader] {
            let long = vec![b'n'; 1 << 20];
            let text = refusal(&[("x", &long, kind), ("a.jpg", b"one", FILE)]);
            assert!(text.contains("the headers of a member have more than 1048576 bytes"), "{text}");
        }
        // Twenty members with headers that each are short enough.
        let long = vec![b'n'; 900 << 10];
        let members: Vec<_> = (0..20).map(|_| ("g", long.as_slice(), EntryType::XGlobalHeader)).collect();
        assert_eq!(Archive::open(&archive(&members).1, ArchiveFormat::Tar, SMALL).unwrap().members().len(), 0);
    }

    #[test]
    fn a_cut_archive_says_to_download_again() {
        let (_folder, path) = archive(&[("a.jpg", &[7; 900], FILE)]);
        let whole = fs::read(&path).unwrap();
        for length in [700, 100, 0] {
            fs::write(&path, &whole[..length]).unwrap();
            let text = describe(&Archive::open(&path, ArchiveFormat::Tar, SMALL).unwrap_err());
            assert!(text.contains("download it again"), "{text}");
        }
    }

    #[test]
    fn an_archive_that_is_cut_after_a_member_says_how_many_were_read() {
        let (_folder, path) = archive(&[("a.jpg", &[7; 900], FILE), ("b.jpg", &[8; 100], FILE)]);
        let whole = fs::read(&path).unwrap();
        assert_eq!((whole.len(), Archive::open(&path, ArchiveFormat::Tar, SMALL).unwrap().remark()), (3584, None));
        for (length, count) in [(1536, 1), (1412, 1), (2560, 2), (2148, 2), (3072, 2)] {
            fs::write(&path, &whole[..length]).unwrap();
            let archive = Archive::open(&path, ArchiveFormat::Tar, SMALL).unwrap();
            assert_eq!(archive.members().len(), count, "{length}");
            let expected = format!("it looks truncated, as its end is missing: {count} members were read");
            assert!(archive.remark().is_some_and(|remark| remark.starts_with(&expected)), "{length}");
        }
    }
}

#[cfg(test)]
mod packed_tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::compression::packed;
    use base::error::describe;

    const BOTH: [Packing; 2] = [Packing::Gzip, Packing::Zstd];
    const SMALL: Limits =
        Limits { num_members: 5, image_bytes: 4000, text_bytes: 2 << 20, total_bytes: 3 << 20, ratio: 200 };

    fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes) in members {
            let mut header = tar::Header::new_gnu();
            // Written as it is: the builder itself refuses names that leave a folder.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(bytes.len() as u64);
            header.set_cksum();
            builder.append(&header, *bytes).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn file(bytes: &[u8]) -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("captions.json.gz");
        fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    fn refusal(bytes: &[u8], format: ArchiveFormat) -> String {
        let text = describe(&Archive::open(&file(bytes).1, format, SMALL).unwrap_err());
        assert!(text.contains("hint: "), "{text}");
        text
    }

    fn noise(length: usize) -> Vec<u8> {
        let mut stream = base::random::Stream::new(0, "test", "noise");
        (0..length).map(|_| stream.next_u64() as u8).collect()
    }

    #[test]
    fn members_are_read_in_any_order_though_it_is_slow_backwards() {
        for packing in BOTH {
            let picture = noise(3000);
            let bytes =
                packed(&tar(&[("./d/a.jpg", &picture), ("._x", b"x"), ("b.txt", b"two"), ("c.txt", b"")]), packing);
            let (_folder, path) = file(&bytes);
            let archive = Archive::open(&path, ArchiveFormat::PackedTar(packing), SMALL).unwrap();
            let names: Vec<&str> = archive.members().iter().map(|member| member.name.as_str()).collect();
            assert_eq!((names, archive.remark()), (vec!["d/a.jpg", "b.txt", "c.txt"], None));
            let mut reader = archive.reader().unwrap();
            let mut read = |member: usize, max| archive.read(&mut reader, &archive.members()[member], max).unwrap();
            assert_eq!((read(1, u64::MAX), read(2, u64::MAX)), (b"two".to_vec(), Vec::new()));
            assert!(read(0, u64::MAX) == picture && read(0, 2) == picture[..2] && read(1, 1) == b"t");
        }
    }

    #[test]
    fn what_is_refused_of_a_tar_archive_is_refused_of_a_packed_one() {
        for packing in BOTH {
            let format = ArchiveFormat::PackedTar(packing);
            let refused = |members: &[(&str, &[u8])]| refusal(&packed(&tar(members), packing), format);
            assert!(refused(&[("../evil.jpg", b"x")]).contains("unsafe path"));
            assert!(refused(&[("a", b"x"), ("a", b"y")]).contains("have the same name a"));
            assert!(refused(&[("a.jpg", &noise(4001))]).contains("at most 4000 are accepted"));
            let many: Vec<(String, Vec<u8>)> = (0..6).map(|number| (number.to_string(), vec![0])).collect();
            let many: Vec<(&str, &[u8])> = many.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
            assert!(refused(&many).contains("more than the 5 members"));
            // Twice a million zeros.
            assert!(refused(&[("a", &vec![0; 2 << 20]), ("b", &[0])]).contains("a compression bomb"));
        }
    }

    #[test]
    fn one_that_is_cut_has_what_comes_before_and_one_that_is_damaged_nothing() {
        for packing in BOTH {
            let format = ArchiveFormat::PackedTar(packing);
            let whole = packed(&tar(&[("a.jpg", &noise(3000)), ("b.txt", &noise(1 << 20))]), packing);
            let (_folder, path) = file(&whole[..whole.len() - 1000]);
            let archive = Archive::open(&path, format, SMALL).unwrap();
            assert_eq!((archive.members().len(), archive.members()[0].name.as_str()), (1, "a.jpg"));
            assert!(
                archive.remark().unwrap().starts_with("it looks truncated, as its end is missing: 1 members were read")
            );
            for length in [0, 10] {
                let text = refusal(&whole[..length], format);
                assert!(text.contains("download it again"), "{packing:?} {length}: {text}");
            }
            let mut damaged = whole.clone();
            let last = damaged.len() - 6;
            damaged[last] ^= 0xff;
            assert!(refusal(&damaged, format).contains("download it again"));
            assert!(refusal(b"no archive at all", format).contains("download it again"));
        }
    }

    #[test]
    fn a_packed_text_is_an_archive_of_one_text() {
        for packing in BOTH {
            let format = ArchiveFormat::PackedText(packing);
            let (_folder, path) = file(&packed(b"{\"a.jpg\": \"A dog\"}", packing));
            let archive = Archive::open(&path, format, SMALL).unwrap();
            assert_eq!((archive.members()[0].name.as_str(), archive.members()[0].bytes), ("captions.json", 18));
            let mut reader = archive.reader().unwrap();
            assert_eq!(archive.read(&mut reader, &archive.members()[0], 5).unwrap(), b"{\"a.j");
            assert_eq!(archive.read(&mut reader, &archive.members()[0], u64::MAX).unwrap().len(), 18);
            assert!(refusal(&packed(&noise((2 << 20) + 1), packing), format).contains("at most 2097152 are accepted"));
            let (_folder, bomb) = file(&packed(&vec![b' '; 20 << 20], packing));
            let text = describe(&Archive::open(&bomb, format, Limits::DATASET).unwrap_err());
            assert!(text.contains("a compression bomb"), "{text}");
            let cut = packed(&noise(1000), packing);
            assert!(refusal(&cut[..500], format).contains("download it again"));
        }
    }
}
