//! The model against an independent implementation, and the properties that a trained path must have.

use std::collections::HashMap;

use base::worker_pools::WorkerPools;
use candle_core::{DType, Device, Module as _, Tensor, Var};
use candle_nn::VarBuilder;
use candle_transformers::models::{clip, vit};
use caption_train::config::{DecodingConfig, EncoderTraining};
use caption_train::data::batch::Batch;
use caption_train::data::collate::Framed;
use caption_train::data::image_source::ImageInput;
use caption_train::data::pieces::Piece;
use caption_train::decoding::{Decoding, Strategy, decode};
use caption_train::evaluation::token_loss::evaluate_batch;
use caption_train::model::captioner::{Captioner, CaptionerShape};
use caption_train::model::decoders::{Captions, KeyValueCache, Mode};
use caption_train::model::parameters::Parameters;
use caption_train::training::collective::Alone;
use caption_train::training::loss::TokenCrossEntropy;
use caption_train::training::train_step::{StepSettings, compute_gradients};
use ops::{Dropout, Packing, Precision};

use crate::support::{
    ENCODERS, VOCABULARY, batch, batch_of, max_difference, padded_ids, random_parameters, random_tensor, shape,
    shape_with_bert, shapes_by_decoder,
};

/// Both sides compute in f64.
const EXACT: f64 = 1e-10;
/// Both sides compute in f32 (candle-nn's LayerNorm knows no f64), through three blocks of values of about 1.
const SINGLE: f64 = 2e-5;
const CAPTIONS: [&[u32]; 3] = [&[1, 5, 6, 7, 2], &[1, 8, 2], &[1, 9, 10, 11, 12, 3, 2]];
const SETTINGS: StepSettings<'_> = StepSettings {
    loss: &TokenCrossEntropy { label_smoothing: 0.0 },
    precision: Precision::Full,
    seed: 3,
    dropout: 0.0,
    recompute: false,
    max_grad_norm: None,
    collective: &Alone,
};

fn oracle_weights(parameters: &Parameters, prefix: &str) -> VarBuilder<'static> {
    let tensors: HashMap<String, Tensor> = parameters
        .iter()
        .filter_map(|(name, parameter)| {
            name.strip_prefix(prefix).map(|name| (name.to_owned(), parameter.var.as_detached_tensor()))
        })
        .collect();
    VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu)
}

#[test]
fn vit_hidden_states_equal_those_of_candle_transformers() {
    let shape = shape("vit", true, true);
    let parameters = random_parameters(&shape, DType::F32);
    let encoder = &shape.encoder;
    let config = vit::Config {
        hidden_size: encoder.hidden_size(),
        num_hidden_layers: encoder.num_layers(),
        num_attention_heads: encoder.sizes().num_attention_heads,
        intermediate_size: encoder.sizes().intermediate_size,
        hidden_act: candle_nn::Activation::Gelu,
        layer_norm_eps: encoder.sizes().layer_norm_eps,
        image_size: encoder.image_size(),
        patch_size: encoder.patch_size(),
        num_channels: 3,
        qkv_bias: true,
    };
    let weights = oracle_weights(&parameters, "encoder.");
    let pixels = random_tensor("pixels", &[2, 3, 21, 21], DType::F32);
    let embedded = vit::Embeddings::new(&config, false, weights.pp("embeddings")).unwrap();
    let states = embedded.forward(&pixels, None, false).unwrap();
    let states = vit::Encoder::new(&config, weights.pp("encoder")).unwrap().forward(&states).unwrap();
    let norm = candle_nn::layer_norm(10, encoder.sizes().layer_norm_eps, weights.pp("layernorm")).unwrap();
    let expected = norm.forward(&states).unwrap();

    let found = Captioner::build(&shape, &parameters.detached()).unwrap().encode(&pixels).unwrap();
    assert!(max_difference(&found, &expected) < SINGLE);
}

#[test]
fn clip_hidden_states_before_the_last_norm_equal_those_of_candle_transformers() {
    let shape = shape("clip_vision", true, true);
    let parameters = random_parameters(&shape, DType::F32);
    let encoder = &shape.encoder;
    let config = clip::vision_model::ClipVisionConfig {
        embed_dim: encoder.hidden_size(),
        activation: clip::text_model::Activation::QuickGelu,
        intermediate_size: encoder.sizes().intermediate_size,
        num_hidden_layers: encoder.num_layers(),
        num_attention_heads: encoder.sizes().num_attention_heads,
        projection_dim: 4,
        num_channels: 3,
        image_size: encoder.image_size(),
        patch_size: encoder.patch_size(),
    };
    let weights = oracle_weights(&parameters, "encoder.vision_model.");
    let pixels = random_tensor("pixels", &[2, 3, 21, 21], DType::F32);
    let oracle = clip::vision_model::ClipVisionTransformer::new(weights, &config).unwrap();
    // The last of the list is the pooled output; the one before it is the last hidden state.
    let states = oracle.output_hidden_states(&pixels).unwrap();
    let expected = &states[states.len() - 2];

    let found = Captioner::build(&shape, &parameters.detached()).unwrap().encode(&pixels).unwrap();
    assert!(max_difference(&found, expected) < SINGLE);
}

fn variants() -> Vec<(CaptionerShape, EncoderTraining)> {
    let mut variants = Vec::new();
    for kind in ENCODERS {
        for projection in [false, true] {
            for tied in [false, true] {
                for training in [EncoderTraining::Frozen, EncoderTraining::Full, EncoderTraining::LastBlocks(2)] {
                    variants.push((shape(kind, projection, tied), training));
                }
            }
        }
    }
    for is_blip in [false, true] {
        for tied in [false, true] {
            variants.push((shape_with_bert(is_blip, tied), EncoderTraining::Full));
        }
    }
    variants
}

#[test]
fn every_trainable_parameter_of_every_variant_gets_a_gradient() {
    for (shape, training) in variants() {
        let mut parameters = random_parameters(&shape, DType::F64);
        shape.freeze(&mut parameters, training);
        let batch = batch(&shape, &CAPTIONS, DType::F64);
        let (_, gradients) =
            compute_gradients(&shape, &parameters, &Piece::in_order([batch]), 0, &SETTINGS, &WorkerPools::alone())
                .unwrap();
        let mut trained = 0;
        for (name, var) in parameters.trainable() {
            let gradient = gradients.get(name).unwrap();
            assert_eq!(gradient.dims(), var.dims(), "{name}");
            let size = gradient.abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap();
            assert!(size.is_finite(), "{name}: the gradient is not finite");
            // A constant added to every score of a query changes no probability: the gradient of a key's bias is 0.
            let is_key_bias = name.ends_with("key.bias") || name.ends_with("k_proj.bias");
            assert!(is_key_bias || size > 0.0, "{name}: the gradient is zero ({training:?})");
            trained += 1;
        }
        let in_encoder = parameters.trainable().filter(|(name, _)| name.starts_with("encoder.")).count();
        match training {
            EncoderTraining::Frozen => assert_eq!(in_encoder, 0),
            EncoderTraining::Full => assert!(in_encoder > 3 * 16, "{in_encoder}"),
            EncoderTraining::LastBlocks(_) => assert!((2 * 16..3 * 16).contains(&in_encoder), "{in_encoder}"),
        }
        assert!(trained > 0);
    }
}

/// The loss as a function of one parameter value.
fn loss_with(shape: &CaptionerShape, parameters: &Parameters, name: &str, index: usize, step: f64) -> f64 {
    let (_, parameter) = parameters.iter().find(|(found, _)| *found == name).unwrap();
    let original = parameter.var.as_detached_tensor().copy().unwrap();
    let mut values: Vec<f64> = original.flatten_all().unwrap().to_vec1().unwrap();
    values[index] += step;
    parameter.var.set(&Tensor::from_vec(values, original.dims(), &Device::Cpu).unwrap()).unwrap();
    let model = Captioner::build(shape, &parameters.detached()).unwrap();
    let loss = evaluate_batch(&model, &batch(shape, &CAPTIONS, DType::F64)).unwrap().mean();
    parameter.var.set(&original).unwrap();
    loss
}

#[test]
fn gradients_equal_finite_differences_of_the_loss() {
    const STEP: f64 = 1e-5;
    let of_encoders = ENCODERS.map(|kind| shape(kind, true, true));
    for shape in of_encoders.into_iter().chain(shapes_by_decoder()) {
        let parameters = random_parameters(&shape, DType::F64);
        let batch = batch(&shape, &CAPTIONS, DType::F64);
        let (_, gradients) =
            compute_gradients(&shape, &parameters, &Piece::in_order([batch]), 0, &SETTINGS, &WorkerPools::alone())
                .unwrap();
        let names: Vec<String> = parameters.trainable().map(|(name, _)| name.to_owned()).collect();
        for name in names {
            let gradient: Vec<f64> = gradients.get(&name).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            let index = gradient.len() / 2;
            let at = |step| loss_with(&shape, &parameters, &name, index, step);
            let expected = (at(STEP) - at(-STEP)) / (2.0 * STEP);
            let error = (gradient[index] - expected).abs();
            assert!(error < 1e-7 + 1e-5 * expected.abs(), "{name}: {} against {expected}", gradient[index]);
        }
    }
}

#[test]
fn the_first_loss_is_about_the_logarithm_of_the_vocabulary() {
    let shape = shape("vit", true, true);
    let parameters =
        Parameters::create(&shape.parameter_specs().unwrap(), Default::default(), 1, DType::F32, &Device::Cpu).unwrap();
    let model = Captioner::build(&shape, &parameters.detached()).unwrap();
    let loss = evaluate_batch(&model, &batch(&shape, &CAPTIONS, DType::F32)).unwrap().mean();
    assert!((loss - (VOCABULARY as f64).ln()).abs() < 0.05, "{loss}");
}

#[test]
fn more_padding_leaves_the_loss_unchanged() {
    for shape in shapes_by_decoder() {
        let parameters = random_parameters(&shape, DType::F64);
        let model = Captioner::build(&shape, &parameters.detached()).unwrap();
        let sum = |captions: &[&[u32]]| evaluate_batch(&model, &batch(&shape, captions, DType::F64)).unwrap().sum;
        let together = sum(&CAPTIONS);
        let alone: f64 = CAPTIONS.iter().map(|caption| sum(&[caption])).sum();
        assert!((together - alone).abs() < EXACT, "{together} against {alone}");
    }
}

#[test]
fn a_changed_token_leaves_the_logits_before_it_unchanged() {
    for shape in shapes_by_decoder() {
        let parameters = random_parameters(&shape, DType::F64);
        let model = Captioner::build(&shape, &parameters.detached()).unwrap();
        let pixels = random_tensor("pixels", &[1, 3, 21, 21], DType::F64);
        let logits = |ids: [u32; 5]| {
            let ids = Tensor::new(&[ids], &Device::Cpu).unwrap();
            model.forward(&pixels, &ids, Mode::Eval).unwrap()
        };
        let (one, other) = (logits([1, 5, 6, 7, 8]), logits([1, 5, 6, 9, 8]));
        let part = |tensor: &Tensor, from: usize, length: usize| tensor.narrow(1, from, length).unwrap();
        assert_eq!(max_difference(&part(&one, 0, 3), &part(&other, 0, 3)), 0.0);
        assert!(max_difference(&part(&one, 3, 2), &part(&other, 3, 2)) > 1e-3);
    }
}

#[test]
fn the_picture_changes_the_logits_of_every_position() {
    let shape = shape("clip_vision", true, true);
    let parameters = random_parameters(&shape, DType::F64);
    let model = Captioner::build(&shape, &parameters.detached()).unwrap();
    let ids = Tensor::new(&[[1u32, 5, 6]], &Device::Cpu).unwrap();
    let logits =
        |name: &str| model.forward(&random_tensor(name, &[1, 3, 21, 21], DType::F64), &ids, Mode::Eval).unwrap();
    let (one, other) = (logits("one"), logits("other"));
    for position in 0..3 {
        let part = |tensor: &Tensor| tensor.narrow(1, position, 1).unwrap();
        assert!(max_difference(&part(&one), &part(&other)) > 1e-6);
    }
}

#[test]
fn micro_batches_and_teams_give_the_gradients_of_one_batch_with_dropout_too() {
    for mut shape in shapes_by_decoder() {
        shape.decoder.set_training_options(Some(0.3), None);
        let parameters = random_parameters(&shape, DType::F64);
        let settings = StepSettings { dropout: 0.3, loss: &TokenCrossEntropy { label_smoothing: 0.1 }, ..SETTINGS };
        let gradients = |split: &[&[&[u32]]], num_pools: usize| {
            let batches = Piece::in_order(split.iter().map(|captions| batch(&shape, captions, DType::F64)));
            let pools = WorkerPools::new(num_pools, 1).unwrap();
            let (losses, gradients) = compute_gradients(&shape, &parameters, &batches, 4, &settings, &pools).unwrap();
            (losses.read().unwrap(), gradients)
        };
        let (loss, whole) = gradients(&[&CAPTIONS], 1);
        // Alone, with fewer members than parts, and with a member that has nothing to do.
        for num_pools in [1, 2, 4] {
            let (split_loss, split) = gradients(&[&CAPTIONS[..1], &CAPTIONS[1..2], &CAPTIONS[2..]], num_pools);
            assert!((loss.mean() - split_loss.mean()).abs() < EXACT);
            for (name, _) in parameters.trainable() {
                let difference = max_difference(whole.get(name).unwrap(), split.get(name).unwrap());
                assert!(difference < EXACT, "{name}: {difference}");
            }
        }
        let plain = compute_gradients(
            &shape,
            &parameters,
            &Piece::in_order([batch(&shape, &CAPTIONS, DType::F64)]),
            4,
            &SETTINGS,
            &WorkerPools::alone(),
        );
        assert!((plain.unwrap().0.read().unwrap().mean() - loss.mean()).abs() > 1e-3, "dropout did nothing");
    }
}

#[test]
fn a_shared_image_gives_the_loss_and_gradients_of_two_copies() {
    let shape = shape("vit", true, true);
    let parameters = random_parameters(&shape, DType::F64);
    let picture = random_tensor("picture", &[1, 3, 21, 21], DType::F64);
    let captions = &CAPTIONS[..2];
    let copies = batch_of(Tensor::cat(&[&picture, &picture], 0).unwrap(), captions);
    let framed: Vec<Framed<'_>> = captions.iter().map(|&tokens| tokens.into()).collect();
    let images = ImageInput::Pixels(picture);
    let shared = Batch::of_framed(images, Some(vec![0, 0]), vec![0, 0], &framed, 0, &Device::Cpu).unwrap();
    let (loss, expected) =
        compute_gradients(&shape, &parameters, &Piece::in_order([copies]), 0, &SETTINGS, &WorkerPools::alone())
            .unwrap();
    let (shared_loss, found) =
        compute_gradients(&shape, &parameters, &Piece::in_order([shared]), 0, &SETTINGS, &WorkerPools::alone())
            .unwrap();
    assert!((loss.read().unwrap().sum - shared_loss.read().unwrap().sum).abs() < EXACT);
    for (name, _) in parameters.trainable() {
        assert!(max_difference(expected.get(name).unwrap(), found.get(name).unwrap()) < EXACT, "{name}");
    }
}

/// A model, and the keys and values of three pictures for it.
fn captioner_and_pictures(dtype: DType) -> (Captioner, Vec<Tensor>) {
    with_pictures(&shape("vit", true, false), dtype)
}

fn with_pictures(shape: &CaptionerShape, dtype: DType) -> (Captioner, Vec<Tensor>) {
    let parameters = random_parameters(shape, dtype);
    let model = Captioner::build(shape, &parameters.detached()).unwrap();
    let pixels = random_tensor("pixels", &[3, 3, 21, 21], dtype);
    let key_values = model.cross_key_values(&model.encode(&pixels).unwrap()).unwrap();
    (model, key_values)
}

/// Keys and values of one picture alone.
fn of_picture(key_values: &[Tensor], picture: usize) -> Vec<Tensor> {
    key_values.iter().map(|tensor| tensor.narrow(0, picture, 1).unwrap()).collect()
}

fn decoding(config: &DecodingConfig) -> Decoding {
    Decoding::from_config(config, 1, 2, 8)
}

#[test]
fn greedy_takes_the_best_token_of_the_full_forward_pass_at_every_position() {
    let (model, key_values) = captioner_and_pictures(DType::F64);
    let captions = decode(model.decoder(), &key_values, &decoding(&DecodingConfig::default()), 0).unwrap();
    for (picture, caption) in captions.iter().enumerate() {
        let mut ids = vec![1];
        ids.extend(&caption[0].tokens);
        ids.truncate(8);
        let length = ids.len();
        let ids = Tensor::from_vec(ids, (1, length), &Device::Cpu).unwrap();
        let hidden = model
            .decoder()
            .hidden_states(&Captions::padded(&ids), &of_picture(&key_values, picture), Mode::Eval)
            .unwrap();
        let logits = model.decoder().logits(&hidden).unwrap();
        let best: Vec<u32> = logits.argmax(2).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        let expected: Vec<u32> = best.into_iter().take_while(|&token| token != 2).collect();
        assert_eq!(caption[0].tokens, expected);
    }
}

#[test]
fn packed_captions_have_the_hidden_states_that_they_have_with_padding() {
    for shape in shapes_by_decoder() {
        let (model, key_values) = with_pictures(&shape, DType::F64);
        let decoder = model.decoder();
        let captions: [&[u32]; 3] = [&[1, 5, 6, 7], &[1, 8], &[1, 9, 10, 11, 12, 3]];
        // The second picture has two captions, and the first has none.
        let pictures = [2, 1, 1];
        let longest = captions[2].len();
        let ids = padded_ids(&captions.map(|caption| [caption, &[0]].concat()).each_ref().map(Vec::as_slice), 0);
        let rows = Tensor::new(&pictures.map(|picture| picture as u32), &Device::Cpu).unwrap();
        let own: Vec<Tensor> = key_values.iter().map(|tensor| tensor.index_select(&rows, 0).unwrap()).collect();
        let packing = Packing::new(captions.map(<[u32]>::len), pictures.to_vec());
        let packed = Captions::packed(Tensor::new(captions.concat(), &Device::Cpu).unwrap(), packing);
        let dropout = Dropout { probability: 0.2, seed: 1, update: 2, first_example: 3 };
        for mode in [Mode::Eval, Mode::Train(dropout)] {
            let padded = decoder.hidden_states(&Captions::padded(&ids), &own, mode).unwrap();
            assert_eq!(padded.dims()[..2], [3, longest]);
            let rows = captions
                .iter()
                .enumerate()
                .map(|(row, caption)| padded.get(row).unwrap().narrow(0, 0, caption.len()).unwrap());
            let expected = Tensor::cat(&rows.collect::<Vec<_>>(), 0).unwrap();
            let found = decoder.hidden_states(&packed, &key_values, mode).unwrap();
            assert!(max_difference(&found, &expected) < EXACT, "{mode:?}");
        }
    }
}

#[test]
fn blocks_that_are_computed_again_give_the_same_gradients_bit_by_bit() {
    for shape in shapes_by_decoder() {
        let parameters = random_parameters(&shape, DType::F32);
        let gradients = |recompute| {
            let settings = StepSettings { recompute, dropout: 0.2, ..SETTINGS };
            let pieces = Piece::in_order([batch(&shape, &CAPTIONS, DType::F32)]);
            compute_gradients(&shape, &parameters, &pieces, 4, &settings, &WorkerPools::alone()).unwrap()
        };
        let ((loss, expected), (again, found)) = (gradients(false), gradients(true));
        assert_eq!(loss.read().unwrap(), again.read().unwrap());
        for (name, _) in parameters.trainable() {
            assert_eq!(max_difference(found.get(name).unwrap(), expected.get(name).unwrap()), 0.0, "{name}");
        }
    }
}

#[test]
fn a_cache_gives_the_hidden_states_of_the_full_forward_pass_token_by_token() {
    for shape in shapes_by_decoder() {
        let (model, key_values) = with_pictures(&shape, DType::F64);
        let decoder = model.decoder();
        // Two captions of each picture, which change places and pictures on the way.
        let mut captions: Vec<Vec<u32>> = vec![vec![1], vec![4], vec![5], vec![6], vec![7], vec![8]];
        let mut pictures = vec![0, 1, 2];
        let mut cache = KeyValueCache::new(&key_values);
        for step in 0..7 {
            let newest: Vec<u32> = captions.iter().map(|caption| *caption.last().unwrap()).collect();
            let newest = Tensor::from_vec(newest, (pictures.len(), 2), &Device::Cpu).unwrap();
            let cached = decoder.next_hidden_states(&newest, &mut cache).unwrap();
            for (row, caption) in captions.iter().enumerate() {
                let ids = Tensor::from_vec(caption.clone(), (1, caption.len()), &Device::Cpu).unwrap();
                let picture = of_picture(&key_values, pictures[row / 2]);
                let whole = decoder.hidden_states(&Captions::padded(&ids), &picture, Mode::Eval).unwrap();
                let last = whole.narrow(1, caption.len() - 1, 1).unwrap();
                let found = cached.narrow(0, row / 2, 1).unwrap().narrow(1, row % 2, 1).unwrap();
                assert!(max_difference(&found, &last) < EXACT, "step {step}, caption {row}");
            }
            let kept: &[u32] = match step {
                1 => &[1, 1, 3, 2, 5, 4],
                3 => &[4, 5, 1, 0],
                _ => &[0, 1, 2, 3, 4, 5][..captions.len()],
            };
            if step == 3 {
                cache.select_images(&[2, 0]).unwrap();
                pictures = vec![2, 0];
            }
            cache.select_captions(kept.to_vec());
            captions = kept.iter().map(|&row| captions[row as usize].clone()).collect();
            for (row, caption) in captions.iter_mut().enumerate() {
                caption.push(3 + ((step + row) % 9) as u32);
            }
        }
    }
}

#[test]
fn a_batch_gives_each_picture_the_captions_it_gets_alone() {
    let (model, key_values) = captioner_and_pictures(DType::F32);
    let beam = DecodingConfig { num_beams: 3, ..DecodingConfig::default() };
    let sample = Strategy::Sample { temperature: 1.5, top_k: 8, top_p: 0.95, seed: 3 };
    for decoding in [
        decoding(&DecodingConfig::default()),
        Decoding { num_captions: 3, ..decoding(&beam) },
        Decoding { strategy: sample, num_captions: 2, ..decoding(&beam) },
    ] {
        let together = decode(model.decoder(), &key_values, &decoding, 5).unwrap();
        let tokens = |captions: &[caption_train::decoding::DecodedCaption]| {
            captions.iter().map(|caption| caption.tokens.clone()).collect::<Vec<_>>()
        };
        for (picture, captions) in together.iter().enumerate() {
            let alone = decode(model.decoder(), &of_picture(&key_values, picture), &decoding, 5 + picture).unwrap();
            assert_eq!(tokens(captions), tokens(&alone[0]), "{decoding:?}");
        }
    }
}

#[test]
fn logits_that_are_not_numbers_are_an_error() {
    let (model, key_values) = captioner_and_pictures(DType::F32);
    let broken: Vec<Tensor> = key_values.iter().map(|tensor| (tensor * f64::NAN).unwrap()).collect();
    let error = decode(model.decoder(), &broken, &decoding(&DecodingConfig::default()), 0).unwrap_err();
    assert!(error.to_string().contains("not a number"), "{error}");
}

#[test]
fn a_frozen_parameter_is_not_tracked_and_an_evaluation_model_sees_updates() {
    let shape = shape("vit", true, true);
    let mut parameters = random_parameters(&shape, DType::F64);
    shape.freeze(&mut parameters, EncoderTraining::Frozen);
    let batch = batch(&shape, &CAPTIONS, DType::F64);
    let ImageInput::Pixels(pixels) = &batch.images else { unreachable!("the batch is made of pixels") };
    let model = Captioner::build(&shape, &parameters.tracked()).unwrap();
    assert!(!model.encode(pixels).unwrap().track_op());
    let evaluation = Captioner::build(&shape, &parameters.detached()).unwrap();
    let before = evaluate_batch(&evaluation, &batch).unwrap().sum;
    let (_, var): (_, &Var) = parameters.trainable().next().unwrap();
    var.set(&(var.as_tensor() + 1.0).unwrap()).unwrap();
    let after = evaluate_batch(&evaluation, &batch).unwrap().sum;
    assert_ne!(before, after);
}

/// A rounding to 8 bits in each product of a small model.
const BF16_TOLERANCE: f64 = 0.05;

#[test]
fn products_in_bf16_reach_every_layer_and_stay_near_those_in_f32() {
    let of_encoders = ENCODERS.map(|kind| shape(kind, true, false));
    for shape in of_encoders.into_iter().chain(shapes_by_decoder()) {
        let parameters = random_parameters(&shape, DType::F32);
        let gradients = |precision| {
            let settings = StepSettings { precision, ..SETTINGS };
            let batch = Piece::in_order([batch(&shape, &CAPTIONS, DType::F32)]);
            let (losses, gradients) =
                compute_gradients(&shape, &parameters, &batch, 0, &settings, &WorkerPools::alone()).unwrap();
            (losses.read().unwrap(), gradients)
        };
        let ((loss, full), (narrow_loss, narrow)) = (gradients(Precision::Full), gradients(Precision::Bf16));
        assert_ne!(loss.sum, narrow_loss.sum);
        assert!((loss.mean() - narrow_loss.mean()).abs() < BF16_TOLERANCE, "{} {}", loss.mean(), narrow_loss.mean());
        for (name, _) in parameters.trainable() {
            let (full, narrow) = (full.get(name).unwrap(), narrow.get(name).unwrap());
            let largest = max_difference(full, &full.zeros_like().unwrap());
            assert!(max_difference(full, narrow) <= BF16_TOLERANCE * largest.max(1.0), "{name}");
            // A weight's gradient is the result of a product of rounded operands.
            let is_weight =
                full.rank() >= 2 && !name.contains("embedding") && !name.contains(".wte") && !name.contains(".wpe");
            assert!(!is_weight || max_difference(full, narrow) > 0.0, "{name} comes from a product of f32");
        }
    }
}
