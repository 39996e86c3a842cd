//! A hasher for the tables that METEOR reads: millions of short keys, and no attacker who chooses them.
//!
//! Loading the paraphrases with the standard library's hasher takes a third longer.

use std::hash::{BuildHasherDefault, Hasher};

/// A map whose keys are hashed by [`QuickHasher`].
pub(super) type QuickMap<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<QuickHasher>>;

/// Multiplies each eight bytes to 128 bits and folds the halves.
#[derive(Debug, Default)]
pub(super) struct QuickHasher(u64);

impl QuickHasher {
    fn mix(&mut self, number: u64) {
        // Fractional digits of the golden ratio and of the square root of 2, made odd.
        let product = u128::from(self.0 ^ number ^ 0x9E37_79B9_7F4A_7C15) * 0x6A09_E667_F3BC_C909;
        self.0 = product as u64 ^ (product >> 64) as u64;
    }
}

impl Hasher for QuickHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut eight = [0; 8];
            eight[..part.len()].copy_from_slice(part);
            self.mix(u64::from_le_bytes(eight));
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.mix(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.mix(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.mix(number);
    }

    fn write_usize(&mut self, number: usize) {
        self.mix(number as u64);
    }
}
