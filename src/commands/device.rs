//! Selects a device by `auto`, `cpu`, `cuda` or `cuda:N`, and checks that it supports the requested precision.

use candle_core::Device;

use crate::config::{Precision, TrainingConfig};
use base::error::usage_error;
use ops::has_bf16_instructions;

/// The device that process number `local_rank` of this machine trains on; an error if the device or its precision cannot
/// be used. `auto` and `cuda` are the GPU of that number. Whether each has one of its own is for
/// [`gpus::connect`](crate::run::gpus::connect) to find.
pub fn training_device(training: &TrainingConfig, local_rank: usize) -> anyhow::Result<Device> {
    let device = device_of(&training.device, local_rank)?;
    if device.is_cpu() {
        check_precision_of_cpu(training.precision, has_bf16_instructions())?;
    }
    Ok(device)
}

fn check_precision_of_cpu(precision: Precision, has_bf16: bool) -> anyhow::Result<()> {
    match precision {
        Precision::Bf16 if !has_bf16 => Err(usage_error(
            "training.precision = \"bf16\" needs a GPU or a CPU with AVX512-BF16 (AMD Zen 4, Intel Cooper Lake or \
             Sapphire Rapids, or newer), and this machine has neither",
            "train with training.precision = \"f32\": without these instructions bf16 would be no faster (a resumed \
             run cannot change its precision)",
        )),
        Precision::Tf32 => Err(usage_error(
            "training.precision = \"tf32\" needs a GPU, but the run would use the CPU",
            "train with training.precision = \"f32\", or on a GPU with training.device = \"cuda\"",
        )),
        Precision::F32 | Precision::Bf16 => Ok(()),
    }
}

/// The device to compute on. `auto` is the first GPU, if there is one.
pub fn select_device(name: &str) -> anyhow::Result<Device> {
    device_of(name, 0)
}

fn device_of(name: &str, local_rank: usize) -> anyhow::Result<Device> {
    match name {
        "cpu" => Ok(Device::Cpu),
        "auto" => Ok(automatic_device(local_rank)),
        "cuda" => gpu(name, Wanted::OfProcess(local_rank)),
        _ => match name.strip_prefix("cuda:").and_then(|number| number.parse().ok()) {
            Some(number) => gpu(name, Wanted::Number(number)),
            None => Err(usage_error(format!("unknown device {name}"), "use auto, cpu, cuda or cuda:N, with N from 0")),
        },
    }
}

/// Which GPU.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "a build without CUDA has no GPU to open"))]
enum Wanted {
    Number(usize),
    /// That of a process of this machine. A launcher may show each process a GPU of its own alone, and these are all
    /// number 0.
    OfProcess(usize),
}

#[cfg(feature = "cuda")]
fn open(wanted: Wanted) -> Result<Device, ops::cuda::CudaFailure> {
    use ops::cuda::{self, CudaFailure};

    match wanted {
        Wanted::Number(number) => cuda::open(number),
        Wanted::OfProcess(rank) => match cuda::open(rank) {
            Err(CudaFailure::NoSuchGpu { count, .. }) => cuda::open(rank % count),
            opened => opened,
        },
    }
}

#[cfg(feature = "cuda")]
fn automatic_device(local_rank: usize) -> Device {
    use base::terminal;
    use ops::cuda::{CudaFailure, DRIVER};

    match open(Wanted::OfProcess(local_rank)) {
        Ok(device) => device,
        // A machine without a GPU needs no message.
        Err(CudaFailure::NoGpu | CudaFailure::Library { name: DRIVER, .. }) => Device::Cpu,
        Err(failure) => {
            terminal::warning(&format!(
                "cannot use the GPU, computing on the CPU instead: {failure}; {}",
                way_out(&failure)
            ));
            Device::Cpu
        }
    }
}

#[cfg(not(feature = "cuda"))]
fn automatic_device(_: usize) -> Device {
    Device::Cpu
}

#[cfg(feature = "cuda")]
fn gpu(name: &str, wanted: Wanted) -> anyhow::Result<Device> {
    open(wanted).map_err(|failure| usage_error(format!("cannot compute on {name}: {failure}"), way_out(&failure)))
}

/// What to do about a GPU that cannot be used.
#[cfg(feature = "cuda")]
fn way_out(failure: &ops::cuda::CudaFailure) -> &'static str {
    use ops::cuda::{CudaFailure, DRIVER};

    match failure {
        CudaFailure::Library { name: DRIVER, .. } => {
            "install NVIDIA's driver, or compute on the CPU with the device \"cpu\""
        }
        CudaFailure::Library { .. } => {
            "install the CUDA version that the program was built with, or add the folder of the library to \
             LD_LIBRARY_PATH; Python wheels have it in site-packages/nvidia/*/lib"
        }
        CudaFailure::NoGpu => "check nvidia-smi and CUDA_VISIBLE_DEVICES, or use the device \"cpu\"",
        CudaFailure::NoSuchGpu { .. } => "choose one of the available GPUs",
        CudaFailure::Unusable { .. } => {
            "a program built by scripts/build-cuda.sh needs driver 580 or newer (CUDA 13); otherwise use the device \"cpu\""
        }
        CudaFailure::TooOld { .. } | CudaFailure::Driver(_) => "compute on the CPU with the device \"cpu\"",
    }
}

#[cfg(not(feature = "cuda"))]
fn gpu(name: &str, _: Wanted) -> anyhow::Result<Device> {
    Err(usage_error(
        format!("the device {name} needs a build with CUDA, but this program was built without it"),
        "build with --features cuda, or use the device auto or cpu",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::error::describe;

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn cuda_without_a_cuda_build_is_an_error_that_says_so() {
        for name in ["cuda", "cuda:1"] {
            let text = describe(&select_device(name).unwrap_err());
            assert!(text.contains("build with CUDA") && text.contains("--features cuda"), "{text}");
        }
        assert!(select_device("auto").is_ok());
    }

    #[test]
    fn names_that_are_not_devices_are_errors() {
        for name in ["gpu", "cuda:", "cuda:one", "cuda0", ""] {
            let text = describe(&select_device(name).unwrap_err());
            assert!(text.contains("unknown device"), "{text}");
        }
    }

    #[test]
    fn a_precision_that_the_cpu_has_not_is_an_error_that_says_so() {
        let text = describe(&check_precision_of_cpu(Precision::Bf16, false).unwrap_err());
        assert!(text.contains("AVX512-BF16") && text.contains("\"f32\""), "{text}");
        let text = describe(&check_precision_of_cpu(Precision::Tf32, true).unwrap_err());
        assert!(text.contains("needs a GPU") && text.contains("\"f32\""), "{text}");
        for (precision, fast) in [(Precision::Bf16, true), (Precision::F32, false)] {
            check_precision_of_cpu(precision, fast).unwrap();
        }
    }
}
