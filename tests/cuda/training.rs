//! Whole models: gradients, training step by step, captions.

use base::worker_pools::WorkerPools;
use candle_core::{DType, Device};
use caption_train::config::{DecodingConfig, OptimizerConfig};
use caption_train::data::batch::Batch;
use caption_train::data::image_source::ImageInput;
use caption_train::data::pieces::Piece;
use caption_train::decoding::{Decoding, decode};
use caption_train::model::captioner::{Captioner, CaptionerShape};
use caption_train::model::parameters::Parameters;
use caption_train::training::collective::Alone;
use caption_train::training::loss::TokenCrossEntropy;
use caption_train::training::optimizer::Optimizer;
use caption_train::training::train_step::{StepSettings, compute_gradients, train_step};
use ops::Precision;

use crate::support::{ENCODERS, batch, random_parameters, shape};
use crate::{assert_close, gpu, largest};

const CAPTIONS: [&[u32]; 4] = [&[1, 5, 6, 7, 2], &[1, 8, 2], &[1, 9, 10, 11, 12, 3, 2], &[1, 4, 4, 8, 2]];
const SETTINGS: StepSettings<'_> = StepSettings {
    loss: &TokenCrossEntropy { label_smoothing: 0.1 },
    precision: Precision::Full,
    seed: 3,
    dropout: 0.2,
    recompute: false,
    max_grad_norm: Some(1.0),
    collective: &Alone,
};

/// Copies on another device.
fn parameters_on(shape: &CaptionerShape, parameters: &Parameters, device: &Device) -> Parameters {
    let tensors = parameters.iter().map(|(name, p)| (name.to_owned(), p.var.as_detached_tensor())).collect();
    Parameters::from_complete(&shape.parameter_specs().unwrap(), tensors, DType::F32, device).unwrap()
}

/// The same pictures and captions on a device, laid out as it takes them.
fn batch_on(shape: &CaptionerShape, captions: &[&[u32]], device: &Device) -> Batch {
    let batch = batch(shape, captions, DType::F32);
    let ImageInput::Pixels(pixels) = batch.images else { panic!("pixels") };
    let images = ImageInput::Pixels(pixels.to_device(device).unwrap());
    Batch::new(images, batch.image_indices, captions, 0, device).unwrap()
}

#[test]
fn the_gradients_of_whole_models_equal_those_of_the_cpu() {
    for kind in ENCODERS {
        // In bf16 sums that nearly cancel keep few digits in so small a model.
        for (precision, tolerance, of_loss) in [(Precision::Full, 1e-4, 1e-5), (Precision::Bf16, 0.25, 0.06)] {
            let shape = shape(kind, true, true);
            let settings = StepSettings { precision, ..SETTINGS };
            let on_cpu = random_parameters(&shape, DType::F32);
            let batches = |device: &Device| [&CAPTIONS[..2], &CAPTIONS[2..]].map(|part| batch_on(&shape, part, device));
            let (expected_loss, expected) = compute_gradients(
                &shape,
                &on_cpu,
                &Piece::in_order(batches(&Device::Cpu)),
                4,
                &SETTINGS,
                &WorkerPools::alone(),
            )
            .unwrap();
            let on_gpu = parameters_on(&shape, &on_cpu, &gpu());
            let (loss, found) = compute_gradients(
                &shape,
                &on_gpu,
                &Piece::in_order(batches(&gpu())),
                4,
                &settings,
                &WorkerPools::alone(),
            )
            .unwrap();
            let (loss, expected_loss) = (loss.read().unwrap().mean(), expected_loss.read().unwrap().mean());
            assert!((loss - expected_loss).abs() < of_loss, "{kind:?} {precision:?}: {loss}, expected {expected_loss}");
            let of_all = on_cpu.trainable().map(|(name, _)| largest(expected.get(name).unwrap())).fold(0.0, f64::max);
            for (name, _) in on_cpu.trainable() {
                let what = format!("{kind:?} {precision:?} {name}");
                // The bias of keys has no gradient but what rounding leaves.
                let least = of_all / 30.0;
                assert_close(found.get(name).unwrap(), expected.get(name).unwrap(), tolerance, least, &what);
            }
        }
    }
}

/// The losses of a hundred updates.
fn training(shape: &CaptionerShape, device: &Device) -> Vec<f64> {
    let parameters =
        Parameters::create(&shape.parameter_specs().unwrap(), Default::default(), 5, DType::F32, device).unwrap();
    let mut optimizer = Optimizer::new(&parameters, shape, &OptimizerConfig::default()).unwrap();
    let batches = Piece::in_order([batch_on(shape, &CAPTIONS, device)]);
    // As the loop does it: an update is read when the next is on its way.
    let (mut losses, mut last) = (Vec::new(), None);
    for step in 0..100 {
        let next =
            train_step(shape, &parameters, &mut optimizer, &batches, step, 0.003, &SETTINGS, &WorkerPools::alone())
                .unwrap();
        if let Some(pending) = last.replace(next) {
            losses.push(pending.read(&mut optimizer).unwrap().loss.mean());
        }
    }
    losses.push(last.unwrap().read(&mut optimizer).unwrap().loss.mean());
    assert_eq!(optimizer.step(), 100);
    losses
}

#[test]
fn a_hundred_updates_stay_within_a_thousandth_of_the_cpu() {
    let shape = shape("vit", true, true);
    let (found, expected) = (training(&shape, &gpu()), training(&shape, &Device::Cpu));
    assert!(expected[99] < expected[0] - 0.5, "nothing was learnt: {} {}", expected[0], expected[99]);
    for (step, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert!((found - expected).abs() < 1e-3, "update {step}: {found}, expected {expected}");
    }
}

#[test]
fn captions_equal_those_of_the_cpu() {
    let shape = shape("vit", true, false);
    let on_cpu = random_parameters(&shape, DType::F32);
    let on_gpu = parameters_on(&shape, &on_cpu, &gpu());
    let ImageInput::Pixels(pixels) = batch(&shape, &CAPTIONS, DType::F32).images else { panic!("pixels") };
    for num_beams in [1, 3] {
        let config = DecodingConfig { num_beams, max_new_tokens: Some(6), ..DecodingConfig::default() };
        let captions = |parameters: &Parameters, device: &Device| {
            let model = Captioner::build(&shape, &parameters.detached()).unwrap();
            let states = model.encode(&pixels.to_device(device).unwrap()).unwrap();
            let key_values = model.cross_key_values(&states).unwrap();
            let found = decode(model.decoder(), &key_values, &Decoding::from_config(&config, 1, 2, 8), 0).unwrap();
            found.iter().flatten().map(|caption| caption.tokens.clone()).collect::<Vec<_>>()
        };
        assert_eq!(captions(&on_gpu, &gpu()), captions(&on_cpu, &Device::Cpu), "{num_beams} beams");
    }
}
