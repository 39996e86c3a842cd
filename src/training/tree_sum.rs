//! Sums in the order of a binary tree, so that their bits depend neither on which thread or process computed which
//! term, nor on the order in which the terms arrive.

use std::sync::{Mutex, PoisonError};

use candle_core::{Result, bail};

/// A sum of terms, each at its leaf of a binary tree. A leaf without a term adds nothing. Siblings are added when the
/// second has arrived.
#[derive(Debug)]
pub struct TreeSum<T>(Mutex<Waiting<T>>);

/// Sums that wait for their sibling.
#[derive(Debug)]
struct Waiting<T>(Vec<Node<T>>);

#[derive(Debug)]
struct Node<T> {
    /// Distance from the leaves.
    level: usize,
    /// From the left, among the nodes of its level.
    place: usize,
    sum: T,
}

impl<T> Default for TreeSum<T> {
    fn default() -> Self {
        Self(Mutex::new(Waiting(Vec::new())))
    }
}

impl<T> TreeSum<T> {
    /// Takes the term of a leaf. `add` gets the left sibling first.
    ///
    /// # Errors
    /// A leaf that got two terms; what `add` returns.
    pub fn add(&self, leaf: usize, term: T, add: impl Fn(T, T) -> Result<T>) -> Result<()> {
        let mut node = Node { level: 0, place: leaf, sum: term };
        // Additions happen outside of the lock.
        loop {
            let mut waiting = self.lock();
            if waiting.0.iter().any(|other| (other.level, other.place) == (node.level, node.place)) {
                bail!("two terms of a sum have the same place");
            }
            let Some(sibling) = waiting.take_sibling(&node) else {
                waiting.0.push(node);
                return Ok(());
            };
            drop(waiting);
            node = node.join(sibling, &add)?;
        }
    }

    /// The sum; `None` if it has no term. It is empty afterwards.
    ///
    /// # Errors
    /// What `add` returns.
    pub fn finish(&self, add: impl Fn(T, T) -> Result<T>) -> Result<Option<T>> {
        let mut waiting = Waiting(std::mem::take(&mut self.lock().0));
        // Nothing joins the lowest nodes any more: they stand for their parents.
        while let Some(lowest) = (0..waiting.0.len()).min_by_key(|&index| waiting.0[index].level) {
            let Node { level, place, sum } = waiting.0.swap_remove(lowest);
            if waiting.0.is_empty() {
                return Ok(Some(sum));
            }
            let mut node = Node { level: level + 1, place: place / 2, sum };
            while let Some(sibling) = waiting.take_sibling(&node) {
                node = node.join(sibling, &add)?;
            }
            waiting.0.push(node);
        }
        Ok(None)
    }

    /// Sums that wait for their sibling.
    #[cfg(test)]
    pub fn num_waiting(&self) -> usize {
        self.lock().0.len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Waiting<T> {
    fn take_sibling(&mut self, node: &Node<T>) -> Option<Node<T>> {
        let is_sibling = |other: &Node<T>| (other.level, other.place) == (node.level, node.place ^ 1);
        let found = self.0.iter().position(is_sibling)?;
        Some(self.0.swap_remove(found))
    }
}

impl<T> Node<T> {
    /// Their parent.
    fn join(self, sibling: Self, add: impl Fn(T, T) -> Result<T>) -> Result<Self> {
        let (left, right) = if self.place < sibling.place { (self, sibling) } else { (sibling, self) };
        Ok(Self { level: left.level + 1, place: left.place / 2, sum: add(left.sum, right.sum)? })
    }
}

/// The sum of numbers at their leaves; 0 if there are none.
///
/// # Errors
/// A leaf that got two numbers.
pub fn sum_at_leaves(terms: impl IntoIterator<Item = (usize, f64)>) -> Result<f64> {
    let add = |left: f64, right: f64| Ok(left + right);
    let sum = TreeSum::default();
    for (leaf, term) in terms {
        sum.add(leaf, term, add)?;
    }
    Ok(sum.finish(add)?.unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In f32 these give another sum in almost every order.
    const VALUES: [f32; 7] = [1e8, 1.0, -1e8, 3.5, 7e-3, 2e4, -1.5];

    fn add(left: f32, right: f32) -> Result<f32> {
        Ok(left + right)
    }

    fn sum(leaves: &[usize]) -> f32 {
        let sum = TreeSum::default();
        for &leaf in leaves {
            sum.add(leaf, VALUES[leaf], add).unwrap();
        }
        sum.finish(add).unwrap().unwrap()
    }

    #[test]
    fn a_sum_is_that_of_the_tree_in_whatever_order_its_terms_arrive() {
        let [a, b, c, d, e, f, g] = VALUES;
        let expected = ((a + b) + (c + d)) + ((e + f) + g);
        for order in [[0, 1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1, 0], [3, 0, 6, 1, 5, 2, 4], [1, 0, 3, 2, 5, 4, 6]] {
            assert_eq!(sum(&order), expected);
        }
    }

    #[test]
    fn leaves_without_a_term_add_nothing_and_move_no_other() {
        let [a, _, c, d, _, _, g] = VALUES;
        for order in [[0, 2, 3, 6], [6, 3, 2, 0], [2, 6, 0, 3]] {
            assert_eq!(sum(&order), (a + (c + d)) + g);
        }
        assert_eq!(sum(&[5]), VALUES[5]);
    }

    #[test]
    fn the_branches_of_a_tree_add_up_to_the_whole() {
        for half in [1, 2, 4] {
            let branches: Vec<f32> = (0..8 / half)
                .map(|branch| (branch * half..7.min((branch + 1) * half)).collect::<Vec<_>>())
                .filter(|leaves| !leaves.is_empty())
                .map(|leaves| sum(&leaves))
                .collect();
            let whole = TreeSum::default();
            for (place, branch) in branches.iter().enumerate() {
                whole.add(place, *branch, add).unwrap();
            }
            assert_eq!(whole.finish(add).unwrap().unwrap(), sum(&[0, 1, 2, 3, 4, 5, 6]));
        }
    }

    #[test]
    fn a_leaf_with_two_terms_is_an_error_and_a_sum_without_terms_is_none() {
        let sum = TreeSum::default();
        assert!(sum.finish(add).unwrap().is_none());
        sum.add(2, 1.0, add).unwrap();
        assert!(sum.add(2, 1.0, add).is_err());
    }
}
