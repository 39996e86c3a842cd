//! Many short lists in little memory: one after the other in blocks that never move.
//!
//! A list of its own for each would take 24 bytes beside its content, and 8 to 16 more for its place on the heap.

/// Lists in a block.
const BLOCK: usize = 1 << 10;
/// Longest list, so that a block's content has fewer than 2^32 elements.
const MAX_LENGTH: usize = (1 << 22) - 1;

/// A list of short lists that only grows. Each takes 4 bytes beside its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lists<T> {
    full: Vec<FullBlock<T>>,
    /// The last block, of fewer than [`BLOCK`] lists.
    open: Block<Vec<T>, Vec<u32>>,
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
        Self { full: Vec::new(), open: Block { content: Vec::new(), ends: Vec::new() } }
    }
}

impl<T: Copy> Lists<T> {
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
        self.full.len() * BLOCK + self.open.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The list of this number; panics where there is none.
    pub fn get(&self, number: usize) -> &[T] {
        let (content, ends): (&[T], &[u32]) = match self.full.get(number / BLOCK) {
            Some(block) => (&block.content, &block.ends),
            None => (&self.open.content, &self.open.ends),
        };
        let place = number % BLOCK;
        assert!(number < self.len(), "there are {} lists, none has the number {number}", self.len());
        let start = if place == 0 { 0 } else { ends[place - 1] as usize };
        &content[start..ends[place] as usize]
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[T]> {
        (0..self.len()).map(|number| self.get(number))
    }

    /// Bytes that the lists take on the heap.
    pub fn heap_bytes(&self) -> usize {
        let of_full = self.full.iter().map(|block| size_of_val(&*block.content) + size_of_val(&*block.ends));
        of_full.sum::<usize>()
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
