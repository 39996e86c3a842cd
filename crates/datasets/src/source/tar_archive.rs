//! Tar archives, such as the shards of a web data set. Members are stored as they are, so that each is read from its
//! offset.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::rc::Rc;

use anyhow::Context as _;
use tar::EntryType;

use crate::shards::place::Place;
use crate::source::limits::{Limits, Member, Members, check_name, is_system_junk, read_to_limit};
use base::error::{WithHint as _, failure};

/// Bytes of all headers of one member. They contain its name, which some programs write as a separate member; the
/// library reads all of them into memory.
const MAX_HEADER_BYTES: u64 = 1 << 20;

/// The first `max` bytes of a member's content.
pub(super) fn read(file: &mut File, member: &Member, max: u64) -> anyhow::Result<Vec<u8>> {
    let max = max.min(member.bytes);
    file.seek(SeekFrom::Start(member.place))?;
    let bytes = read_to_limit(file, max, member.bytes)?;
    if bytes.len() as u64 != max {
        return Err(cut());
    }
    Ok(bytes)
}

pub(super) fn place(member: &Member) -> Place {
    // No member may be that large.
    Place::plain(member.place, u32::try_from(member.bytes).unwrap_or(u32::MAX))
}

fn cut() -> anyhow::Error {
    failure("the archive ends within it", "the file is truncated: download it again")
}

/// Reads the headers of an archive, `left` bytes for each member; contents are skipped by seeking.
struct Headers<R> {
    reader: R,
    left: Rc<Cell<u64>>,
    /// Nothing was read.
    is_empty: bool,
}

impl<R: Read> Read for Headers<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        let left = self.left.get().checked_sub(count as u64).ok_or_else(|| {
            io::Error::other(format!("the headers of a member have more than {MAX_HEADER_BYTES} bytes"))
        })?;
        self.left.set(left);
        self.is_empty &= count == 0;
        Ok(count)
    }
}

impl<R: Seek> Seek for Headers<R> {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.reader.seek(position)
    }
}

const DAMAGED: &str = "the file is truncated, damaged or not a tar archive: download it again";

/// The members, and a warning where the two blocks of zeros are missing that every program writes at the end.
pub(super) fn list(file: &File, limits: Limits) -> anyhow::Result<(Vec<Member>, Option<String>)> {
    const BLOCK: u64 = 512;
    let length = file.metadata()?.len();
    if length == 0 {
        return Err(failure("it is empty: it has 0 bytes", DAMAGED));
    }
    let left = Rc::new(Cell::new(MAX_HEADER_BYTES));
    let mut archive =
        tar::Archive::new(Headers { reader: BufReader::new(file), left: Rc::clone(&left), is_empty: true });
    let (mut members, mut end) = (Members::new(limits), 0u64);
    for entry in archive.entries_with_seek().hint(|| DAMAGED)? {
        let entry = entry.hint(|| DAMAGED)?;
        left.set(MAX_HEADER_BYTES);
        let (bytes, offset) = (entry.size(), entry.raw_file_position());
        end = offset.saturating_add(bytes.div_ceil(BLOCK).saturating_mul(BLOCK));
        let Some(name) = file_name(&entry)? else { continue };
        members.add(&name, bytes, offset)?;
        if offset.checked_add(bytes).is_none_or(|end| end > length) {
            return Err(cut()).with_context(|| format!("member {name}"));
        }
    }
    let is_cut = length < end.saturating_add(2 * BLOCK);
    let remark = is_cut.then(|| looks_cut(members.list.len()));
    Ok((members.list, remark))
}

/// The members of an archive that can be read in its order only. What comes before the place where it was cut is
/// listed, with a warning.
pub(super) fn list_in_order(content: impl Read, limits: Limits) -> anyhow::Result<(Vec<Member>, Option<String>)> {
    let left = Rc::new(Cell::new(MAX_HEADER_BYTES));
    let mut archive = tar::Archive::new(Headers { reader: content, left: Rc::clone(&left), is_empty: true });
    let mut members = Members::new(limits);
    let is_cut = |error: &io::Error| error.kind() == ErrorKind::UnexpectedEof;
    let damaged = |error: io::Error| failure(error, DAMAGED);
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = match entry {
            Ok(entry) => entry,
            Err(error) if is_cut(&error) && !members.list.is_empty() => {
                let remark = looks_cut(members.list.len());
                return Ok((members.list, Some(remark)));
            }
            Err(error) => return Err(damaged(error)),
        };
        let (bytes, offset) = (entry.size(), entry.raw_file_position());
        let Some(name) = file_name(&entry)? else {
            left.set(MAX_HEADER_BYTES.saturating_add(bytes));
            continue;
        };
        // Refused before it is read.
        members.add(&name, bytes, offset)?;
        left.set(MAX_HEADER_BYTES.saturating_add(bytes));
        let is_whole = match io::copy(&mut entry, &mut io::sink()) {
            Ok(read) => read == bytes,
            Err(error) if is_cut(&error) => false,
            Err(error) => return Err(damaged(error)),
        };
        if !is_whole {
            members.list.pop();
            if members.list.is_empty() {
                return Err(cut()).with_context(|| format!("member {name}"));
            }
            let remark = looks_cut(members.list.len());
            return Ok((members.list, Some(remark)));
        }
    }
    // The rest has zeros, and what is compared with the content.
    let mut headers = archive.into_inner();
    io::copy(&mut headers.reader, &mut io::sink()).map_err(damaged)?;
    if headers.is_empty {
        return Err(failure("it is empty: it has 0 bytes", DAMAGED));
    }
    Ok((members.list, None))
}

fn looks_cut(num_members: usize) -> String {
    format!("it looks truncated, as its end is missing: {num_members} members were read; download it again")
}

/// The name of an entry that is a file which is wanted; nothing for folders and what macOS adds.
fn file_name<R: Read>(entry: &tar::Entry<'_, R>) -> anyhow::Result<Option<String>> {
    let name = String::from_utf8(entry.path_bytes().into_owned()).context("the name of a member is not UTF-8")?;
    let name = name.trim_start_matches("./");
    match entry.header().entry_type() {
        EntryType::Directory | EntryType::XGlobalHeader => return Ok(None),
        EntryType::Regular | EntryType::Continuous => {}
        EntryType::Symlink | EntryType::Link => anyhow::bail!("its member {name} is a link"),
        _ => anyhow::bail!("its member {name} is neither a file nor a folder"),
    }
    check_name(name)?;
    Ok((!is_system_junk(name)).then(|| name.to_owned()))
}
