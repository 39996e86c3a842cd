//! Zip archives: the checked list of their members, and their contents. A member that turns out larger than the list
//! says, is damaged, encrypted or compressed in an unknown way is refused when it is read.

use std::fs::File;
use std::io::BufReader;

use zip::ZipArchive;
use zip::result::ZipError;

use crate::source::limits::{Limits, Member, Members, check_name, is_system_junk, read_to_limit};
use base::error::failure;

pub(super) type Zip = ZipArchive<BufReader<File>>;

pub(super) fn open(file: File) -> anyhow::Result<Zip> {
    ZipArchive::new(BufReader::new(file)).map_err(damaged)
}

/// The first `max` bytes of a member's content.
pub(super) fn read(zip: &mut Zip, member: &Member, max: u64) -> anyhow::Result<Vec<u8>> {
    let content = zip.by_index(member.place as usize).map_err(damaged)?;
    let max = max.min(member.bytes.saturating_add(1));
    let bytes = read_to_limit(content, max, member.bytes).map_err(|error| damaged(error.into()))?;
    if bytes.len() as u64 > member.bytes {
        let message = format!("it has more than the {} bytes that the archive lists", member.bytes);
        return Err(failure(message, "the file is damaged: download it again"));
    }
    Ok(bytes)
}

fn damaged(error: ZipError) -> anyhow::Error {
    let hint = match &error {
        ZipError::Io(io) if io.raw_os_error().is_some() => return anyhow::Error::new(error),
        ZipError::UnsupportedArchive(ZipError::PASSWORD_REQUIRED) => {
            return failure("it is encrypted", "unpack the archive yourself and give the folder");
        }
        ZipError::UnsupportedArchive(_) | ZipError::CompressionMethodNotSupported(_) => {
            "unpack the archive yourself and give the folder"
        }
        _ => "the file is truncated or damaged: download it again",
    };
    failure(error, hint)
}

/// The members, and what to report about their names.
pub(super) fn list(zip: &mut Zip, limits: Limits) -> anyhow::Result<(Vec<Member>, Option<String>)> {
    anyhow::ensure!(
        zip.len() <= limits.num_members,
        "it has {} members, at most {} are accepted",
        zip.len(),
        limits.num_members
    );
    anyhow::ensure!(!zip.has_duplicate_names(), "two of its members have the same name");
    let (mut members, mut num_backslashed) = (Members::new(limits), 0);
    for index in 0..zip.len() {
        let entry = zip.by_index_data(index).map_err(damaged)?;
        let name = match std::str::from_utf8(entry.name_raw()) {
            // macOS writes UTF-8 without saying so.
            Ok(name) => name.to_owned(),
            Err(_) => entry.name().map_err(damaged)?.into_owned(),
        };
        // Old programs of Windows write a backslash between folders.
        let has_backslash = name.contains('\\');
        let name = name.replace('\\', "/");
        check_name(&name)?;
        // The upper four of the 16 bits are the kind of the file; archives from other systems than Unix have none.
        let kind = entry.unix_mode().unwrap_or(0) & 0o170_000;
        anyhow::ensure!(!entry.is_symlink() && kind != 0o120_000, "its member {name} is a link");
        anyhow::ensure!(matches!(kind, 0 | 0o100_000 | 0o040_000), "its member {name} is neither a file nor a folder");
        if !name.ends_with('/') && !is_system_junk(&name) {
            num_backslashed += usize::from(has_backslash);
            let (bytes, compressed_bytes) = (entry.size(), entry.compressed_size());
            members.add(&name, bytes, index as u64)?;
            limits.check_ratio(format_args!("its member {name}"), bytes, compressed_bytes)?;
        }
    }
    anyhow::ensure!(!zip.has_overlapping_files().map_err(damaged)?, "its members share bytes: a compression bomb");
    let remark = || format!("{num_backslashed} of its names have backslashes between folders: read as slashes");
    Ok((members.list, (num_backslashed > 0).then(remark)))
}
