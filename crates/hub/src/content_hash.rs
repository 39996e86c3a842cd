//! The hashes by which the Hub names contents, and how a content is checked against its name.
//!
//! A large file (LFS or Xet) is named by its SHA-256. A small one lies in git itself, where a content is named by the
//! SHA-1 of `blob LENGTH`, a zero byte and the content. The latter is no protection against an attacker, only against
//! damage; which data were used is told by SHA-256 for both.

use base::digest::Hasher;

/// What the server calls a content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ContentHash {
    /// 64 lower-case hexadecimal characters.
    Sha256(String),
    /// 40 lower-case hexadecimal characters.
    GitBlob(String),
}

impl ContentHash {
    /// From an `ETag`, which may be weak and in quotes, or from the name of a file in the cache. `None`: it is no hash,
    /// so that nothing could be checked; such a text must not become a file's name either.
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

/// Whether the text is the full name of a commit.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && is_hexadecimal(text)
}

fn is_hexadecimal(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The digests of a content that is fed piece by piece.
pub(super) struct ContentHasher {
    sha256: Hasher,
    /// For a content that is named by it.
    git_blob: Option<Sha1>,
}

impl ContentHasher {
    /// For a content of `bytes` bytes that should be called `hash`.
    pub(super) fn new(hash: &ContentHash, bytes: u64) -> Self {
        let git_blob = matches!(hash, ContentHash::GitBlob(_)).then(|| {
            let mut sha1 = Sha1::new();
            sha1.update(format!("blob {bytes}\0").as_bytes());
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
        Digests { named: self.git_blob.map_or_else(|| sha256.clone(), Sha1::finish), sha256 }
    }
}

/// The digests of a whole content.
pub(super) struct Digests {
    /// The one to compare with the name.
    pub(super) named: String,
    pub(super) sha256: String,
}

/// SHA-1 (FIPS 180-4), for names in git alone.
struct Sha1 {
    state: [u32; 5],
    block: [u8; 64],
    /// Bytes of `block` that are taken.
    filled: usize,
    total: u64,
}

impl Sha1 {
    fn new() -> Self {
        let state = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
        Self { state, block: [0; 64], filled: 0, total: 0 }
    }

    fn update(&mut self, mut bytes: &[u8]) {
        self.total = self.total.wrapping_add(bytes.len() as u64);
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(64 - self.filled));
            self.block[self.filled..self.filled + now.len()].copy_from_slice(now);
            self.filled += now.len();
            if self.filled == 64 {
                self.compress();
                self.filled = 0;
            }
            bytes = later;
        }
    }

    fn compress(&mut self) {
        let mut words = [0u32; 80];
        for (word, bytes) in words.iter_mut().zip(self.block.as_chunks::<4>().0) {
            *word = u32::from_be_bytes(*bytes);
        }
        for at in 16..80 {
            words[at] = (words[at - 3] ^ words[at - 8] ^ words[at - 14] ^ words[at - 16]).rotate_left(1);
        }
        let [mut a, mut b, mut c, mut d, mut e] = self.state;
        for (at, word) in words.into_iter().enumerate() {
            let (mixed, constant) = match at {
                0..20 => ((b & c) | (!b & d), 0x5a82_7999),
                20..40 => (b ^ c ^ d, 0x6ed9_eba1),
                40..60 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc),
                _ => (b ^ c ^ d, 0xca62_c1d6_u32),
            };
            let sum = a.rotate_left(5).wrapping_add(mixed).wrapping_add(e).wrapping_add(constant).wrapping_add(word);
            (a, b, c, d, e) = (sum, a, b.rotate_left(30), c, d);
        }
        for (state, value) in self.state.iter_mut().zip([a, b, c, d, e]) {
            *state = state.wrapping_add(value);
        }
    }

    fn finish(mut self) -> String {
        let bits = self.total.wrapping_mul(8);
        self.update(&[0x80]);
        while self.filled != 56 {
            self.update(&[0]);
        }
        self.update(&bits.to_be_bytes());
        self.state.iter().map(|word| format!("{word:08x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sha1(bytes: &[u8]) -> String {
        let mut sha1 = Sha1::new();
        sha1.update(bytes);
        sha1.finish()
    }

    #[test]
    fn sha1_of_known_texts_is_the_published_one() {
        // FIPS 180-2, appendix A, and RFC 3174, section 7.3.
        assert_eq!(sha1(b"abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
        let two_blocks = b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
        assert_eq!(sha1(two_blocks), "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
        assert_eq!(sha1(&b"01234567".repeat(80)), "dea356a2cddd90c7a7ecedc5ebb563934f460452");
        assert_eq!(sha1(&vec![b'a'; 1_000_000]), "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
    }

    #[test]
    fn the_pieces_in_which_a_content_comes_do_not_matter() {
        let content: Vec<u8> = (0..=255).collect();
        for length in [0, 1, 55, 56, 63, 64, 65, 119, 128, 255] {
            for piece in [1, 7, 64] {
                let mut pieces = Sha1::new();
                content[..length].chunks(piece).for_each(|part| pieces.update(part));
                assert_eq!(pieces.finish(), sha1(&content[..length]), "{length} bytes in pieces of {piece}");
            }
        }
    }

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
    fn a_tag_that_is_no_hash_is_no_name() {
        let (long, short) = ("0a".repeat(32), "0a".repeat(20));
        assert_eq!(ContentHash::parse(&format!("\"{long}\"")), Some(ContentHash::Sha256(long)));
        assert_eq!(ContentHash::parse(&format!("W/\"{short}\"")), Some(ContentHash::GitBlob(short)));
        for tag in ["", "\"\"", "..", "../../../etc/passwd", &"0A".repeat(32), &"x".repeat(64), &"é".repeat(20), "0a"]
        {
            assert_eq!(ContentHash::parse(tag), None, "{tag}");
        }
    }
}
