//! A tensor as a pickle describes it: a part of a storage, seen through a shape and strides.

use anyhow::{Context as _, ensure};

use crate::element::Element;
use base::visible;

/// Characters of a storage's name that are shown.
const MAX_NAME: usize = 100;

/// A tensor of a weight file. Equal views are the same tensor.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct View {
    pub(crate) storage: String,
    pub(crate) element: Element,
    /// Elements of the storage.
    pub(crate) length: u64,
    /// The first element.
    pub(crate) offset: u64,
    pub(crate) shape: Vec<usize>,
    /// Elements from one index to the next, for each dimension.
    pub(crate) strides: Vec<u64>,
}

impl View {
    /// What its elements are.
    pub fn element(&self) -> Element {
        self.element
    }

    /// Its shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Values of it; as many as can be counted if there are more.
    pub fn num_values(&self) -> u64 {
        self.num_elements().unwrap_or(u64::MAX)
    }

    /// The name of its storage.
    pub(crate) fn storage(&self) -> &str {
        &self.storage
    }

    /// Elements of the tensor; `None` if there are too many for any machine.
    fn num_elements(&self) -> Option<u64> {
        let size = |product: u64, &size: &usize| product.checked_mul(size as u64);
        // A dimension of 0 makes the rest meaningless.
        if self.shape.contains(&0) { Some(0) } else { self.shape.iter().try_fold(1, size) }
    }

    /// First element of the storage that the tensor sees, and how many there are from it to the last one.
    pub(crate) fn span(&self) -> (u64, u64) {
        (self.offset, self.reach().unwrap_or(u64::MAX))
    }

    fn reach(&self) -> Option<u64> {
        if self.shape.contains(&0) {
            return Some(0);
        }
        let farthest = |sum: u64, (&size, &stride): (&usize, &u64)| {
            sum.checked_add((size as u64).checked_sub(1)?.checked_mul(stride)?)
        };
        self.shape.iter().zip(&self.strides).try_fold(0, farthest)?.checked_add(1)
    }

    /// Checks it against a storage of `bytes` bytes.
    pub(crate) fn check(&self, bytes: u64) -> anyhow::Result<()> {
        let storage = || visible::cut(&self.storage, MAX_NAME);
        let expected = self.length.checked_mul(self.element.bytes());
        ensure!(
            expected == Some(bytes),
            "the storage {} has {bytes} bytes, but the pickle gives it {} elements of {} bytes",
            storage(),
            self.length,
            self.element.bytes()
        );
        let end = self.reach().and_then(|reach| self.offset.checked_add(reach));
        ensure!(
            end.is_some_and(|end| end <= self.length),
            "a tensor of shape {:?} and strides {:?} from element {} is not within its storage {} of {} elements",
            self.shape,
            self.strides,
            self.offset,
            storage(),
            self.length
        );
        self.num_elements().context("a tensor has more elements than can be counted")?;
        Ok(())
    }

    /// Bytes that are read and made of it.
    pub(crate) fn cost(&self) -> u64 {
        let elements = self.num_elements().unwrap_or(u64::MAX).max(self.span().1);
        elements.saturating_mul(self.element.bytes())
    }

    /// The tensor's elements in the order of its shape, out of those of its span.
    pub(crate) fn gather(&self, span: Vec<f32>) -> anyhow::Result<Vec<f32>> {
        if self.is_contiguous() {
            return Ok(span);
        }
        let count = self.num_elements().and_then(|count| usize::try_from(count).ok());
        let count = count.context("a tensor is too large for this machine")?;
        let mut values = Vec::new();
        values.try_reserve_exact(count).context("a tensor does not fit into memory")?;
        let (mut index, mut place) = (vec![0_usize; self.shape.len()], 0_u64);
        while values.len() < count {
            let value = usize::try_from(place).ok().and_then(|place| span.get(place));
            values.push(*value.context("a tensor reaches out of its storage")?);
            // The next index, the last dimension first.
            for ((index, &size), &stride) in index.iter_mut().zip(&self.shape).zip(&self.strides).rev() {
                *index += 1;
                place = place.wrapping_add(stride);
                if *index < size {
                    break;
                }
                place = place.wrapping_sub(stride.wrapping_mul(size as u64));
                *index = 0;
            }
        }
        Ok(values)
    }

    /// Whether the elements lie one after the other in the order of the shape.
    fn is_contiguous(&self) -> bool {
        let mut expected = 1_u64;
        for (&size, &stride) in self.shape.iter().zip(&self.strides).rev() {
            if size != 1 && stride != expected {
                return self.shape.contains(&0);
            }
            expected = expected.saturating_mul(size as u64);
        }
        true
    }
}
