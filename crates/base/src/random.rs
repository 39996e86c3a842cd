//! All randomness of the program: seeded generators named by purpose, and a counter-based hash for dropout.
//!
//! A stream is a function of (seed, purpose, name) only, so that adding a parameter or a dataset never changes what
//! another one draws, and a resumed run needs no generator state. Nothing here reads the clock or the system.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use sha2::{Digest as _, Sha256};

/// A deterministic generator.
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// The stream of `purpose` (what is drawn) and `name` (for which thing), e.g. `("initialization", "decoder.wte")`.
    pub fn new(seed: u64, purpose: &str, name: &str) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(seed.to_le_bytes());
        // The length keeps ("ab", "c") and ("a", "bc") apart.
        hasher.update((purpose.len() as u64).to_le_bytes());
        hasher.update(purpose.as_bytes());
        hasher.update(name.as_bytes());
        Self(ChaCha8Rng::from_seed(hasher.finalize().into()))
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform in `[0, 1)`, with 53 bits.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in `0..bound`, without bias (Lemire 2019). `bound` must not be 0.
    pub fn below(&mut self, bound: usize) -> usize {
        assert!(bound > 0, "a random index needs at least one choice");
        let bound = bound as u64;
        loop {
            let wide = u128::from(self.next_u64()) * u128::from(bound);
            if (wide as u64) >= bound.wrapping_neg() % bound {
                return (wide >> 64) as usize;
            }
        }
    }

    /// Standard normal (Box and Muller 1958; the second value is not kept).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Fisher-Yates shuffle.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// Mixes the words of a key into 64 bits (the finaliser of splitmix64 over each word).
pub fn mix_key(words: &[u64]) -> u64 {
    let mut state = 0x9E37_79B9_7F4A_7C15;
    for &word in words {
        state = splitmix(state ^ word);
    }
    state
}

fn splitmix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// 32 random bits for `element` under `key`: two rounds of a 32-bit finaliser (Wellons' lowbias32), half of the key
/// before each. Only 32-bit operations, so that it vectorises on a CPU and is the same on a GPU.
#[inline(always)]
pub fn element_bits(key: u64, element: u32) -> u32 {
    lowbias32(lowbias32(element ^ (key as u32)) ^ ((key >> 32) as u32))
}

#[inline(always)]
fn lowbias32(mut x: u32) -> u32 {
    x = (x ^ (x >> 16)).wrapping_mul(0x7FEB_352D);
    x = (x ^ (x >> 15)).wrapping_mul(0x846C_A68B);
    x ^ (x >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_with_other_names_differ_and_the_same_name_repeats() {
        let draw = |seed, purpose, name| Stream::new(seed, purpose, name).next_u64();
        assert_eq!(draw(1, "a", "b"), draw(1, "a", "b"));
        assert_ne!(draw(1, "a", "b"), draw(2, "a", "b"));
        assert_ne!(draw(1, "ab", "c"), draw(1, "a", "bc"));
    }

    #[test]
    fn normal_has_mean_zero_and_variance_one() {
        let mut stream = Stream::new(7, "test", "normal");
        let draws: Vec<f64> = (0..20_000).map(|_| stream.normal()).collect();
        let mean = draws.iter().sum::<f64>() / 20_000.0;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 20_000.0;
        assert!(mean.abs() < 0.03, "mean {mean}");
        assert!((variance - 1.0).abs() < 0.04, "variance {variance}");
    }

    #[test]
    fn shuffle_is_a_permutation() {
        let mut items: Vec<usize> = (0..1000).collect();
        Stream::new(3, "test", "shuffle").shuffle(&mut items);
        assert_ne!(items, (0..1000).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn element_bits_are_uniform_and_neighbours_are_uncorrelated() {
        let key = mix_key(&[1, 2, 3]);
        let low = |element: u32| element_bits(key, element) < u32::MAX / 10;
        let hits = (0..100_000).filter(|&e| low(e)).count();
        assert!((9_600..10_400).contains(&hits), "{hits} of 100000 below a tenth");
        let both = (0..100_000).filter(|&e| low(e) && low(e + 1)).count();
        assert!((850..1_150).contains(&both), "{both} neighbouring pairs, 1000 expected");
    }
}
