//! Sequences of different lengths in one tensor, without padding.

use std::ops::Range;
use std::sync::Arc;

#[cfg(feature = "cuda")]
use candle_core::{Result, bail};

/// B sequences, one after the other in the rows of one tensor (T, ..), each of which looks at one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packing {
    /// The first row of each sequence, and T at the end.
    starts: Vec<usize>,
    /// The row of each sequence's image in a tensor of images.
    images: Vec<usize>,
}

impl Packing {
    /// Sequences of these lengths; `images` gives the image of each.
    ///
    /// # Panics
    /// Another number of images.
    pub fn new(lengths: impl IntoIterator<Item = usize>, images: Vec<usize>) -> Self {
        let ends = lengths.into_iter().scan(0, |end, length| {
            *end += length;
            Some(*end)
        });
        let starts: Vec<usize> = std::iter::once(0).chain(ends).collect();
        assert_eq!(starts.len(), images.len() + 1, "every sequence has an image");
        Self { starts, images }
    }

    /// B.
    pub fn num_sequences(&self) -> usize {
        self.images.len()
    }

    /// T.
    pub fn num_rows(&self) -> usize {
        self.starts[self.images.len()]
    }

    /// The rows of each sequence, in order.
    pub fn sequences(&self) -> impl Iterator<Item = Range<usize>> {
        self.starts.windows(2).map(|bounds| bounds[0]..bounds[1])
    }

    /// The image of each sequence.
    pub(crate) fn images(&self) -> &[usize] {
        &self.images
    }

    /// Rows of the longest sequence.
    pub(crate) fn longest(&self) -> usize {
        self.sequences().map(|rows| rows.len()).max().unwrap_or(0)
    }
}

/// Which examples the elements of a tensor belong to.
#[derive(Clone, Debug)]
pub(crate) enum Examples {
    /// This many, of the same size.
    Equal(usize),
    /// The sequences in the rows of the tensor.
    Packed(Arc<Packing>),
}

impl Examples {
    /// The number of examples of the same size, which is all that a GPU takes.
    #[cfg(feature = "cuda")]
    pub(crate) fn equal(&self) -> Result<usize> {
        match self {
            Self::Equal(examples) => Ok(*examples),
            Self::Packed(_) => bail!("sequences are packed on a CPU only; pad them for a GPU"),
        }
    }
}
