//! Our side of `benches/peers/torch_update.py`: the norm of all gradients, clipping and AdamW over many parameters,
//! timed.

#![expect(clippy::print_stdout, reason = "its result is its output")]

use std::time::Instant;

use anyhow::Result;
use base::process;
use candle_core::{DType, Device, Tensor};
use ops::{self, AdamW};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// As in a decoder of 30 million parameters: matrices and, beside each, a bias.
const MATRICES: [(usize, usize); 6] = [(10_000, 512), (512, 1536), (512, 512), (512, 1024), (512, 2048), (2048, 512)];
const LAYERS: usize = 6;
const REPETITIONS: usize = 15;

struct Parameter {
    value: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
}

fn parameter(shape: &[usize]) -> Result<Parameter> {
    let full = |value: f32| Tensor::full(value, shape, &Device::Cpu);
    let zeros = || Tensor::zeros(shape, DType::F32, &Device::Cpu);
    Ok(Parameter { value: full(0.1)?, grad: full(0.01)?, exp_avg: zeros()?, exp_avg_sq: zeros()? })
}

fn main() -> Result<()> {
    process::prepare();
    process::keep_freed_memory();
    let mut parameters = Vec::new();
    for layer in 0..LAYERS {
        for &(rows, columns) in MATRICES.iter().skip(usize::from(layer > 0)) {
            parameters.push(parameter(&[rows, columns])?);
            parameters.push(parameter(&[columns])?);
        }
    }
    let mut seconds = Vec::new();
    for step in 1..=REPETITIONS as u64 {
        let started = Instant::now();
        let mut sum = 0.0;
        for parameter in &parameters {
            sum += ops::sum_of_squares(&parameter.grad)?;
        }
        let scale = (1.0 / (sum.sqrt() + 1e-6)).min(1.0);
        let settings = AdamW { learning_rate: 1e-4, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01, step };
        for Parameter { value, grad, exp_avg, exp_avg_sq } in &parameters {
            ops::adamw_update(value, grad, exp_avg, exp_avg_sq, scale, &settings)?;
        }
        seconds.push(started.elapsed().as_secs_f64());
    }
    seconds.drain(..2);
    seconds.sort_by(f64::total_cmp);
    let count: usize = parameters.iter().map(|parameter| parameter.value.elem_count()).sum();
    println!("{}", serde_json::json!({ "seconds": seconds[seconds.len() / 2], "parameters": count }));
    Ok(())
}
