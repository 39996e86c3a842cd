//! A zip or tar archive of unknown origin, also a compressed one: listed and read.

use std::path::Path;

use datasets::source::{Archive, ArchiveFormat, Limits, Packing};

use super::feature_store::checksum;
use super::{json, scratch};

/// Small, so that inputs reach every limit.
const LIMITS: Limits =
    Limits { num_members: 8, image_bytes: 1 << 18, text_bytes: 3 << 19, total_bytes: 2 << 20, ratio: 20 };

/// First byte 1: descriptions of members up to a 0xff, then patches. First byte 2: a tar archive; 3 and 4: one that is
/// compressed by gzip and Zstandard. Otherwise all bytes are a zip archive.
pub fn archive(data: &[u8]) {
    let path = scratch::folder("archive").join("a");
    match data.split_first() {
        Some((1, members)) => {
            let end = members.iter().position(|&byte| byte == 0xff).unwrap_or(members.len());
            let bytes = json::patched(&zip_of(&members[..end]), members.get(end + 1..).unwrap_or_default());
            scratch::write(&path, &bytes);
            read_zip(&path);
        }
        Some((2, bytes)) => {
            scratch::write(&path, bytes);
            read_tar(&path, ArchiveFormat::Tar);
        }
        Some((kind @ (3 | 4), bytes)) => {
            scratch::write(&path, bytes);
            let packing = if *kind == 3 { Packing::Gzip } else { Packing::Zstd };
            read_tar(&path, ArchiveFormat::PackedTar(packing));
        }
        _ => {
            scratch::write(&path, data);
            read_zip(&path);
        }
    }
}

fn read_zip(path: &Path) {
    let Ok(archive) = Archive::open(path, ArchiveFormat::Zip, LIMITS) else { return };
    check_list(archive.members().iter().map(|member| (member.name.as_str(), member.bytes)));
    let mut reader = archive.reader().expect("what was opened can be opened again");
    for member in archive.members() {
        if let Ok(content) = archive.read(&mut reader, member, u64::MAX) {
            assert!(content.len() as u64 <= member.bytes);
        }
    }
}

fn read_tar(path: &Path, format: ArchiveFormat) {
    let Ok(archive) = Archive::open(path, format, LIMITS) else { return };
    check_list(archive.members().iter().map(|member| (member.name.as_str(), member.bytes)));
    let mut reader = archive.reader().expect("what was opened can be opened again");
    for member in archive.members() {
        let content = archive.read(&mut reader, member, u64::MAX).expect("members lie within the archive");
        assert_eq!(content.len() as u64, member.bytes);
    }
}

fn check_list<'a>(members: impl Iterator<Item = (&'a str, u64)>) {
    let (mut count, mut total) = (0, 0);
    for (name, bytes) in members {
        let safe = name.split('/').all(|part| !matches!(part, "" | "." | ".."));
        assert!(safe && !name.contains('\\'), "{name:?}");
        (count, total) = (count + 1, total + bytes);
    }
    assert!(count <= LIMITS.num_members && total <= LIMITS.total_bytes);
}

/// An archive of members without compression. Each is described by the lengths of its name and its content, a byte of
/// flags (1 encrypted, 2 a link, 4 a device, 8 a wrong length, 16 no central entry, 32 deflate), name and content.
fn zip_of(mut members: &[u8]) -> Vec<u8> {
    let (mut bytes, mut central, mut num_members) = (Vec::new(), Vec::new(), 0_u16);
    while let [name, content, flags, rest @ ..] = members {
        let (name, rest) = rest.split_at(usize::from(*name).min(rest.len()));
        let (content, rest) = rest.split_at(usize::from(*content).min(rest.len()));
        members = rest;
        let has = |flag: u8| flags & flag != 0;
        let length = content.len() as u32 * if has(8) { 77 } else { 1 };
        let mut common = Vec::new();
        for field in [20, u16::from(has(1)), if has(32) { 8 } else { 0 }, 0, 0x21] {
            common.extend(field.to_le_bytes());
        }
        for field in [checksum(content), content.len() as u32, length] {
            common.extend(field.to_le_bytes());
        }
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0, 0]);
        let offset = bytes.len() as u32;
        bytes.extend(b"PK\x03\x04");
        bytes.extend(&common);
        bytes.extend(name);
        bytes.extend(content);
        if has(16) {
            continue;
        }
        let mode: u32 = if has(2) {
            0o120_777
        } else if has(4) {
            0o020_666
        } else {
            0o100_644
        };
        num_members += 1;
        central.extend(b"PK\x01\x02\x14\x03");
        central.extend(&common);
        central.extend([0; 6]);
        central.extend((mode << 16).to_le_bytes());
        central.extend(offset.to_le_bytes());
        central.extend(name);
    }
    let offset = bytes.len() as u32;
    bytes.extend(&central);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend(num_members.to_le_bytes());
    bytes.extend(num_members.to_le_bytes());
    bytes.extend((central.len() as u32).to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes.extend([0, 0]);
    bytes
}
