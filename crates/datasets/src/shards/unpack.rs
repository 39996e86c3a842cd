//! What a block of a shard unpacks to.

use std::io::{self, Read as _};

use crate::compression::{Packing, unpacked};
use crate::shards::place::Codec;

/// The `size` bytes that `packed` unpacks to, which the caller has found to be few enough.
///
/// # Errors
/// What cannot be unpacked, or unpacks to another number of bytes.
pub(crate) fn unpack(codec: Codec, packed: &[u8], size: usize) -> io::Result<Vec<u8>> {
    let is_other = || io::Error::other(format!("a page does not unpack to the {size} bytes that it claims"));
    let content = match codec {
        Codec::None => packed.to_vec(),
        Codec::Snappy => {
            if snap::raw::decompress_len(packed).ok() != Some(size) {
                return Err(is_other());
            }
            snap::raw::Decoder::new().decompress_vec(packed).map_err(io::Error::other)?
        }
        Codec::SnappyPart => {
            let mut whole = Vec::with_capacity(packed.len() + 10);
            let mut rest = size;
            while rest > 0x7f {
                whole.push(rest as u8 | 0x80);
                rest >>= 7;
            }
            whole.push(rest as u8);
            whole.extend_from_slice(packed);
            return unpack(Codec::Snappy, &whole, size);
        }
        Codec::Gzip | Codec::Zstd => {
            let packing = if codec == Codec::Gzip { Packing::Gzip } else { Packing::Zstd };
            let mut content = Vec::with_capacity(size);
            // One more shows that there are more.
            unpacked(packed, packing).take(size as u64 + 1).read_to_end(&mut content)?;
            content
        }
    };
    if content.len() == size { Ok(content) } else { Err(is_other()) }
}

/// The first `size` bytes that `packed` unpacks to. What comes after them is not unpacked where that is not needed, and
/// not looked at.
pub(crate) fn unpack_start(codec: Codec, packed: &[u8], whole: usize, size: usize) -> io::Result<Vec<u8>> {
    let packing = match codec {
        Codec::Gzip => Packing::Gzip,
        Codec::Zstd => Packing::Zstd,
        Codec::None | Codec::Snappy | Codec::SnappyPart => {
            let mut content = unpack(codec, packed, whole)?;
            content.truncate(size);
            return Ok(content);
        }
    };
    let mut content = Vec::with_capacity(size);
    unpacked(packed, packing).take(size as u64).read_to_end(&mut content)?;
    if content.len() == size {
        return Ok(content);
    }
    Err(io::Error::other(format!("a page does not unpack to the {whole} bytes that it claims")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compression::packed;

    #[test]
    fn a_page_unpacks_to_the_size_that_it_claims_or_is_an_error() {
        let content = b"a man rides a horse ".repeat(500);
        let snappy = snap::raw::Encoder::new().compress_vec(&content).unwrap();
        let all = [
            (Codec::None, content.clone()),
            (Codec::Snappy, snappy),
            (Codec::Gzip, packed(&content, Packing::Gzip)),
            (Codec::Zstd, packed(&content, Packing::Zstd)),
        ];
        for (codec, packed) in all {
            assert!(unpack(codec, &packed, content.len()).unwrap() == content, "{codec:?}");
            for size in [0, content.len() - 1, content.len() + 1] {
                let error = unpack(codec, &packed, size).unwrap_err().to_string();
                assert!(error.contains("does not unpack to"), "{codec:?} {size}: {error}");
            }
            for size in [0, 17, content.len()] {
                let start = unpack_start(codec, &packed, content.len(), size).unwrap();
                assert!(start == content[..size], "{codec:?} {size}");
            }
            assert!(unpack_start(codec, &packed, content.len() + 9, content.len() + 1).is_err(), "{codec:?}");
            if codec != Codec::None {
                assert!(unpack(codec, &packed[..packed.len() - 5], content.len()).is_err(), "{codec:?}");
            }
        }
    }
}
