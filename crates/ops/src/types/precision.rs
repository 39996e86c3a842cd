//! The numbers that matrix products multiply.

/// What matrix products multiply. Sums are f32 in any case, and so is everything that is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// The operands as they are.
    #[default]
    Full,
    /// bf16: operands are rounded to 8 bits of mantissa, as `torch.autocast` does. So are results on a GPU that a bias
    /// is added to. f32 tensors only.
    Bf16,
    /// TF32: a GPU rounds the operands to 10 bits of mantissa. f32 tensors on a GPU only.
    Tf32,
}

/// Whether this CPU has instructions that multiply bf16. Without them, and with those of Intel, which are slower,
/// rounded operands are multiplied as f32.
pub fn has_bf16_instructions() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}
