//! A zip archive of unknown origin: listed, read and extracted.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use caption_train::base::terminal::Progress;
use caption_train::data::archive::{Archive, Limits};

use super::feature_store::checksum;
use super::{json, scratch};

/// As small as lets every limit be met.
const LIMITS: Limits = Limits { num_members: 8, member_bytes: 3 << 19, total_bytes: 2 << 20, ratio: 20 };

/// A byte 1 in front: descriptions of members up to a 0xff, then patches. Otherwise all bytes are the archive.
pub fn archive(data: &[u8]) {
    let root = scratch::folder("archive");
    let (path, output) = (root.join("a.zip"), root.join("in/out"));
    let bytes = match data.split_first() {
        Some((1, members)) => {
            let end = members.iter().position(|&byte| byte == 0xff).unwrap_or(members.len());
            json::patched(&zip_of(&members[..end]), members.get(end + 1..).unwrap_or_default())
        }
        _ => data.to_vec(),
    };
    scratch::write(&path, &bytes);
    let Ok(archive) = Archive::open(&path, LIMITS) else { return };
    assert!(archive.members().len() <= LIMITS.num_members);
    for member in archive.members() {
        let safe = member.name.split('/').all(|part| !matches!(part, "" | "." | ".."));
        assert!(safe && !member.name.contains('\\'), "{:?}", member.name);
        if let Ok(content) = archive.read(member) {
            assert!(content.len() as u64 <= LIMITS.member_bytes);
        }
    }
    // One for the process: a bar for each execution would pile up.
    static PROGRESS: OnceLock<Progress> = OnceLock::new();
    let progress = PROGRESS.get_or_init(|| Progress::new("extracting", 0, 0));
    fs::create_dir_all(&output).expect("a scratch folder can be made");
    let extraction = archive.extract(&output, &|member| Some(PathBuf::from(&member.name)), progress);
    let (mut files, mut total) = (0, 0);
    visit(&output, &mut |length| {
        files += 1;
        total += length;
    });
    assert!(total <= LIMITS.total_bytes, "{total} bytes were written");
    if let Ok(extraction) = extraction {
        assert_eq!((extraction.num_written, files), (archive.members().len(), archive.members().len()));
    }
    scratch::remove(&output);
    assert_eq!(names(&root), ["a.zip", "in"], "nothing is written outside of the output folder");
    assert!(names(&root.join("in")).is_empty(), "nothing is written beside the output folder");
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("the scratch folder can be read");
    let name =
        |entry: std::io::Result<fs::DirEntry>| entry.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = entries.map(|entry| name(entry).expect("the scratch folder can be read")).collect();
    names.sort();
    names
}

/// Gives the length of each file below `folder`, which holds files and folders alone.
fn visit(folder: &Path, found: &mut dyn FnMut(u64)) {
    for entry in fs::read_dir(folder).expect("the output folder can be read") {
        let entry = entry.expect("the output folder can be read");
        let kind = entry.file_type().expect("what was written has a kind");
        assert!(kind.is_dir() || kind.is_file(), "{} is a link", entry.path().display());
        if kind.is_dir() {
            visit(&entry.path(), found);
        } else {
            found(entry.metadata().expect("what was written has a length").len());
        }
    }
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
