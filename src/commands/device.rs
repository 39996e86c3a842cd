//! Turns `auto`, `cpu`, `cuda` and `cuda:N` into a device.

use candle_core::Device;

use crate::base::fault::usage;

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
}
