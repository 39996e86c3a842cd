//! A file that is compressed as a whole, with gzip or Zstandard: it can be read in its order only.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;

use crate::compression::{Packing, unpacked};
use crate::source::limits::{Limits, RATIO_FROM};
use base::bounded_file;

/// The content of a packed file, up to what `limits` allow.
pub(super) struct Unpacked {
    content: Box<dyn Read + Send>,
    /// Bytes that were read of the file, and of its content.
    packed_bytes: Arc<AtomicU64>,
    bytes: u64,
    limits: Limits,
}

impl Unpacked {
    pub(super) fn open(path: &Path, packing: Packing, limits: Limits) -> anyhow::Result<Self> {
        let file = bounded_file::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let packed_bytes = Arc::new(AtomicU64::new(0));
        let content = unpacked(Counted { file, count: Arc::clone(&packed_bytes) }, packing);
        Ok(Self { content, packed_bytes, bytes: 0, limits })
    }

    /// Bytes of the content that were read.
    pub(super) fn position(&self) -> u64 {
        self.bytes
    }
}

impl Read for Unpacked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.content.read(buffer)?;
        self.bytes += count as u64;
        let Limits { ratio, total_bytes, .. } = self.limits;
        if self.bytes > RATIO_FROM && self.bytes / ratio > self.packed_bytes.load(Ordering::Relaxed) {
            let message = format!("it unpacks to more than {ratio} times its size: a compression bomb");
            return Err(io::Error::other(message));
        }
        // The headers of a tar archive take some too.
        if self.bytes / 2 > total_bytes {
            return Err(io::Error::other(format!("it unpacks to more than {} bytes", 2 * total_bytes)));
        }
        Ok(count)
    }
}

struct Counted {
    file: File,
    count: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.count.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// What is said of an error of unpacking: what to do about it where the file is to blame.
pub(super) fn hint(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(_) => "make the file readable",
        None => "the file is truncated or damaged: download it again",
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::compression::packed;

    const BOTH: [Packing; 2] = [Packing::Gzip, Packing::Zstd];

    fn noise(length: usize) -> Vec<u8> {
        let mut stream = base::random::Stream::new(0, "test", "noise");
        (0..length).map(|_| stream.next_u64() as u8).collect()
    }

    fn file(bytes: &[u8]) -> (TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    fn read(bytes: &[u8], packing: Packing, limits: Limits) -> io::Result<Vec<u8>> {
        let (_folder, path) = file(bytes);
        let mut content = Vec::new();
        Unpacked::open(&path, packing, limits).unwrap().read_to_end(&mut content)?;
        Ok(content)
    }

    #[test]
    fn one_part_and_several_are_unpacked_to_what_was_packed() {
        for packing in BOTH {
            let (one, two) = (noise(300_000), b"words ".repeat(40_000));
            let several = [packed(&one, packing), packed(&two, packing), packed(b"", packing)].concat();
            assert!(read(&several, packing, Limits::DATASET).unwrap() == [one, two].concat(), "{packing:?}");
        }
        // A part that is not content.
        let skipped = [b"\x50\x2a\x4d\x18\x05\0\0\0extra".to_vec(), packed(b"words", Packing::Zstd)].concat();
        assert_eq!(read(&skipped, Packing::Zstd, Limits::DATASET).unwrap(), b"words");
    }

    #[test]
    fn what_is_cut_or_damaged_is_an_error() {
        for packing in BOTH {
            let whole = packed(&noise(10_000), packing);
            for length in [0, 1, 5, 20, whole.len() / 2, whole.len() - 1] {
                let error = read(&whole[..length], packing, Limits::DATASET).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{packing:?} {length}");
            }
            for at in [0, whole.len() / 2, whole.len() - 2] {
                let mut damaged = whole.clone();
                damaged[at] ^= 0x55;
                assert!(read(&damaged, packing, Limits::DATASET).is_err(), "{packing:?} {at}");
            }
        }
    }

    #[test]
    fn a_bomb_is_refused_before_it_is_unpacked() {
        for packing in BOTH {
            let bomb = packed(&vec![0; 20 << 20], packing);
            assert!(bomb.len() < 100_000, "{}", bomb.len());
            let (_folder, path) = file(&bomb);
            let mut unpacked = Unpacked::open(&path, packing, Limits::DATASET).unwrap();
            let error = io::copy(&mut unpacked, &mut io::sink()).unwrap_err();
            assert!(error.to_string().contains("a compression bomb"), "{packing:?}: {error}");
            assert!(unpacked.position() < 16 << 20, "{packing:?}: {}", unpacked.position());
            let small = Limits { total_bytes: 1000, ..Limits::DATASET };
            let error = read(&packed(&noise(5000), packing), packing, small).unwrap_err();
            assert!(error.to_string().contains("unpacks to more than 2000 bytes"), "{packing:?}: {error}");
        }
    }
}
