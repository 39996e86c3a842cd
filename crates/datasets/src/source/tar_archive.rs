//! Reads tar archives of unknown origin, such as the shards of a web data set. The same is refused as in a zip archive;
//! the members lie in it as they are, so that each is read from its place.

use std::cell::Cell;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::Context as _;
use tar::EntryType;

use crate::source::limits::{Limits, check_name, is_system_junk, read_to_limit};
use base::bounded_file;
use base::fault::{WithHint as _, fault};

/// Bytes of all headers of one member. They hold its name, which some programs write as a member of its own, and what is
/// more than that is read into memory by the library.
const MOST_HEADER_BYTES: u64 = 1 << 20;

/// A file in an archive.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its path in the archive, checked: relative, with `/` between the parts.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    offset: u64,
}

/// A tar archive whose members have been checked.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    members: Vec<Member>,
    remark: Option<String>,
}

impl Archive {
    /// Opens `path` and goes through its members. Folders and what macOS adds are left out.
    ///
    /// # Errors
    /// A file that cannot be read, is no tar archive, is empty, cut within a member or damaged, or is refused as the module
    /// says.
    pub fn open(path: &Path, limits: Limits) -> anyhow::Result<Self> {
        let (members, remark) = list(path, limits)
            .with_context(|| format!("the archive {} is refused", path.display()))
            .hint(|| "use the archive as its publisher distributes it, or unpack it yourself and give the folder")?;
        Ok(Self { path: path.to_owned(), members, remark })
    }

    /// The files in the archive, in its order.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Why some of its members may be missing.
    pub fn remark(&self) -> Option<&str> {
        self.remark.as_deref()
    }

    /// Opens the archive once more, to read members of it.
    ///
    /// # Errors
    /// An archive that is gone.
    pub fn reader(&self) -> anyhow::Result<File> {
        open_file(&self.path)
    }

    /// The first `most` bytes of a member's content.
    ///
    /// # Errors
    /// A read that fails, or an archive that was cut since.
    pub fn read(&self, reader: &mut File, member: &Member, most: u64) -> anyhow::Result<Vec<u8>> {
        let place = || format!("member {} of {}", member.name, self.path.display());
        let most = most.min(member.bytes);
        reader.seek(SeekFrom::Start(member.offset)).with_context(place)?;
        let bytes = read_to_limit(reader, most, member.bytes).with_context(place)?;
        if bytes.len() as u64 != most {
            return Err(cut()).with_context(place);
        }
        Ok(bytes)
    }
}

fn open_file(path: &Path) -> anyhow::Result<File> {
    bounded_file::open(path).with_context(|| format!("cannot open {}", path.display()))
}

fn cut() -> anyhow::Error {
    fault("the archive ends within it", "the file is cut: download it again")
}

/// Reads the headers of an archive, whose contents are passed over by seeking: of each member so many bytes as are left.
struct Headers<R> {
    reader: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Headers<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        let left = self.left.get().checked_sub(count as u64).ok_or_else(|| {
            io::Error::other(format!("the headers of a member have more than {MOST_HEADER_BYTES} bytes"))
        })?;
        self.left.set(left);
        Ok(count)
    }
}

impl<R: Seek> Seek for Headers<R> {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.reader.seek(position)
    }
}

/// The members, and what is to be said where the two blocks of zeros are missing that every program writes at the end.
fn list(path: &Path, limits: Limits) -> anyhow::Result<(Vec<Member>, Option<String>)> {
    const BLOCK: u64 = 512;
    const DAMAGED: &str = "the file is cut, damaged or no tar archive: download it again";
    let file = open_file(path)?;
    let length = file.metadata()?.len();
    if length == 0 {
        return Err(fault("it is empty: it has 0 bytes", DAMAGED));
    }
    let left = Rc::new(Cell::new(MOST_HEADER_BYTES));
    let mut archive = tar::Archive::new(Headers { reader: BufReader::new(file), left: Rc::clone(&left) });
    let (mut members, mut names, mut total, mut end) = (Vec::new(), HashSet::new(), 0, 0u64);
    for entry in archive.entries_with_seek().hint(|| DAMAGED)? {
        let entry = entry.hint(|| DAMAGED)?;
        left.set(MOST_HEADER_BYTES);
        let blocks = entry.size().div_ceil(BLOCK);
        end = entry.raw_file_position().saturating_add(blocks.saturating_mul(BLOCK));
        let name = String::from_utf8(entry.path_bytes().into_owned()).context("the name of a member is not UTF-8")?;
        let name = name.trim_start_matches("./");
        match entry.header().entry_type() {
            EntryType::Directory | EntryType::XGlobalHeader => continue,
            EntryType::Regular | EntryType::Continuous => {}
            EntryType::Symlink | EntryType::Link => anyhow::bail!("its member {name} is a link"),
            _ => anyhow::bail!("its member {name} is no file and no folder"),
        }
        check_name(name)?;
        if is_system_junk(name) {
            continue;
        }
        let (bytes, offset) = (entry.size(), entry.raw_file_position());
        limits.check_member(name, bytes, &mut total)?;
        if offset.checked_add(bytes).is_none_or(|end| end > length) {
            return Err(cut()).with_context(|| format!("member {name}"));
        }
        anyhow::ensure!(
            members.len() < limits.num_members,
            "it has more than the {} members that are accepted",
            limits.num_members
        );
        anyhow::ensure!(names.insert(name.to_owned()), "two of its members have the name {name}");
        members.push(Member { name: name.to_owned(), bytes, offset });
    }
    let is_cut = length < end.saturating_add(2 * BLOCK);
    let remark =
        || format!("it looks cut off, as its end is missing: {} members were read; download it again", members.len());
    let remark = is_cut.then(remark);
    Ok((members, remark))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use base::fault::describe;

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
        let text = describe(&Archive::open(&archive(members).1, SMALL).unwrap_err());
        assert!(text.contains("hint: "), "{text}");
        text
    }

    const FILE: EntryType = EntryType::Regular;

    #[test]
    fn members_are_read_from_their_places() {
        let members =
            [("./d/", b"".as_slice(), EntryType::Directory), ("./d/a.jpg", b"one", FILE), ("b.txt", b"two", FILE)];
        let (_folder, path) = archive(&members);
        let archive = Archive::open(&path, SMALL).unwrap();
        let mut reader = archive.reader().unwrap();
        let names: Vec<&str> = archive.members().iter().map(|member| member.name.as_str()).collect();
        assert_eq!(names, ["d/a.jpg", "b.txt"]);
        let mut read = |member: usize, most| archive.read(&mut reader, &archive.members()[member], most).unwrap();
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
        assert!(refusal(&[("a.jpg", b"", EntryType::Char)]).contains("no file and no folder"));
    }

    #[test]
    fn more_than_the_limits_and_two_of_a_name_are_refused() {
        let one = |name: &'static str| (name, b"x".as_slice(), FILE);
        assert!(refusal(&[one("a"), one("b"), one("c"), one("d")]).contains("more than the 3 members"));
        assert!(refusal(&[one("a"), one("a")]).contains("have the name a"));
        assert!(refusal(&[("a.jpg", &[0; 1001], FILE)]).contains("at most 1000 are accepted"));
        assert!(refusal(&[("a", &[0; 1500], FILE), ("b", &[0; 1500], FILE)]).contains("more than 2500 bytes together"));
    }

    #[test]
    fn a_name_or_header_that_takes_memory_is_refused() {
        let name = "d/".repeat(100) + "a.jpg";
        let pax = format!("{} path={name}\n", name.len() + 10);
        for (kind, long) in [(EntryType::GNULongName, name.as_bytes()), (EntryType::XHeader, pax.as_bytes())] {
            let (_folder, path) = archive(&[("x", long, kind), ("a.jpg", b"one", FILE)]);
            let members = Archive::open(&path, SMALL).unwrap().members;
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
        assert_eq!(Archive::open(&archive(&members).1, SMALL).unwrap().members().len(), 0);
    }

    #[test]
    fn a_cut_archive_says_to_download_again() {
        let (_folder, path) = archive(&[("a.jpg", &[7; 900], FILE)]);
        let whole = fs::read(&path).unwrap();
        for length in [700, 100, 0] {
            fs::write(&path, &whole[..length]).unwrap();
            let text = describe(&Archive::open(&path, SMALL).unwrap_err());
            assert!(text.contains("download it again"), "{text}");
        }
    }

    #[test]
    fn an_archive_that_is_cut_behind_a_member_says_how_many_were_read() {
        let (_folder, path) = archive(&[("a.jpg", &[7; 900], FILE), ("b.jpg", &[8; 100], FILE)]);
        let whole = fs::read(&path).unwrap();
        assert_eq!((whole.len(), Archive::open(&path, SMALL).unwrap().remark()), (3584, None));
        for (length, count) in [(1536, 1), (1412, 1), (2560, 2), (2148, 2), (3072, 2)] {
            fs::write(&path, &whole[..length]).unwrap();
            let archive = Archive::open(&path, SMALL).unwrap();
            assert_eq!(archive.members().len(), count, "{length}");
            let expected = format!("it looks cut off, as its end is missing: {count} members were read");
            assert!(archive.remark().is_some_and(|remark| remark.starts_with(&expected)), "{length}");
        }
    }
}
