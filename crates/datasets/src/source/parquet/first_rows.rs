//! The first row groups of a Parquet file as a file of their own, of which only they have to be fetched: its bytes stay
//! where they are, and a shorter description follows the last of them.

use std::ops::Range;

use crate::source::parquet::footer::{Footer, MAGIC, ValueKind, cut, description_bytes, undescribed};
use crate::source::parquet::thrift::{Kind, Reader};

/// Bytes at the end of a file that are read first: most descriptions fit.
const FIRST_READ: u64 = 64 << 10;
/// What lies between two parts is fetched along with them if it is not more than this.
const MAX_GAP: u64 = 64 << 10;

/// Row groups at the beginning of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstRows {
    /// Bytes that keep their places, in order and apart from each other. What lies between them is not read.
    pub ranges: Vec<Range<u64>>,
    /// What follows the last of them.
    pub end: Vec<u8>,
    pub num_rows: u64,
    pub num_groups: usize,
    /// Whether these are all row groups of the file.
    pub is_all: bool,
    /// Whether a column has bytes of which the file does not say that they are text: they may be images.
    pub has_bytes: bool,
}

/// The fewest row groups with `rows` rows of a file of `length` bytes; all of them if it has fewer rows. `read` gives a
/// range of its bytes; only its end is asked for.
///
/// # Errors
/// A file that is not Parquet, damaged or encrypted; an error of `read`.
pub fn first_rows(
    length: u64,
    rows: u64,
    read: &mut dyn FnMut(Range<u64>) -> anyhow::Result<Vec<u8>>,
) -> anyhow::Result<FirstRows> {
    if length < 12 {
        return Err(cut());
    }
    let from = length.saturating_sub(FIRST_READ);
    let mut tail = read(from..length)?;
    anyhow::ensure!(tail.len() as u64 == length - from, "expected {} bytes, found {}", length - from, tail.len());
    let last = tail.last_chunk::<8>().ok_or_else(cut)?;
    let end = length - 8 - description_bytes(length, *last)?;
    if end < from {
        let mut more = read(end..from)?;
        anyhow::ensure!(more.len() as u64 == from - end, "expected {} bytes, found {}", from - end, more.len());
        more.append(&mut tail);
        tail = more;
    }
    // No more than the description and the 8 bytes after it are in memory, or the first read.
    let description = &tail[(end - from.min(end)) as usize..tail.len() - 8];
    let footer = Footer::of(description, end)?;
    let (mut num_groups, mut num_rows) = (0, 0_u64);
    for group in &footer.groups {
        if num_rows >= rows {
            break;
        }
        (num_groups, num_rows) = (num_groups + 1, num_rows.saturating_add(group.num_rows));
    }
    let chunks = footer.groups[..num_groups].iter().flat_map(|group| &group.chunks);
    let mut ranges: Vec<Range<u64>> = chunks.map(|chunk| chunk.start..chunk.start + chunk.bytes).collect();
    ranges.push(0..MAGIC.len() as u64);
    let mut end = shortened(description, num_groups, num_rows).ok_or_else(undescribed)?;
    let bytes = u32::try_from(end.len())?;
    end.extend(bytes.to_le_bytes());
    end.extend(MAGIC);
    let has_bytes = footer.leaves.iter().any(|leaf| leaf.kind == ValueKind::Bytes);
    let is_all = num_groups == footer.groups.len();
    Ok(FirstRows { ranges: merged(ranges), end, num_rows, num_groups, is_all, has_bytes })
}

fn merged(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.retain(|range| !range.is_empty());
    ranges.sort_unstable_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(MAX_GAP) => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

/// The description of a file of the first `num_groups` row groups, which have `num_rows` rows: version, columns, and
/// the row groups as they are written. What only some programs write is left out.
fn shortened(description: &[u8], num_groups: usize, num_rows: u64) -> Option<Vec<u8>> {
    const VERSION: u8 = 0x15;
    const NEXT_INT64: u8 = 0x16;
    const NEXT_LIST: u8 = 0x19;
    const MANY_STRUCTS: u8 = 0xfc;
    let (mut version, mut columns, mut groups) = (0..0, 0..0, Vec::new());
    let mut reader = Reader::new(description);
    reader.fields(Kind::Struct, |reader, id, kind| {
        let start = reader.position();
        match id {
            4 => reader.list(kind, |reader, kind| {
                let start = reader.position();
                reader.skip(kind, 0)?;
                groups.push(start..reader.position());
                Some(())
            })?,
            _ => reader.skip(kind, 0)?,
        }
        match id {
            1 => version = start..reader.position(),
            2 => columns = start..reader.position(),
            _ => {}
        }
        Some(true)
    })?;
    if version.is_empty() || columns.is_empty() || groups.len() < num_groups {
        return None;
    }
    let mut out = vec![VERSION];
    out.extend(&description[version]);
    out.push(NEXT_LIST);
    out.extend(&description[columns]);
    out.push(NEXT_INT64);
    // Signed numbers are written with their sign in the last bit.
    put_number(&mut out, num_rows.checked_mul(2)?);
    out.extend([NEXT_LIST, MANY_STRUCTS]);
    put_number(&mut out, num_groups as u64);
    groups[..num_groups].iter().for_each(|group| out.extend(&description[group.clone()]));
    out.push(0);
    Some(out)
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use parquet::basic::Compression;

    use super::*;
    use crate::source::limits::Limits;
    use crate::source::parquet::table::Table;
    use crate::source::parquet::writing::{IMAGES, compressed, images, write};

    /// Of 20 row groups of 10 rows.
    fn file(folder: &Path) -> Vec<u8> {
        let content = |number: usize| format!("picture {number} {}", "x".repeat(20_000)).into_bytes();
        let group = |group: usize| {
            let rows: Vec<(Vec<u8>, String)> =
                (0..10).map(|row| (content(10 * group + row), format!("{group}_{row}.jpg"))).collect();
            images(&rows.iter().map(|(bytes, name)| (&**bytes, &**name, &**name)).collect::<Vec<_>>())
        };
        let path = folder.join("all.parquet");
        write(&path, IMAGES, compressed(Compression::UNCOMPRESSED), (0..20).map(group).collect());
        fs::read(path).unwrap()
    }

    fn first(file: &[u8], rows: u64) -> (FirstRows, usize) {
        let mut asked = 0;
        let found = first_rows(file.len() as u64, rows, &mut |range| {
            asked += (range.end - range.start) as usize;
            Ok(file[range.start as usize..range.end as usize].to_vec())
        });
        (found.unwrap(), asked)
    }

    /// A file as it is put together of its parts, with nothing between them.
    fn put_together(file: &[u8], first: &FirstRows) -> Vec<u8> {
        let mut bytes = Vec::new();
        for range in &first.ranges {
            bytes.resize(range.start as usize, 0);
            bytes.extend(&file[range.start as usize..range.end as usize]);
        }
        bytes.extend(&first.end);
        bytes
    }

    #[test]
    fn the_first_row_groups_are_a_file_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(folder.path());
        for (rows, groups) in [(1, 1), (10, 1), (11, 2), (95, 10), (200, 20), (1000, 20)] {
            let (first, asked) = first(&file, rows);
            assert_eq!((first.num_groups, first.num_rows, first.is_all), (groups, 10 * groups as u64, groups == 20));
            assert!(asked as u64 <= FIRST_READ && first.has_bytes, "{asked}");
            let bytes: u64 = first.ranges.iter().map(|range| range.end - range.start).sum();
            assert!(bytes < 205_000 * groups as u64 + 4, "{bytes} bytes for {groups} row groups");
            let path = folder.path().join("first.parquet");
            fs::write(&path, put_together(&file, &first)).unwrap();
            let table = Table::open(&path, Limits::DATASET).unwrap();
            assert_eq!(table.groups().collect::<Vec<_>>(), vec![10; groups]);
            let last = table.values(groups - 1, 1).unwrap().texts(10, &mut { 1 << 20 }).unwrap();
            assert_eq!(last[9], [format!("{}_9.jpg", groups - 1)]);
            // The library reads it too.
            let reader = parquet::file::reader::SerializedFileReader::new(fs::File::open(&path).unwrap()).unwrap();
            let rows = parquet::file::reader::FileReader::metadata(&reader).file_metadata().num_rows();
            assert_eq!(rows, 10 * groups as i64);
        }
    }

    #[test]
    fn a_file_of_texts_says_that_it_has_no_other_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("texts.parquet");
        let schema = "message schema { optional binary file_name (STRING); optional binary caption (UTF8); }";
        write(&path, schema, compressed(Compression::UNCOMPRESSED), Vec::new());
        let (first, _) = first(&fs::read(path).unwrap(), 1);
        assert!(!first.has_bytes);
    }

    #[test]
    fn a_description_that_is_longer_than_the_first_read_is_read_in_two() {
        let folder = tempfile::tempdir().unwrap();
        let rows: Vec<_> = (0..600).map(|_| images(&[(b"picture", "a.jpg", "A")])).collect();
        let path = folder.path().join("all.parquet");
        write(&path, IMAGES, compressed(Compression::UNCOMPRESSED), rows);
        let file = fs::read(path).unwrap();
        let (first, asked) = first(&file, 3);
        assert!(asked as u64 > FIRST_READ && first.num_groups == 3, "{asked}");
    }

    #[test]
    fn what_is_no_whole_parquet_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(folder.path());
        for length in [0, 11, 12, 1000, file.len() - 1] {
            let read = &mut |range: Range<u64>| Ok(file[range.start as usize..range.end as usize].to_vec());
            assert!(first_rows(length as u64, 5, read).is_err(), "{length}");
        }
        let mut damaged = file.clone();
        for at in (file.len() - 3000..file.len()).step_by(7) {
            damaged[at] ^= 0x55;
            let read = &mut |range: Range<u64>| Ok(damaged[range.start as usize..range.end as usize].to_vec());
            // Some bytes make no difference; none makes it panic.
            drop(first_rows(file.len() as u64, 5, read));
            damaged[at] ^= 0x55;
        }
        assert!(first_rows(file.len() as u64, 5, &mut |_| Ok(Vec::new())).is_err(), "a server that sends nothing");
    }
}
