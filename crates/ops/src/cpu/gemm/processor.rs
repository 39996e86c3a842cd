//! Which kernel a processor runs.

use super::Factors;
use super::cell::Operands;
use super::grid;
use super::portable::Portable;
#[cfg(target_arch = "x86_64")]
use super::{kernel_avx2, kernel_avx512, kernel_bf16};

/// A type of elements that can be multiplied: f32, f64.
pub(crate) trait Number: Copy + Send + Sync {
    /// # Safety
    /// The pointers reach what sizes and strides say, and the result overlaps no operand.
    #[expect(unsafe_code, reason = "kernels work on pointers")]
    unsafe fn multiply(operands: &Operands<Self>, factors: Factors, num_threads: usize);
}

#[expect(unsafe_code, reason = "kernels work on pointers and need a processor that has their instructions")]
impl Number for f32 {
    unsafe fn multiply(operands: &Operands<f32>, factors: Factors, num_threads: usize) {
        let rounds = factors == Factors::Bf16;
        // SAFETY: as promised by the caller; each kernel runs on processors that have its instructions.
        unsafe {
            #[cfg(target_arch = "x86_64")]
            match x86() {
                X86::Avx512 { fast_bf16: true } if rounds => {
                    return grid::multiply(operands, kernel_bf16::Bf16Pairs, num_threads);
                }
                X86::Avx512 { .. } => {
                    return grid::multiply(operands, kernel_avx512::F32Avx512 { rounds }, num_threads);
                }
                X86::Avx2 => return grid::multiply(operands, kernel_avx2::F32Avx2 { rounds }, num_threads),
                X86::Older => {}
            }
            grid::multiply(
                operands,
                Portable::<f32, 16> { round: rounds.then_some(super::packing::round_to_bf16) },
                num_threads,
            );
        }
    }
}

#[expect(unsafe_code, reason = "kernels work on pointers and need a processor that has their instructions")]
impl Number for f64 {
    /// In f64 nothing is rounded: `linear` refuses bf16.
    unsafe fn multiply(operands: &Operands<f64>, _: Factors, num_threads: usize) {
        // SAFETY: as above.
        unsafe {
            #[cfg(target_arch = "x86_64")]
            match x86() {
                // f64 is the type of tests: AVX2 will do.
                X86::Avx512 { .. } | X86::Avx2 => return grid::multiply(operands, kernel_avx2::F64Avx2, num_threads),
                X86::Older => {}
            }
            grid::multiply(operands, Portable::<f64, 8> { round: None }, num_threads);
        }
    }
}

/// The instruction sets of x86-64 that have kernels.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum X86 {
    Avx512 {
        /// Whether `vdpbf16ps` multiplies faster than f32 does.
        fast_bf16: bool,
    },
    Avx2,
    Older,
}

#[cfg(target_arch = "x86_64")]
fn x86() -> X86 {
    if !(is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")) {
        X86::Older
    } else if is_x86_feature_detected!("avx512f") {
        // AMD's processors run a `vdpbf16ps`, two products of bf16 a lane, as fast as a multiplication of f32; Intel's
        // take at least four times as long.
        X86::Avx512 { fast_bf16: is_x86_feature_detected!("avx512bf16") && is_amd() }
    } else {
        X86::Avx2
    }
}

#[cfg(target_arch = "x86_64")]
fn is_amd() -> bool {
    static IS_AMD: std::sync::LazyLock<bool> = std::sync::LazyLock::new(|| {
        let vendor = std::arch::x86_64::__cpuid(0);
        [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).concat() == b"AuthenticAMD"
    });
    *IS_AMD
}
