//! What gzip and Zstandard made smaller, as streams.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use pixels::image_file::guard::caught;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    Gzip,
    Zstd,
}

/// What `packed` unpacks to, without an end to how much that is.
pub(crate) fn unpacked<'a>(packed: impl Read + Send + 'a, packing: Packing) -> Box<dyn Read + Send + 'a> {
    let packed = BufReader::with_capacity(1 << 16, packed);
    match packing {
        Packing::Gzip => Box::new(MultiGzDecoder::new(packed)),
        Packing::Zstd => Box::new(ZstdFrames::new(packed)),
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
