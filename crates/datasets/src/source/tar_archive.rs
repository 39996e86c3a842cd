//! Tar archives, such as the shards of a web data set. Members are stored as they are, so that each is read from its
//! offset.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::rc::Rc;

use anyhow::Context as _;
use tar::EntryType;

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

fn cut() -> anyhow::Error {
    failure("the archive ends within it", "the file is truncated: download it again")
}

/// Reads the headers of an archive, `left` bytes for each member; contents are skipped by seeking.
struct Headers<R> {
    reader: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Headers<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        let left = self.left.get().checked_sub(count as u64).ok_or_else(|| {
            io::Error::other(format!("the headers of a member have more than {MAX_HEADER_BYTES} bytes"))
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

/// The members, and a warning where the two blocks of zeros are missing that every program writes at the end.
pub(super) fn list(file: &File, limits: Limits) -> anyhow::Result<(Vec<Member>, Option<String>)> {
    const BLOCK: u64 = 512;
    const DAMAGED: &str = "the file is truncated, damaged or not a tar archive: download it again";
    let length = file.metadata()?.len();
    if length == 0 {
        return Err(failure("it is empty: it has 0 bytes", DAMAGED));
    }
    let left = Rc::new(Cell::new(MAX_HEADER_BYTES));
    let mut archive = tar::Archive::new(Headers { reader: BufReader::new(file), left: Rc::clone(&left) });
    let (mut members, mut end) = (Members::new(limits), 0u64);
    for entry in archive.entries_with_seek().hint(|| DAMAGED)? {
        let entry = entry.hint(|| DAMAGED)?;
        left.set(MAX_HEADER_BYTES);
        let (bytes, offset) = (entry.size(), entry.raw_file_position());
        end = offset.saturating_add(bytes.div_ceil(BLOCK).saturating_mul(BLOCK));
        let name = String::from_utf8(entry.path_bytes().into_owned()).context("the name of a member is not UTF-8")?;
        let name = name.trim_start_matches("./");
        match entry.header().entry_type() {
            EntryType::Directory | EntryType::XGlobalHeader => continue,
            EntryType::Regular | EntryType::Continuous => {}
            EntryType::Symlink | EntryType::Link => anyhow::bail!("its member {name} is a link"),
            _ => anyhow::bail!("its member {name} is neither a file nor a folder"),
        }
        check_name(name)?;
        if is_system_junk(name) {
            continue;
        }
        members.add(name, bytes, offset)?;
        if offset.checked_add(bytes).is_none_or(|end| end > length) {
            return Err(cut()).with_context(|| format!("member {name}"));
        }
    }
    let is_cut = length < end.saturating_add(2 * BLOCK);
    let num_members = members.list.len();
    let remark =
        || format!("it looks truncated, as its end is missing: {num_members} members were read; download it again");
    Ok((members.list, is_cut.then(remark)))
}
