//! Cuts an update into the pieces whose gradients are added up. How it is cut depends on the update and on
//! `training.parts`, never on threads or processes: they only share the pieces out.

use std::ops::Range;

use candle_core::Device;

use crate::data::batch::Batch;
use crate::data::example_list::ExampleList;
use crate::data::image_source::ImageInput;

/// The place of this process among those that share work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    pub rank: usize,
    pub size: usize,
}

impl Share {
    /// Its parts of `num_parts`.
    pub fn parts(self, num_parts: usize) -> Range<usize> {
        self.rank * num_parts / self.size..(self.rank + 1) * num_parts / self.size
    }

    /// The turns in which all processes together work through `num_items` items, in batches of `batch_size`.
    pub fn num_turns(self, num_items: usize, batch_size: usize) -> usize {
        num_items.div_ceil(batch_size * self.size)
    }

    /// Its batch of a turn, as places among the items; in the last turn it may be short, or empty.
    pub fn batch(self, turn: usize, num_items: usize, batch_size: usize) -> Range<usize> {
        let first = (turn * self.size + self.rank) * batch_size;
        first.min(num_items)..(first + batch_size).min(num_items)
    }
}

/// Which examples form a piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The place of its gradient among the leaves of a binary tree of sums.
    pub leaf: usize,
    /// Where its examples begin in the update.
    pub first_example: u64,
    /// The examples, as indices into those of the split.
    pub examples: Vec<u32>,
}

/// A piece of an update: pairs that go through the model together.
#[derive(Clone, Debug)]
pub struct Piece {
    /// The place of its gradient among the leaves of a binary tree of sums.
    pub leaf: usize,
    /// Where its examples begin in the update.
    pub first_example: u64,
    pub batch: Batch,
}

/// The pieces of those parts of an update that are in `share`. Each of its micro-batches (lists of examples) is cut into
/// `num_parts` parts as equal as can be, of which some are empty if it has fewer examples. The leaves of a part follow
/// each other, so that processes with neighbouring parts own neighbouring branches of the tree.
pub fn cut(update: &[Vec<u32>], num_parts: usize, share: Range<usize>) -> Vec<Cut> {
    let leaves_each = update.len().max(1).next_power_of_two();
    let mut cuts = Vec::new();
    for part in share {
        let mut before = 0;
        for (micro_batch, examples) in update.iter().enumerate() {
            let bound = |part: usize| part * examples.len() / num_parts;
            let range = bound(part)..bound(part + 1);
            if !range.is_empty() {
                cuts.push(Cut {
                    leaf: part * leaves_each + micro_batch,
                    first_example: before + range.start as u64,
                    examples: examples[range].to_vec(),
                });
            }
            before += examples.len() as u64;
        }
    }
    cuts
}

impl Cut {
    /// The piece, of the examples of a split; `load` loads images.
    ///
    /// # Errors
    /// What `load` returns.
    pub fn load(
        &self,
        examples: &ExampleList,
        pad_id: u32,
        device: &Device,
        load: impl Fn(&[usize]) -> anyhow::Result<ImageInput>,
    ) -> anyhow::Result<Piece> {
        let examples: Vec<_> = self.examples.iter().map(|&index| examples.get(index as usize)).collect();
        let batch = Batch::load(&examples, pad_id, device, load)?;
        Ok(Piece { leaf: self.leaf, first_example: self.first_example, batch })
    }
}

impl Piece {
    /// Batches that follow each other, as all the pieces of an update.
    pub fn in_order(batches: impl IntoIterator<Item = Batch>) -> Vec<Self> {
        let mut first_example = 0;
        let piece = |(leaf, batch): (usize, Batch)| {
            let first = first_example;
            first_example += batch.num_examples() as u64;
            Self { leaf, first_example: first, batch }
        };
        batches.into_iter().enumerate().map(piece).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three micro-batches, the last one of a single example.
    fn update() -> Vec<Vec<u32>> {
        vec![vec![7, 3, 9, 1, 4], vec![8, 2, 0, 6, 5], vec![10]]
    }

    #[test]
    fn pieces_have_every_example_once_at_its_place_in_the_update() {
        let all: Vec<u32> = update().concat();
        for num_parts in [1, 2, 4, 8] {
            let mut found = vec![None; all.len()];
            for piece in cut(&update(), num_parts, 0..num_parts) {
                for (place, example) in (piece.first_example as usize..).zip(piece.examples) {
                    assert_eq!(found[place].replace(example), None);
                }
            }
            assert_eq!(found.into_iter().flatten().collect::<Vec<_>>(), all, "{num_parts} parts");
        }
    }

    #[test]
    fn processes_share_the_pieces_of_one_and_own_branches_of_the_tree() {
        let (num_parts, update) = (8, update());
        let alone = cut(&update, num_parts, 0..num_parts);
        for size in [1, 2, 4, 8] {
            let mut together = Vec::new();
            for rank in 0..size {
                let pieces = cut(&update, num_parts, Share { rank, size }.parts(num_parts));
                let leaves = 4 * num_parts / size;
                assert!(pieces.iter().all(|piece| piece.leaf / leaves == rank), "{size} processes");
                together.extend(pieces);
            }
            assert_eq!(together, alone, "{size} processes");
        }
    }

    #[test]
    fn batches_are_dealt_in_turns_and_cover_every_item_in_order() {
        for (num_items, batch_size, size) in [(0, 4, 2), (7, 4, 1), (8, 4, 2), (9, 4, 2), (23, 3, 4)] {
            let share = |rank| Share { rank, size };
            let turns = 0..share(0).num_turns(num_items, batch_size);
            let dealt =
                turns.flat_map(|turn| (0..size).flat_map(move |rank| share(rank).batch(turn, num_items, batch_size)));
            assert_eq!(dealt.collect::<Vec<_>>(), (0..num_items).collect::<Vec<_>>());
        }
    }

    #[test]
    fn three_processes_leave_out_no_part() {
        let parts: Vec<_> = (0..3).flat_map(|rank| Share { rank, size: 3 }.parts(8)).collect();
        assert_eq!(parts, (0..8).collect::<Vec<_>>());
    }
}
