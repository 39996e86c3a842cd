//! The `.wandb` file: records in LevelDB's log format, which `wandb sync` reads.
//!
//! Seven bytes are followed by blocks of 32 KiB. A record is one chunk or, if it does not fit into the block, several.
//! Each chunk has a checksum, so that a record that a crash left incomplete is detected and removed. The checksum is
//! the plain CRC-32, not LevelDB's masked CRC-32C (`core/internal/transactionlog` of the official client).

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use base::{bounded_file, place};

const FILE_HEADER: [u8; 7] = *b":W&B\xe1\xbe\x00";
const BLOCK: u64 = 32 * 1024;
const CHUNK_HEADER: u64 = 7;
const FULL: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;

/// A file that is being written. Records are handed to the system when [`LogWriter::append`] returns.
pub(crate) struct LogWriter {
    file: File,
    position: u64,
}

impl LogWriter {
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        file.write_all(&FILE_HEADER)?;
        Ok(Self { file, position: FILE_HEADER.len() as u64 })
    }

    /// Continues a file after the record that ends at `end`; what follows is cut off.
    pub(crate) fn reopen(path: &Path, end: u64) -> io::Result<Self> {
        place::refuse_link(path)?;
        let mut file = OpenOptions::new().write(true).open(path)?;
        file.set_len(end)?;
        file.seek(SeekFrom::Start(end))?;
        if end < FILE_HEADER.len() as u64 {
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(&FILE_HEADER)?;
        }
        Ok(Self { file, position: end.max(FILE_HEADER.len() as u64) })
    }

    pub(crate) fn append(&mut self, record: &[u8]) -> io::Result<()> {
        let bytes = chunks(self.position, record);
        let written = self.file.write_all(&bytes);
        if written.is_err() {
            // An incomplete record would hide all that follow. The first error is the one to report.
            let _ = self.file.set_len(self.position).and_then(|()| self.file.seek(SeekFrom::Start(self.position)));
        } else {
            self.position += bytes.len() as u64;
        }
        written
    }

    /// The end of the last record.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Waits until everything is on disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}

/// A record as it is written at `position`.
fn chunks(position: u64, record: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(record.len() + 2 * CHUNK_HEADER as usize);
    let mut rest = record;
    let mut is_first = true;
    loop {
        let mut room = BLOCK - (position + bytes.len() as u64) % BLOCK;
        if room < CHUNK_HEADER {
            bytes.resize(bytes.len() + room as usize, 0);
            room = BLOCK;
        }
        let (part, after) = rest.split_at(rest.len().min((room - CHUNK_HEADER) as usize));
        let kind = match (is_first, after.is_empty()) {
            (true, true) => FULL,
            (true, false) => FIRST,
            (false, false) => MIDDLE,
            (false, true) => LAST,
        };
        bytes.extend_from_slice(&checksum(kind, part).to_le_bytes());
        bytes.extend_from_slice(&(part.len() as u16).to_le_bytes());
        bytes.push(kind);
        bytes.extend_from_slice(part);
        if after.is_empty() {
            return bytes;
        }
        (rest, is_first) = (after, false);
    }
}

fn checksum(kind: u8, part: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[kind]);
    hasher.update(part);
    hasher.finalize()
}

/// Reads the records of a file, even while it is being written.
pub(crate) struct LogReader {
    file: File,
    position: u64,
    block: Vec<u8>,
    /// Where `block` starts.
    block_start: u64,
}

impl LogReader {
    /// Reads from the first record. A file with another start has none.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut file = bounded_file::open(path)?;
        let mut header = Vec::new();
        (&mut file).take(FILE_HEADER.len() as u64).read_to_end(&mut header)?;
        let position = if header == FILE_HEADER { FILE_HEADER.len() as u64 } else { 0 };
        Ok(Self { file, position, block: Vec::new(), block_start: u64::MAX })
    }

    /// The next record that ends at or before `limit`; `None` if there is none, or if the bytes are not a record. The
    /// next call tries the same position again.
    pub(crate) fn next(&mut self, limit: u64) -> io::Result<Option<Vec<u8>>> {
        if self.position < FILE_HEADER.len() as u64 {
            return Ok(None);
        }
        let mut position = self.position;
        let mut record = Vec::new();
        // A first chunk may be empty: a block's last seven bytes are only a header.
        let mut is_first = true;
        loop {
            let room = BLOCK - position % BLOCK;
            if room < CHUNK_HEADER {
                position += room;
                continue;
            }
            let Some(header) = self.bytes(position, CHUNK_HEADER, limit)? else { return Ok(None) };
            let expected = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
            let (length, kind) = (u64::from(u16::from_le_bytes([header[4], header[5]])), header[6]);
            let is_next = if is_first { [FULL, FIRST].contains(&kind) } else { [MIDDLE, LAST].contains(&kind) };
            if !is_next || length > room - CHUNK_HEADER {
                return Ok(None);
            }
            let Some(part) = self.bytes(position + CHUNK_HEADER, length, limit)? else { return Ok(None) };
            if checksum(kind, part) != expected {
                return Ok(None);
            }
            record.extend_from_slice(part);
            position += CHUNK_HEADER + length;
            match kind {
                FULL | LAST => {
                    self.position = position;
                    return Ok(Some(record));
                }
                _ => is_first = false,
            }
        }
    }

    /// The end of the last record that was read; 0 if the file is not a log.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// `length` bytes at `position`, all within one block.
    fn bytes(&mut self, position: u64, length: u64, limit: u64) -> io::Result<Option<&[u8]>> {
        if position + length > limit {
            return Ok(None);
        }
        let block_start = position - position % BLOCK;
        let from = (position - block_start) as usize;
        let to = from + length as usize;
        // The block may have grown since it was read. What follows the limit may still change, so it is not kept.
        if self.block_start != block_start || self.block.len() < to {
            self.block.clear();
            self.file.seek(SeekFrom::Start(block_start))?;
            (&mut self.file).take(BLOCK.min(limit - block_start)).read_to_end(&mut self.block)?;
            self.block_start = block_start;
        }
        Ok(self.block.get(from..to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(index: usize, length: usize) -> Vec<u8> {
        (0..length).map(|byte| (byte * 7 + index) as u8).collect()
    }

    fn read_all(path: &Path) -> (Vec<Vec<u8>>, u64) {
        let mut reader = LogReader::open(path).unwrap();
        let mut records = Vec::new();
        while let Some(record) = reader.next(u64::MAX).unwrap() {
            records.push(record);
        }
        (records, reader.position())
    }

    #[test]
    fn records_of_every_length_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.wandb");
        let mut writer = LogWriter::create(&path).unwrap();
        // At the end of a block, every remaining space from 0 to 8 bytes occurs.
        let block = BLOCK as usize;
        let lengths = [1, 100, block - 7 - 7, block - 7 - 8 - 107, 3 * block, block - 7, 5, 70_000];
        let mut expected = Vec::new();
        for room in 0..9 {
            let left = block - (writer.position() as usize + 7) % block;
            expected.push(record(room, left + block - 7 - room));
            writer.append(expected.last().unwrap()).unwrap();
            for length in lengths {
                expected.push(record(room, length));
                writer.append(expected.last().unwrap()).unwrap();
            }
        }
        assert!(read_all(&path) == (expected, writer.position()));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), writer.position());
    }

    #[test]
    fn a_torn_tail_is_cut_and_the_file_continues() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.wandb");
        let mut writer = LogWriter::create(&path).unwrap();
        writer.append(&record(0, 40_000)).unwrap();
        let kept = writer.position();
        writer.append(&record(1, 300)).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for cut in [kept as usize, kept as usize + 1, kept as usize + 7, whole.len() - 1] {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let (records, end) = read_all(&path);
            assert_eq!((records.len(), end), (1, kept), "cut at {cut}");
            let mut writer = LogWriter::reopen(&path, end).unwrap();
            writer.append(&record(2, 33_000)).unwrap();
            assert!(read_all(&path).0 == [record(0, 40_000), record(2, 33_000)]);
        }
    }

    #[test]
    fn damage_and_foreign_files_end_the_records() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.wandb");
        let mut writer = LogWriter::create(&path).unwrap();
        writer.append(&record(0, 50)).unwrap();
        writer.append(&record(1, 50)).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[7 + 7 + 50 + 20] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(read_all(&path).0.len(), 1);
        for foreign in [&b""[..], b":W&", b"something else entirely", &[0; 100]] {
            std::fs::write(&path, foreign).unwrap();
            assert_eq!(read_all(&path), (Vec::new(), 0));
            let mut writer = LogWriter::reopen(&path, 0).unwrap();
            writer.append(&record(1, 5)).unwrap();
            assert_eq!(read_all(&path).0, [record(1, 5)]);
        }
    }

    #[test]
    fn a_reader_sees_only_what_was_published_and_later_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.wandb");
        let mut writer = LogWriter::create(&path).unwrap();
        let mut reader = LogReader::open(&path).unwrap();
        assert_eq!(reader.next(writer.position()).unwrap(), None);
        writer.append(&record(0, 10)).unwrap();
        let published = writer.position();
        writer.append(&record(1, 40_000)).unwrap();
        assert_eq!(reader.next(published).unwrap(), Some(record(0, 10)));
        assert_eq!(reader.next(published).unwrap(), None);
        assert_eq!(reader.next(writer.position() - 1).unwrap(), None);
        assert_eq!(reader.next(writer.position()).unwrap(), Some(record(1, 40_000)));
    }
}
