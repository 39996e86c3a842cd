//! The operations, training and captioning on a GPU against the CPU. Needs a GPU, or the stand-in for its libraries
//! that `scripts/check-cuda.sh` puts in their place.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helpers too")]

mod kernels;
mod operations;
mod sums;
#[path = "../integration/support.rs"]
#[expect(dead_code, reason = "most of it is for the other tests")]
mod support;
mod training;

use std::sync::OnceLock;

use base::random::Stream;
use candle_core::{DType, Device, Tensor};
use ops::cuda;

/// The first GPU.
fn gpu() -> Device {
    static GPU: OnceLock<Device> = OnceLock::new();
    GPU.get_or_init(|| cuda::open(0).unwrap_or_else(|failure| panic!("these tests need a GPU: {failure}"))).clone()
}

/// Standard normal f32 values on the CPU, the same for the same arguments.
fn random(shape: impl Into<candle_core::Shape>, name: &str) -> Tensor {
    let shape = shape.into();
    let mut stream = Stream::new(0, "test", name);
    let values: Vec<f32> = (0..shape.elem_count()).map(|_| stream.normal() as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// All elements.
fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_device(&Device::Cpu).unwrap().to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// The largest magnitude.
fn largest(tensor: &Tensor) -> f64 {
    values(tensor).iter().fold(0.0, |largest, x| x.abs().max(largest))
}

/// Fails where the tensors differ by more than `tolerance` of the largest expected value, or of `least` where that is
/// more.
#[track_caller]
fn assert_close(found: &Tensor, expected: &Tensor, tolerance: f64, least: f64, what: &str) {
    assert_eq!(found.dims(), expected.dims(), "{what}: shape");
    let largest = largest(expected).max(least);
    let (found, expected) = (values(found), values(expected));
    for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let error = (found - expected).abs();
        assert!(error <= tolerance * largest, "{what}: element {index} is {found}, expected {expected}");
    }
}
