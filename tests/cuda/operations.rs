//! Each operation: its result and its gradients.

use candle_core::{DType, Device, Result, Tensor, Var};
use ops::{
    self, AttentionOptions, Dropout, Gelu, LinearOptions, Precision, UpdateReport, UpdateRule, UpdatedParameter,
    Updater, Weight, WeightLayout,
};

use crate::{assert_close, gpu, random, values};

/// Both sides compute in f32, in another order.
const SINGLE: f64 = 2e-5;
/// Operands of products with 8 bits of mantissa, some rounded twice.
const BF16: f64 = 3e-2;
/// The same with 10 bits.
const TF32: f64 = 8e-3;
/// Operands are of about 1; what a result has lost by cancellation is no error.
const LEAST: f64 = 0.1;
const DROPOUT: Dropout = Dropout { probability: 0.3, seed: 5, update: 9, first_example: 2 };

fn tolerance(precision: Precision) -> f64 {
    match precision {
        Precision::Full => SINGLE,
        Precision::Bf16 => BF16,
        Precision::Tf32 => TF32,
    }
}

/// The result and the gradients of the inputs for a weighted sum of the result.
fn run(inputs: &[Tensor], device: &Device, f: &dyn Fn(&[Tensor]) -> Result<Tensor>) -> (Tensor, Vec<Tensor>) {
    let variables: Vec<Var> =
        inputs.iter().map(|input| Var::from_tensor(&input.to_device(device).unwrap()).unwrap()).collect();
    let operands: Vec<Tensor> = variables.iter().map(|variable| variable.as_tensor().clone()).collect();
    // candle cannot add up a scalar on a GPU.
    let result = f(&operands).unwrap().flatten_all().unwrap();
    let weights = random(result.shape(), "weights").to_device(device).unwrap();
    let gradients = (&result * weights).unwrap().sum_all().unwrap().backward().unwrap();
    (result, operands.iter().map(|operand| gradients.get(operand).unwrap().clone()).collect())
}

/// Holds `f` on the GPU against `expected` on the CPU.
fn check(
    what: &str,
    inputs: &[Tensor],
    tolerance: f64,
    f: impl Fn(&[Tensor]) -> Result<Tensor>,
    expected: impl Fn(&[Tensor]) -> Result<Tensor>,
) {
    let (found, found_gradients) = run(inputs, &gpu(), &f);
    let (expected, expected_gradients) = run(inputs, &Device::Cpu, &expected);
    assert_close(&found, &expected, tolerance, LEAST, what);
    for (index, (found, expected)) in found_gradients.iter().zip(&expected_gradients).enumerate() {
        assert_close(found, expected, tolerance, LEAST, &format!("{what}: gradient {index}"));
    }
}

#[test]
fn linear_equals_the_cpu_in_every_precision() {
    for (rows, inputs, outputs) in [(1, 1, 1), (6, 5, 7), (300, 64, 96)] {
        for layout in [WeightLayout::OutIn, WeightLayout::InOut] {
            let weight = match layout {
                WeightLayout::OutIn => random((outputs, inputs), "weight"),
                WeightLayout::InOut => random((inputs, outputs), "weight"),
            };
            let operands = [random((rows, inputs), "x"), weight, random(outputs, "bias")];
            for activation in [None, Some(Gelu::Erf), Some(Gelu::Tanh), Some(Gelu::Quick)] {
                for precision in [Precision::Full, Precision::Tf32, Precision::Bf16] {
                    let with = |precision| {
                        move |i: &[Tensor]| {
                            let options = LinearOptions { layout, precision, activation };
                            ops::linear(&i[0], &Weight::new(i[1].clone()), i.get(2), &options)
                        }
                    };
                    let what = format!("linear {rows} {inputs} {outputs} {layout:?} {activation:?} {precision:?}");
                    let scale = (inputs.max(rows) as f64).sqrt();
                    let tolerance = tolerance(precision) * if precision == Precision::Full { 1.0 } else { scale / 4.0 };
                    check(&what, &operands, tolerance, with(precision), with(Precision::Full));
                    check(&what, &operands[..2], tolerance, with(precision), with(Precision::Full));
                }
            }
        }
    }
}

#[test]
fn attention_equals_the_cpu_for_fused_and_separate_operands() {
    let (batch, heads) = (2, 3);
    // Heads of 5 are made in f32 whatever the precision, those of 4 and 12 but for tf32.
    for (queries, keys, size) in [(1, 1, 5), (4, 4, 8), (7, 19, 4), (7, 19, 12), (40, 41, 16)] {
        let hidden = heads * size;
        for precision in [Precision::Full, Precision::Tf32, Precision::Bf16] {
            for dropout in [None, Some(DROPOUT.site(3))] {
                for causal in [false, true] {
                    let options = move |precision| AttentionOptions {
                        num_heads: heads,
                        causal,
                        dropout,
                        precision,
                        packing: None,
                    };
                    let what =
                        format!("attention {queries} {keys} {size} {precision:?} {causal} {}", dropout.is_some());
                    let tolerance = tolerance(precision);
                    let separate = [
                        random((batch, queries, hidden), "q"),
                        random((batch, keys, hidden), "k"),
                        random((batch, keys, hidden), "v"),
                    ];
                    let of = |precision| move |i: &[Tensor]| ops::attention(&i[0], &i[1], &i[2], &options(precision));
                    check(&what, &separate, tolerance, of(precision), of(Precision::Full));
                    let shared = [random((batch, queries, hidden), "q"), random((batch, keys, 2 * hidden), "kv")];
                    let of = |precision| move |i: &[Tensor]| ops::cross_attention(&i[0], &i[1], &options(precision));
                    check(&what, &shared, tolerance, of(precision), of(Precision::Full));
                    let fused = [random((batch, keys, 3 * hidden), "qkv")];
                    let of = |precision| move |i: &[Tensor]| ops::self_attention(&i[0], &options(precision));
                    check(&what, &fused, tolerance, of(precision), of(Precision::Full));
                }
            }
        }
    }
}

#[test]
fn layer_norm_equals_the_cpu() {
    for (rows, width) in [(1, 1), (3, 5), (70, 192), (600, 40), (2, 1030)] {
        let inputs = [random((rows, width), "x"), random(width, "weight"), random(width, "bias")];
        let f = |i: &[Tensor]| ops::layer_norm(&i[0], &i[1], &i[2], 1e-5);
        check(&format!("layer_norm {rows} {width}"), &inputs, SINGLE, f, f);
    }
}

#[test]
fn gelu_equals_the_cpu() {
    for kind in [Gelu::Erf, Gelu::Tanh, Gelu::Quick] {
        let x = (random((3, 700), "x") * 3.0).unwrap();
        let f = |i: &[Tensor]| ops::gelu(&i[0], kind);
        check(&format!("gelu {kind:?}"), std::slice::from_ref(&x), SINGLE, f, f);
    }
}

#[test]
fn dropout_has_the_masks_of_the_cpu_bit_for_bit() {
    for shape in [(1, 1), (3, 1000), (5, 5000)] {
        let x = random(shape, "x");
        let site = DROPOUT.site(7);
        let f = |i: &[Tensor]| ops::dropout(&i[0], &site);
        check("dropout", std::slice::from_ref(&x), SINGLE, f, f);
        let found = ops::dropout(&x.to_device(&gpu()).unwrap(), &site).unwrap();
        assert_eq!(values(&found), values(&ops::dropout(&x, &site).unwrap()));
    }
}

#[test]
fn cross_entropy_equals_the_cpu() {
    for (rows, vocabulary) in [(1, 1), (5, 3), (9, 700)] {
        let logits = (random((rows, vocabulary), "logits") * 4.0).unwrap();
        let targets: Vec<u32> = (0..rows).map(|row| (row * 5 % vocabulary) as u32).collect();
        for smoothing in [0.0, 0.1] {
            let f = |i: &[Tensor]| ops::cross_entropy(&i[0], &targets, smoothing);
            check(&format!("cross_entropy {rows} {vocabulary}"), std::slice::from_ref(&logits), SINGLE, f, f);
            let weights: Vec<f64> = (0..rows).map(|row| 0.25 + row as f64).collect();
            let f = |i: &[Tensor]| ops::weighted_cross_entropy(&i[0], &targets, Some(&weights), smoothing);
            check(&format!("weighted {rows} {vocabulary}"), std::slice::from_ref(&logits), SINGLE, f, f);
        }
    }
}

#[test]
fn embedding_equals_the_cpu_with_ids_that_repeat() {
    for (rows, width, count) in [(1, 1, 3), (7, 5, 40), (300, 33, 700)] {
        let ids: Vec<u32> = (0..count).map(|index| (index * index % rows) as u32).collect();
        let table = random((rows, width), "table");
        let f = |i: &[Tensor]| ops::embedding(&Tensor::new(ids.as_slice(), i[0].device())?, &i[0]);
        check(&format!("embedding {rows} {width}"), std::slice::from_ref(&table), SINGLE, f, f);
    }
}

#[test]
fn sequences_grow_and_sums_are_made_in_place_as_on_the_cpu() {
    let (past, next) = (random((3, 4, 6), "past"), random((5, 1, 6), "next"));
    let grown = |device: &Device| {
        let (past, next) = (past.to_device(device).unwrap(), next.to_device(device).unwrap());
        ops::append(&past, &[2, 0, 0, 1, 2], &next).unwrap()
    };
    assert_eq!(values(&grown(&gpu())), values(&grown(&Device::Cpu)));
    let (sum, term) = (random((300, 7), "sum"), random((300, 7), "term"));
    let added = |device: &Device| {
        ops::add_assign(sum.copy().unwrap().to_device(device).unwrap(), &term.to_device(device).unwrap()).unwrap()
    };
    assert_eq!(values(&added(&gpu())), values(&added(&Device::Cpu)));
}

#[test]
fn input_arrives_whole_whatever_its_size() {
    for len in [1, 1000, 70_000, 16_385, 300_000, 70_001] {
        let numbers: Vec<f32> = (0..len).map(|index| index as f32).collect();
        let found = ops::upload(numbers.clone(), (len,), &gpu()).unwrap();
        assert_eq!(found.to_vec1::<f32>().unwrap(), numbers);
    }
    assert!(ops::upload(vec![0.0_f32; 100_000], (3,), &gpu()).is_err());
}

#[test]
fn input_of_many_threads_arrives_whole_while_the_gpu_computes() {
    let busy = random((600, 600), "busy").to_device(&gpu()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8_usize {
            scope.spawn(move || {
                for round in 0..12 {
                    let len = 20_000 + 7_001 * ((thread + 3 * round) % 9);
                    let numbers: Vec<f32> = (0..len).map(|index| (index * 8 + thread) as f32).collect();
                    let found = ops::upload(numbers.clone(), (len,), &gpu()).unwrap();
                    assert!(found.to_vec1::<f32>().unwrap() == numbers, "thread {thread}, round {round}");
                }
            });
        }
        for _ in 0..20 {
            busy.matmul(&busy).unwrap();
        }
    });
}

/// Of tensors of bf16, whose every element is rounded once or twice.
fn check_bf16(what: &str, inputs: &[Tensor], f: impl Fn(&[Tensor], &Tensor) -> Result<Tensor>) {
    let exact: Vec<Tensor> =
        inputs.iter().map(|x| x.to_dtype(DType::BF16).unwrap().to_dtype(DType::F32).unwrap()).collect();
    let narrow = |i: &[Tensor]| f(i, &i[0].to_dtype(DType::BF16)?)?.to_dtype(DType::F32);
    check(what, &exact, 0.02, narrow, |i| f(i, &i[0]));
}

#[test]
fn tensors_of_bf16_give_what_those_of_f32_give_on_the_cpu() {
    let x = random((9, 70), "x");
    let inputs = [x.clone(), random(70, "weight"), random(70, "bias")];
    check_bf16("layer_norm", &inputs, |i, x| ops::layer_norm(x, &i[1], &i[2], 1e-5));
    let x = std::slice::from_ref(&x);
    check_bf16("dropout", x, |_, x| ops::dropout(x, &DROPOUT.site(2)));
    let targets = [3, 7, 69, 0, 1, 2, 3, 4, 5];
    check_bf16("cross_entropy", x, |_, x| ops::cross_entropy(x, &targets, 0.1)?.to_dtype(DType::F32));
    check_bf16("embedding", x, |_, x| ops::embedding(&Tensor::new(&[1_u32, 8, 1, 0], x.device())?, x));
    let narrow = |device: &Device| {
        let x = x[0].to_device(device).unwrap().reshape((9, 1, 70)).unwrap();
        if device.is_cpu() { x } else { x.to_dtype(DType::BF16).unwrap() }
    };
    let (found, expected) = (narrow(&gpu()), narrow(&Device::Cpu));
    let grown = |x: &Tensor| ops::append(x, &[8, 0], &x.narrow(0, 3, 2).unwrap()).unwrap();
    assert_close(&grown(&found), &grown(&expected), 0.01, LEAST, "append");
    let twice = |x: &Tensor| ops::add_assign(x.copy().unwrap(), x).unwrap();
    assert_close(&twice(&found), &twice(&expected), 0.01, LEAST, "add_assign");
}

/// Tensors of one parameter, and those of the moments.
struct Updated {
    parameter: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
}

/// After four updates, of which one is skipped: parameters, moments, and what was reported.
fn updates(device: &Device) -> (Vec<Updated>, Vec<UpdateReport>) {
    let shapes = [(3, 5), (1, 1), (200, 700)];
    let parameters: Vec<Updated> = shapes
        .iter()
        .map(|&shape| {
            let zeros = || Tensor::zeros(shape, DType::F32, device).unwrap();
            let parameter = random(shape, &format!("parameter {shape:?}")).to_device(device).unwrap();
            Updated { parameter, exp_avg: zeros(), exp_avg_sq: zeros() }
        })
        .collect();
    let mut updater = Updater::new(3);
    let rule = UpdateRule { betas: [0.9, 0.98], eps: 1e-8, max_grad_norm: Some(2.0) };
    let mut reports = Vec::new();
    for step in 0..4 {
        let grads: Vec<Tensor> =
            shapes.iter().map(|&s| random(s, &format!("{step} {s:?}")).to_device(device).unwrap()).collect();
        let updated: Vec<UpdatedParameter<'_>> = parameters
            .iter()
            .zip(&grads)
            .enumerate()
            .map(|(index, (of, grad))| UpdatedParameter {
                parameter: &of.parameter,
                grad,
                exp_avg: &of.exp_avg,
                exp_avg_sq: &of.exp_avg_sq,
                learning_rate: 0.01 * (index + 1) as f64,
                weight_decay: if index == 1 { 0.0 } else { 0.1 },
            })
            .collect();
        let loss = if step == 2 { f32::NAN } else { 1.5 };
        let losses = [Tensor::new(loss, device).unwrap(), Tensor::new(0.25_f32, device).unwrap()];
        reports.push(updater.update(&updated, &losses, &rule).unwrap().read().unwrap());
    }
    (parameters, reports)
}

#[test]
fn updates_equal_the_cpu_and_one_that_is_not_finite_is_skipped() {
    let (found, found_reports) = updates(&gpu());
    let (expected, expected_reports) = updates(&Device::Cpu);
    for (found, expected) in found_reports.iter().zip(&expected_reports) {
        assert_eq!((found.skipped, found.steps), (expected.skipped, expected.steps));
        assert!(found.loss == expected.loss || (found.loss.is_nan() && expected.loss.is_nan()));
        assert!((found.grad_norm / expected.grad_norm - 1.0).abs() < 1e-6);
    }
    let skipped: Vec<(bool, u64)> = expected_reports.iter().map(|report| (report.skipped, report.steps)).collect();
    assert_eq!(skipped, [(false, 4), (false, 5), (true, 5), (false, 6)]);
    for (found, expected) in found.iter().zip(&expected) {
        assert_close(&found.parameter, &expected.parameter, SINGLE, LEAST, "parameter");
        assert_close(&found.exp_avg, &expected.exp_avg, SINGLE, LEAST, "exp_avg");
        assert_close(&found.exp_avg_sq, &expected.exp_avg_sq, SINGLE, LEAST, "exp_avg_sq");
    }
}
