//! Each operation alone, forward and backward, on the shapes that a ViT-B and a decoder of width 512 give it.
//!
//!     cargo bench --bench operations [-- NAME]

use std::hint::black_box;
use std::time::Duration;

use base::process;
use base::random::Stream;
use candle_core::{DType, Device, Result, Tensor, Var};
use criterion::{BenchmarkId, Criterion, Throughput};
use ops::{self, AdamW, AttentionOptions, Dropout, Gelu, LinearOptions, Precision, Weight, WeightLayout};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn random(shape: &[usize]) -> Var {
    let mut stream = Stream::new(0, "bench", "operand");
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| stream.normal() as f32).collect();
    let tensor = Tensor::from_vec(values, shape, &Device::Cpu).and_then(|tensor| Var::from_tensor(&tensor));
    tensor.expect("a tensor of random numbers")
}

/// Times `f` and the backward pass of its result.
fn both_passes(criterion: &mut Criterion, name: &str, elements: usize, f: impl Fn() -> Result<Tensor>) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(elements as u64));
    group.bench_function("forward", |bencher| bencher.iter(|| black_box(f().expect("a forward pass"))));
    group.bench_function("forward and backward", |bencher| {
        bencher.iter(|| black_box(f().and_then(|result| result.backward()).expect("a backward pass")));
    });
    group.finish();
}

fn linear(criterion: &mut Criterion) {
    for (rows, inputs, outputs) in [(1576, 768, 3072), (256, 512, 2048), (256, 512, 10_000)] {
        let (x, weight, bias) = (random(&[rows, inputs]), random(&[outputs, inputs]), random(&[outputs]));
        for (precision, name) in [(Precision::Full, "f32"), (Precision::Bf16, "bf16")] {
            let options = LinearOptions { layout: WeightLayout::OutIn, precision, activation: None };
            let weight = Weight::new(weight.as_tensor().clone());
            both_passes(
                criterion,
                &format!("linear {rows} x {inputs} x {outputs} {name}"),
                2 * rows * inputs * outputs,
                || ops::linear(&x, &weight, Some(bias.as_tensor()), &options),
            );
        }
    }
    let (rows, inputs, outputs) = (1576, 3072, 768);
    let (x, weight) = (random(&[rows, inputs]), Weight::new(random(&[outputs, inputs]).as_tensor().clone()));
    for kind in [Gelu::Erf, Gelu::Tanh, Gelu::Quick] {
        let options = LinearOptions { layout: WeightLayout::OutIn, precision: Precision::Full, activation: Some(kind) };
        both_passes(criterion, &format!("linear of gelu {kind:?}"), 2 * rows * inputs * outputs, || {
            ops::linear(&x, &weight, None, &options)
        });
    }
}

/// The products of half a batch, as in `benches/peers/torch_products.py`; a rate of 1 Gelem/s is 1 GFLOP/s.
fn products(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("product");
    for (rows, outputs, inputs) in
        [(788, 3072, 768), (768, 3072, 788), (788, 768, 3072), (128, 2048, 512), (128, 10_000, 512), (10_000, 512, 128)]
    {
        let (x, weight) = (random(&[rows, inputs]).as_detached_tensor(), random(&[outputs, inputs]));
        let weight = Weight::new(weight.as_detached_tensor());
        group.throughput(Throughput::Elements(2 * (rows * inputs * outputs) as u64));
        for (precision, name) in [(Precision::Full, "f32"), (Precision::Bf16, "bf16")] {
            let options = LinearOptions { layout: WeightLayout::OutIn, precision, activation: None };
            group.bench_function(format!("{rows} x {outputs} x {inputs} {name}"), |bencher| {
                bencher.iter(|| black_box(ops::linear(&x, &weight, None, &options).expect("a product")));
            });
        }
    }
    group.finish();
}

fn attention(criterion: &mut Criterion) {
    let dropout = Dropout { probability: 0.1, seed: 0, update: 0, first_example: 0 }.site(0);
    let precision = Precision::Full;
    let vision = AttentionOptions { num_heads: 12, causal: false, dropout: None, precision, packing: None };
    let (q, k, v) = (random(&[8, 197, 768]), random(&[8, 197, 768]), random(&[8, 197, 768]));
    both_passes(criterion, "attention of a ViT-B", 8 * 197 * 768, || ops::attention(&q, &k, &v, &vision));
    let causal = AttentionOptions { num_heads: 8, causal: true, dropout: Some(dropout), precision, packing: None };
    let qkv = random(&[32, 32, 3 * 512]);
    both_passes(criterion, "causal attention", 32 * 32 * 512, || ops::self_attention(&qkv, &causal));
    let cross = AttentionOptions { num_heads: 8, causal: false, dropout: Some(dropout), precision, packing: None };
    let (query, key_values) = (random(&[32, 32, 512]), random(&[32, 197, 2 * 512]));
    both_passes(criterion, "cross-attention", 32 * 32 * 512, || ops::cross_attention(&query, &key_values, &cross));
}

fn element_wise(criterion: &mut Criterion) {
    let (x, weight, bias) = (random(&[1576, 768]), random(&[768]), random(&[768]));
    let elements = 1576 * 768;
    both_passes(criterion, "layer_norm", elements, || ops::layer_norm(&x, &weight, &bias, 1e-6));
    let site = Dropout { probability: 0.1, seed: 0, update: 0, first_example: 0 }.site(0);
    both_passes(criterion, "dropout", elements, || ops::dropout(&x, &site));
}

fn ends_of_the_decoder(criterion: &mut Criterion) {
    let (vocabulary, rows) = (10_000, 1024);
    let ids: Vec<u32> = (0..rows as u32).map(|row| row.wrapping_mul(2_654_435_761) % vocabulary as u32).collect();
    let logits = random(&[rows, vocabulary]);
    both_passes(criterion, "cross_entropy", rows * vocabulary, || ops::cross_entropy(&logits, &ids, 0.1));
    let (table, ids) = (random(&[vocabulary, 512]), Tensor::new(ids, &Device::Cpu).expect("ids"));
    both_passes(criterion, "embedding", rows * 512, || ops::embedding(&ids, &table));
}

fn update(criterion: &mut Criterion) {
    for size in [512 * 512, 10_000 * 512] {
        let (parameter, grad) = (random(&[size]), random(&[size]));
        let zeros = || Tensor::zeros(size, DType::F32, &Device::Cpu).expect("zeros");
        let (exp_avg, exp_avg_sq) = (zeros(), zeros());
        let settings = AdamW { learning_rate: 1e-4, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01, step: 1 };
        let mut group = criterion.benchmark_group("update");
        group.throughput(Throughput::Elements(size as u64));
        group.bench_with_input(BenchmarkId::new("sum_of_squares", size), &size, |bencher, _| {
            bencher.iter(|| black_box(ops::sum_of_squares(&grad).expect("a sum")));
        });
        group.bench_with_input(BenchmarkId::new("adamw", size), &size, |bencher, _| {
            bencher.iter(|| ops::adamw_update(&parameter, &grad, &exp_avg, &exp_avg_sq, 1.0, &settings));
        });
        group.finish();
    }
}

fn main() {
    process::prepare();
    process::keep_freed_memory();
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    for bench in [products, linear, attention, element_wise, ends_of_the_decoder, update] {
        bench(&mut criterion);
    }
    criterion.final_summary();
}
