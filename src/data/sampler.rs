//! The order of the training examples: a new permutation for each epoch, cut into updates and micro-batches.
//!
//! Nothing here has state: an epoch resumed at update k is the same plan without its first k updates.

use crate::config::BatchBy;
use crate::data::example_list::ExampleList;
use base::random::Stream;

/// The order of the examples in an epoch: a permutation of their indices that depends only on the seed, the epoch and
/// the examples' images.
pub fn epoch_order(seed: u64, epoch: u64, examples: &ExampleList, batch_by: BatchBy) -> Vec<u32> {
    let num_examples = u32::try_from(examples.len()).expect("a data set has fewer than 2^32 examples");
    let mut order: Vec<u32> = (0..num_examples).collect();
    Stream::new(seed, "epoch order", &epoch.to_string()).shuffle(&mut order);
    match batch_by {
        BatchBy::Pair => order,
        BatchBy::Image => by_image(&order, examples),
    }
}

/// The same examples, with those of an image moved to the place of the first of them.
fn by_image(order: &[u32], examples: &ExampleList) -> Vec<u32> {
    let images = || order.iter().map(|&index| examples.image(index as usize));
    let mut counts = vec![0_u32; images().max().map_or(0, |largest| largest + 1)];
    images().for_each(|image| counts[image] += 1);
    // Where the next example of an image goes; the places of an image are taken when its first example is met.
    let mut next: Vec<Option<u32>> = vec![None; counts.len()];
    let mut num_taken = 0;
    let mut grouped = vec![0; order.len()];
    for (&index, image) in order.iter().zip(images()) {
        let place = next[image].unwrap_or_else(|| {
            num_taken += counts[image];
            num_taken - counts[image]
        });
        grouped[place as usize] = index;
        next[image] = Some(place + 1);
    }
    grouped
}

/// Number of updates in an epoch. `batch_size` and `gradient_accumulation_steps` must not be 0.
pub fn num_updates(num_examples: usize, batch_size: usize, gradient_accumulation_steps: usize) -> usize {
    num_examples.div_ceil(batch_size.saturating_mul(gradient_accumulation_steps))
}

/// An update of an epoch, counted from 0: at most `gradient_accumulation_steps` micro-batches of at most `batch_size`
/// examples. Only the last micro-batch of the last update may be smaller, and only the last update may have fewer
/// micro-batches. Neither number may be 0.
pub fn update(order: &[u32], number: usize, batch_size: usize, gradient_accumulation_steps: usize) -> Vec<Vec<u32>> {
    let size = batch_size.saturating_mul(gradient_accumulation_steps);
    let bound = |number: usize| number.saturating_mul(size).min(order.len());
    order[bound(number)..bound(number + 1)].chunks(batch_size).map(<[u32]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::batch::Example;

    /// Three captions for each image.
    fn examples(count: usize) -> ExampleList {
        let example = |index| Example { image: index / 3, tokens: Vec::new(), prompt_length: 0, weight: 1.0 };
        (0..count).map(example).collect()
    }

    fn updates(order: &[u32], batch_size: usize, steps: usize) -> Vec<Vec<Vec<u32>>> {
        (0..num_updates(order.len(), batch_size, steps))
            .map(|number| update(order, number, batch_size, steps))
            .collect()
    }

    fn epoch_order(seed: u64, epoch: u64, num_examples: usize) -> Vec<u32> {
        super::epoch_order(seed, epoch, &examples(num_examples), BatchBy::Pair)
    }

    #[test]
    fn order_is_a_permutation() {
        let mut order = epoch_order(7, 3, 1000);
        assert_ne!(order, (0..1000).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..1000).collect::<Vec<_>>());
        assert!(epoch_order(7, 3, 0).is_empty());
    }

    #[test]
    fn by_image_the_captions_of_an_image_are_together_and_none_is_lost() {
        let examples = examples(100);
        let order = super::epoch_order(7, 3, &examples, BatchBy::Image);
        let images: Vec<usize> = order.iter().map(|&index| examples.image(index as usize)).collect();
        let mut runs = images.clone();
        runs.dedup();
        assert_eq!(runs.len(), 34, "an image occurs twice");
        assert!(!runs.is_sorted());
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
        assert_ne!(order, super::epoch_order(7, 4, &examples, BatchBy::Image));
        // The images in the order of their first captions, and the captions of each as by pair.
        let pairs = super::epoch_order(7, 3, &examples, BatchBy::Pair);
        let mut expected: Vec<u32> = Vec::new();
        for &first in &pairs {
            let is_new = !expected.contains(&first);
            let of_image = pairs.iter().filter(|&&other| other / 3 == first / 3);
            expected.extend(of_image.copied().filter(|_| is_new));
        }
        assert_eq!(order, expected);
    }

    #[test]
    fn order_depends_only_on_seed_and_epoch() {
        assert_eq!(epoch_order(7, 3, 100), epoch_order(7, 3, 100));
        assert_ne!(epoch_order(7, 3, 100), epoch_order(7, 4, 100));
        assert_ne!(epoch_order(7, 3, 100), epoch_order(8, 3, 100));
    }

    #[test]
    fn updates_hold_every_example_once_and_in_order() {
        for (num_examples, batch_size, accumulation) in [(0, 4, 2), (1, 4, 2), (16, 4, 2), (17, 4, 2), (23, 5, 3)] {
            let order = epoch_order(1, 0, num_examples);
            let plan = updates(&order, batch_size, accumulation);
            assert_eq!(plan.len(), num_updates(num_examples, batch_size, accumulation));
            assert_eq!(plan.iter().flatten().flatten().copied().collect::<Vec<_>>(), order);
            for (index, update) in plan.iter().enumerate() {
                let is_last = index + 1 == plan.len();
                assert!(update.len() == accumulation || is_last && update.len() < accumulation);
                for (position, batch) in update.iter().enumerate() {
                    let is_last = is_last && position + 1 == update.len();
                    assert!(batch.len() == batch_size || is_last && (1..batch_size).contains(&batch.len()));
                }
            }
        }
    }

    #[test]
    fn accumulation_takes_the_same_examples_as_one_large_batch() {
        let order = epoch_order(9, 1, 50);
        let joined: Vec<Vec<u32>> = updates(&order, 4, 3).into_iter().map(|update| update.concat()).collect();
        let large: Vec<Vec<u32>> = updates(&order, 12, 1).into_iter().map(|update| update.concat()).collect();
        assert_eq!(joined, large);
    }
}
