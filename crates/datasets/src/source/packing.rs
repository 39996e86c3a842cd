//! What is compressed as a whole, with gzip or Zstandard: it can be read in its order only.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use crate::source::limits::{Limits, RATIO_FROM};
use base::bounded_file;
use pixels::image_file::guard::caught;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    Gzip,
    Zstd,
}

/// What `packed` unpacks to, without an end to how much that is.
pub(super) fn unpacked<'a>(packed: impl Read + Send + 'a, packing: Packing) -> Box<dyn Read + Send + 'a> {
    let packed = BufReader::with_capacity(1 << 16, packed);
    match packing {
        Packing::Gzip => Box::new(MultiGzDecoder::new(packed)),
        Packing::Zstd => Box::new(ZstdFrames::new(packed)),
    }
}

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

/// Reads all frames of a Zstandard file, one after the other, and compares each with its checksum.
struct ZstdFrames<R> {
    packed: R,
    decoder: FrameDecoder,
    /// A frame is being read.
    is_open: bool,
    num_frames: usize,
    is_broken: bool,
}

impl<R: BufRead> ZstdFrames<R> {
    fn new(packed: R) -> Self {
        Self { packed, decoder: FrameDecoder::new(), is_open: false, num_frames: 0, is_broken: false }
    }

    /// Begins the next frame; `false` where there is none.
    fn open(&mut self) -> io::Result<bool> {
        while !self.is_open {
            if self.packed.fill_buf()?.is_empty() {
                return if self.num_frames > 0 { Ok(false) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
            match self.decoder.reset(&mut self.packed) {
                Ok(()) => self.is_open = true,
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    io::copy(&mut self.packed.by_ref().take(length.into()), &mut io::sink())?;
                }
                Err(error) => return Err(self.explain(error)),
            }
            self.num_frames += 1;
        }
        Ok(true)
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.open()? {
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let decoded = self.decoder.decode_blocks(&mut self.packed, BlockDecodingStrategy::UptoBlocks(1));
                decoded.map_err(|error| self.explain(error))?;
            }
            let count = self.decoder.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            let checksum = self.decoder.get_checksum_from_data();
            if checksum.is_some() && checksum != self.decoder.get_calculated_checksum() {
                return Err(io::Error::other("its content does not have the checksum that is written in it"));
            }
            self.is_open = false;
        }
        Ok(0)
    }

    /// The error of the library; one at the end of the file is that the file was cut.
    fn explain(&mut self, error: FrameDecoderError) -> io::Error {
        match self.packed.fill_buf() {
            Ok([]) => io::ErrorKind::UnexpectedEof.into(),
            Ok(_) => io::Error::other(error),
            Err(cannot) => cannot,
        }
    }
}

impl<R: BufRead> Read for ZstdFrames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_broken {
            return Err(io::Error::other("it cannot be unpacked any further"));
        }
        let read = caught(|| self.read_some(buffer)).unwrap_or_else(|panic| Err(io::Error::other(panic)));
        self.is_broken = read.is_err();
        read
    }
}

/// Packs for tests.
#[cfg(test)]
pub(crate) fn packed(content: &[u8], packing: Packing) -> Vec<u8> {
    use std::io::Write as _;

    match packing {
        Packing::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap()
        }
        Packing::Zstd => ruzstd::encoding::compress_to_vec(content, ruzstd::encoding::CompressionLevel::Fastest),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

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
