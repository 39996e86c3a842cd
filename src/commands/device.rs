//! Turns `auto`, `cpu`, `cuda` and `cuda:N` into a device, and sees that it can compute in the wanted precision.

use candle_core::Device;

use crate::base::fault::usage;
use crate::config::{Precision, TrainingConfig};
use crate::ops::has_fast_bf16;

/// The device to train on.
///
/// # Errors
/// A device that this binary cannot use; a precision that the device has no instructions for.
pub fn training_device(training: &TrainingConfig) -> anyhow::Result<Device> {
    let device = select_device(&training.device)?;
    check_precision(training.precision, has_fast_bf16())?;
    Ok(device)
}

fn check_precision(precision: Precision, has_fast_bf16: bool) -> anyhow::Result<()> {
    if precision == Precision::Bf16 && !has_fast_bf16 {
        return Err(usage(
            "training.precision = \"bf16\" needs a CPU with AVX512-BF16 (AMD Zen 4, Intel Cooper Lake or Sapphire \
             Rapids, or newer), and this one has none",
            "train with training.precision = \"f32\", which cannot change while a run goes on: without these \
             instructions bf16 would be slower",
        ));
    }
    Ok(())
}

/// The device to compute on.
///
/// # Errors
/// A device that this binary cannot use.
pub fn select_device(name: &str) -> anyhow::Result<Device> {
    match name {
        "auto" | "cpu" => Ok(Device::Cpu),
        _ if name == "cuda" || name.starts_with("cuda:") => Err(usage(
            format!("the device {name} needs a build with CUDA, and this binary has none"),
            "use training.device = \"auto\" or \"cpu\"",
        )),
        _ => Err(usage(format!("unknown device {name}"), "use auto, cpu, cuda or cuda:N")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fault::describe;

    #[test]
    fn cuda_without_a_cuda_build_is_an_error_that_says_so() {
        for name in ["cuda", "cuda:1"] {
            let text = describe(&select_device(name).unwrap_err());
            assert!(text.contains("build with CUDA"), "{text}");
        }
        assert!(select_device("auto").is_ok());
    }

    #[test]
    fn bf16_on_a_machine_without_it_is_an_error_that_says_so() {
        let text = describe(&check_precision(Precision::Bf16, false).unwrap_err());
        assert!(text.contains("AVX512-BF16") && text.contains("\"f32\""), "{text}");
        for (precision, fast) in [(Precision::Bf16, true), (Precision::F32, false)] {
            check_precision(precision, fast).unwrap();
        }
    }
}
