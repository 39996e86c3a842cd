//! Sizes of blocks.

use std::sync::LazyLock;

/// Steps of a sum in one block of packed operands. The result takes up the sums of one block after the other, so this
/// decides their order: it is the same on all processors of a kind, for any number of threads.
pub(super) const DEPTH: usize = 512;

/// Columns of one block of the right operand: with [`DEPTH`], 8 MiB of f32.
pub(super) const COLUMNS: usize = 4096;

/// Rows of one block, of which the left operand has `left_bytes` in each row and a tile of the result `result_bytes`.
/// The packed left operand stays in the second-level cache while tiles of the result, and a panel of the right operand,
/// pass through it.
pub(super) fn rows(left_bytes: usize, result_bytes: usize) -> usize {
    *SECOND_LEVEL_CACHE / 16 * 11 / (left_bytes + 2 * result_bytes).max(1)
}

/// Bytes of the second-level cache of a core.
static SECOND_LEVEL_CACHE: LazyLock<usize> = LazyLock::new(|| second_level_cache().unwrap_or(1 << 20).max(1 << 18));

#[cfg(all(target_arch = "x86_64", not(miri)))]
fn second_level_cache() -> Option<usize> {
    use std::arch::x86_64::{__cpuid, __cpuid_count};

    let vendor = __cpuid(0);
    // Both leaves describe one cache for each sub-leaf, in the same format.
    let leaf = if vendor.ecx == u32::from_le_bytes(*b"cAMD") { 0x8000_001D } else { 4 };
    if __cpuid(leaf & 0x8000_0000).eax < leaf {
        return None;
    }
    (0..8).map(|index| __cpuid_count(leaf, index)).take_while(|cache| cache.eax & 31 != 0).find_map(|cache| {
        let (kind, level) = (cache.eax & 31, cache.eax >> 5 & 7);
        let (ways, partitions, line) = ((cache.ebx >> 22) + 1, (cache.ebx >> 12 & 0x3FF) + 1, (cache.ebx & 0xFFF) + 1);
        // Of data (1) or of data and instructions (3).
        let bytes = ways as usize * partitions as usize * line as usize * (cache.ecx as usize + 1);
        (level == 2 && kind != 2).then_some(bytes)
    })
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
fn second_level_cache() -> Option<usize> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_fit_a_second_level_cache_of_a_likely_size() {
        assert!((1 << 18..=1 << 27).contains(&*SECOND_LEVEL_CACHE), "{}", *SECOND_LEVEL_CACHE);
        let row_bytes = DEPTH * size_of::<f32>();
        assert!(rows(row_bytes, 128) * row_bytes < *SECOND_LEVEL_CACHE && rows(row_bytes, 128) >= 64);
    }
}
