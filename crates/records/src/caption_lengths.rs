//! How many decoder positions captions take, counted once while they are tokenized.

use std::collections::BTreeMap;

/// Captions by the positions that they take: their tokens and the end token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaptionLengths(BTreeMap<usize, usize>);

impl CaptionLengths {
    /// Counts a caption of `num_tokens` tokens, start and end token not counted.
    pub fn add(&mut self, num_tokens: usize) {
        *self.0.entry(num_tokens + 1).or_default() += 1;
    }

    /// Those that were counted before.
    pub fn from_counts(captions: BTreeMap<usize, usize>) -> Self {
        Self(captions)
    }

    /// How many captions take each number of positions.
    pub fn counts(&self) -> &BTreeMap<usize, usize> {
        &self.0
    }

    /// Both together.
    #[must_use]
    pub fn merged(mut self, other: &Self) -> Self {
        for (&positions, count) in &other.0 {
            *self.0.entry(positions).or_default() += count;
        }
        self
    }

    pub fn num_captions(&self) -> usize {
        self.0.values().sum()
    }

    /// Captions that take more than `positions`: framing cuts them.
    pub fn num_longer_than(&self, positions: usize) -> usize {
        self.0.range(positions + 1..).map(|(_, count)| count).sum()
    }

    /// Positions of the longest caption; 0 without captions.
    pub fn longest(&self) -> usize {
        self.0.last_key_value().map_or(0, |(&positions, _)| positions)
    }

    /// The fewest positions that leave at least `percent` per cent of the captions whole.
    pub fn positions_for(&self, percent: usize) -> usize {
        let wanted = (self.num_captions() * percent).div_ceil(100);
        let mut num_whole = 0;
        for (&positions, count) in &self.0 {
            num_whole += count;
            if num_whole >= wanted {
                return positions;
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lengths: impl IntoIterator<Item = usize>) -> CaptionLengths {
        let mut counted = CaptionLengths::default();
        lengths.into_iter().for_each(|length| counted.add(length));
        counted
    }

    #[test]
    fn the_positions_for_a_share_are_the_fewest_that_do() {
        let counted = of((0..200).map(|caption| if caption < 197 { 10 } else { 20 + caption }));
        assert_eq!((counted.positions_for(98), counted.longest()), (11, 220));
        assert_eq!(counted.positions_for(99), 218, "two of 200 may be cut");
        assert_eq!((counted.positions_for(100), counted.num_longer_than(219)), (220, 1));
        assert_eq!((of([]).positions_for(99), of([]).longest()), (0, 0));
    }

    #[test]
    fn counts_of_two_splits_add_up() {
        let both = of([3, 3, 5]).merged(&of([5, 9]));
        assert_eq!(both, of([3, 3, 5, 5, 9]));
        assert_eq!(both.num_captions(), 5);
    }
}
