//! Many short lists in little memory: one after the other in blocks that never move.
//!
//! A list of its own for each would take 24 bytes beside its content, and 8 to 16 more for its place on the heap. The first
//! lists may lie in files instead.

use std::io::{self, Error, ErrorKind};

use bytemuck::Pod;

use crate::column::Column;

/// Lists in a block.
const BLOCK: usize = 1 << 10;
/// Longest list, so that a block's content has fewer than 2^32 elements.
const MAX_LENGTH: usize = (1 << 22) - 1;

/// A list of short lists that only grows. Each takes 4 bytes beside its content.
#[derive(Clone, Debug)]
pub struct Lists<T> {
    /// The lists before all others.
    in_files: Option<Mapped<T>>,
    full: Vec<FullBlock<T>>,
    /// The last block, of fewer than [`BLOCK`] lists.
    open: Block<Vec<T>, Vec<u32>>,
}

#[derive(Clone, Debug)]
struct Mapped<T> {
    content: Column<T>,
    /// Where each list ends in `content`.
    ends: Column<u64>,
}

/// Without capacity that is left over.
type FullBlock<T> = Block<Box<[T]>, Box<[u32]>>;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Block<C, E> {
    content: C,
    /// Where each list ends in `content`.
    ends: E,
}

impl<T> Default for Lists<T> {
    fn default() -> Self {
        Self { in_files: None, full: Vec::new(), open: Block { content: Vec::new(), ends: Vec::new() } }
    }
}

impl<T: Pod> Lists<T> {
    /// The lists of two files: their content, and where each ends in it.
    ///
    /// # Errors
    /// Ends that do not ascend to the end of the content.
    pub fn in_files(content: Column<T>, ends: Column<u64>) -> io::Result<Self> {
        if !ends.is_sorted() || ends.last().map_or(0, |&last| last) != content.len() as u64 {
            return Err(Error::new(ErrorKind::InvalidData, "its lists do not end where their content ends"));
        }
        Ok(Self { in_files: Some(Mapped { content, ends }), ..Self::default() })
    }

    fn num_in_files(&self) -> usize {
        self.in_files.as_ref().map_or(0, |mapped| mapped.ends.len())
    }

    /// Appends a list of fewer than 2^22 elements.
    pub fn push(&mut self, list: &[T]) {
        assert!(list.len() <= MAX_LENGTH, "expected a short list, found one of {} elements", list.len());
        let Block { content, ends } = &mut self.open;
        content.extend_from_slice(list);
        ends.push(u32::try_from(content.len()).expect("a block of short lists has fewer than 2^32 elements"));
        if ends.len() == BLOCK {
            // Copied, so that no capacity is left over; the next block takes this one's.
            self.full.push(Block { content: content.as_slice().into(), ends: ends.as_slice().into() });
            content.clear();
            ends.clear();
        }
    }

    pub fn len(&self) -> usize {
        self.num_in_files() + self.full.len() * BLOCK + self.open.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The list of this number; panics where there is none.
    pub fn get(&self, number: usize) -> &[T] {
        assert!(number < self.len(), "there are {} lists, none has the number {number}", self.len());
        let number = match &self.in_files {
            Some(Mapped { content, ends }) if number < ends.len() => {
                let start = if number == 0 { 0 } else { ends[number - 1] };
                // Both are at most the length of the content.
                return &content[start as usize..ends[number] as usize];
            }
            _ => number - self.num_in_files(),
        };
        let (content, ends): (&[T], &[u32]) = match self.full.get(number / BLOCK) {
            Some(block) => (&block.content, &block.ends),
            None => (&self.open.content, &self.open.ends),
        };
        let place = number % BLOCK;
        let start = if place == 0 { 0 } else { ends[place - 1] as usize };
        &content[start..ends[place] as usize]
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[T]> {
        (0..self.len()).map(|number| self.get(number))
    }

    /// Bytes that the lists take on the heap.
    pub fn heap_bytes(&self) -> usize {
        let of_full = self.full.iter().map(|block| size_of_val(&*block.content) + size_of_val(&*block.ends));
        let of_files = self.in_files.as_ref().map_or(0, |it| it.content.heap_bytes() + it.ends.heap_bytes());
        of_files
            + of_full.sum::<usize>()
            + self.full.capacity() * size_of::<Block<Box<[T]>, Box<[u32]>>>()
            + self.open.content.capacity() * size_of::<T>()
            + self.open.ends.capacity() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_come_back_as_they_were_from_every_block() {
        let list = |number: usize| vec![number as u16; number % 7];
        let count = 2 * BLOCK + 3;
        let mut lists = Lists::default();
        for number in 0..count {
            assert_eq!(lists.len(), number);
            lists.push(&list(number));
        }
        assert_eq!(lists.iter().len(), count);
        for (number, found) in lists.iter().enumerate() {
            assert_eq!(found, list(number), "list {number}");
        }
        assert!(Lists::<u16>::default().is_empty() && !lists.is_empty());
    }

    #[test]
    fn lists_in_files_come_first_and_others_after_them() {
        let mapped = || Lists::in_files(vec![1_u8, 2, 3].into(), vec![2_u64, 2, 3].into()).unwrap();
        let mut lists = mapped();
        assert_eq!(lists.iter().collect::<Vec<_>>(), [&[1, 2][..], &[], &[3]]);
        (0..BLOCK + 2).for_each(|number| lists.push(&[number as u8]));
        assert_eq!((lists.len(), lists.get(2), lists.get(4)), (BLOCK + 5, &[3][..], &[1][..]));
        assert_eq!(lists.get(BLOCK + 4), [1]);
        for ends in [vec![2_u64, 1, 3], vec![2], vec![2, 4], vec![]] {
            Lists::in_files(vec![1_u8, 2, 3].into(), ends.into()).unwrap_err();
        }
    }

    #[test]
    fn a_list_takes_four_bytes_beside_its_content() {
        let mut lists = Lists::default();
        let count = 20 * BLOCK;
        (0..count).for_each(|_| lists.push(&[7_u8; 50]));
        let each = lists.heap_bytes() as f64 / count as f64;
        assert!((54.0..60.0).contains(&each), "{each}");
    }

    #[test]
    #[should_panic(expected = "none has the number 1024")]
    fn a_number_beyond_the_last_is_not_that_of_another_list() {
        let mut lists = Lists::default();
        (0..BLOCK).for_each(|_| lists.push(&[1_u8]));
        lists.get(BLOCK);
    }
}
