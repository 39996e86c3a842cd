//! Predicts the memory of a run from a count of its buffers and the peak of a few trial updates.

use std::collections::HashSet;

use crate::config::EncoderTraining;
use crate::data::example_list::ExampleList;
use crate::data::sampler;
use crate::model::captioner::CaptionerShape;
use crate::training::plan::{ImagePath, RunPlan};
use crate::training::trainer::LOADED_AHEAD;

/// Images in a batch of a frozen encoder that encodes all of them once.
const ENCODE_BATCH: usize = 8;
/// The same on a GPU.
const ENCODE_BATCH_ON_GPU: usize = 32;
/// Code, runtime, thread stacks, captions and memory kept by the allocator, in bytes, if the system does not report
/// them.
const PROCESS_BYTES: usize = 100 << 20;

/// Memory in bytes, by what takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryForecast {
    /// Parameters, their gradients and the optimizer's moments.
    pub model: usize,
    /// The most that one phase needs in addition: an update with what its backward pass keeps, a batch of the
    /// validation, or a batch of images that is encoded.
    pub activations: usize,
    /// Batches loaded ahead of the loop.
    pub batches: usize,
    /// The program itself, with the captions.
    pub process: usize,
    /// How much of all that the process has already allocated.
    pub resident: usize,
}

impl MemoryForecast {
    /// The peak.
    pub fn total(&self) -> usize {
        self.model + self.activations + self.batches + self.process
    }

    /// Why `available` bytes are not enough, and what would help. `None`: they are enough.
    pub fn complaint(&self, available: u64) -> Option<String> {
        let needed = self.total().saturating_sub(self.resident) as u64;
        if needed <= available {
            return None;
        }
        let parts = [
            (
                self.model,
                "the model with its gradients and moments",
                "choose a smaller decoder, or train less of the \
              encoder (model.encoder.train)",
            ),
            (
                self.activations,
                "what a batch needs",
                "lower training.batch_size and raise \
              training.gradient_accumulation_steps by the same factor, set training.recompute = true, or lower \
              evaluation.batch_size",
            ),
            (self.batches, "batches that are loaded ahead", "lower data.workers"),
        ];
        let (bytes, what, help) = parts.into_iter().max_by_key(|(bytes, ..)| *bytes)?;
        Some(format!(
            "the run needs about {:.2} GB more memory than it has now, but only {:.2} GB are available. Most of it, \
             {:.2} GB, is {what}: {help}",
            needed as f64 / base::GIGABYTE,
            available as f64 / base::GIGABYTE,
            bytes as f64 / base::GIGABYTE
        ))
    }

    /// The same if the trial updates, which have no waiting batches, took more than was counted: the allocator keeps
    /// freed memory, most of all with many small tensors.
    pub fn with_trial_peak(mut self, bytes: Option<u64>) -> Self {
        let peak = bytes.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0);
        self.activations = self.activations.max(peak.saturating_sub(self.model + self.process));
        self
    }
}

/// The sizes of which a run's batches are at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchSizes {
    /// Pairs.
    pub examples: usize,
    /// Different images.
    pub images: usize,
    /// Positions of the longest caption.
    pub length: usize,
    /// Positions of all captions, without padding.
    pub positions: usize,
}

impl BatchSizes {
    /// Those of `examples` pairs of such a batch. The captions of an image may be divided.
    pub fn part(self, examples: usize) -> Self {
        let share = |number: usize| (number * examples).div_ceil(self.examples.max(1));
        let images = (share(self.images) + usize::from(self.images < self.examples)).min(examples);
        Self { examples, images, length: self.length, positions: share(self.positions) }
    }
}

/// Counts the buffers of a run whose largest batch is `largest`. `resident` is what the process holds, in bytes, once
/// data, parameters and `moments` values of the optimizer have been read.
pub fn memory(plan: &RunPlan, largest: BatchSizes, resident: Option<u64>, moments: usize) -> MemoryForecast {
    let float = size_of::<f32>();
    let resident = resident.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    let batch = plan.config.training.batch_size.min(plan.counts.train_examples);
    let (encoder, trainable) = (&plan.shape.encoder, plan.num_trainable_parameters);
    let input = match plan.image_path {
        ImagePath::EncodedOnce => encoder.sequence_length() * encoder.hidden_size(),
        _ => 3 * encoder.image_size() * encoder.image_size(),
    };
    // The loop has one update in memory, the loader as many as it may load ahead.
    let waiting = 1 + plan.num_workers + LOADED_AHEAD;
    let accumulation = plan.config.training.gradient_accumulation_steps;
    // Two moments, and the sums of gradients that wait for each other in a binary tree.
    let copies =
        2 + ((plan.num_parts.div_ceil(plan.num_processes) * accumulation).next_power_of_two().ilog2() as usize).max(1);
    // Parts that wait for a pool take no memory yet.
    let own = batch.div_ceil(plan.num_processes);
    let at_once = (batch * plan.num_pools).div_ceil(plan.num_parts).min(own);
    let phases = [
        activation_values(plan, largest.part(at_once * plan.captions_each())),
        validation_values(plan, largest.length),
        encoding_values(plan),
    ];
    // On a GPU pairs that share an image have it each, unless these are many.
    let own = if plan.gpu.is_some() { own } else { largest.part(own * plan.captions_each()).images };
    MemoryForecast {
        model: float * (plan.num_parameters + copies * trainable),
        activations: float * phases.into_iter().max().unwrap_or(0),
        batches: float * input * own * accumulation * waiting,
        process: resident.map_or(PROCESS_BYTES, |bytes| bytes.saturating_sub(float * (plan.num_parameters + moments))),
        resident: resident.unwrap_or(0),
    }
}

/// Values that live when the backward pass begins, and the largest gradients.
fn activation_values(plan: &RunPlan, batch: BatchSizes) -> usize {
    let CaptionerShape { encoder, decoder } = &plan.shape;
    // A GPU pads captions, and gives each its own keys and values.
    let (images, positions) = match plan.gpu {
        Some(_) => (batch.examples, batch.examples * batch.length),
        None => (batch.images, batch.positions),
    };
    let states = images * encoder.sequence_length();
    // Segments begin with copies of the states and of the images' keys and values.
    let key_values = 2 * states * decoder.hidden_size();
    let copies = positions * decoder.hidden_size() + key_values;
    let block = decoder.block_values(positions, states);
    let blocks = match plan.config.training.recompute {
        true => decoder.num_layers() * (copies + key_values) + block,
        false => decoder.num_layers() * (copies + block),
    };
    let projected = if plan.shape.has_projection() { states * decoder.cross_attention_width() } else { 0 };
    // Logits, their gradient, and its copy for the product with the head.
    let logits = 3 * batch.positions * decoder.vocab_size();
    // Gradients of one block's keys and values, and of the states below them.
    let backward = 2 * states * (decoder.hidden_size() + decoder.cross_attention_width());
    blocks + projected + logits + backward + encoder_values(plan, images)
}

/// A batch of the validation: keys and values of all blocks, as if each pair had an image of its own, and the logits.
fn validation_values(plan: &RunPlan, length: usize) -> usize {
    let CaptionerShape { encoder, decoder } = &plan.shape;
    let batch = plan.config.evaluation.batch_size.min(plan.counts.val_examples);
    let key_values = decoder.num_layers() * 2 * batch * encoder.sequence_length() * decoder.hidden_size();
    let encoding = if plan.image_path == ImagePath::EncodedOnce { 0 } else { encoder.inference_values(batch) };
    encoding.max(key_values + 2 * batch * length * decoder.vocab_size())
}

/// A batch of images that a frozen encoder sees once, with the pictures that wait.
fn encoding_values(plan: &RunPlan) -> usize {
    let encoder = &plan.shape.encoder;
    let pixels = 3 * encoder.image_size() * encoder.image_size();
    let batch = encode_batch(plan);
    let waiting = batch * (plan.num_workers + 2 * plan.num_pools) * pixels;
    if plan.image_path == ImagePath::EncodedOnce {
        waiting + encoder.inference_values(batch * plan.num_pools)
    } else {
        0
    }
}

/// Images that go through a frozen encoder together, when it encodes all of them once.
pub fn encode_batch(plan: &RunPlan) -> usize {
    if plan.gpu.is_some() { ENCODE_BATCH_ON_GPU } else { ENCODE_BATCH }
}

fn encoder_values(plan: &RunPlan, batch: usize) -> usize {
    let recompute = plan.config.training.recompute;
    let encoder = &plan.shape.encoder;
    match plan.image_path {
        ImagePath::EncodedOnce => 0,
        ImagePath::EncodedEachTime => encoder.inference_values(batch),
        // An adapter has its layers in all blocks.
        ImagePath::Trained if plan.config.model.lora.as_ref().is_some_and(|lora| lora.encoder) => {
            encoder.training_values(batch, EncoderTraining::Full, recompute)
        }
        ImagePath::Trained => encoder.training_values(batch, plan.config.model.encoder.train, recompute),
    }
}

/// The largest sizes of the batches of the first epoch.
pub fn largest_batch(plan: &RunPlan, examples: &ExampleList) -> BatchSizes {
    let order = sampler::epoch_order(plan.config.seed, 1, examples, plan.batch_by);
    let sizes_of = |batch: &[u32]| {
        let lengths = batch.iter().map(|&index| examples.num_tokens(index as usize) - 1);
        let images = batch.iter().map(|&index| examples.image(index as usize));
        let each = plan.captions_each();
        if each > 1 {
            // Whatever is sampled.
            let length = plan.config.decoding_of_captions().max_new_tokens.unwrap_or(0);
            let (images, examples) = (batch.len(), batch.len() * each);
            return BatchSizes { examples, images, length, positions: examples * length };
        }
        BatchSizes {
            examples: batch.len(),
            images: images.collect::<HashSet<_>>().len(),
            length: lengths.clone().max().unwrap_or(0),
            positions: lengths.sum(),
        }
    };
    let larger = |a: BatchSizes, b: BatchSizes| BatchSizes {
        examples: a.examples.max(b.examples),
        images: a.images.max(b.images),
        length: a.length.max(b.length),
        positions: a.positions.max(b.positions),
    };
    let none = BatchSizes { examples: 0, images: 0, length: 0, positions: 0 };
    order.chunks(plan.config.training.batch_size).map(sizes_of).fold(none, larger)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_batch_has_its_share_of_everything_and_a_piece_of_one_more_image() {
        let by_image = BatchSizes { examples: 64, images: 13, length: 28, positions: 900 };
        assert_eq!(by_image.part(32), BatchSizes { examples: 32, images: 8, length: 28, positions: 450 });
        assert_eq!(by_image.part(1).images, 1);
        let by_pair = BatchSizes { images: 64, ..by_image };
        assert_eq!(by_pair.part(32).images, 32);
    }

    #[test]
    fn too_little_memory_is_explained_by_what_takes_most_and_enough_memory_is_not() {
        let (model, activations, batches, process, resident) = (4 << 30, 6 << 30, 1 << 30, 1 << 30, 1 << 30);
        let forecast = MemoryForecast { model, activations, batches, process, resident };
        assert_eq!(forecast.complaint(11 << 30), None);
        let text = forecast.complaint(10 << 30).unwrap();
        assert!(text.contains("11.81 GB") && text.contains("10.74 GB are available"), "{text}");
        assert!(text.contains("6.44 GB, is what a batch needs: lower training.batch_size"), "{text}");
        let text = MemoryForecast { model: 7 << 30, ..forecast }.complaint(1).unwrap();
        assert!(text.contains("the model with its gradients") && text.contains("smaller decoder"), "{text}");
    }
}
