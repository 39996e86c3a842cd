//! Sizes that a file may name. A model is described before its weights are looked for, so that without limits a number
//! in a file would be memory.

use anyhow::bail;

/// Blocks of an encoder or a decoder.
pub const MAX_LAYERS: usize = 1024;
/// Any other size: far above any model, far below what overflows.
pub const MAX_SIZE: usize = 1 << 20;
/// Sizes of a decoder, whose vocabulary is larger.
pub const MAX_DECODER_SIZE: usize = 1 << 24;

/// Checks that each size (its name, itself, its maximum) is at least 1 and not too large.
///
/// # Errors
/// The first that is not.
pub fn check_sizes(owner: &str, sizes: &[(&str, usize, usize)]) -> anyhow::Result<()> {
    for (name, size, max) in sizes {
        if size == &0 || size > max {
            bail!("the {owner}'s {name} is {size}; expected 1 to {max}");
        }
    }
    Ok(())
}
