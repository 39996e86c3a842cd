//! The hashes by which the Hub names contents, and how a content is checked against its name.
//!
//! A large file (LFS or Xet) is named by its SHA-256. A small one is stored in git itself, where a content is named by
//! the SHA-1 of `blob LENGTH`, a zero byte and the content. The latter protects only against damage, not against an
//! attacker; provenance is recorded as SHA-256 for both.

use base::digest::{Hasher, hex};
use sha1::{Digest as _, Sha1};

/// The server's name of a content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ContentHash {
    /// 64 lower-case hexadecimal characters.
    Sha256(String),
    /// 40 lower-case hexadecimal characters.
    GitBlob(String),
}

impl ContentHash {
    /// From an `ETag`, which may be weak and in quotes, or from the name of a file in the cache. `None` if it is not a
    /// hash: nothing could be checked, and the text must not become a file name.
    pub(super) fn parse(tag: &str) -> Option<Self> {
        let text = tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"');
        match text.len() {
            _ if !is_hexadecimal(text) => None,
            64 => Some(Self::Sha256(text.to_owned())),
            40 => Some(Self::GitBlob(text.to_owned())),
            _ => None,
        }
    }

    pub(super) fn as_str(&self) -> &str {
        let (Self::Sha256(text) | Self::GitBlob(text)) = self;
        text
    }
}

fn is_hexadecimal(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Computes the digests of a content piece by piece.
pub(super) struct ContentHasher {
    sha256: Hasher,
    /// Only for a content that is named by it.
    git_blob: Option<Sha1>,
}

impl ContentHasher {
    /// For a content of `bytes` bytes whose name should be `hash`.
    pub(super) fn new(hash: &ContentHash, bytes: u64) -> Self {
        let git_blob = matches!(hash, ContentHash::GitBlob(_)).then(|| {
            let mut sha1 = Sha1::new();
            sha1.update(format!("blob {bytes}\0"));
            sha1
        });
        Self { sha256: Hasher::new(), git_blob }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(sha1) = &mut self.git_blob {
            sha1.update(bytes);
        }
    }

    pub(super) fn finish(self) -> Digests {
        let sha256 = self.sha256.finish();
        Digests { named: self.git_blob.map_or_else(|| sha256.clone(), |sha1| hex(&sha1.finalize())), sha256 }
    }
}

pub(super) struct Digests {
    /// To compare with the name.
    pub(super) named: String,
    pub(super) sha256: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_file_has_the_name_that_git_gives_it() {
        // `git hash-object` of an empty file and of "hello\n".
        for (content, name) in
            [("", "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"), ("hello\n", "ce013625030ba8dba906f756967f9e9ca394464a")]
        {
            let mut hasher = ContentHasher::new(&ContentHash::GitBlob(name.to_owned()), content.len() as u64);
            hasher.update(content.as_bytes());
            let digests = hasher.finish();
            assert_eq!(digests.named, name);
            assert_eq!(digests.sha256, base::digest::sha256(content.as_bytes()));
        }
    }

    #[test]
    fn a_tag_that_is_not_a_hash_is_not_a_name() {
        let (long, short) = ("0a".repeat(32), "0a".repeat(20));
        assert_eq!(ContentHash::parse(&format!("\"{long}\"")), Some(ContentHash::Sha256(long)));
        assert_eq!(ContentHash::parse(&format!("W/\"{short}\"")), Some(ContentHash::GitBlob(short)));
        for tag in ["", "\"\"", "..", "../../../etc/passwd", &"0A".repeat(32), &"x".repeat(64), &"é".repeat(20), "0a"]
        {
            assert_eq!(ContentHash::parse(tag), None, "{tag}");
        }
    }
}
