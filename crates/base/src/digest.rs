//! SHA-256 digests as lower-case hexadecimal text, of bytes and of files. Nothing keyed, nothing secret.

use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::bounded_file;

/// Computes a digest piece by piece; [`Hasher::finish`] gives 64 lower-case hexadecimal characters.
#[derive(Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub fn finish_bytes(self) -> [u8; 32] {
        self.0.finalize().into()
    }

    pub fn finish(self) -> String {
        hex(&self.finish_bytes())
    }
}

/// Lower-case hexadecimal text, two characters a byte.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

pub fn sha256(bytes: &[u8]) -> String {
    let mut hasher = Hasher::new();
    hasher.update(bytes);
    hasher.finish()
}

/// The digest of a file's content.
pub fn sha256_file(path: &Path) -> io::Result<String> {
    Ok(hash_file(path)?.finish())
}

/// As [`sha256_file`], as a hasher to be continued.
pub fn hash_file(path: &Path) -> io::Result<Hasher> {
    let mut file = bounded_file::open(path)?;
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(hasher);
        }
        hasher.update(&buffer[..read]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_of_known_text_is_the_published_one() {
        // FIPS 180-2, appendix B.1.
        assert_eq!(sha256(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn file_and_bytes_give_the_same_digest() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"some text").unwrap();
        assert_eq!(sha256_file(file.path()).unwrap(), sha256(b"some text"));
    }
}
